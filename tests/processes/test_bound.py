"""What ends when Perfd does: with its exit code or signal, and with all that it started."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfd.processes.modules import module_command, module_environment
from tests.support.instance import is_alive, wait_for

# A shell that starts another process, which would outlive it, and says its number.
FORKING = "sleep 600 & echo $!; wait"


@contextmanager
def bound(*argv: str) -> Iterator[subprocess.Popen[str]]:
    command = module_command("perfd.processes.bound", *argv)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=module_environment()
    ) as process:
        yield process


@pytest.mark.parametrize("how", ["input", "SIGTERM"])
def test_all_of_it_ends(how: str) -> None:
    """When its input ends, as at the death of Perfd, or on SIGTERM."""
    with bound("sh", "-c", FORKING) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        other = int(process.stdout.readline())
        assert is_alive(other)
        if how == "input":
            process.stdin.close()
        else:
            process.terminate()
        assert process.wait(30) == -signal.SIGTERM
    wait_for(lambda: not is_alive(other), "its end")


def test_exit_code() -> None:
    """It is the program's own, and what that left behind is ended."""
    with bound("sh", "-c", "sleep 600 & echo $!; exit 7") as process:
        assert process.stdout is not None
        other = int(process.stdout.readline())
        assert process.wait(30) == 7
    wait_for(lambda: not is_alive(other), "its end")


def test_no_program(tmp_path: Path) -> None:
    """It says why."""
    with bound(str(tmp_path / "nothing")) as process:
        assert process.stderr is not None
        assert "nothing cannot be started: No such file" in process.stderr.read()
        assert process.wait(30) == 1
