"""The SOCKS proxies that take tor's place: readiness, and all ways to ask them over real sockets."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from perfd.socks import (
    ConnectionRefused,
    RequestRejectedOrFailed,
    ServerFailure,
    SOCKS4ClientEndpoint,
    SOCKS5ClientEndpoint,
)
from perfd.tor.embedded import EmbeddedSocks, OutsideSocks
from perfd.tor.supervision import NotReadyError

reactor: Any = global_reactor


class ServiceTests(SynchronousTestCase):
    """Readiness, as the schedule sees it."""

    def test_life(self) -> None:
        """Ready from the start to the stop, and again after another start."""
        memory = MemoryReactorClock()
        service = EmbeddedSocks(memory, "default")
        self.assertIn("not running", service.not_ready or "")
        self.assertRaises(RuntimeError, service.socks_port)
        waiting = Deferred.fromCoroutine(service.when_ready())
        self.assertNoResult(waiting)
        service.startService()
        self.successResultOf(waiting)
        self.assertIsNone(service.not_ready)
        self.assertIsNone(service.version)
        self.assertEqual(memory.tcpServers[0][3], "127.0.0.1")
        self.assertIsInstance(service.socks_port().endpoint, TCP4ClientEndpoint)
        self.successResultOf(service.stopService())
        self.assertIn("stopped", service.not_ready or "")
        service.startService()
        self.successResultOf(Deferred.fromCoroutine(service.when_ready()))

    def test_stopped_while_waited_for(self) -> None:
        """Who waits for it is told when it is stopped."""
        service = EmbeddedSocks(MemoryReactorClock(), "default")
        waiting = Deferred.fromCoroutine(service.when_ready())
        service.stopService()
        self.failureResultOf(waiting, NotReadyError)

    def test_outside(self) -> None:
        """A proxy that somebody else runs is taken as it is."""
        outside = OutsideSocks(MemoryReactorClock(), "default", "127.0.0.1", 1080, 4, ("spam", ""))
        self.successResultOf(Deferred.fromCoroutine(outside.when_ready()))
        self.assertEqual((outside.name, outside.version, outside.not_ready), ("default", None, None))
        port = outside.socks_port()
        self.assertIsInstance(port.endpoint, TCP4ClientEndpoint)
        self.assertEqual((port.version, port.login, port.is_tors), (4, ("spam", ""), False))


class Sender(Protocol):
    """Sends a file to whoever connects, as fast as it is taken, and closes."""

    transport: Any
    file: Any

    def connectionMade(self) -> None:
        sending = FileSender().beginFileTransfer(self.file, self.transport)
        sending.addCallbacks(lambda _: self.transport.loseConnection(), lambda _: None)


class Receiver(Protocol):
    """Hashes what it gets; pauses again and again, so that the sender must wait."""

    transport: Any

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.length = 0
        self.done: Deferred[type[BaseException]] = Deferred()
        self._pause_at = 0

    def dataReceived(self, data: bytes) -> None:
        self.hash.update(data)
        self.length += len(data)
        if self.length > self._pause_at:
            self._pause_at = self.length + 1024 * 1024
            self.transport.pauseProducing()
            reactor.callLater(0.01, self.transport.resumeProducing)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(type(reason.value))


class Echo(Protocol):
    """Sends back what it gets."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Talker(Protocol):
    """Says hello, and hears what comes back."""

    transport: Any

    def __init__(self) -> None:
        self.heard: Deferred[bytes] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self._data = b""

    def connectionMade(self) -> None:
        self.transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) == 5:
            self.heard.callback(self._data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class LoopbackTests(TestCase):
    """With Perfd's own SOCKS client, over real sockets."""

    timeout = 60

    def setUp(self) -> None:
        self.service = EmbeddedSocks(reactor, "default")
        self.service.startService()
        self.addCleanup(self.service.stopService)

    def listen(self, protocol: Callable[[], Protocol]) -> int:
        port = reactor.listenTCP(0, Factory.forProtocol(protocol), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def endpoints(self, port: int) -> list[Any]:
        """Every way to ask the proxy for ``port``."""
        proxy = self.service.socks_port().endpoint
        login = {"login": ("spam", "eggs")}
        return [
            SOCKS5ClientEndpoint("127.0.0.1", port, proxy),
            SOCKS5ClientEndpoint("localhost", port, proxy, login),
            SOCKS4ClientEndpoint("127.0.0.1", port, proxy, "spam"),
            SOCKS4ClientEndpoint("localhost", port, proxy),
        ]

    async def test_all_ways(self) -> None:
        """SOCKS 4, 4a and 5, by address and by name, with and without a login."""
        port = self.listen(Echo)
        for endpoint in self.endpoints(port):
            talker: Any = await endpoint.connect(Factory.forProtocol(Talker))
            self.assertEqual(await talker.heard, b"hello")
            talker.transport.loseConnection()
            await talker.lost

    async def test_refused(self) -> None:
        """A port where nobody listens, and a name that is none, are refused with their own errors."""
        listening = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        port = listening.getHost().port
        await listening.stopListening()
        five, _, four, _ = self.endpoints(port)
        await self.assertFailure(five.connect(Factory.forProtocol(Talker)), ConnectionRefused)
        await self.assertFailure(four.connect(Factory.forProtocol(Talker)), RequestRejectedOrFailed)
        bad = SOCKS5ClientEndpoint("a..b", port, self.service.socks_port().endpoint)
        await self.assertFailure(bad.connect(Factory.forProtocol(Talker)), ServerFailure)

    async def test_large_and_slow(self) -> None:
        """8 MiB for a client that often stops reading arrive whole, and the end of the connection with them."""
        data = os.urandom(8 * 1024 * 1024)

        def sender() -> Sender:
            made = Sender()
            made.file = io.BytesIO(data)
            return made

        endpoint = self.endpoints(self.listen(sender))[0]
        receiver: Any = await endpoint.connect(Factory.forProtocol(Receiver))
        self.assertIs(await receiver.done, error.ConnectionDone)
        self.assertEqual((receiver.length, receiver.hash.digest()), (len(data), hashlib.sha256(data).digest()))

    async def test_stop_breaks_off(self) -> None:
        """Who is connected when it is stopped is not left hanging."""
        endpoint = self.endpoints(self.listen(Echo))[0]
        talker: Any = await endpoint.connect(Factory.forProtocol(Talker))
        await talker.heard
        await self.service.stopService()
        await talker.lost
        await deferLater(reactor, 0)
