"""A full disk is an error of SQLite's, and not the end of the process."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from perfd.store import database, shared_memory
from perfd.store.schema import open_database, open_readonly

FILLS = """
import os, sqlite3, sys
from pathlib import Path
from perfd.store.database import connect, transaction
path = Path(sys.argv[1])

def fill(left):
    with open(path.with_name("filler"), "ab", buffering=0) as file:
        for size in (65536, 512):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
        os.ftruncate(file.fileno(), file.tell() - left)
    os.sync()

def attempt(connection, pages):
    with transaction(connection):
        for n in range(pages):
            connection.execute("INSERT INTO t VALUES (?)", (os.urandom(3500),))

if sys.argv[2] == "opened":
    connection = connect(path)
    connection.execute("CREATE TABLE t (x)")
    attempt(connection, 400)
    connection.execute("DELETE FROM t")
    connection.execute("PRAGMA wal_checkpoint")
    fill(2048)
    for _ in range(50):
        try:
            attempt(connection, 40)
        except sqlite3.OperationalError as error:
            print(error)
else:
    for left in range(0, 80 << 10, 1024):
        fill(left)
        try:
            connect(path).close()
        except sqlite3.OperationalError as error:
            print(error)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk whose blocks are smaller than pages."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4")
    image, directory = tmp_path / "image", tmp_path / "disk"
    directory.mkdir()
    with image.open("wb") as file:
        file.truncate(24 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "1024", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, directory], capture_output=True, check=False).returncode != 0:
        pytest.skip("there are no loop devices")
    yield directory
    subprocess.run(["umount", directory], check=True)


@pytest.mark.parametrize("when", ["opened", "before"])
def test_full_disk(disk: Path, when: str) -> None:
    """Whether the disk is full when the database is opened, or becomes it later, that is said, and nothing dies."""
    command = [sys.executable, "-c", FILLS, str(disk / "perfd.sqlite"), when]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != -signal.SIGBUS
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.splitlines()) == {database.DISK_FULL}


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room it is not opened, to write or to read; where another has it open, it can be read."""
    path = tmp_path / "perfd.sqlite"
    with closing(open_database(path)):
        monkeypatch.setattr(shared_memory, "has_room", lambda path: False)
        assert shared_memory.is_whole(path)
        open_readonly(path).close()
        with pytest.raises(sqlite3.OperationalError, match=database.DISK_FULL):
            open_database(path)
    assert not shared_memory.is_whole(path)
    with pytest.raises(sqlite3.OperationalError, match=database.DISK_FULL):
        open_readonly(path)


def test_allocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a page has several blocks, all of them are there once the database is open; locks are kept."""
    monkeypatch.setattr(shared_memory.mmap, "PAGESIZE", 1 << 20)
    path = tmp_path / "perfd.sqlite"
    with closing(open_database(path)) as connection:
        assert shared_memory.shared_file(path).stat().st_blocks * 512 >= shared_memory.SIZE
        connection.execute("BEGIN IMMEDIATE")
        other = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        done = subprocess.run([sys.executable, "-c", other, str(path)], capture_output=True, text=True, check=False)
        assert "database is locked" in done.stderr
