"""TLS on top of any client endpoint, with the name that txsocksx gave it."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer


@implementer(IStreamClientEndpoint)
class TLSWrapClientEndpoint:
    """An endpoint that starts TLS as soon as ``wrappedEndpoint`` is connected.

    ``contextFactory`` is what `TLSMemoryBIOFactory` takes for a client, for example
    ``twisted.internet.ssl.optionsForClientTLS("example.com")``. ``clock`` schedules its writes.
    """

    def __init__(
        self, contextFactory: Any, wrappedEndpoint: IStreamClientEndpoint, clock: IReactorTime | None = None
    ) -> None:
        self.contextFactory = contextFactory
        self.wrappedEndpoint = wrappedEndpoint
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; fires with the application's protocol, whose transport speaks TLS."""
        wrapping = TLSMemoryBIOFactory(self.contextFactory, True, protocolFactory, clock=self._clock)
        return self.wrappedEndpoint.connect(wrapping).addCallback(_unwrapped)


def _unwrapped(tls: Any) -> IProtocol:
    return cast(IProtocol, tls.wrappedProtocol)
