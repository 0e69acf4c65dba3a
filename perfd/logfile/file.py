"""perfd.log: a file a day, and what cannot be written while the disk is full or hangs is held.

A ``LogFile`` is an observer of Twisted's log, beside twistd's own; ``perfd.service`` adds it at the daemon's start,
after privileges were dropped. It writes the classic format, ``2013-01-22 21:26:13+0100 [system] text``, where the
system is the class or module that speaks, without its package: ``[TorService]``, ``[TorService#warn]``.
"""

from __future__ import annotations

import atexit
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

HANG = 1.0
"""Seconds for a write after which the log says that the disk hung."""

CLOSE_LIMIT = 30.0
"""Seconds for which the last lines are waited for at the end."""

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


@attrs.frozen
class _Outage:
    """The time in which nothing could be written."""

    since: float  # monotonic
    reason: str


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

    The days of UTC before are in ``path.YYYY-MM-DD``, the ``keep`` newest of them. A thread of its own writes, so
    that a disk that hangs holds up nobody who speaks. What cannot be written is held in memory, the newest
    ``MAX_HELD_LINES`` lines or ``MAX_HELD_BYTES``, and tried again with each further line; a line then says for how
    long, how many lines were held and how many lost. Lines are never torn or glued together.

    Raises OSError if the file cannot be opened, except for a full disk. May be called from any thread.
    """

    def __init__(self, path: Path, keep: int = 14, clock: Clock | None = None) -> None:
        self.keep = keep
        self._clock = clock or Clock()
        self._file = _DailyFile(path.absolute())
        self._outage: _Outage | None = None
        self._is_reopen_due = False
        self._passing_ports = _PassingPorts()
        self._changed = threading.Condition()  # can be entered twice: what a signal calls may log as well
        self._held: deque[_Line] = deque()
        self._held_bytes = 0
        self._lost = 0  # lines that were too many to hold
        self._given = self._tried = 0  # lines since the start
        self._is_closing = False
        try:
            self._file.open()
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            self._outage = _Outage(self._clock.monotonic(), error.strerror or str(error))
        # A daemon thread, since a disk that hangs for good must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="perfd-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __call__(self, event: LogEvent) -> None:
        if self._passing_ports.are_meant(event):
            return
        text = formatEventAsClassicLogText({**event, "log_system": system_of(event)}, formatTime=_time_text)
        if text:
            day = _utc_day(event.get("log_time", self._clock.wall()))
            self._hold(_Line(day, text.encode("utf-8", "backslashreplace")))

    def reopen(self) -> None:
        """Open the file anew with the next line: somebody has moved it. May be called by a signal's function."""
        self._is_reopen_due = True

    def flush(self, limit: float = CLOSE_LIMIT) -> bool:
        """Wait until each line so far was tried, at most ``limit`` seconds; whether that is so. Blocks."""
        with self._changed:
            given = self._given
            return self._changed.wait_for(lambda: self._tried >= given, limit)

    def close(self, limit: float = CLOSE_LIMIT) -> None:
        """Try the held lines for the last time, at most ``limit`` seconds, and close the file. Blocks."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(limit)
        atexit.unregister(self.close)

    def _hold(self, line: _Line) -> None:
        with self._changed:
            self._held.append(line)
            self._held_bytes += len(line.text)
            while len(self._held) > MAX_HELD_LINES or (self._held_bytes > MAX_HELD_BYTES and len(self._held) > 1):
                self._held_bytes -= len(self._held.popleft().text)
                self._lost += 1
            self._given += 1
            self._changed.notify_all()

    # What the thread does.

    def _work(self) -> None:
        is_closing = False
        while not is_closing:
            with self._changed:
                self._changed.wait_for(lambda: self._tried < self._given or self._is_closing)
                given, is_closing = self._given, self._is_closing
            try:
                self._write_held()
            except OSError as error:
                if self._outage is None:
                    self._outage = _Outage(self._clock.monotonic(), error.strerror or str(error))
            with self._changed:
                self._tried = given
                self._changed.notify_all()
        self._file.close()

    def _write_held(self) -> None:
        # A disk that hangs takes the lines in the end, but nobody could read them meanwhile: that is an outage too.
        since = self._clock.monotonic()
        while (line := self._next()) is not None:
            try:
                if self._is_reopen_due or not self._file.is_open:
                    self._open()
                self._tell_outage(line.day)
                self._write(line)
            except OSError:
                self._give_back(line)
                raise
            now = self._clock.monotonic()
            if now - since > HANG:
                self._outage = _Outage(since, "the disk hung")
            since = now
        self._file.finish()

    def _next(self) -> _Line | None:
        with self._changed:
            line = self._held.popleft() if self._held else None
            self._held_bytes -= 0 if line is None else len(line.text)
            return line

    def _give_back(self, line: _Line) -> None:
        with self._changed:
            self._held.appendleft(line)
            self._held_bytes += len(line.text)

    def _tell_outage(self, day: date) -> None:
        """Before a line of ``day``, of which is said that it was held."""
        with self._changed:
            held, lost = len(self._held) + 1, self._lost
        outage = self._outage
        if outage is None and lost:
            outage = _Outage(self._clock.monotonic(), "too many lines at once")
        if outage is None:
            return
        seconds = self._clock.monotonic() - outage.since
        text = (
            f"could not be written for {seconds:.0f} s ({outage.reason}): "
            f"{held} lines were held and follow, {lost} are lost"
        )
        self._write(_Line(day, self._note(text).encode()))
        self._outage = None
        with self._changed:
            self._lost -= lost

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
