"""Standard output and standard error that are full, closed, or read by nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.instance import SOCKS_CONFIG, TestInstance, running, wait_for

KINDS = ("full", "closed", "unread")
FULL = "standard output: No space left on device"
CLOSED = "standard output: Bad file descriptor"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[TestInstance]:
    """An instance whose daemon does not outlive the test."""
    made = TestInstance(tmp_path, SOCKS_CONFIG)
    yield made
    made.perfd("stop")


def perfd(instance: TestInstance, kind: str, *words: str, stream: int = 1) -> tuple[int, str]:
    """Exit code, and what the other one of both streams got, of a command whose ``stream`` is useless."""
    command = [sys.executable, "-P", "-m", "perfd", *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    read, write = os.pipe()
    os.close(read)
    given = {"full": os.open("/dev/full", os.O_WRONLY), "unread": write, "closed": subprocess.DEVNULL}[kind]
    names = ("stdout", "stderr") if stream == 1 else ("stderr", "stdout")
    if kind == "closed":
        command = ["sh", "-c", f'exec "$@" {stream}>&-', "sh", *command]
    try:
        done = subprocess.run(
            command,
            cwd=instance.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=60,
            **{names[0]: given, names[1]: subprocess.PIPE},  # type: ignore[call-overload]
        )
    finally:
        os.close(write)
        if kind == "full":
            os.close(given)
    said = done.stderr if stream == 1 else done.stdout
    return done.returncode, said.decode()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_done_was_done(instance: TestInstance, kind: str) -> None:
    """Commands that do something succeed, though nobody hears of it."""
    for words in (["init", "other"], ["check"], ["start"], ["start"], ["stop"], ["stop"]):
        assert perfd(instance, kind, *words) == (0, ""), words
    assert (instance.directory / "other" / "perfd.conf").exists()
    assert "Perfd 0.1.0 was started" in instance.log.read_text()


@pytest.mark.long
@pytest.mark.parametrize(("kind", "complaint"), [("full", FULL), ("closed", CLOSED), ("unread", None)])
def test_what_was_asked_for_must_arrive(instance: TestInstance, kind: str, complaint: str | None) -> None:
    """Commands that show something fail, with one line that says why; a reader that has gone knows that itself."""
    instance.start()
    instance.wait_for_measurements(1)
    wait_for(instance.results, "a row")
    expected = "" if complaint is None else f"perfd: {complaint}\n"
    for words in (
        ["--help"],
        ["help", "start"],
        ["--version"],
        ["status"],
        ["status", "--json"],
        ["results"],
        ["results", "--json"],
        ["export", "--format", "csv"],
    ):
        assert perfd(instance, kind, *words) == (1, expected), words
    code, said = perfd(instance, kind, "measure", "--network", "socks", "--count", "1", "--json")
    assert (code, said) == (1, f"preparing: ready\n{expected}")


@pytest.mark.parametrize("kind", KINDS)
def test_standard_error(instance: TestInstance, kind: str) -> None:
    """Complaints that nobody hears change no exit code."""
    code, said = perfd(instance, kind, "results", stream=2)
    assert (code, said) == (1, "")
    code, said = perfd(instance, kind, "nonsense", stream=2)
    assert (code, said) == (2, "")
    code, said = perfd(instance, kind, "measure", "--network", "socks", "--count", "1", stream=2)
    assert code == 0
    assert "1/1 ok" in said


def test_nothing_takes_the_number_of_what_is_closed(instance: TestInstance) -> None:
    """With all three closed, nothing is written into a file that happens to get one of their numbers."""
    command = ["sh", "-c", 'exec "$@" 0>&- 1>&- 2>&-', "sh", sys.executable, "-P", "-m", "perfd"]
    assert subprocess.run([*command, "start"], cwd=instance.directory, check=False, timeout=60).returncode == 0
    lines = (instance.directory / "perfd.lock").read_text().splitlines()
    assert lines[:-1] == [str(instance.pid), "ready", "", f"127.0.0.1:{instance.port}"]
    instance.wait_for_measurements(1)


@pytest.mark.parametrize("kind", ["full", "unread", "held"])
def test_foreground(instance: TestInstance, kind: str) -> None:
    """`perfd run` measures and writes perfd.log as ever."""
    read, write = os.pipe()
    if kind == "held":  # a terminal in which somebody has typed Ctrl-S: there is room for its first words only
        os.set_blocking(write, False)
        with suppress(BlockingIOError):
            while True:
                os.write(write, bytes(4096))
        os.set_blocking(write, True)
        os.read(read, 4096)
    else:
        os.close(read)
    if kind == "full":
        os.close(write)
        write = os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-P", "-m", "perfd", "run"]
    with running(command, cwd=instance.directory, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        instance.wait_for_measurements(6)
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert "Traceback" not in instance.log.read_text()
