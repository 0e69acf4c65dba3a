"""Root works for an instance as the one whose it is, and follows no link that others have put there."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from perfd import instance
from perfd.cli import daemon
from perfd.cli.command import main
from perfd.config import load_config
from perfd.preflight import check_machine
from perfd.processes.users import User, UserError
from tests.support.instance import SOCKS_CONFIG, free_port
from tests.support.nobody import python_and_environment

NOBODY = pwd.getpwnam("nobody")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

EVIL = """#!/bin/sh
id -u >> {marks}
echo 'Tor version 0.4.9.1.'
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """An instance that its user can write to, as README has it, where that user gets at it."""
    path = Path(f"/var/tmp/perfd-test-{os.getpid()}-privileges")
    path.mkdir()
    (path / "perfd.conf").write_text(SOCKS_CONFIG.format(port=free_port()))
    os.chown(path, 0, NOBODY.pw_gid)
    path.chmod(0o1770)
    yield path
    shutil.rmtree(path)


def name_user(directory: Path) -> None:
    text = (directory / "perfd.conf").read_text()
    (directory / "perfd.conf").write_text(text.replace("[perfd]", "[perfd]\nuser = nobody\ngroup = nogroup", 1))


@pytest.fixture(scope="module")
def nobodys() -> tuple[str, dict[str, str]]:
    """A Python and an environment with which nobody runs Perfd."""
    return python_and_environment()


Python = tuple[str, dict[str, str]]


