"""The SOCKS server that takes tor's place: its negotiation, its forwarding, and the services around it."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from perfd.socks import (
    ConnectionRefused,
    RequestRejectedOrFailed,
    ServerFailure,
    SOCKS4ClientEndpoint,
    SOCKS5ClientEndpoint,
)
from perfd.socks.server import (
    MOST_CONNECTIONS,
    NEGOTIATION_TIMEOUT,
    Request,
    SocksRefusedError,
    SocksServerFactory,
    SocksServerMachine,
)
from perfd.tor.embedded import EmbeddedSocks, OutsideSocks
from perfd.tor.endpoints import tcp_endpoint
from perfd.tor.supervision import NotReadyError

reactor: Any = global_reactor

HERE = IPv4Address("TCP", "127.0.0.1", 40001)

GREETING = b"\x05\x01\x00"
LOGIN = b"\x05\x02\x00\x02"
PASSWORD = b"\x01\x04spam\x04eggs"
NAME = b"\x05\x01\x00\x03\x0bexample.com\x00\x50"
ADDRESS = b"\x05\x01\x00\x01\x7f\x00\x00\x01\x1f\x90"
ADDRESS6 = b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x50"
SOCKS4 = b"\x04\x01\x1f\x90\x7f\x00\x00\x01spam\0"
SOCKS4A = b"\x04\x01\x00\x50\x00\x00\x00\x01spam\0example.com\0"

GRANTED = b"\x05\x00\x00\x01" + bytes(6)

NEGOTIATIONS = {
    GREETING + NAME: (b"\x05\x00", Request(5, "example.com", 80)),
    GREETING + ADDRESS: (b"\x05\x00", Request(5, "127.0.0.1", 8080)),
    GREETING + ADDRESS6: (b"\x05\x00", Request(5, "::1", 80)),
    LOGIN + PASSWORD + NAME: (b"\x05\x02\x01\x00", Request(5, "example.com", 80, "spam", "eggs")),
    LOGIN + b"\x01\x00\x00" + NAME: (b"\x05\x02\x01\x00", Request(5, "example.com", 80)),
    SOCKS4: (b"", Request(4, "127.0.0.1", 8080, "spam")),
    SOCKS4A: (b"", Request(4, "example.com", 80, "spam")),
}

REFUSALS = {
    b"GET / HTTP/1.1": b"",
    b"\x05\x01\x01": b"\x05\xff",
    b"\x05\x00": b"\x05\xff",
    LOGIN + b"\x02": b"\x01\x01",
    GREETING + b"\x04\x01\x00\x01": b"\x05\x01\x00\x01" + bytes(6),
    GREETING + b"\x05\x02" + ADDRESS[2:]: b"\x05\x07\x00\x01" + bytes(6),
    GREETING + b"\x05\x01\x00\x02": b"\x05\x08\x00\x01" + bytes(6),
    GREETING + b"\x05\x01\x00\x03\x00": b"\x05\x04\x00\x01" + bytes(6),
    GREETING + b"\x05\x01\x00\x03\x03a b\x00\x50": b"\x05\x04\x00\x01" + bytes(6),
    b"\x04\x02" + SOCKS4[2:]: b"\x00\x5b" + bytes(6),
    SOCKS4[:8] + b"x" * 256: b"\x00\x5b" + bytes(6),
    SOCKS4A[:13] + b"x" * 256: b"\x00\x5b" + bytes(6),
    SOCKS4A[:13] + b"\xff\0": b"\x00\x5b" + bytes(6),
}


class MachineTests(SynchronousTestCase):
    """The negotiation, without I/O."""

    def test_requests(self) -> None:
        """Every version, way of login and kind of address is understood, whole and byte by byte."""
        for data, (answer, request) in NEGOTIATIONS.items():
            for size in (len(data), 1, 3):
                machine = SocksServerMachine()
                sent, found = b"", None
                for at in range(0, len(data), size):
                    self.assertIsNone(found, data)
                    to_send, found = machine.feed(data[at : at + size])
                    sent += to_send
                self.assertEqual((sent, found, machine.rest), (answer, request, b""))

    def test_optimistic_data(self) -> None:
        """What follows the request at once is kept for the destination."""
        for data, (answer, request) in NEGOTIATIONS.items():
            machine = SocksServerMachine()
            self.assertEqual(machine.feed(data + b"\x05hello"), (answer, request))
            self.assertEqual(machine.rest, b"\x05hello")

    def test_refusals(self) -> None:
        """Whatever cannot be served is refused with the answer that its version has for it, whole or in pieces."""
        for data, answer in REFUSALS.items():
            for size in (len(data), 1):
                machine = SocksServerMachine()
                with self.assertRaises(SocksRefusedError) as refused:
                    for at in range(0, len(data), size):
                        machine.feed(data[at : at + size])
                self.assertEqual(refused.exception.reply, answer, data)

    @given(st.binary(max_size=700), st.integers(1, 100))
    def test_anything(self, data: bytes, size: int) -> None:
        """Any bytes lead to a request, a refusal, or the wait for more, and to nothing else."""
        machine = SocksServerMachine()
        for at in range(0, len(data), size):
            try:
                _, request = machine.feed(data[at : at + size])
            except SocksRefusedError:
                return
            if request is not None:
                self.assertTrue(request.host)
                return
            self.assertLess(len(machine.rest), 600)


class Transport(StringTransport):
    """A transport that knows what TCP has besides bytes."""

    nodelay = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.nodelay = enabled


@implementer(IStreamClientEndpoint)
class FakeEndpoint:
    """Connects when the test says so."""

    def __init__(self) -> None:
        self.cancelled = False
        self.factory: Any = None
        self._connecting: Deferred[Any] = Deferred(self._cancel)

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.factory = protocolFactory
        return self._connecting

    def succeed(self) -> Any:
        """Be connected; return the protocol, on a `Transport`."""
        protocol = self.factory.buildProtocol(HERE)
        protocol.makeConnection(Transport())
        self._connecting.callback(protocol)
        return protocol

    def fail(self, reason: Exception) -> None:
        self._connecting.errback(reason)

    def _cancel(self, _: object) -> None:
        self.cancelled = True


class ServerTests(SynchronousTestCase):
    """The protocol between a client and a destination, in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.requests: list[Request] = []
        self.endpoint = FakeEndpoint()
        self.factory = SocksServerFactory(self.clock, self._endpoint_for)

    def _endpoint_for(self, request: Request) -> IStreamClientEndpoint:
        self.requests.append(request)
        return self.endpoint

    def client(self) -> tuple[Any, Transport]:
        """A protocol that a client has connected to, and its transport."""
        protocol = self.factory.buildProtocol(HERE)
        transport = Transport()
        protocol.makeConnection(transport)
        return protocol, transport

    def connected(self) -> tuple[Any, Transport, Any, Transport]:
        """The protocols and transports on both sides, just connected."""
        protocol, transport = self.client()
        protocol.dataReceived(GREETING + NAME)
        destination = self.endpoint.succeed()
        transport.clear()
        return protocol, transport, destination, destination.transport

    def test_forwards(self) -> None:
        """The client learns of the connection, and then both directions are copied, without delay by Nagle."""
        protocol, transport = self.client()
        protocol.dataReceived(GREETING)
        protocol.dataReceived(NAME)
        self.assertEqual(self.requests, [Request(5, "example.com", 80)])
        self.assertEqual(transport.value(), b"\x05\x00")
        destination = self.endpoint.succeed()
        self.assertEqual(transport.value(), b"\x05\x00" + GRANTED)
        protocol.dataReceived(b"request")
        destination.dataReceived(b"response")
        self.assertEqual(destination.transport.value(), b"request")
        self.assertEqual(transport.value(), b"\x05\x00" + GRANTED + b"response")
        self.assertTrue(transport.nodelay)
        self.assertTrue(destination.transport.nodelay)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_optimistic_data(self) -> None:
        """What the client sends before it is connected arrives, in order; it is not read from meanwhile."""
        protocol, transport = self.client()
        protocol.dataReceived(GREETING + NAME + b"one ")
        self.assertEqual(transport.producerState, "paused")
        protocol.dataReceived(b"two")
        destination = self.endpoint.succeed()
        self.assertEqual(destination.transport.value(), b"one two")
        self.assertEqual(transport.producerState, "producing")

    def test_back_pressure(self) -> None:
        """Each side is not read from while the other side cannot be written to."""
        _, transport, _, far = self.connected()
        self.assertTrue(transport.streaming)
        self.assertTrue(far.streaming)
        transport.producer.pauseProducing()  # as a transport does whose buffer is full
        self.assertEqual((transport.producerState, far.producerState), ("producing", "paused"))
        far.producer.pauseProducing()
        self.assertEqual((transport.producerState, far.producerState), ("paused", "paused"))
        transport.producer.resumeProducing()
        far.producer.resumeProducing()
        self.assertEqual((transport.producerState, far.producerState), ("producing", "producing"))

    def test_client_closes(self) -> None:
        """The destination gets all that was sent, and is closed."""
        protocol, _, _, far = self.connected()
        protocol.connectionLost(connectionDone)
        self.assertTrue(far.disconnecting)
        self.assertFalse(far.disconnected)
        self.assertIsNone(far.producer)
        self.assertEqual(self.factory.connections, set())

    def test_destination_closes(self) -> None:
        """The client gets all that was sent, and is closed."""
        _, transport, destination, _ = self.connected()
        destination.connectionLost(connectionDone)
        self.assertTrue(transport.disconnecting)
        self.assertFalse(transport.disconnected)
        self.assertIsNone(transport.producer)

    def test_resets(self) -> None:
        """A reset on one side is a reset on the other."""
        _, transport, destination, _ = self.connected()
        destination.connectionLost(Failure(error.ConnectionLost()))
        self.assertTrue(transport.disconnected)
        self.endpoint = FakeEndpoint()
        protocol, _, _, far = self.connected()
        protocol.connectionLost(Failure(error.ConnectionLost()))
        self.assertTrue(far.disconnected)

    def test_cannot_connect(self) -> None:
        """Why the destination cannot be reached is said in the code of the reply."""
        for reason, code in (
            (error.ConnectionRefusedError(), 5),
            (error.NoRouteError(), 3),
            (error.TCPTimedOutError(), 6),
            (error.TimeoutError(), 6),
            (error.DNSLookupError(), 4),
            (ValueError("invalid hostname"), 1),
        ):
            self.endpoint = FakeEndpoint()
            protocol, transport = self.client()
            protocol.dataReceived(GREETING + NAME)
            transport.clear()
            self.endpoint.fail(reason)
            self.assertEqual(transport.value(), bytes((5, code, 0, 1)) + bytes(6), reason)
            self.assertTrue(transport.disconnecting)
        protocol, transport = self.client()
        self.endpoint = FakeEndpoint()
        protocol.dataReceived(SOCKS4)
        self.endpoint.fail(error.ConnectionRefusedError())
        self.assertEqual(transport.value(), b"\x00\x5b" + bytes(6))

    def test_client_gives_up(self) -> None:
        """A client that goes while the destination is being connected to ends that."""
        protocol, transport = self.client()
        protocol.dataReceived(GREETING + NAME)
        transport.clear()
        protocol.connectionLost(connectionDone)
        self.assertTrue(self.endpoint.cancelled)
        self.assertEqual(transport.value(), b"")

    def test_refuses(self) -> None:
        """What is no SOCKS request is answered as it must be, and closed; what comes after it is not looked at."""
        protocol, transport = self.client()
        protocol.dataReceived(b"\x05\x01\x01")
        self.assertEqual(transport.value(), b"\x05\xff")
        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_slow(self) -> None:
        """A client that does not say where it wants to go is broken off, however busily it sends."""
        protocol, transport = self.client()
        for byte in SOCKS4A[:10]:
            self.clock.advance(NEGOTIATION_TIMEOUT / 10.1)
            protocol.dataReceived(bytes([byte]))
        self.assertFalse(transport.disconnected)
        self.clock.advance(NEGOTIATION_TIMEOUT / 10)
        self.assertTrue(transport.disconnected)

    def test_connected_in_time(self) -> None:
        """The deadline is for the negotiation only."""
        _, transport, _, _ = self.connected()
        self.clock.advance(2 * NEGOTIATION_TIMEOUT)
        self.assertFalse(transport.disconnected)

    def test_who_may_connect(self) -> None:
        """Clients on this machine, and only so many."""
        for host in ("10.0.0.1", "192.0.2.1"):
            self.assertIsNone(self.factory.buildProtocol(IPv4Address("TCP", host, 40001)))
        self.assertIsNone(self.factory.buildProtocol(IPv6Address("TCP", "2001:db8::1", 40001)))
        self.assertIsNotNone(self.factory.buildProtocol(IPv6Address("TCP", "::1", 40001)))
        clients = [self.client() for _ in range(MOST_CONNECTIONS)]
        self.assertIsNone(self.factory.buildProtocol(HERE))
        for protocol, _ in clients[:1]:
            protocol.connectionLost(connectionDone)
        self.assertIsNotNone(self.factory.buildProtocol(HERE))

    def test_abort_all(self) -> None:
        """Both sides of every connection are broken off, also of one that is only negotiating."""
        _, transport, _, far = self.connected()
        _, negotiating = self.client()
        self.factory.abort_all()
        self.assertEqual((transport.disconnected, far.disconnected, negotiating.disconnected), (True, True, True))


