"""The embedded SOCKS server: its machine, its protocol against fake transports, and itself over loopback."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet import error, reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from perfd.tor.embedded import EmbeddedSocks, OutsideSocks
from perfd.tor.socks_server import (
    MOST_CONNECTIONS,
    NEGOTIATION_TIMEOUT,
    Request,
    SocksRefusedError,
    SocksServerFactory,
    SocksServerMachine,
    reply,
)
from perfd.tor.supervision import NotReadyError

ANONYMOUS = b"\x05\x01\x00"
LOCALHOST_80 = b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50"


def feed(data: bytes, step: int = 0) -> tuple[bytes, Request | None, bytes]:
    """Feed a new machine, whole or ``step`` bytes at a time: what it sent, the request, and the rest."""
    machine = SocksServerMachine()
    sent = b""
    for start in range(0, len(data), step or len(data) or 1):
        to_send, request = machine.feed(data[start : start + (step or len(data))])
        sent += to_send
        if request is not None:
            return sent, request, machine.rest + data[start + (step or len(data)) :]
    return sent, None, machine.rest


class MachineTests(SynchronousTestCase):
    """The negotiation, byte by byte."""

    def assertGives(self, data: bytes, sent: bytes, request: Request) -> None:
        """The same result whole and in pieces, and what follows is kept."""
        for step in (0, 1, 2, 3, 7):
            self.assertEqual(feed(data + b"GET /", step), (sent, request, b"GET /"), step)

    def test_socks5_address(self) -> None:
        """SOCKS 5 to an IPv4 address."""
        self.assertGives(ANONYMOUS + LOCALHOST_80, b"\x05\x00", Request(5, "127.0.0.1", 80))

    def test_socks5_ipv6(self) -> None:
        """SOCKS 5 to an IPv6 address."""
        address = ipaddress.ip_address("2001:db8::1").packed
        data = ANONYMOUS + b"\x05\x01\x00\x04" + address + b"\x01\xbb"
        self.assertGives(data, b"\x05\x00", Request(5, "2001:db8::1", 443))

    def test_socks5_name(self) -> None:
        """SOCKS 5 to a name."""
        data = ANONYMOUS + b"\x05\x01\x00\x03\x0bexample.com\x00\x50"
        self.assertGives(data, b"\x05\x00", Request(5, "example.com", 80))

    def test_socks5_login(self) -> None:
        """Any username and password is taken, preferred to none, and given on."""
        data = b"\x05\x02\x00\x02" + b"\x01\x04user\x02\xffp" + LOCALHOST_80
        self.assertGives(data, b"\x05\x02\x01\x00", Request(5, "127.0.0.1", 80, "user", "\xffp"))

    def test_socks4(self) -> None:
        """SOCKS 4 to an address."""
        self.assertGives(b"\x04\x01\x00\x50\x7f\x00\x00\x01me\x00", b"", Request(4, "127.0.0.1", 80, "me"))

    def test_socks4a(self) -> None:
        """SOCKS 4a to a name."""
        self.assertGives(b"\x04\x01\x00\x50\x00\x00\x00\x01\x00example.com\x00", b"", Request(4, "example.com", 80))

    def test_refusals(self) -> None:
        """What cannot be served is refused in the words of its version."""
        cases = [
            (b"GET / HTTP/1.1\r\n", b""),
            (b"\x05\x01\x01", b"\x05\xff"),
            (b"\x05\x00", b"\x05\xff"),
            (b"\x05\x01\x02\x05", b"\x01\x01"),
            (ANONYMOUS + b"\x04\x01\x00\x01", reply(5, 1)),
            (ANONYMOUS + b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", reply(5, 7)),
            (ANONYMOUS + b"\x05\xf0\x00\x03\x01a\x00\x50", reply(5, 7)),
            (ANONYMOUS + b"\x05\x01\x00\x02", reply(5, 8)),
            (ANONYMOUS + b"\x05\x01\x00\x03\x00", reply(5, 4)),
            (ANONYMOUS + b"\x05\x01\x00\x03\x03a\x00b", reply(5, 4)),
            (b"\x04\x02\x00\x50\x7f\x00\x00\x01\x00", reply(4, 7)),
            (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00\x00", reply(4, 4)),
            (b"\x04\x01\x00\x50\x7f\x00\x00\x01" + b"a" * 256, reply(4, 1)),
            (b"\x04\x01\x00\x50\x00\x00\x00\x01\x00" + b"a" * 256 + b"\x00", reply(4, 1)),
        ]
        for data, answer in cases:
            refused = self.assertRaises(SocksRefusedError, feed, data)
            self.assertEqual(refused.reply, answer, data)

    def test_replies(self) -> None:
        """SOCKS 4 knows only granted and rejected."""
        self.assertEqual(reply(5, 0), b"\x05\x00\x00\x01" + bytes(6))
        self.assertEqual(reply(5, 5), b"\x05\x05\x00\x01" + bytes(6))
        self.assertEqual(reply(4, 0), b"\x00\x5a" + bytes(6))
        self.assertEqual(reply(4, 5), b"\x00\x5b" + bytes(6))

    @given(st.lists(st.binary(max_size=300), max_size=8))
    @example([b"\x05\x02\x00\x02", b"\x01\x00\x00"])
    def test_anything(self, pieces: list[bytes]) -> None:
        """Any bytes end in a request, a refusal, or a wait for more with little kept."""
        machine = SocksServerMachine()
        for piece in pieces:
            try:
                _, request = machine.feed(piece)
            except SocksRefusedError:
                return
            if request is not None:
                self.assertLess(request.port, 65536)
                return
            self.assertLess(len(machine.rest), 800)


class Client(StringTransport):
    """A client's connection, with what back-pressure and breaking off do to it."""

    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def abortConnection(self) -> None:
        self.aborted = True


