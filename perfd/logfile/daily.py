"""A file a day: one that is appended to, and set aside when the UTC day of its lines is over."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path

import attrs

from perfd.whole import scratch_name

CUT_OFF = b" [cut off]\n"
"""Ends a half line that a killed process has left, so that it cannot pass for a whole one."""


@attrs.frozen
class Line:
    """A line of the log, and the day to which it belongs."""

    day: date  # UTC
    text: bytes  # with its end


class DailyFile:
    """An append-only file that is set aside as NAME.YYYY-MM-DD when the UTC day of its lines is over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_open = False
        self._fd = -1
        self._is_regular = False
        self._day: date | None = None  # of its lines; None while there is none
        self._begun = b""  # the line of which a part is in the file,
        self._rest = b""  # and what of it is not

    def open(self) -> None:
        """Open the file, anew if it was open. If that raises OSError, nothing has changed."""
        self._use(self._new_fd(self.path))

    @staticmethod
    def _new_fd(path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def _use(self, fd: int) -> None:
        self.close()
        self._fd = fd
        self.is_open = True
        self._day = None
        status = os.fstat(fd)
        self._is_regular = stat.S_ISREG(status.st_mode)
        self._rest = self._begun  # goes whole into the new file
        if self._is_regular and status.st_size:
            self._day = utc_day(status.st_mtime)
            if os.pread(fd, 1, status.st_size - 1) != b"\n":
                self._rest = CUT_OFF + self._begun

    def close(self) -> None:
        if self.is_open:
            os.close(self._fd)
            self.is_open = False

    @property
    def is_deleted(self) -> bool:
        """Whether nobody will ever read what is written to the open file."""
        return self._is_regular and os.fstat(self._fd).st_nlink == 0

    def change(self) -> str | None:
        """What somebody did to the file, in words; None if it is still where it was opened."""
        own = os.fstat(self._fd)
        try:
            found = os.stat(self.path)
        except OSError:
            return "was deleted" if self.is_deleted else "was moved"
        return None if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino) else "was replaced"

    def write(self, line: Line) -> None:
        """Write ``line``. Raises OSError if nothing of it could be written.

        When only a part of it could, its rest goes into the file before everything else.
        """
        self.finish()
        self._begun = self._rest = line.text
        self._day = line.day if self._day is None else self._day
        try:
            self.finish()
        except OSError:
            if len(self._rest) == len(line.text):
                self._begun = self._rest = b""
                raise

    def finish(self) -> None:
        """Write the rest of a line of which a part was written, if there is one. Raises OSError."""
        while self._rest:
            self._rest = self._rest[os.write(self._fd, self._rest) :]
        self._begun = b""

    def is_over(self, day: date) -> bool:
        """True if a line of ``day`` belongs into another file. Stragglers of the day before do not."""
        if self._day is None or not self._is_regular:
            return False
        return not self._day - timedelta(days=1) <= day <= self._day

    def set_aside(self, day: date, keep: int) -> None:
        """Begin a new file for ``day``, and delete all but the ``keep`` newest that were set aside.

        Raises OSError; then the old file goes on for this day too.
        """
        self.finish()
        aside, self._day = self._free_name(), day
        new = scratch_name(self.path)
        fd = self._new_fd(new)
        try:
            os.fchmod(fd, stat.S_IMODE(os.fstat(self._fd).st_mode))
            self.path.rename(aside)
            new.rename(self.path)
        except OSError:
            os.close(fd)
            new.unlink(missing_ok=True)
            raise
        self._use(fd)
        self._delete_old(keep)

    def _free_name(self) -> Path:
        """perfd.log.2026-11-23, or with .1, .2, ... if a clock that was set back has brought that day again."""
        name = f"{self.path.name}.{self._day}"
        names = (self.path.with_name(f"{name}.{n}" if n else name) for n in count())
        return next(path for path in names if not path.exists())

    def _delete_old(self, keep: int) -> None:
        pattern = re.compile(re.escape(self.path.name) + r"\.(\d{4}-\d\d-\d\d)(?:\.(\d+))?")
        found = (pattern.fullmatch(path.name) for path in self.path.parent.iterdir())
        newest_first = sorted((m for m in found if m), key=lambda m: (m[1], int(m[2] or 0)), reverse=True)
        for match in newest_first[keep:]:
            with contextlib.suppress(OSError):
                self.path.with_name(match[0]).unlink()


def utc_day(when: float) -> date:
    """The day of UTC in which a time (epoch) is."""
    return datetime.fromtimestamp(when, UTC).date()
