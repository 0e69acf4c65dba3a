"""A connection and its application in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

LOGIN = {"login": ("spam", "eggs")}


GRANTED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


NEAR = IPv4Address("TCP", "127.0.0.1", 40001)


FAR = IPv4Address("TCP", "127.0.0.1", 9050)


class Recorder(Protocol):
    """An application that keeps what happens to it, in order."""

    def __init__(self, on_made: Callable[[Recorder], object] | None = None) -> None:
        self.happened: list[object] = []
        self._on_made = on_made

    def connectionMade(self) -> None:
        self.happened.append("made")
        if self._on_made is not None:
            self._on_made(self)

    def dataReceived(self, data: bytes) -> None:
        self.happened.append(data)

    def connectionLost(self, reason: Failure) -> None:
        self.happened.append(reason.type)


class Application(Factory):
    """Makes one `Recorder`."""

    noisy = False

    def __init__(self, on_made: Callable[[Recorder], object] | None = None) -> None:
        self.recorder = Recorder(on_made)
        self.starts = 0
        self.addresses: list[object] = []

    def startFactory(self) -> None:
        self.starts += 1

    def stopFactory(self) -> None:
        self.starts -= 1

    def buildProtocol(self, addr: object) -> Recorder:
        self.addresses.append(addr)
        return self.recorder


class Wire(StringTransport):
    """A transport that counts how often it was aborted; a socket's reactor delivers to ``protocol``."""

    def __init__(self, protocol: Any) -> None:
        super().__init__(hostAddress=NEAR, peerAddress=FAR)
        self.aborted = 0
        self.protocol = protocol

    def abortConnection(self) -> None:
        self.aborted += 1
        super().abortConnection()


@implementer(IStreamClientEndpoint)
class ManualEndpoint:
    """An endpoint that is connected when the test says so."""

    def __init__(self) -> None:
        self.connecting: Deferred[Any] = Deferred()
        self.factory: Any = None

    def connect(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        return self.connecting

    def succeed(self) -> Wire:
        client = self.factory.buildProtocol(FAR)
        wire = Wire(client)
        client.makeConnection(wire)
        self.connecting.callback(client)
        return wire
