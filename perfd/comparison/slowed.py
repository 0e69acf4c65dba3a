"""A tor that is slowed down on purpose: what a comparison must find, as a check of the comparison itself."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.task import deferLater
from zope.interface import implementer

from perfd.interfaces import Tor
from perfd.socks.port import SOCKSPort


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _Later:
    """``endpoint``, to which connecting takes ``seconds`` longer."""

    reactor: IReactorTime
    endpoint: IStreamClientEndpoint
    seconds: float

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        waited: Deferred[Any] = deferLater(self.reactor, self.seconds)
        return waited.addCallback(lambda _: self.endpoint.connect(protocolFactory))


@attrs.frozen
class SlowedTor:
    """``tor`` behind a delay line in front of its SOCKS port, which adds ``seconds`` to each run over it."""

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
        """Its SOCKS port behind the delay line. Raises RuntimeError while there is none."""
        port = self.tor.socks_port()
        return attrs.evolve(port, endpoint=_Later(self.reactor, port.endpoint, self.seconds))
