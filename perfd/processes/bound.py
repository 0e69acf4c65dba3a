"""A program that ends when Perfd does, together with all that it started: ``python -m perfd.processes.bound ARGV``.

It has a process group of its own. When standard input ends, which Perfd holds open, or on SIGTERM, the group gets
SIGTERM, and after ``GRACE`` seconds SIGKILL; when the program ends, what it left of its group gets SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""


def run(argv: Sequence[str]) -> int:
    """Run ``argv`` to its end; its exit code, negative if a signal ended it. Raises OSError."""
    groups: list[int] = []
    asked: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for group in groups:
            _signal(group, signal.SIGTERM)
            killing = threading.Timer(GRACE, _signal, (group, signal.SIGKILL))
            killing.daemon = True
            killing.start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for Perfd, which then ends this
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    groups.append(child.pid)
    if asked:
        end(signal.SIGTERM, None)
    threading.Thread(target=_await_end_of_input, daemon=True).start()
    # Not reaped before its group was ended: until then the number is not another's.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    _signal(child.pid, signal.SIGKILL)
    return child.wait()


def _await_end_of_input() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # PermissionError: nothing but zombies, on a BSD
        os.killpg(group, number)


def main() -> None:
    """Run the command line; end as it ended."""
    try:
        code = run(sys.argv[1:])
    except OSError as error:
        sys.exit(f"{sys.argv[1]} cannot be started: {error.strerror}")
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