class EndpointTests(SynchronousTestCase):
    """How a host is connected to."""

    def test_kinds(self) -> None:
        """An address is connected to at once; only a name is resolved."""
        memory = MemoryReactorClock()
        for host, kind in (
            ("127.0.0.1", TCP4ClientEndpoint),
            ("::1", TCP6ClientEndpoint),
            ("localhost", HostnameEndpoint),
        ):
            self.assertIsInstance(tcp_endpoint(memory, host, 80, 5.0), kind)
        tcp_endpoint(memory, "127.0.0.1", 80, 5.0).connect(Factory())
        host, port, _, timeout, _ = memory.tcpClients[0]
        self.assertEqual((host, port, timeout), ("127.0.0.1", 80, 5.0))


class ServiceTests(SynchronousTestCase):
    """Readiness, as the schedule sees it."""

    def test_life(self) -> None:
        """Ready from the start to the stop, and again after another start."""
        memory = MemoryReactorClock()
        service = EmbeddedSocks(memory, "default")
        self.assertIn("not running", service.not_ready or "")
        self.assertRaises(RuntimeError, service.socks_endpoint)
        waiting = Deferred.fromCoroutine(service.when_ready())
        self.assertNoResult(waiting)
        service.startService()
        self.successResultOf(waiting)
        self.assertIsNone(service.not_ready)
        self.assertIsNone(service.version)
        self.assertEqual(memory.tcpServers[0][3], "127.0.0.1")
        self.assertIsInstance(service.socks_endpoint(), TCP4ClientEndpoint)
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
        endpoint = FakeEndpoint()
        outside = OutsideSocks("default", endpoint)
        self.successResultOf(Deferred.fromCoroutine(outside.when_ready()))
        self.assertEqual((outside.name, outside.version, outside.not_ready), ("default", None, None))
        self.assertIs(outside.socks_endpoint(), endpoint)


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
        proxy = self.service.socks_endpoint()
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
        bad = SOCKS5ClientEndpoint("a..b", port, self.service.socks_endpoint())
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
