"""The log on standard output too, for a daemon in the foreground."""

from __future__ import annotations

import atexit
import queue
import sys
import threading
from contextlib import suppress

from twisted.logger import ILogObserver, LogEvent, formatEventAsClassicLogText
from zope.interface import implementer

MOST_WAITING = 10_000
"""Lines that wait for a slow reader; what comes then is in perfd.log alone."""

LAST_WORDS = 1.0
"""Seconds that the last lines may take at the end."""


@implementer(ILogObserver)
class ForegroundLog:
    """For twistd's option ``--logger``: writes the log to standard output as long as that can be written.

    A thread of its own writes, so that a terminal that is held, or a slow reader, holds up nobody who speaks.
    """

    def __init__(self) -> None:
        self._stream = sys.stdout  # before twistd puts the log in its place
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name="perfd-foreground-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __call__(self, event: LogEvent) -> None:
        text = formatEventAsClassicLogText(event)
        if text and self._thread.is_alive() and not self._lines.full():
            self._lines.put(text)

    def close(self) -> None:
        """Write what waits, if that is possible soon. Blocks."""
        if self._thread.is_alive() and not self._lines.full():
            self._lines.put(None)
            self._thread.join(LAST_WORDS)

    def _work(self) -> None:
        with suppress(OSError):  # that is the end of it: perfd.log has all
            while (text := self._lines.get()) is not None:
                self._stream.write(text)
                self._stream.flush()
