"""perfd.log: a file a day, and what cannot be written while the disk is full or hangs is held.

A ``LogFile`` is an observer of Twisted's log, beside twistd's own; ``perfd.service`` adds it at the daemon's start,
after privileges were dropped. It writes the classic format, ``2013-01-22 21:26:13+0100 [system] text``, where the
system is the class or module that speaks, without its package: ``[TorService]``, ``[TorService#warn]``.
"""

from __future__ import annotations

import atexit
import errno
import signal
import threading
from collections import deque
from datetime import date
from pathlib import Path

import attrs
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEventAsClassicLogText, formatTime
from zope.interface import implementer

from perfd.clock import Clock
from perfd.logfile.daily import DailyFile, Line, utc_day
from perfd.logfile.dropped import PassingPorts

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
MAX_HELD_LINES = 10_000
MAX_HELD_BYTES = 4 << 20

HANG = 1.0
"""Seconds for a write after which the log says that the disk hung."""

CLOSE_LIMIT = 30.0
"""Seconds for which the last lines are waited for at the end."""


@attrs.frozen
class LogStatus:
    """How the log does: its ``trouble`` in words, None if it is well."""

    trouble: str | None
    replaced: float | None
    """When it was last found deleted, moved or replaced, in seconds since the epoch; None: never."""


@attrs.frozen
class _Outage:
    """The time in which nothing could be written."""

    since: float  # monotonic
    reason: str


@implementer(ILogObserver)
class LogFile:
    """The observer that writes the log to ``path``, which is always the current file, so ``tail -F`` follows it.

    The days of UTC before are in ``path.YYYY-MM-DD``, the ``keep`` newest of them. A thread of its own writes, so
    that a disk that hangs holds up nobody who speaks. What cannot be written is held in memory, the newest
    ``MAX_HELD_LINES`` lines or ``MAX_HELD_BYTES``, and tried again with each further line; a line then says for how
    long, how many lines were held and how many lost. Lines are never torn or glued together. Before each line it is
    seen whether the file is still there; if somebody has deleted, moved or replaced it, it is opened anew.

    Raises OSError if the file cannot be opened, except for a full disk. May be called from any thread.
    """

    def __init__(self, path: Path, keep: int = 14, clock: Clock | None = None) -> None:
        self.keep = keep
        self._clock = clock or Clock()
        self._file = DailyFile(path.absolute())
        self._outage: _Outage | None = None
        self._replaced: float | None = None
        self._is_reopen_due = False
        self._passing_ports = PassingPorts()
        self._changed = threading.Condition()  # can be entered twice: what a signal calls may log as well
        self._held: deque[Line] = deque()
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
            day = utc_day(event.get("log_time", self._clock.wall()))
            self._hold(Line(day, text.encode("utf-8", "backslashreplace")))

    @property
    def status(self) -> LogStatus:
        outage = self._outage
        return LogStatus(None if outage is None else outage.reason, self._replaced)

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

    def _hold(self, line: Line) -> None:
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
                self._open_if_due(line.day)
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

    def _next(self) -> Line | None:
        with self._changed:
            line = self._held.popleft() if self._held else None
            self._held_bytes -= 0 if line is None else len(line.text)
            return line

    def _give_back(self, line: Line) -> None:
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
        self._write(Line(day, self._note(text).encode()))
        self._outage = None
        with self._changed:
            self._lost -= lost

    def _write(self, line: Line) -> None:
        if self._file.is_over(line.day):
            self._set_aside(line.day)
        self._file.write(line)

    def _open_if_due(self, day: date) -> None:
        change = self._file.change() if self._file.is_open else None
        if self._file.is_open and change is None and not self._is_reopen_due:
            return
        try:
            self._file.open()
        except OSError:
            if not self._file.is_open or self._file.is_deleted:
                raise
            return  # a file that was moved is written on until there is another
        if change is not None:
            self._replaced = self._clock.wall()
            if not self._is_reopen_due:
                self._write(Line(day, self._note(f"{change} while Perfd ran; it goes on here").encode()))
        self._is_reopen_due = False

    def _set_aside(self, day: date) -> None:
        try:
            self._file.set_aside(day, self.keep)
        except OSError as error:
            self._file.write(Line(day, self._note(f"could not begin a new file: {error.strerror}").encode()))

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