def command(python: Python, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, since it may become somebody else."""
    return subprocess.run(
        [python[0], "-P", "-m", "perfd", *words],
        env=python[1],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", ["start", "restart", "run"])
def test_nobody_is_named(directory: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where others can make files, root does not start a daemon that would stay root."""
    assert main([name, "--config", str(directory)]) == daemon.NO_PERMISSION
    err = capsys.readouterr().err
    assert f"{directory} can be written by the group nogroup, and root would follow links there" in err
    assert "`user = NAME` in [perfd] of perfd.conf" in err


def test_files_of_an_earlier_user(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor where somebody else's daemon has left files."""
    directory.chmod(0o700)
    (directory / "perfd.log").touch()
    os.chown(directory / "perfd.log", NOBODY.pw_uid, NOBODY.pw_gid)
    assert main(["start", "--config", str(directory)]) == daemon.NO_PERMISSION
    err = capsys.readouterr().err
    assert f"{directory}/perfd.log belongs to nobody, and root would write there" in err
    assert f"chown -R root {directory}" in err


def test_programs_of_others(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Root runs no tor that another user can change, with a daemon that stays root."""
    directory.chmod(0o700)
    os.chown(directory, 0, 0)
    programs = Path(f"{directory}-programs")
    programs.mkdir()
    try:
        tor = programs / "tor"
        tor.write_text(EVIL.format(marks=directory / "marks"))
        tor.chmod(0o755)
        os.chown(tor, NOBODY.pw_uid, 0)
        (directory / "perfd.conf").write_text(f"[tor]\nbinary = {tor}\n[experiment:a]\n")
        assert main(["start", "--config", str(directory)]) == daemon.NO_PERMISSION
        assert f"{tor} can be changed by nobody, and root would run" in capsys.readouterr().err
        assert not (directory / "marks").exists()
    finally:
        shutil.rmtree(programs)


@pytest.mark.parametrize("name", ["check", "start", "restart"])
def test_programs_are_tried_as_the_user(directory: Path, nobodys: Python, name: str) -> None:
    """What looks whether a tor is one runs it as whoever the daemon becomes."""
    marks = directory / "marks"
    marks.touch()
    marks.chmod(0o666)
    tor = directory / "tor"
    tor.write_text(EVIL.format(marks=marks))
    tor.chmod(0o755)
    os.chown(tor, NOBODY.pw_uid, NOBODY.pw_gid)
    (directory / "perfd.conf").write_text(
        f"[perfd]\nuser = nobody\ngroup = nogroup\n[server]\nlisten = 127.0.0.1:{free_port()}\n"
        f"[tor]\nbinary = {tor}\ntorrc = NoSuchOption 1\n[experiment:a]\n"
    )
    command(nobodys, name, "--config", str(directory))
    command(nobodys, "stop", "--config", str(directory))
    assert set(marks.read_text().split()) == {str(NOBODY.pw_uid)}


def test_check_asks_as_the_user(directory: Path) -> None:
    """What the user cannot read is a problem of the start."""
    (directory / "perfd.sqlite").write_bytes(b"")
    (directory / "perfd.sqlite").chmod(0o600)
    config = load_config(directory)
    check_machine(config)
    with pytest.raises(Exception, match=r"perfd\.sqlite"):
        check_machine(config, User("nobody", "nogroup"))


WRITERS = (
    ("note", "a note"),
    ("import", "/dev/null"),
    ("summarize",),
    ("results",),
    ("export", "--format", "csv"),
    ("show", "last"),
    ("circuits",),
    ("analyze",),
)


@pytest.mark.parametrize("words", WRITERS, ids=lambda words: words[0])
def test_links_of_the_database(directory: Path, nobodys: Python, words: tuple[str, ...]) -> None:
    """No command of root's makes a file where a link of the daemon's user says."""
    other = Path(f"{directory}-other")
    other.mkdir(mode=0o700)
    try:
        for ending in ("", "-wal", "-shm"):
            (directory / f"perfd.sqlite{ending}").symlink_to(other / f"file{ending}")
        done = command(nobodys, *words, "--config", str(directory))
        assert done.returncode == 1
        assert "name the daemon's user" in done.stderr
        name_user(directory)
        command(nobodys, *words, "--config", str(directory))
        assert list(other.iterdir()) == []
    finally:
        shutil.rmtree(other)


def test_note_of_root(directory: Path, nobodys: Python) -> None:
    """What root writes into an instance is its user's, and with results = none not for others."""
    name_user(directory)
    text = (directory / "perfd.conf").read_text()
    (directory / "perfd.conf").write_text(text.replace("[server]", "[server]\nresults = none", 1))
    done = command(nobodys, "note", "moved", "--config", str(directory))
    assert done.returncode == 0, done.stderr
    found = (directory / "perfd.sqlite").stat()
    assert (found.st_uid, found.st_mode & 0o777) == (NOBODY.pw_uid, 0o640)


def test_who_may_not(directory: Path, nobodys: Python) -> None:
    """Where the instance's user may not write, the message says who that is."""
    name_user(directory)
    assert command(nobodys, "note", "moved", "--config", str(directory)).returncode == 0
    done = command(nobodys, "backup", f"/root/perfd-{os.getpid()}.tar", "--config", str(directory))
    assert done.returncode == 1
    assert "Permission denied (as nobody)" in done.stderr


def test_owner_of_the_directory(directory: Path, nobodys: Python) -> None:
    """Somebody else's instance is worked on as that user."""
    os.chown(directory, NOBODY.pw_uid, NOBODY.pw_gid)
    assert command(nobodys, "note", "moved", "--config", str(directory)).returncode == 0
    assert (directory / "perfd.sqlite").stat().st_uid == NOBODY.pw_uid


def test_restored_by_root(directory: Path, nobodys: Python) -> None:
    """A backup that root restores belongs to the daemon's user, but for perfd.conf and the control script."""
    name_user(directory)
    assert command(nobodys, "note", "moved", "--config", str(directory)).returncode == 0
    assert command(nobodys, "backup", "/var/tmp/perfd-test.tar", "--config", str(directory)).returncode == 0
    try:
        for path in directory.iterdir():
            path.unlink()
        done = command(nobodys, "restore", "/var/tmp/perfd-test.tar", str(directory))
        assert done.returncode == 1  # the user could have put another perfd.conf into it
        assert "can be changed by nobody, and root would start what its perfd.conf says" in done.stderr
        os.chown("/var/tmp/perfd-test.tar", 0, 0)
        os.symlink("/etc", directory / "onion")
        os.chown(directory / "onion", NOBODY.pw_uid, 0, follow_symlinks=False)
        done = command(nobodys, "restore", "/var/tmp/perfd-test.tar", str(directory))
        assert f"{directory}/onion is not root's" in done.stderr
        (directory / "onion").unlink()
        done = command(nobodys, "restore", "/var/tmp/perfd-test.tar", str(directory))
        assert done.returncode == 0, done.stderr
        assert directory.stat().st_mode & 0o7777 == 0o1770
    finally:
        Path("/var/tmp/perfd-test.tar").unlink()
    owners = {path.name: path.stat().st_uid for path in directory.iterdir()}
    assert owners["perfd.conf"] == owners["perfd"] == 0
    assert owners["perfd.sqlite"] == NOBODY.pw_uid
    assert "moved" in command(nobodys, "note", "--list", "--config", str(directory)).stdout


def test_init_follows_no_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link to nowhere in the place of perfd.conf is there already."""
    (tmp_path / "perfd.conf").symlink_to(tmp_path / "elsewhere")
    assert main(["init", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


def test_asked_as_a_user() -> None:
    """A question is asked in the user's name, by a process of its own; this one stays root."""
    assert User("nobody").ask(lambda: [str(os.getuid()), str(os.geteuid()), str(os.getgid())]) == [
        str(NOBODY.pw_uid),
        str(NOBODY.pw_uid),
        str(NOBODY.pw_gid),
    ]
    assert User("nobody", "nogroup").ask(lambda: list(map(str, os.getgroups()))) == [str(NOBODY.pw_gid)]
    assert os.geteuid() == 0
    with pytest.raises(UserError, match="as nobody"):
        User("nobody").ask(lambda: [str(1 / 0)])


def test_perfd_that_the_user_cannot_read(directory: Path) -> None:
    """A Perfd that only root can read is a message, not a module that is missing in the middle of the work."""
    if not os.__file__.startswith("/root"):
        pytest.skip("the Python of the tests can be read by everybody")
    name_user(directory)
    done = command((sys.executable, dict(os.environ)), "results", "--config", str(directory))
    assert done.returncode == 1
    assert re.fullmatch(
        r"perfd: nobody cannot run Perfd, since \S+ is closed to it: install it .*/opt\n", done.stderr
    )


@pytest.mark.parametrize("name", ["perfd.log", "perfd.sqlite"])
def test_links_are_not_given_away(directory: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What to do about a file is never to give its user what a link of that user's leads to."""
    name_user(directory)
    (directory / name).symlink_to("/etc/passwd")
    os.chown(directory / name, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    main(["check", "--config", str(directory)])
    assert "chown" not in capsys.readouterr().err


def test_pipes_in_the_place_of_files(directory: Path, nobodys: Python) -> None:
    """What perfd.conf names is not waited for, nor read by a link of the user's."""
    name_user(directory)
    text = (directory / "perfd.conf").read_text() + "\n[experiment:others]\nurls = targets\n"
    (directory / "perfd.conf").write_text(text)
    os.mkfifo(directory / "targets")
    done = command(nobodys, "check", "--config", str(directory))
    assert (done.returncode, "no regular file" in done.stderr) == (1, True)
    (directory / "targets").unlink()
    (directory / "targets").symlink_to("/etc/shadow")
    os.chown(directory / "targets", NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    done = command(nobodys, "check", "--config", str(directory))
    assert (done.returncode, "root:" in done.stderr) == (1, False)
    (directory / "targets").unlink()
    (directory / "targets").write_text("http://127.0.0.1:1/\n")
    os.mkfifo(directory / "perfd.sqlite")
    os.chown(directory / "perfd.sqlite", NOBODY.pw_uid, NOBODY.pw_gid)
    done = command(nobodys, "check", "--config", str(directory))
    assert (done.returncode, "no regular file" in done.stderr) == (1, True)


def test_network_of_others(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A private network in a directory that a link of somebody else's names is not root's to start."""
    (directory / "testnet").symlink_to("/var/tmp")
    os.chown(directory / "testnet", NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    assert main(["testnet", "start", str(directory / "testnet")]) == 1
    assert "belongs to nobody" in capsys.readouterr().err


def test_lock_that_outlives_its_process(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process of another user is not stopped, though it has the number of one that took the lock."""
    path = directory / "perfd.lock"
    path.write_text(f"{os.getpid()}\nready\n")
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    with path.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # by this process, which is root's
        with mock.patch.object(instance, "PATIENCE", 0.1), mock.patch.object(signal, "pidfd_send_signal") as sent:
            assert main(["stop", "--config", str(directory)]) == 1
        sent.assert_not_called()
    assert "its process id is not in this file" in capsys.readouterr().err