class Pending:
    """An endpoint that connects when the test says so."""

    def __init__(self) -> None:
        self.cancelled = False
        self._connected: Deferred[Any] = Deferred(self._cancel)
        self._factory: Any = None

    def _cancel(self, _: Any) -> None:
        self.cancelled = True

    def connect(self, factory: Any) -> Deferred[Any]:
        self._factory = factory
        return self._connected

    def succeed(self) -> tuple[Any, Client]:
        """Connect: the outgoing protocol and its transport."""
        protocol, transport = self._factory.buildProtocol(None), Client()
        protocol.makeConnection(transport)
        self._connected.callback(protocol)
        return protocol, transport

    def fail(self, why: Exception) -> None:
        self._connected.errback(Failure(why))


class ProtocolTests(SynchronousTestCase):
    """One connection, from the request to its end."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.requests: list[Request] = []
        self.endpoint = Pending()
        self.factory = SocksServerFactory(self.reactor, self._endpoint_for)
        self.client = Client()
        self.protocol = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        self.protocol.makeConnection(self.client)

    def _endpoint_for(self, request: Request) -> Any:
        self.requests.append(request)
        return self.endpoint

    def establish(self) -> tuple[Any, Client]:
        """Negotiate and connect."""
        self.protocol.dataReceived(ANONYMOUS + LOCALHOST_80)
        outgoing = self.endpoint.succeed()
        self.client.clear()
        return outgoing

    def test_request(self) -> None:
        """The client is not read from until the connection stands, and then told."""
        self.protocol.dataReceived(ANONYMOUS + LOCALHOST_80)
        self.assertEqual(self.requests, [Request(5, "127.0.0.1", 80)])
        self.assertEqual((self.client.value(), self.client.producerState), (b"\x05\x00", "paused"))
        self.endpoint.succeed()
        self.assertEqual((self.client.value()[2:], self.client.producerState), (reply(5, 0), "producing"))

    def test_optimistic_data(self) -> None:
        """What the client sent without waiting for the reply arrives, in order."""
        self.protocol.dataReceived(ANONYMOUS + LOCALHOST_80 + b"GET ")
        self.protocol.dataReceived(b"/ HT")
        _, transport = self.endpoint.succeed()
        self.protocol.dataReceived(b"TP/1.1")
        self.assertEqual(transport.value(), b"GET / HTTP/1.1")

    def test_copies(self) -> None:
        """Bytes go both ways."""
        outgoing, transport = self.establish()
        self.protocol.dataReceived(b"question")
        outgoing.dataReceived(b"answer")
        self.assertEqual((transport.value(), self.client.value()), (b"question", b"answer"))

    def test_back_pressure(self) -> None:
        """Each side is the producer of the other."""
        _, transport = self.establish()
        self.assertIs(transport.producer, self.client)
        self.assertIs(self.client.producer, transport)
        self.assertTrue(transport.streaming and self.client.streaming)

    def test_clean_end(self) -> None:
        """When one side closes, the other gets what is left, and is closed."""
        _, transport = self.establish()
        self.protocol.connectionLost(connectionDone)
        self.assertTrue(transport.disconnecting)
        self.assertFalse(transport.aborted)
        self.assertIsNone(transport.producer)
        self.assertEqual(self.factory.connections, set())

    def test_far_end_closes(self) -> None:
        """The same the other way."""
        outgoing, _ = self.establish()
        outgoing.connectionLost(connectionDone)
        self.assertTrue(self.client.disconnecting)
        self.assertFalse(self.client.aborted)

    def test_reset(self) -> None:
        """A connection that was reset is reset on the other side too."""
        outgoing, _ = self.establish()
        outgoing.connectionLost(Failure(error.ConnectionLost()))
        self.assertTrue(self.client.aborted)

    def test_connect_errors(self) -> None:
        """Each way in which connecting fails has its reply, after which the connection is closed."""
        cases = [
            (error.ConnectionRefusedError(), 5),
            (error.NoRouteError(), 3),
            (error.TCPTimedOutError(), 6),
            (error.TimeoutError(), 6),
            (error.DNSLookupError(), 4),
            (error.UnknownHostError(), 4),
            (error.ConnectError(), 1),
            (ValueError(), 1),
        ]
        for why, code in cases:
            self.setUp()
            self.protocol.dataReceived(ANONYMOUS + LOCALHOST_80)
            self.endpoint.fail(why)
            self.assertEqual(self.client.value()[2:], reply(5, code), why)
            self.assertTrue(self.client.disconnecting)

    def test_client_leaves(self) -> None:
        """A client that leaves while the connection is made ends the attempt."""
        self.protocol.dataReceived(ANONYMOUS + LOCALHOST_80)
        self.protocol.connectionLost(connectionDone)
        self.assertTrue(self.endpoint.cancelled)
        self.assertEqual(self.client.value(), b"\x05\x00")

    def test_nonsense(self) -> None:
        """A client that does not speak SOCKS is closed, and nobody is connected to."""
        self.protocol.dataReceived(b"GET / HTTP/1.1\r\n")
        self.assertTrue(self.client.disconnecting)
        self.assertEqual(self.requests, [])

    def test_slow_client(self) -> None:
        """A client that does not say what it wants is broken off; one that did has no such limit."""
        self.protocol.dataReceived(ANONYMOUS)
        self.reactor.advance(NEGOTIATION_TIMEOUT)
        self.assertTrue(self.client.aborted)
        self.setUp()
        self.protocol.dataReceived(ANONYMOUS + LOCALHOST_80)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_only_loopback(self) -> None:
        """Clients of other machines are not served."""
        for host in ("192.0.2.1", "10.0.0.1"):
            self.assertIsNone(self.factory.buildProtocol(IPv4Address("TCP", host, 4000)))
        self.assertIsNone(self.factory.buildProtocol(IPv6Address("TCP", "2001:db8::1", 4000)))
        self.assertIsNotNone(self.factory.buildProtocol(IPv6Address("TCP", "::1", 4000)))

    def test_limit(self) -> None:
        """There is a limit to the number of connections."""
        for number in range(MOST_CONNECTIONS - 1):
            protocol = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", number))
            protocol.makeConnection(Client())
        self.assertIsNone(self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1)))
        self.protocol.connectionLost(connectionDone)
        self.assertIsNotNone(self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1)))


class Echo(Protocol):
    """Sends back what it gets."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Collector(Protocol):
    """Keeps what it gets."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[None] = Deferred()
        self._wanted: tuple[int, Deferred[bytes]] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self._wanted is not None and len(self.received) >= self._wanted[0]:
            (length, waiting), self._wanted = self._wanted, None
            taken, self.received = self.received[:length], self.received[length:]
            waiting.callback(taken)

    def take(self, length: int) -> Deferred[bytes]:
        waiting: Deferred[bytes] = Deferred()
        self._wanted = (length, waiting)
        self.dataReceived(b"")
        return waiting

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


class EmbeddedTests(TestCase):
    """The service over loopback."""

    async def test_life(self) -> None:
        """It is a Tor: not ready, ready, forwarding, stopped."""
        service = EmbeddedSocks(reactor, "default")
        self.assertEqual((service.name, service.version), ("default", None))
        self.assertEqual(service.not_ready, "the embedded SOCKS proxy is not running")
        self.assertRaises(RuntimeError, service.socks_endpoint)
        waiting = Deferred.fromCoroutine(service.when_ready())
        service.startService()
        self.addCleanup(service.stopService)
        await waiting
        self.assertIsNone(service.not_ready)

        echo = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Echo))
        self.addCleanup(echo.stopListening)
        client = await connectProtocol(service.socks_endpoint(), Collector())
        client.transport.write(
            ANONYMOUS + b"\x05\x01\x00\x03\x09127.0.0.1" + struct.pack(">H", echo.getHost().port)
        )
        self.assertEqual(await client.take(12), b"\x05\x00" + reply(5, 0))
        sent = bytes(range(256)) * 40_000  # more than all buffers between here and there
        client.transport.write(sent)
        self.assertEqual(await client.take(len(sent)), sent)

        await service.stopService()
        await client.ended
        self.assertEqual(service.not_ready, "the embedded SOCKS proxy was stopped")
        self.assertRaises(RuntimeError, service.socks_endpoint)
        await deferLater(reactor, 0)

    async def test_stopped_before_ready(self) -> None:
        """Whoever waits is told when it is stopped before it was started."""
        service = EmbeddedSocks(reactor, "default")
        waiting = Deferred.fromCoroutine(service.when_ready())
        await service.stopService()
        self.failureResultOf(waiting, NotReadyError)

    async def test_refused(self) -> None:
        """Nobody at the destination: the reply says so, and the connection ends."""
        service = EmbeddedSocks(reactor, "default")
        service.startService()
        self.addCleanup(service.stopService)
        client = await connectProtocol(service.socks_endpoint(), Collector())
        client.transport.write(ANONYMOUS + b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x01")
        self.assertEqual(await client.take(12), b"\x05\x00" + reply(5, 5))
        await client.ended

    async def test_outside(self) -> None:
        """A proxy of somebody else is always taken as ready."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", 1080)
        proxy = OutsideSocks("default", endpoint)
        await proxy.when_ready()
        self.assertEqual((proxy.name, proxy.version, proxy.not_ready), ("default", None, None))
        self.assertIs(proxy.socks_endpoint(), endpoint)
