"""Both ends of a forwarded connection in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

HERE = IPv4Address("TCP", "127.0.0.1", 40001)
RESET = Failure(error.ConnectionLost())
ABORTED = Failure(error.ConnectionAborted())


class Transport(StringTransport):
    """A transport that knows what TCP has besides bytes, and that loses its connection when the test says so."""

    nodelay = False
    half_closed = False

    def __init__(self) -> None:
        super().__init__(hostAddress=IPv4Address("TCP", "127.0.0.1", 50001), peerAddress=HERE)
        self.aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.nodelay = enabled

    def unregisterProducer(self) -> None:
        self.producer = None  # as TCP, which does not mind if there is none

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True

    @property
    def ending(self) -> bool:
        return self.aborted or self.disconnecting


@implementer(IStreamClientEndpoint)
class FakeEndpoint:
    """Connects when the test says so."""

    def __init__(self) -> None:
        self.cancelled = False
        self.factory: Any = None
        self._connecting: Deferred[Any] = Deferred(lambda _: setattr(self, "cancelled", True))

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.factory = protocolFactory
        return self._connecting

    def succeed(self) -> Any:
        """Be connected; the protocol, on a `Transport`, which knows whether it has ``lost`` its connection."""
        protocol = self.factory.buildProtocol(HERE)
        lose, protocol.lost = protocol.connectionLost, False

        def connection_lost(reason: Failure = connectionDone) -> None:
            protocol.lost = True
            lose(reason)

        protocol.connectionLost = connection_lost
        protocol.makeConnection(Transport())
        self._connecting.callback(protocol)
        return protocol

    def fail(self, reason: Exception) -> None:
        self._connecting.errback(reason)
