"""Machines on which something is unusual: the encoding of a path, no home directory, no /proc."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from perfd.cli.command import main
from perfd.record import Outcome
from tests.support.instance import SOCKS_CONFIG, TestInstance

WITHOUT_PROC = 'mount --make-rprivate / && mount -t tmpfs none /proc && exec "$@"'
LATIN = "en_US.ISO-8859-1"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[TestInstance]:
    """An instance, in a directory whose name is no text in UTF-8."""
    directory = Path(os.fsdecode(os.fsencode(tmp_path) + b'/inst\xff\xe4 %41#"\\'))
    directory.mkdir()
    made = TestInstance(directory, SOCKS_CONFIG)
    yield made
    made.perfd("stop")


def lives(instance: TestInstance) -> None:
    """The commands of an operator work."""
    for words in (["check"], ["start"], ["start"]):
        done = instance.perfd(*words)
        assert (done.returncode, done.stderr) == (0, ""), words
    instance.wait_for_measurements(2, outcome=Outcome.OK)
    for words in (["status"], ["results"], ["status", "--config", "."], ["restart"], ["stop"]):
        done = instance.perfd(*words)
        assert (done.returncode, done.stderr) == (0, ""), words
    assert "Traceback" not in instance.log.read_text(encoding="utf-8")


@pytest.mark.long
def test_path_that_is_no_text(instance: TestInstance) -> None:
    """The bytes of a path need not be UTF-8."""
    assert instance.perfd("init", "in it").returncode == 0
    lives(instance)


@pytest.mark.long
def test_path_in_another_encoding(instance: TestInstance, tmp_path: Path) -> None:
    """In a locale that is not UTF-8 paths are other characters, and what it cannot print has backslashes."""
    localedef = shutil.which("localedef")
    made = localedef is not None and subprocess.run(
        [localedef, "-i", "en_US", "-f", "ISO-8859-1", tmp_path / LATIN], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("localedef has no such locale")
    instance.environment = {**os.environ, "LOCPATH": str(tmp_path), "LC_ALL": LATIN}
    encoding = subprocess.run(
        [sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())"],
        env=instance.environment,
        capture_output=True,
        check=True,
    )
    assert encoding.stdout == b"iso8859-1\n"
    instance.configure(SOCKS_CONFIG.replace("experiment:fast", "experiment:fast\N{EURO SIGN}"))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "perfd", "check"],
        cwd=instance.directory,
        env=instance.environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"fast\\u20ac" in done.stderr
    instance.configure(SOCKS_CONFIG)
    lives(instance)


def test_firefox_needs_utf8(instance: TestInstance) -> None:
    """Firefox cannot run there, which is told before anything is started."""
    instance.configure(SOCKS_CONFIG + "\n[experiment:page]\ntype = pageload\ninterval = 60 s\ntimeout = 30 s\n")
    done = instance.perfd("check")
    assert done.returncode == 1
    assert "Firefox cannot run in a directory whose path is not UTF-8" in done.stderr


def test_no_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is neither HOME nor an entry for the user, what needs a directory of its own says so."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for command in ("measure", "proxy"):
        with mock.patch.object(pwd, "getpwuid", side_effect=KeyError):
            assert main([command, "--network", "socks"]) == 1
        assert "has no home directory: set HOME, or make an instance" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take /proc away")
def test_no_proc(tmp_path: Path) -> None:
    """An instance lives where there is no /proc."""
    command = ["unshare", "-m", "sh", "-c", WITHOUT_PROC, "sh"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system has no mount namespaces for us")
    made = TestInstance(tmp_path, SOCKS_CONFIG)
    made.launcher = command
    try:
        lives(made)
    finally:
        made.perfd("stop")
