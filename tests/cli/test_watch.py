"""What ``perfd run`` and ``perfd watch`` show on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from perfd.cli.command import main
from perfd.cli.watch import View
from perfd.instance import Instance, InstanceLock
from perfd.logfile.line import render
from perfd.record import Outcome
from perfd.store.reader import StoreReader
from tests.support.instance import SOCKS_CONFIG, free_port
from tests.support.strategies import typical

START = typical(0).start


def health(state: str = "ready", slot: str | None = "2023-11-14T22:13:25Z", **files: str) -> dict[str, Any]:
    return {
        "tors": [{"name": "default", "state": state, "version": "0.4.9.11"}],
        "experiments": [{"name": "fast", "next_slot": slot}, {"name": "slow", "next_slot": None}],
        "database": "ok",
        "log": "ok",
        **files,
    }


def view() -> View:
    return View(Console(width=80), ["the footer"], lambda: START)


def line(n: int, **changes: Any) -> str:
    return f"2023-11-14 22:13:20+0000 [perfd.x,default] {render(typical(n, **changes))}"


def shown(found: View, width: int = 80, height: int = 24) -> list[str]:
    lines = [line.plain for line in found.lines(width, height)]
    assert len(lines) < height
    return lines


def test_measurements() -> None:
    """A row for each, but for those that were skipped; the numbers are of all."""
    found = view()
    found.health = health()
    for text in (
        line(0),
        line(1, outcome=Outcome.SKIPPED, errorcode="PERFD/NOTREADY"),
        line(2, outcome=Outcome.TIMEOUT, errorcode="PERFD/STALL", reason="nothing came", datacomplete=None),
        line(3, type="request"),
    ):
        assert found.add(text) is None
    assert shown(found, 100) == [
        "time (UTC)  experiment    tor      server  outcome  circuit  first byte  complete",
        "22:13:20    download-50k  default  public  ok       0.412 s     0.723 s   1.235 s",
        "22:23:20    download-50k  default  public  timeout  0.412 s     0.723 s",
        "    PERFD/STALL nothing came",
        "",
        "ready: default 0.4.9.11",
        "2 ok, 1 timeout, 1 skipped; next: fast in 5 s",
        "the footer",
    ]


def test_small_terminal() -> None:
    """The latest rows stay, however few there is room for; on the smallest the state alone."""
    found = view()
    found.health = health()
    for n in range(100):
        found.add(line(n))
    for height in range(4, 40):
        lines = shown(found, 100, height)
        assert lines[-1] == "the footer"
        if height > 7:
            assert lines[-5].startswith("06:28:20")  # the last one
            assert len(lines) == height - 1
    assert shown(found, 20, 12)[-1] == "the footer"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (None, ["starting"]),
        ({"error": {"message": "no"}}, ["its health is not for everybody (results in perfd.conf)"]),
        (
            health("bootstrapping: 45 % (x): Asking"),
            ["[##########..............] tor default: bootstrapping: 45 % (x): Asking", "next: fast in 5 s"],
        ),
        (health("tor default was stopped", None), ["tor default was stopped", "nothing is scheduled"]),
        (health(database="it is gone"), ["ready: default 0.4.9.11", "database: it is gone", "next: fast in 5 s"]),
    ],
)
def test_state(told: dict[str, Any] | None, expected: Sequence[str]) -> None:
    """How things stand, in words."""
    found = view()
    found.health = told
    assert shown(found) == [*expected, "the footer"]


def test_trouble() -> None:
    """Warnings and errors are shown at once, with the lines that belong to them; what goes as it should is not."""
    found = view()
    said = [
        found.add(text)
        for text in (
            "2023-11-14 22:13:20+0000 [Perfd] Perfd was started",
            "2023-11-14 22:13:20+0000 [Perfd#error] it went \x1b[2Jwrong",
            "\tTraceback",
            line(0),
            "\tnothing",
            "2023-11-14 22:13:20+0000 [X#warn] careful",
            "2023-11-14 22:13:20+0000 [X] all is well",
        )
    ]
    assert [text for text in said if text is not None] == [
        "2023-11-14 22:13:20+0000 [Perfd#error] it went ?[2Jwrong",
        "?Traceback",
        "2023-11-14 22:13:20+0000 [X#warn] careful",
    ]


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.text = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "24"}
            os.execve(sys.executable, [sys.executable, "-m", "perfd", *words], environment)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))

    def until(self, reached: Callable[[str], object], seconds: float = 60.0) -> None:
        """Read until what was shown is as wanted."""
        deadline = time.monotonic() + seconds
        while not reached(self.text):
            assert time.monotonic() < deadline, self.text
            if select.select([self._fd], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self._fd, 65536).decode()
                except OSError:  # the other side is closed
                    time.sleep(0.05)

    def press(self, key: bytes) -> None:
        os.write(self._fd, key)

    def ended(self) -> int:
        """The exit code, which is soon there."""
        done: list[int] = []

        def wait(_: str) -> bool:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            done.extend([os.waitstatus_to_exitcode(status)] if found else [])
            return bool(done)

        self.until(wait)
        os.close(self._fd)
        return done[0]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An instance without Tor that measures each second."""
    text = re.sub(r"listen = .*", f"listen = 127.0.0.1:{free_port()}", SOCKS_CONFIG)
    (tmp_path / "perfd.conf").write_text(text)
    return tmp_path


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_run(directory: Path) -> None:
    """The table and the state, while the log is in the file; Ctrl-C ends the daemon, and that is no failure."""
    terminal = Terminal("run", "--config", str(directory))
    terminal.until(lambda text: re.search(r"\d ok; next: ", text) and " ok " in text)
    assert "START=" not in terminal.text
    assert "network: socks Ctrl-C stops it" in terminal.text
    watching = Terminal("watch", "--config", str(directory))
    watching.until(lambda text: re.search(r"\d ok; next: ", text))
    watching.press(b"\x03")
    assert watching.ended() == 0
    assert Instance(directory).is_locked()
    terminal.press(b"\x03")
    assert terminal.ended() == 0
    assert not Instance(directory).is_locked()
    assert " START=" in (directory / "perfd.log").read_text()
    with StoreReader(directory / "perfd.sqlite") as reader:
        assert reader.count() > 0


def test_run_log(directory: Path) -> None:
    """With --log it is the log."""
    terminal = Terminal("run", "--log", "--config", str(directory))
    terminal.until(lambda text: " START=" in text)
    terminal.press(b"\x03")
    terminal.ended()
    wait_for(lambda: not Instance(directory).is_locked())


def test_killed_view(directory: Path) -> None:
    """No daemon is left behind by a view that was killed."""
    terminal = Terminal("run", "--config", str(directory))
    terminal.until(lambda text: " ok" in text)
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.ended() == -signal.SIGKILL
    wait_for(lambda: not Instance(directory).is_locked())


def test_watch_where_no_terminal_is(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What changes in place is not written into a file or a pipe for ever."""
    lock = InstanceLock(Instance(directory).lock_file)
    try:
        assert main(["watch", "--config", str(directory)]) == 1
    finally:
        lock.release()
    assert "`perfd logs -f` writes lines" in capsys.readouterr().err


def test_watch_nothing(directory: Path) -> None:
    """What does not run cannot be watched."""
    terminal = Terminal("watch", "--config", str(directory))
    terminal.until(lambda text: "perfd is not running" in text)
    assert terminal.ended() == 3
