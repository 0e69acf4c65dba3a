"""A tor that is slowed down on purpose: what a comparison must find, as a check of the comparison itself.

The delay is between the SOCKS reply and the request. Before the reply tor may be building a circuit for the stream:
what is waited then is not all added to a run.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from perfd.interfaces import Tor
from perfd.socks.port import SOCKSPort


class _Held(Protocol):
    """Gives a connection to the protocol that ``factory`` builds ``seconds`` after it was made."""

    transport: ITransport

    def __init__(self, reactor: IReactorTime, factory: IProtocolFactory, seconds: float) -> None:
        self._reactor = reactor
        self._factory = factory
        self._seconds = seconds
        self._beginning: IDelayedCall | None = None
        self._protocol: Any = None

    def connectionMade(self) -> None:
        self._beginning = self._reactor.callLater(self._seconds, self._begin)

    def dataReceived(self, data: bytes) -> None:
        self._begin()  # the server speaks first
        self._protocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._protocol is None:  # it has no socket any more that it could begin with
            self._stop_waiting()
            self._protocol = self._factory.buildProtocol(self.transport.getPeer())
            self._protocol.transport = self.transport
        self._protocol.connectionLost(reason)

    def _begin(self) -> None:
        if self._protocol is not None:
            return
        self._stop_waiting()
        self._protocol = self._factory.buildProtocol(self.transport.getPeer())
        self._protocol.makeConnection(self.transport)

    def _stop_waiting(self) -> None:
        if self._beginning is not None and self._beginning.active():
            self._beginning.cancel()


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _Later:
    """``endpoint``, whose connections are given on ``seconds`` later."""

    reactor: IReactorTime
    endpoint: IStreamClientEndpoint
    seconds: float

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory = Factory.forProtocol(lambda: _Held(self.reactor, protocolFactory, self.seconds))
        factory.noisy = False
        return self.endpoint.connect(factory)


@attrs.frozen(kw_only=True)
class _SlowedPort(SOCKSPort):
    """A SOCKS port of which each connection takes ``seconds`` longer until it can be used."""

    reactor: IReactorTime
    seconds: float

    def through(self, *args: Any, **options: Any) -> IStreamClientEndpoint:
        """See `SOCKSPort.through`."""
        return _Later(self.reactor, super().through(*args, **options), self.seconds)


@attrs.frozen
class SlowedTor:
    """``tor``, to each connection over which ``seconds`` are added."""

    reactor: IReactorTime
    tor: Tor
    seconds: float

    @property
    def name(self) -> Any:
        return self.tor.name

    @property
    def version(self) -> str | None:
        return self.tor.version

    @property
    def not_ready(self) -> str | None:
        """Why it cannot be used now; None when it can."""
        return self.tor.not_ready

    async def when_ready(self) -> None:
        """Return when it can be used."""
        await self.tor.when_ready()

    def socks_port(self) -> SOCKSPort:
        """Its SOCKS port, slowed. Raises RuntimeError while there is none."""
        port = self.tor.socks_port()
        values = {field.name: getattr(port, field.name) for field in attrs.fields(SOCKSPort)}
        return _SlowedPort(**values, reactor=self.reactor, seconds=self.seconds)
