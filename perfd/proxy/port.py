"""The proxy's listening ports, and the records of what came through them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from perfd.clock import Anchor, Clock
from perfd.proxy.passage import Passage
from perfd.proxy.records import ProxyConnection
from perfd.proxy.route import Route
from perfd.reactor import Reactor
from perfd.tor.events.join import Joined
from perfd.tor.events.listener import LAST_EVENTS_WAIT, ControlEvents

MOST_CONNECTIONS = 1000
"""Connections at the same time to one port; further ones are closed at once."""

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
        socks: Callable[[], IStreamClientEndpoint] | None,
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
        route = Route(
            reactor=self._reactor,
            clock=self._clock,
            socks=self._socks,
            events=self._events,
            login=login,
            optimistic=optimistic,
            measurement=measurement,
            anchor=anchor,
        )
        opened = OpenPort(route, finished)
        opened.listen(self._reactor, host, port)
        return opened


class OpenPort(Factory):
    """A port that the proxy listens on; made by ``MeasuringProxy.open``."""

    noisy = False
    _log = Logger()

    def __init__(self, route: Route, finished: Callable[[ProxyConnection], None] | None = None) -> None:
        self.turned_away = 0
        """Connections that were closed at once: there were too many, or they came from elsewhere."""
        self.omitted = 0
        """Records that were not kept, because there were too many."""
        self._route = route
        self._finished = finished or self._keep
        self._records: list[ProxyConnection] = []
        self._listening: IListeningPort | None = None
        self._last_number = 0
        self._live: set[Passage] = set()
        self._finishing: set[Deferred[None]] = set()
        self._wait: float | None = None  # seconds for tor's last events, once it is being closed
        self._quiet: Deferred[None] | None = None

    def listen(self, reactor: Reactor, host: str, port: int) -> None:
        """Begin to listen; a browser may open many connections in one moment."""
        self._listening = reactor.listenTCP(port, self, backlog=MOST_CONNECTIONS, interface=host)  # type: ignore[arg-type]

    @property
    def port(self) -> int:
        """The port that is listened on. Only valid until ``close``."""
        assert self._listening is not None
        return int(self._listening.getHost().port)  # type: ignore[attr-defined]

    def buildProtocol(self, addr: Any) -> Any:
        """One end of a new connection; None, which closes it, for clients elsewhere and when there are too many."""
        local = ipaddress.ip_address(getattr(addr, "host", "0.0.0.0").partition("%")[0]).is_loopback
        if self._wait is not None:
            return None
        if not local or len(self._live) >= MOST_CONNECTIONS:
            self.turned_away += 1
            return None
        self._last_number += 1
        passage = Passage(self._route, self._last_number, addr, self._over)
        self._live.add(passage)
        return passage.client

    async def close(self, wait: float = LAST_EVENTS_WAIT) -> tuple[ProxyConnection, ...]:
        """Stop listening and break off what is connected; the records of all connections, by their number.

        Waits at most ``wait`` seconds for tor's last events. Cancelling it loses the records, nothing else.
        """
        self._wait = wait
        listening, self._listening = self._listening, None
        stopped = maybeDeferred(listening.stopListening) if listening is not None else None
        for passage in list(self._live):
            passage.abort()
        if wait <= 0:
            for finishing in list(self._finishing):
                finishing.cancel()
        if stopped is not None:
            await stopped
        if self._live or self._finishing:
            self._quiet = Deferred()
            await self._quiet
        records, self._records = self._records, []
        return tuple(sorted(records, key=lambda record: record.number))

    def _over(self, passage: Passage) -> None:
        self._live.discard(passage)
        finishing = Deferred.fromCoroutine(self._finish(passage))
        self._finishing.add(finishing)
        finishing.addErrback(lambda failure: self._log.failure("a record of the proxy was lost", failure))
        finishing.addBoth(lambda _: self._finishing_ended(finishing))

    async def _finish(self, passage: Passage) -> None:
        """Complete the record with what tor tells last, and give it out."""
        joined: Joined | None = None
        events = self._route.events
        if events is not None and passage.join is not None:
            wait = LAST_EVENTS_WAIT if self._wait is None else self._wait
            try:
                joined = await events.finish(passage.join, passage.anchor, wait)
            except CancelledError:
                joined = await events.finish(passage.join, passage.anchor, wait=0)
        self._finished(passage.record(joined))

    def _finishing_ended(self, finishing: Deferred[None]) -> None:
        self._finishing.discard(finishing)
        if self._quiet is not None and not self._live and not self._finishing:
            quiet, self._quiet = self._quiet, None
            quiet.callback(None)

    def _keep(self, record: ProxyConnection) -> None:
        if len(self._records) < MOST_RECORDS:
            self._records.append(record)
        else:
            self.omitted += 1
