"""Where a command writes what it was asked for: files that appear together, devices, pipes, standard output.

A regular file is replaced when all is written, where a symlink leads to, with the mode that it had. What exists and
is none, such as a device or a FIFO, is written to as it is: it cannot be replaced by a file, and must not.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import attrs

from perfd.whole import scratch_name

STANDARD_OUTPUT = Path("-")

_DESCRIPTOR = re.compile(r"/(?:dev/fd|proc/(?:self|thread-self|[0-9]+)/fd)/([0-9]+)")
_MOST_LINKS = 40


class NoOutputError(OSError):
    """It cannot be written to what ``--output`` names."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)


def standard_output() -> BinaryIO:
    """Standard output for bytes; what was written to it as text comes before them."""
    sys.stdout.flush()
    binary: BinaryIO = sys.stdout.buffer
    return binary


def is_standard_output(path: Path | None) -> bool:
    """Whether ``path`` is another name of it, such as ``-`` or ``/dev/stdout``."""
    return path is None or path == STANDARD_OUTPUT or _descriptor(path) == 1


def _descriptor(path: Path) -> int | None:
    """The number of the open file that a name such as ``/dev/fd/3`` is for."""
    name = os.path.abspath(path)
    for _ in range(_MOST_LINKS):
        if found := _DESCRIPTOR.fullmatch(name):
            return int(found[1])
        if not os.path.islink(name):
            return None
        name = os.path.normpath(os.path.join(os.path.dirname(name), os.readlink(name)))
    return None


@attrs.frozen
class _New:
    """A regular file in the making."""

    scratch: Path
    target: Path


class Destinations:
    """Files that appear together when the block ends well; nothing of them stays if it does not."""

    def __init__(self) -> None:
        self._new: dict[Path, _New] = {}
        self._direct: dict[Path, BinaryIO] = {}

    def __enter__(self) -> Destinations:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for opened in self._direct.values():
                opened.close()
            for new in self._new.values() if kind is None else ():
                new.scratch.replace(new.target)
        finally:
            for new in self._new.values():
                new.scratch.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._new) + len(self._direct)

    @contextmanager
    def appending(self, path: Path) -> Iterator[BinaryIO]:
        """Add to what is written to ``path``. A regular file is not kept open, since there may be thousands."""
        if path in self._direct or (path not in self._new and self._begin(path)):
            yield self._direct[path]
        else:
            with self._new[path].scratch.open("ab") as opened:
                yield opened

    def append(self, path: Path, texts: Iterable[str]) -> None:
        """Add text to what is written to ``path``."""
        with self.appending(path) as opened:
            opened.writelines(text.encode() for text in texts)

    def _begin(self, path: Path) -> bool:
        """Make ready to write; whether it is written directly."""
        if (number := _descriptor(path)) is not None:
            self._direct[path] = os.fdopen(os.dup(number), "wb")
            return True
        try:
            mode: int | None = path.stat().st_mode
        except FileNotFoundError:
            mode = None
        if mode is not None and stat.S_ISSOCK(mode):
            raise NoOutputError(f"{path} is a socket, which cannot be written to: give a file, or - for a pipe")
        if mode is not None and stat.S_ISDIR(mode):
            raise NoOutputError(f"{path} is a directory, where a file is to be written")
        if mode is not None and not stat.S_ISREG(mode):
            self._direct[path] = path.open("wb")
            return True
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        new = _New(scratch_name(target), target)
        try:
            new.scratch.touch(exist_ok=False)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
        self._new[path] = new
        if mode is not None:
            new.scratch.chmod(stat.S_IMODE(mode))
        return False
