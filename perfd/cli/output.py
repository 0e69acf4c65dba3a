"""Standard output and standard error, which may be closed, full, or read by nobody any more.

What a command was asked to show must arrive, or the command has failed. What it says about something that it did
(``say``) is another matter: a daemon that was started was started, whoever hears of it.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from perfd.processes.users import user_name


def say(text: str) -> None:
    """Write a line to standard output about something that was done."""
    with suppress(OSError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def complain(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"perfd: {text}\n")


def in_words(error: OSError) -> str:
    """The file and what is wrong with it; also who may not, since root may have become somebody else."""
    why = str(error.strerror or error)
    if isinstance(error, PermissionError):
        why = f"{why} (as {user_name(os.geteuid())})"
    return ": ".join(str(part) for part in (error.filename, why) if part)


@contextmanager
def standard_streams() -> Iterator[None]:
    """In the block, standard output fails once and then takes all without a word; standard error never fails.

    Both print what their encoding lacks with backslashes, as paths that are no text.
    """
    _open_missing()
    before = sys.stdout, sys.stderr
    # What others have put in their place, as tests do, stays.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_FailsOnce(1, "w", closefd=False), before[0])
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_NeverFails(2, "w", closefd=False), before[1], line_buffering=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _open_missing() -> None:
    """Open what is closed, so that no file gets its number, and a program that is run does not write there."""
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDWR)):
        try:
            os.fstat(number)
        except OSError:
            # The first two for the wrong direction: who reads or writes them shall be told.
            opened = os.open(os.devnull, mode)
            os.set_inheritable(opened, True)


class _FailsOnce(io.FileIO):
    """Standard output. Raises the first OSError, by its name; what comes after it is nobody's any more."""

    _has_failed = False

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        if self._has_failed:
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self._has_failed = True
            raise OSError(error.errno, error.strerror, "standard output") from None


class _NeverFails(io.FileIO):
    """Standard error: there is nowhere else to say that it cannot be written."""

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _text(raw: io.FileIO, like: TextIO | None, *, line_buffering: bool = False) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(like, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=line_buffering or raw.isatty(),
    )
