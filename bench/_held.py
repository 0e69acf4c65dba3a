"""Runs ``twistd`` and writes down what held its reactor: pieces of work that took long.

A piece is what the reactor does for one socket that is ready, or for all timers and threads that are due at a
time. While it goes on nothing else is read or stamped. Each of more than LEAST is a line of JSON in a file: when it
ended, its seconds of processor, which do not count what other processes and threads did meanwhile, its seconds by
the clock, and of whom it was.

Run: python -m bench._held FILE ARGUMENTS OF TWISTD
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import attrs
from twisted.internet import epollreactor

LEAST = 0.001
"""Seconds."""


@attrs.frozen
class Piece:
    """A piece of work."""

    ended: float  # seconds since the epoch
    processor: float  # seconds of the reactor's own thread
    took: float  # seconds
    whose: str


def timed(work: Callable[..., Any], file: TextIO) -> Callable[..., Any]:
    """``work``, which is told in ``file`` where it takes long."""

    def piece(*arguments: Any) -> Any:
        begun, processor = time.monotonic(), time.thread_time()
        try:
            return work(*arguments)
        finally:
            took = time.monotonic() - begun
            if took > LEAST:
                whose = type(arguments[0]).__name__ if arguments else "timers and threads"
                found = Piece(time.time(), time.thread_time() - processor, took, whose)
                file.write(json.dumps(attrs.astuple(found)) + "\n")

    return piece


def read_pieces(file: Path) -> list[Piece]:
    """Those in a file."""
    return [Piece(*json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def main(arguments: list[str]) -> None:
    """Run twistd."""
    epollreactor.install()
    from twisted.internet import reactor  # noqa: PLC0415 - the one that was just installed
    from twisted.scripts.twistd import run  # noqa: PLC0415 - it would install another one

    with open(arguments[0], "w", buffering=1, encoding="utf-8") as file:
        for name in ("_doReadOrWrite", "runUntilCurrent"):
            setattr(reactor, name, timed(getattr(reactor, name), file))
        sys.argv = ["twistd", *arguments[1:]]
        run()


if __name__ == "__main__":
    main(sys.argv[1:])
