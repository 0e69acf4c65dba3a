"""The proxy's listening ports, and the records of what came through them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from perfd.clock import Anchor, Clock
from perfd.proxy.connection import MeasuredConnection, PortSettings
from perfd.proxy.records import ProxyConnection
from perfd.reactor import Reactor
from perfd.socks.port import SOCKSPort
from perfd.socks.server import MOST_CONNECTIONS, SOCKSServer
from perfd.socks.way_out import ThroughSOCKS, WayOut
from perfd.tor.endpoints import direct
from perfd.tor.events.join import Joined
from perfd.tor.events.listener import LAST_EVENTS_WAIT, ControlEvents
from perfd.wire.arrival import stamp_accepted

MOST_RECORDS = 20_000
"""Records that a port keeps until it is closed; further connections are only counted."""


class MeasuringProxy:
    """A SOCKS 4, 4a and 5 server on this machine that measures each connection.

    ``socks`` gives the SOCKS port of the tor that is measured, anew for each connection, and may raise
    RuntimeError while there is none; None is no tor at all: the proxy connects directly. With that tor's
    ``events`` each connection is joined to its stream and circuit.
    """

    def __init__(
        self,
        reactor: Reactor,
        clock: Clock,
        socks: Callable[[], SOCKSPort] | None,
        events: ControlEvents | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._socks = socks
        self._events = events

    def open(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        login: tuple[str, str] | None = None,
        optimistic: bool = False,
        measurement: str | None = None,
        anchor: Anchor | None = None,
        finished: Callable[[ProxyConnection], None] | None = None,
    ) -> OpenPort:
        """Listen on ``port`` (0: any free one) of the loopback address ``host``.

        ``login`` is tor's isolation user name and password for all connections; None: what the program says.
        ``measurement`` is the id of the measurement that the connections belong to, ``anchor`` its clock.
        ``optimistic``: programs are told at once that they are connected. ``finished`` gets each record when it
        is complete; without it, they are what ``close`` returns.
        Raises CannotListenError, and ValueError for an address that others can reach.
        """
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is not a loopback address")
        way_out: WayOut = direct(self._reactor, optimistic=optimistic)
        if self._socks is not None:
            way_out = ThroughSOCKS(self._socks, login, optimistic)
        settings = PortSettings(
            reactor=self._reactor,
            clock=self._clock,
            way_out=way_out,
            events=self._events,
            measurement=measurement,
            anchor=anchor,
        )
        opened = OpenPort(settings, finished)
        opened.listen(self._reactor, host, port)
        return opened


class OpenPort(SOCKSServer):
    """A port that the proxy listens on; made by ``MeasuringProxy.open``."""

    _log = Logger()

    def __init__(self, settings: PortSettings, finished: Callable[[ProxyConnection], None] | None = None) -> None:
        super().__init__(settings.reactor, settings.way_out)
        self.omitted = 0
        """Records that were not kept, because there were too many."""
        self._settings = settings
        self._finished = finished or self._keep
        self._records: list[ProxyConnection] = []
        self._listening: IListeningPort | None = None
        self._last_number = 0
        self._finishing: set[Deferred[None]] = set()
        self._wait: float | None = None  # seconds for tor's last events, once it is being closed
        self._quiet: Deferred[None] | None = None

    def listen(self, reactor: Reactor, host: str, port: int) -> None:
        """Begin to listen; a browser may open many connections in one moment."""
        self._listening = reactor.listenTCP(port, self, backlog=MOST_CONNECTIONS, interface=host)  # type: ignore[arg-type]
        stamp_accepted(self._listening)

    @property
    def port(self) -> int:
        """The port that is listened on. Only valid until ``close``."""
        assert self._listening is not None
        return int(self._listening.getHost().port)  # type: ignore[attr-defined]

    def buildProtocol(self, addr: Any) -> Any:
        """See `SOCKSServer.buildProtocol`; also None once it is being closed."""
        return None if self._wait is not None else super().buildProtocol(addr)

    def make(self, addr: Any) -> MeasuredConnection:
        """A connection from ``addr``, with the next number."""
        self._last_number += 1
        return MeasuredConnection(self._settings, self._last_number, addr, self.over)

    async def close(self, wait: float = LAST_EVENTS_WAIT) -> tuple[ProxyConnection, ...]:
        """Stop listening and break off what is connected; the records of all connections, by their number.

        Waits at most ``wait`` seconds for tor's last events. Cancelling it loses the records, nothing else.
        """
        self._wait = wait
        listening, self._listening = self._listening, None
        stopped = maybeDeferred(listening.stopListening) if listening is not None else None
        self.abort_all()
        if wait <= 0:
            for finishing in list(self._finishing):
                finishing.cancel()
        if stopped is not None:
            await stopped
        if self.connections or self._finishing:
            self._quiet = Deferred()
            await self._quiet
        records, self._records = self._records, []
        return tuple(sorted(records, key=lambda record: record.number))

    def over(self, connection: MeasuredConnection) -> None:
        """Both ends of ``connection`` are closed; what tor tells last is still to come."""
        super().over(connection)
        finishing = Deferred.fromCoroutine(self._finish(connection))
        self._finishing.add(finishing)
        finishing.addErrback(lambda failure: self._log.failure("a record of the proxy was lost", failure))
        finishing.addBoth(lambda _: self._finishing_ended(finishing))

    async def _finish(self, connection: MeasuredConnection) -> None:
        """Complete the record with what tor tells last, and give it out."""
        joined: Joined | None = None
        events = self._settings.events
        if events is not None and connection.join is not None:
            wait = LAST_EVENTS_WAIT if self._wait is None else self._wait
            try:
                joined = await events.finish(connection.join, connection.anchor, wait)
            except CancelledError:
                joined = await events.finish(connection.join, connection.anchor, wait=0)
        self._finished(connection.record(joined))

    def _finishing_ended(self, finishing: Deferred[None]) -> None:
        self._finishing.discard(finishing)
        if self._quiet is not None and not self.connections and not self._finishing:
            quiet, self._quiet = self._quiet, None
            quiet.callback(None)

    def _keep(self, record: ProxyConnection) -> None:
        if len(self._records) < MOST_RECORDS:
            self._records.append(record)
        else:
            self.omitted += 1
