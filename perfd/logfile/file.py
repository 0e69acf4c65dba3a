"""perfd.log: a file a day, and what cannot be written while the disk is full is held.

A ``LogFile`` is an observer of Twisted's log, beside twistd's own; ``perfd.service`` adds it at the daemon's start,
after privileges were dropped. It writes the classic format, ``2013-01-22 21:26:13+0100 [system] text``, where the
system is the class or module that speaks, without its package: ``[TorService]``, ``[TorService#warn]``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import stat
import threading
from collections import deque
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path

import attrs
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEventAsClassicLogText, formatTime
from zope.interface import implementer

from perfd.clock import Clock

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
MAX_HELD_LINES = 10_000
MAX_HELD_BYTES = 4 << 20

CUT_OFF = b" [cut off]\n"
"""Ends a half line that a killed process has left, so that it cannot pass for a whole one."""


PASSING_PORTS = "OpenPort"
"""The factory whose ports come and go with each page load, so that Twisted's words about them are no news."""

_PORT_OPENED = re.compile(rf"{PASSING_PORTS} starting on (\d+)")
_PORT_CLOSED = re.compile(r"\(TCP Port (\d+) Closed\)")


class _PassingPorts:
    """Knows what Twisted logs about the ports of that factory; it has no switch for that."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    def are_meant(self, event: LogEvent) -> bool:
        if event.get("log_namespace") != "log_legacy":
            return False
        text = event.get("log_text", "")
        if opened := _PORT_OPENED.fullmatch(text):
            self._open.add(opened[1])
            return True
        closed = _PORT_CLOSED.fullmatch(text)
        if closed is None or closed[1] not in self._open:
            return False
        self._open.remove(closed[1])
        return True


@attrs.frozen
class _Line:
    day: date  # UTC
    text: bytes  # with its end


@attrs.define
class _Outage:
    """The time in which nothing could be written."""

    since: float  # monotonic
    reason: str
    lost: int = 0  # lines that were too many to hold


class _DailyFile:
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
            self._day = _utc_day(status.st_mtime)
            if os.pread(fd, 1, status.st_size - 1) != b"\n":
                self._rest = CUT_OFF + self._begun

    def close(self) -> None:
        if self.is_open:
            os.close(self._fd)
            self.is_open = False

    def write(self, line: _Line) -> None:
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
        new = self.path.with_name(self.path.name + ".new")
        fd = self._new_fd(new)
        try:
            os.fchmod(fd, stat.S_IMODE(os.fstat(self._fd).st_mode))
            self.path.rename(aside)
            new.rename(self.path)
        except OSError:
            os.close(fd)
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


@implementer(ILogObserver)
class LogFile:
    """The observer that writes the log to ``path``, which is always the current file, so ``tail -F`` follows it.

    The days of UTC before are in ``path.YYYY-MM-DD``, the ``keep`` newest of them. What cannot be written is held
    in memory, the newest ``MAX_HELD_LINES`` lines or ``MAX_HELD_BYTES``, and tried again with each further
    line; a line then says for how long, how many lines were held and how many lost. Lines are never
    torn or glued together.

    Raises OSError if the file cannot be opened, except for a full disk. May be called from any thread.
    """

    def __init__(self, path: Path, keep: int = 14, clock: Clock | None = None) -> None:
        self.keep = keep
        self._clock = clock or Clock()
        self._file = _DailyFile(path.absolute())
        self._lock = threading.Lock()
        self._held: deque[_Line] = deque()
        self._held_bytes = 0
        self._outage: _Outage | None = None
        self._is_reopen_due = False
        self._passing_ports = _PassingPorts()
        try:
            self._file.open()
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            self._outage = _Outage(self._clock.monotonic(), error.strerror or str(error))

    def __call__(self, event: LogEvent) -> None:
        if self._passing_ports.are_meant(event):
            return
        text = formatEventAsClassicLogText({**event, "log_system": system_of(event)}, formatTime=_time_text)
        if text:
            day = _utc_day(event.get("log_time", self._clock.wall()))
            with self._lock:
                self._take(_Line(day, text.encode("utf-8", "backslashreplace")))

    def reopen(self) -> None:
        """Open the file anew with the next line: somebody has moved it. May be called by a signal's function."""
        self._is_reopen_due = True

    def close(self) -> None:
        """Try the held lines for the last time, and close the file."""
        with self._lock:
            with contextlib.suppress(OSError):
                if self._held:
                    self._write_held()
                self._file.finish()
            self._file.close()

    def _take(self, line: _Line) -> None:
        self._held.append(line)
        self._held_bytes += len(line.text)
        try:
            self._write_held()
        except OSError as error:
            if self._outage is None:
                self._outage = _Outage(self._clock.monotonic(), error.strerror or str(error))
            self._drop_excess(self._outage)

    def _write_held(self) -> None:
        if self._is_reopen_due or not self._file.is_open:
            self._open()
        if self._outage is not None:
            self._write(_Line(self._held[0].day, self._describe(self._outage).encode()))
            self._outage = None
        while self._held:
            line = self._held[0]
            self._write(line)
            self._held.popleft()
            self._held_bytes -= len(line.text)
        self._file.finish()

    def _write(self, line: _Line) -> None:
        if self._file.is_over(line.day):
            self._set_aside(line.day)
        self._file.write(line)

    def _open(self) -> None:
        try:
            self._file.open()
        except OSError:
            if not self._file.is_open:
                raise
        else:
            self._is_reopen_due = False

    def _set_aside(self, day: date) -> None:
        try:
            self._file.set_aside(day, self.keep)
        except OSError as error:
            self._file.write(_Line(day, self._note(f"could not begin a new file: {error.strerror}").encode()))

    def _drop_excess(self, outage: _Outage) -> None:
        while len(self._held) > MAX_HELD_LINES or self._held_bytes > MAX_HELD_BYTES:
            self._held_bytes -= len(self._held.popleft().text)
            outage.lost += 1

    def _describe(self, outage: _Outage) -> str:
        seconds = self._clock.monotonic() - outage.since
        return self._note(
            f"could not be written for {seconds:.0f} s ({outage.reason}): "
            f"{len(self._held)} lines were held and follow, {outage.lost} are lost"
        )

    def _note(self, text: str) -> str:
        return f"{_time_text(self._clock.wall())} [LogFile] {self._file.path.name} {text}\n"


def system_of(event: LogEvent) -> str:
    """Who speaks: the last part of its namespace, and the level unless that is info."""
    system = event.get("log_system")
    if system is not None:
        return str(system)
    name = str(event.get("log_namespace", "-")).rpartition(".")[2]
    level = event.get("log_level", LogLevel.info)
    return name if level is LogLevel.info else f"{name}#{level.name}"


def reopen_on_signal(log: LogFile) -> None:
    """Let SIGUSR1 reopen the log, after an outside log rotation. Only in the main thread."""
    signal.signal(signal.SIGUSR1, lambda _signal, _frame: log.reopen())


def _time_text(when: float | None) -> str:
    return formatTime(when, "%Y-%m-%d %H:%M:%S%z")


def _utc_day(when: float) -> date:
    return datetime.fromtimestamp(when, UTC).date()
