"""How connections are accepted when strangers make more of them than there is time or room for.

Without a file descriptor for one, Twisted says so in several lines for each, which would let strangers fill the
disk, and tries again at once, which would let them have the processor. And it accepts ever more in one turn of
the reactor, up to all that the kernel holds: a third of a second in which nothing else is read.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher
from zope.interface import implementer

PAUSE = 0.1
"""Seconds for which no connection is accepted after one that could not be."""

TELL = 60.0
"""Seconds between two lines."""

AT_ONCE = 12
"""Connections that are accepted in one turn of the reactor: about 4 ms."""

_CLOSED = "EMFILE recovery:"
_FAILED = "Could not accept new connection"
_STEPS = ("EMFILE encountered;", "Re-reserving EMFILE")


def accept_in_turns(port: Any) -> None:
    """Let ``port`` accept at most `AT_ONCE` connections before others get their turn."""
    read = getattr(port, "doRead", None)
    if read is None:  # a reactor in memory
        return

    def do_read() -> None:
        port.numberAccepts = min(port.numberAccepts, AT_ONCE)
        read()

    port.doRead = do_read


@implementer(ILogObserver)
class AcceptFailures:
    """Takes what ``port`` says when it accepts: tells how many could not be, at once and then once a minute.

    What else it says goes on to Twisted's log.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime, port: Any) -> None:
        self._reactor = reactor
        self._port = port
        self._count = 0  # not told yet
        self._telling: IDelayedCall | None = None
        self._pause: IDelayedCall | None = None

    @classmethod
    def watch(cls, reactor: IReactorTime, port: Any) -> AcceptFailures:
        """Take it from a port that listens."""
        made = cls(reactor, port)
        # Its class has one for all ports, which has no switch.
        port._logger = Logger(namespace="twisted.internet.tcp.Port", observer=made)
        return made

    def stop(self) -> None:
        """Tell what is not told yet. The port is not listened on any more."""
        for call in (self._telling, self._pause):
            if call is not None and call.active():
                call.cancel()
        self._tell()

    def __call__(self, event: LogEvent) -> None:
        text = str(event.get("log_format", ""))
        if text.startswith(_STEPS):
            return
        if not text.startswith((_CLOSED, _FAILED)):
            globalLogPublisher(event)
            return
        self._count += 1
        if self._telling is None:
            self._tell()
            self._telling = self._reactor.callLater(TELL, self._told)
        if text.startswith(_FAILED) and self._pause is None:
            self._port.stopReading()
            self._pause = self._reactor.callLater(PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._port.startReading()

    def _told(self) -> None:
        self._telling = None
        if self._count:
            self._tell()
            self._telling = self._reactor.callLater(TELL, self._told)

    def _tell(self) -> None:
        count, self._count = self._count, 0
        if count:
            self._log.warn(
                "{count} connections could not be accepted: no file descriptor was left for them; more of them are "
                "counted, and told once a minute",
                count=count,
            )
