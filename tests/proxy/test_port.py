"""The measuring proxy over real sockets."""

from __future__ import annotations

import hashlib
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from perfd.clock import Clock
from perfd.proxy import MeasuringProxy, OpenPort
from perfd.socks import (
    AddressNotSupported,
    ConnectionLostEarly,
    ConnectionRefused,
    ReplyError,
    RequestRejectedOrFailed,
    SOCKS4ClientEndpoint,
    SOCKS5ClientEndpoint,
    TTLExpired,
)
from perfd.socks.port import SOCKSPort
from perfd.socks.testing import FakeSOCKSFactory, SOCKSAnswers
from perfd.tor.embedded import EmbeddedSocks
from perfd.tor.endpoints import tcp_endpoint
from tests.support.sockets import let_kernel_stamp

reactor: Any = global_reactor


class Echo(Protocol):
    """Sends back what it gets, with back-pressure, and the end too."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.registerProducer(self.transport, streaming=True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


@implementer(IHalfCloseableProtocol)
class Talker(Protocol):
    """Sends ``data`` and keeps a digest of what comes back; ``heard`` fires when as much has come."""

    transport: Any

    def __init__(self, data: bytes, pause: float = 0.0) -> None:
        self.data = data
        self.digest = hashlib.sha256()
        self.length = 0
        self.pause = pause
        self.heard: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.lost: Deferred[Any] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.data)

    def dataReceived(self, data: bytes) -> None:
        self.digest.update(data)
        before, self.length = self.length, self.length + len(data)
        if before < len(self.data) <= self.length:
            self.heard.callback(None)
        elif self.pause and self.length // 2**20 > before // 2**20:
            self.transport.pauseProducing()
            reactor.callLater(self.pause, self.transport.resumeProducing)

    def readConnectionLost(self) -> None:
        self.ended.callback(None)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(reason.value)


class Upload(Protocol):
    """Answers with the digest of what it got once the client sends no more."""

    transport: Any

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def dataReceived(self, data: bytes) -> None:
        self.digest.update(data)


@implementer(IHalfCloseableProtocol)
class HalfCloseUpload(Upload):
    """... and so can be closed to on one side."""

    def readConnectionLost(self) -> None:
        self.transport.write(self.digest.digest())
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


class Loopback(TestCase):
    """With Perfd's own SOCKS client, through the embedded SOCKS server, over real sockets."""

    timeout = 120

    def setUp(self) -> None:
        self.socks = EmbeddedSocks(reactor, "default")
        self.socks.startService()
        self.addCleanup(self.socks.stopService)
        self.proxy = MeasuringProxy(reactor, Clock(), self.socks.socks_port)

    def listen(self, protocol: Callable[[], Protocol]) -> int:
        port = reactor.listenTCP(0, Factory.forProtocol(protocol), interface="127.0.0.1", backlog=500)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def open(self, **options: Any) -> OpenPort:
        opened = self.proxy.open(**options)
        self.addCleanup(lambda: Deferred.fromCoroutine(opened.close()))
        return opened

    async def talk(self, endpoint: Any, data: bytes, pause: float = 0.0) -> Talker:
        talker = Talker(data, pause)
        await endpoint.connect(Factory.forProtocol(lambda: talker))
        return talker

    def through(self, opened: OpenPort, port: int, host: str = "127.0.0.1") -> SOCKS5ClientEndpoint:
        return SOCKS5ClientEndpoint(host, port, tcp_endpoint(reactor, "127.0.0.1", opened.port, 30.0))

    async def test_200_at_once(self) -> None:
        """200 connections at the same time: all bytes right, each with its own record."""
        opened, port = self.open(login=("user", "perfd")), self.listen(Echo)
        data = [os.urandom(50_000 + number) for number in range(200)]
        endpoint = self.through(opened, port)
        talkers = await gatherResults([Deferred.fromCoroutine(self.talk(endpoint, each)) for each in data])
        await gatherResults([talker.heard for talker in talkers])
        for talker, each in zip(talkers, data, strict=True):
            self.assertEqual(talker.digest.digest(), hashlib.sha256(each).digest())
        records = await opened.close()
        await gatherResults([talker.lost for talker in talkers])
        self.assertEqual([record.number for record in records], list(range(1, 201)))
        self.assertEqual(len({record.localport for record in records}), 200)
        self.assertEqual(sorted(record.writebytes for record in records), [len(each) for each in data])
        for record in records:
            self.assertEqual((record.code, record.readbytes, record.closedby), (0, record.writebytes, "proxy"))

    async def test_held_up(self) -> None:
        """What comes while the reactor is held up has the time of its coming, from both sides."""
        let_kernel_stamp(self)
        self.proxy = MeasuringProxy(reactor, Clock(), None)
        opened = self.open()
        listening = socket.create_server(("127.0.0.1", 0))
        program = socket.create_connection(("127.0.0.1", opened.port))
        for each in (listening, program):
            self.addCleanup(each.close)
        program.sendall(b"\x04\x01" + listening.getsockname()[1].to_bytes(2, "big") + b"\x7f\0\0\1\0")
        while not select.select([listening], [], [], 0)[0]:
            await deferLater(reactor, 0.001)
        server, _ = listening.accept()
        self.addCleanup(server.close)
        while not select.select([program], [], [], 0)[0]:
            await deferLater(reactor, 0.001)
        self.assertEqual(program.recv(100)[:2], b"\0\x5a")
        moments = []
        for speaker, hearer in ((program, server), (server, program)):
            moments.append(time.time())
            speaker.sendall(b"hello")
            moments.append(time.time())
            time.sleep(0.05)
            while not select.select([hearer], [], [], 0)[0]:
                await deferLater(reactor, 0.001)
            self.assertEqual(hearer.recv(100), b"hello")
        (record,) = await opened.close()
        noise = 0.005  # the process may be interrupted while it reads the clocks for the record
        self.assertEqual(record.stamps, "kernel")
        for first, last, before, after in (
            (record.datarequest, record.datasent, *moments[:2]),
            (record.dataresponse, record.datacomplete, *moments[2:]),
        ):
            assert first is not None
            self.assertEqual(first, last)
            self.assertTrue(before - noise <= first <= after + noise, (first, moments))

    async def test_slow_reader(self) -> None:
        """16 MiB there and back for a program that often stops reading: no more is held than the buffers."""
        opened, port = self.open(), self.listen(Echo)
        data = os.urandom(2**20) * 16
        most = 0

        def look() -> None:
            nonlocal most
            for connection in opened.connections:
                for end in (connection.client, connection.remote):
                    if end.alive:
                        held = len(end.transport.dataBuffer) + end.transport._tempDataLen
                        most = max(most, held)
            if not talker.heard.called:
                reactor.callLater(0.002, look)

        talker = Talker(data, 0.01)
        await self.through(opened, port).connect(Factory.forProtocol(lambda: talker))
        for connection in opened.connections:
            for end in (connection.client, connection.remote):
                # Or the kernel would hold all of it.
                end.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        look()
        await talker.heard
        self.assertEqual(talker.digest.digest(), hashlib.sha256(data).digest())
        self.assertGreater(most, 0)
        self.assertLess(most, 2**20)

    async def test_half_close(self) -> None:
        """Directly, a program can close its side and still get its answer, and then the end."""
        self.proxy = MeasuringProxy(reactor, Clock(), None)
        opened, port = self.open(), self.listen(HalfCloseUpload)
        data = os.urandom(3 * 2**20)
        talker = await self.talk(self.through(opened, port), data)
        talker.transport.loseWriteConnection()
        await talker.ended
        self.assertIsInstance(await talker.lost, error.ConnectionDone)
        self.assertEqual(talker.length, 32)
        (record,) = await opened.close()
        self.assertEqual((record.closedby, record.how, record.writebytes), ("client", "closed", len(data)))
        self.assertIsNone(record.errorcode)

    async def test_ways_to_ask(self) -> None:
        """SOCKS 4a and 5, by name; optimistic or not; with a SOCKS server behind the proxy or without."""
        port = self.listen(Echo)
        for proxy in (self.proxy, MeasuringProxy(reactor, Clock(), None)):
            self.proxy = proxy
            for optimistic in (False, True):
                opened = self.open(optimistic=optimistic)
                near = tcp_endpoint(reactor, "127.0.0.1", opened.port, 30.0)
                for endpoint in (
                    self.through(opened, port, "localhost"),
                    SOCKS4ClientEndpoint("localhost", port, near, "spam"),
                ):
                    talker = await self.talk(endpoint, b"hello")
                    await talker.heard
                    talker.transport.loseConnection()
                    await talker.lost
                records = await opened.close()
                self.assertEqual([record.version for record in records], [5, 4])
                for record in records:
                    self.assertEqual((record.host, record.readbytes, record.errorcode), ("localhost", 5, None))

    async def test_refused(self) -> None:
        """A port where nobody listens: tor's code strictly, a reset when success was said already."""
        listening = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        port = listening.getHost().port
        await listening.stopListening()
        opened = self.open()
        await self.assertFailure(self.through(opened, port).connect(Factory()), ConnectionRefused)
        (record,) = await opened.close()
        self.assertEqual((record.code, record.errorcode), (5, "TOR/CONNECTION_REFUSED"))
        opened = self.open(optimistic=True)
        talker = await self.talk(self.through(opened, port), b"hello")
        self.assertIsInstance(await talker.lost, error.ConnectionLost)
        (record,) = await opened.close()
        self.assertEqual((record.code, record.how, record.writebytes), (5, "refused", 5))

    async def test_all_reply_codes(self) -> None:
        """Every code that the SOCKS proxy behind may answer is what the program gets."""
        for code, kind in ((1, ReplyError), (5, ConnectionRefused), (6, TTLExpired), (8, AddressNotSupported)):
            behind = FakeSOCKSFactory(SOCKSAnswers(code=code))
            listening = reactor.listenTCP(0, behind, interface="127.0.0.1")
            self.addCleanup(listening.stopListening)
            far = tcp_endpoint(reactor, "127.0.0.1", listening.getHost().port, 30.0)
            self.proxy = MeasuringProxy(reactor, Clock(), lambda far=far: SOCKSPort(far))
            opened = self.open(login=("a", "b"))
            failed = await self.assertFailure(self.through(opened, 80).connect(Factory()), kind)
            self.assertEqual(failed.code, code)
            self.assertEqual(behind.peers[0].server.request.user, b"a")
            (record,) = await opened.close()
            self.assertEqual(record.code, code)
            await behind.peers[0].closed

    async def test_tor_goes(self) -> None:
        """A SOCKS port that closes before its reply; and SOCKS 4's answer when nobody listens there."""
        behind = FakeSOCKSFactory(SOCKSAnswers(close_after="login", raw={"login": b""}))
        listening = reactor.listenTCP(0, behind, interface="127.0.0.1")
        far = tcp_endpoint(reactor, "127.0.0.1", listening.getHost().port, 30.0)
        self.proxy = MeasuringProxy(reactor, Clock(), lambda: SOCKSPort(far))
        opened = self.open(login=("a", "b"))
        await self.assertFailure(self.through(opened, 80).connect(Factory()), ConnectionLostEarly)
        await behind.peers[0].closed
        await listening.stopListening()
        near = tcp_endpoint(reactor, "127.0.0.1", opened.port, 30.0)
        four = SOCKS4ClientEndpoint("localhost", 80, near)
        await self.assertFailure(four.connect(Factory()), RequestRejectedOrFailed)
        await deferLater(reactor, 0)
        records = await opened.close()
        self.assertEqual([record.errorcode for record in records], ["PERFD/CLOSED", "PERFD/CONNECT"])
