"""TLS on top of any client endpoint, with the name that txsocksx gave it."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from perfd.socks.errors import SOCKSError


class _TLSProtocol(TLSMemoryBIOProtocol):
    """TLS that passes on why an optimistic connection failed, rather than call it an unexpected end."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(SOCKSError):
            self.connected = False
            ProtocolWrapper.connectionLost(self, reason)
        else:
            super().connectionLost(reason)


class _TLSFactory(TLSMemoryBIOFactory):
    protocol = _TLSProtocol


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
        wrapping = _TLSFactory(self.contextFactory, True, protocolFactory, clock=self._clock)
        return self.wrappedEndpoint.connect(wrapping).addCallback(_unwrapped)


def _unwrapped(tls: Any) -> IProtocol:
    return cast(IProtocol, tls.wrappedProtocol)
