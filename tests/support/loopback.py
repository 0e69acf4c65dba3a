"""Servers and clients on real sockets of this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
)
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request
from zope.interface import implementer


class Page(Resource):
    """Says how it was asked for."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        host = request.getHeader("host") or ""
        return f"{request.path.decode()} on {host} {'secure' if request.isSecure() else 'plain'}".encode()


class Echo(Protocol):
    """Sends back what it gets."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Collector(Protocol):
    """Collects bytes; its Deferreds fire when so many are there, and when the connection is lost."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[None] = Deferred()
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def when_received(self, length: int) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self._waiting.append((length, waiting))
        self._notify()
        return waiting

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self._notify()

    def connectionLost(self, reason: Failure) -> None:
        self.reason = reason
        self.lost.callback(None)

    def _notify(self) -> None:
        due = [each for each in self._waiting if each[0] <= len(self.data)]
        self._waiting = [each for each in self._waiting if each not in due]
        for _, waiting in due:
            waiting.callback(None)


@implementer(IHalfCloseableProtocol)
class HalfCloser(Collector):
    """An application that goes on when one direction is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.read_lost: Deferred[None] = Deferred()

    def readConnectionLost(self) -> None:
        self.read_lost.callback(None)

    def writeConnectionLost(self) -> None:
        """Nothing to do; the test closed it."""


class LoopbackCase(TestCase):
    """Listens on loopback for the length of a test."""

    timeout = 30

    async def listen(self, factory: IProtocolFactory) -> tuple[int, IStreamClientEndpoint]:
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number, TCP4ClientEndpoint(reactor, "127.0.0.1", number)

    async def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait for something that another connection does; the test's timeout is the limit."""
        while not condition():
            await deferLater(reactor, 0.005)

    async def close(self, application: Any) -> None:
        application.transport.loseConnection()
        await application.lost
