"""``perfd backup`` and ``perfd restore``, and databases that can only be read."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import pytest

from perfd.cli.command import main
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.schema import open_database
from tests.support.places import CHECKOUT
from tests.support.stored import Stored
from tests.support.strategies import typical


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """An instance with measurements and the key of an onion service."""
    found = Stored(tmp_path / "instance")
    found.add([typical(n) for n in range(50)])
    (found.directory / "onion").mkdir()
    (found.directory / "onion" / "key").write_text("ED25519-V3:secret")
    return found


def test_back_and_forth(stored: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is restored has the same results, a control script, and its perfd.conf is right."""
    target, place = tmp_path / "b.tar", tmp_path / "elsewhere"
    assert stored.perfd("backup", target)[0] == 0
    assert oct(target.stat().st_mode & 0o777) == "0o600"
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with tarfile.open(target) as archive:
        assert [(m.name, m.uname, m.uid) for m in archive] == [("perfd.sqlite", "", 0), ("perfd.conf", "", 0)]
    assert main(["restore", str(target), str(place)]) == 0
    assert "next: cd " in capsys.readouterr().out
    assert (
        Stored.measurements(Stored(place, stored.directory.joinpath("perfd.conf").read_text()))
        == stored.measurements()
    )
    assert os.access(place / "perfd", os.X_OK)
    assert main(["check", "--config", str(place)]) == 0


def test_keys(stored: Stored, tmp_path: Path) -> None:
    """Only if they are asked for."""
    target, place = tmp_path / "b.tar", tmp_path / "elsewhere"
    code, out, _ = stored.perfd("backup", "--with-keys", target)
    assert (code, "onion/key" in out) == (0, True)
    assert main(["restore", str(target), str(place)]) == 0
    key = place / "onion" / "key"
    assert (key.read_text(), oct(key.stat().st_mode & 0o777)) == ("ED25519-V3:secret", "0o600")


def test_while_it_is_written(stored: Stored, tmp_path: Path) -> None:
    """A writer that never pauses neither holds up the copy nor gets into it by half."""
    stop, written = threading.Event(), [50]

    def write() -> None:
        with closing(open_database(stored.database)) as connection:
            while not stop.is_set():
                insert_many(connection, [typical(n) for n in range(written[0], written[0] + 50)])
                written[0] += 50

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for attempt in range(3):
            before = written[0]
            assert stored.perfd("backup", tmp_path / f"{attempt}.tar")[0] == 0
            place = tmp_path / f"restored-{attempt}"
            assert main(["restore", str(tmp_path / f"{attempt}.tar"), str(place)]) == 0
            with StoreReader(place / "perfd.sqlite") as reader:
                assert before <= reader.count() <= written[0] + 50
                assert reader.count() % 50 == 0
    finally:
        stop.set()
        writer.join()


def test_nothing_is_replaced(stored: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a file by a backup, nor an instance by a restore."""
    target = tmp_path / "b.tar"
    target.write_text("mine")
    code, _, err = stored.perfd("backup", target)
    assert (code, "is there already" in err, target.read_text()) == (1, True, "mine")
    target.unlink()
    assert stored.perfd("backup", target)[0] == 0
    assert main(["restore", str(target), str(stored.directory)]) == 1
    assert "perfd.sqlite, perfd.conf" in capsys.readouterr().err
    assert len(stored.measurements()) == 50


def tar_of(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_no_backups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is none, and what would write elsewhere, is refused with what is wrong, and makes nothing."""
    link = tmp_path / "link.tar"
    with tarfile.open(link, "w") as archive:
        member = tarfile.TarInfo("perfd.conf")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    for source, words in (
        (tar_of(tmp_path / "a.tar", ("../evil", b"x")), "'../evil'"),
        (tar_of(tmp_path / "b.tar", ("perfd.sqlite", b"x")), "it has no perfd.conf"),
        (tar_of(tmp_path / "c.tar", ("perfd.sqlite", b"x"), ("perfd.conf", b""), ("perfd", b"#!")), "'perfd'"),
        (link, "'perfd.conf'"),
        (tmp_path / "none.tar", "No such file"),
    ):
        place = tmp_path / f"place-{source.name}"
        assert main(["restore", str(source), str(place)]) == 1
        assert words in capsys.readouterr().err
        assert not place.exists()
    damaged = tmp_path / "d.tar"
    damaged.write_bytes(b"no tar at all" * 100)
    assert main(["restore", str(damaged), str(tmp_path / "x")]) == 1
    assert "is no backup of Perfd, or is damaged" in capsys.readouterr().err


def bound_by_modes(*words: str) -> subprocess.CompletedProcess[str]:
    """A command that modes of files bind, which they do not for root."""
    command = [sys.executable, "-m", "perfd", *words]
    if os.getuid() == 0:
        command = ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search", *command]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


@pytest.fixture
def read_only(stored: Stored) -> Stored:
    """An instance in which nobody can write."""
    with closing(open_database(stored.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for path in stored.directory.iterdir():
        path.chmod(0o555 if path.is_dir() else 0o444)
    stored.directory.chmod(0o555)
    return stored


def test_read_only(read_only: Stored) -> None:
    """Results and exports of a database on a disk, or of a user, that cannot be written."""
    done = bound_by_modes("results", "--config", str(read_only.directory), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["experiments"][0]["count"] == 50
    done = bound_by_modes("export", "--config", str(read_only.directory), "--format", "log")
    assert (done.returncode, done.stdout.count("\n")) == (0, 50)


def test_read_only_with_a_log(read_only: Stored) -> None:
    """What has come but is not in the file yet cannot be read so; that is said, instead of old results."""
    read_only.directory.chmod(0o755)
    wal = read_only.directory / "perfd.sqlite-wal"
    wal.write_bytes(b"x" * 100)
    wal.chmod(0o444)
    read_only.directory.chmod(0o555)
    done = bound_by_modes("results", "--config", str(read_only.directory))
    assert (done.returncode, "perfd.sqlite-wal has what is not in it yet" in done.stderr) == (1, True), done.stderr


def test_unreadable(read_only: Stored) -> None:
    """A file that this user may not read is told as that."""
    read_only.database.chmod(0)
    done = bound_by_modes("results", "--config", str(read_only.directory))
    assert (done.returncode, "cannot be read by this user" in done.stderr) == (1, True), done.stderr
