"""The SOCKS server between a client and a destination, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from perfd.socks.forwarding import MOST_EARLY, NEGOTIATION_TIMEOUT
from perfd.socks.server import MOST_CONNECTIONS, SOCKSServer
from perfd.socks.server_machine import ClientRequest
from perfd.socks.way_out import Direct
from tests.support.forwarding import HERE, RESET, FakeEndpoint, Transport

GREETING = b"\x05\x01\x00"
NAME = b"\x05\x01\x00\x03\x0bexample.com\x00\x50"
SOCKS4 = b"\x04\x01\x1f\x90\x7f\x00\x00\x01spam\0"
SOCKS4A = b"\x04\x01\x00\x50\x00\x00\x00\x01spam\0example.com\0"
GRANTED = b"\x05\x00\x00\x01" + bytes(6)


class ServerTests(SynchronousTestCase):
    """The protocol between a client and a destination, in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.requests: list[ClientRequest] = []
        self.endpoint = FakeEndpoint()
        self.server = SOCKSServer(self.clock, Direct(self._endpoint_for))

    def _endpoint_for(self, request: ClientRequest) -> IStreamClientEndpoint:
        self.requests.append(request)
        return self.endpoint

    def client(self) -> tuple[Any, Transport]:
        """A protocol that a client has connected to, and its transport."""
        protocol = self.server.buildProtocol(HERE)
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
        self.assertEqual(self.requests, [ClientRequest(5, "example.com", 80)])
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
        """What the client sends before it is connected arrives, in order; it is not read from if that is much."""
        protocol, transport = self.client()
        protocol.dataReceived(GREETING + NAME + b"one ")
        protocol.dataReceived(b"two")
        self.assertEqual(transport.producerState, "producing")
        protocol.dataReceived(bytes(MOST_EARLY))
        self.assertEqual(transport.producerState, "paused")
        destination = self.endpoint.succeed()
        self.assertEqual(destination.transport.value(), b"one two" + bytes(MOST_EARLY))
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
        protocol, _, destination, far = self.connected()
        protocol.connectionLost(connectionDone)
        self.assertTrue(far.disconnecting)
        self.assertFalse(far.aborted)
        self.assertIsNone(far.producer)
        destination.connectionLost(connectionDone)
        self.assertEqual(self.server.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_half_close(self) -> None:
        """A client that sends no more still gets its answer, and then the end."""
        protocol, transport, destination, far = self.connected()
        protocol.readConnectionLost()
        self.assertTrue(far.half_closed)
        destination.dataReceived(b"late")
        self.assertEqual(transport.value(), b"late")
        destination.readConnectionLost()
        self.assertTrue(transport.disconnecting and far.disconnecting)

    def test_destination_closes(self) -> None:
        """The client gets all that was sent, and is closed."""
        _, transport, destination, _ = self.connected()
        destination.connectionLost(connectionDone)
        self.assertTrue(transport.disconnecting)
        self.assertFalse(transport.aborted)
        self.assertIsNone(transport.producer)

    def test_resets(self) -> None:
        """A reset on one side is a reset on the other."""
        _, transport, destination, _ = self.connected()
        destination.connectionLost(RESET)
        self.assertTrue(transport.aborted)
        self.endpoint = FakeEndpoint()
        protocol, _, _, far = self.connected()
        protocol.connectionLost(RESET)
        self.assertTrue(far.aborted)

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
        protocol.dataReceived(GREETING + NAME)
        protocol.connectionLost(connectionDone)
        self.assertEqual((self.requests, self.clock.getDelayedCalls()), ([], []))

    def test_resolve(self) -> None:
        """Without a tor behind it there is nobody to ask."""
        protocol, transport = self.client()
        protocol.dataReceived(GREETING + b"\x05\xf0" + NAME[2:])
        self.assertEqual(transport.value(), b"\x05\x00\x05\x07\x00\x01" + bytes(6))
        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.requests, [])

    def test_too_slow(self) -> None:
        """A client that does not say where it wants to go is broken off, however busily it sends."""
        protocol, transport = self.client()
        for byte in SOCKS4A[:10]:
            self.clock.advance(NEGOTIATION_TIMEOUT / 10.1)
            protocol.dataReceived(bytes([byte]))
        self.assertFalse(transport.ending)
        self.clock.advance(NEGOTIATION_TIMEOUT / 10)
        self.assertTrue(transport.ending)

    def test_connected_in_time(self) -> None:
        """The deadline is for the negotiation only."""
        _, transport, _, _ = self.connected()
        self.clock.advance(2 * NEGOTIATION_TIMEOUT)
        self.assertFalse(transport.ending)

    def test_who_may_connect(self) -> None:
        """Clients on this machine, and only so many."""
        for host in ("10.0.0.1", "192.0.2.1"):
            self.assertIsNone(self.server.buildProtocol(IPv4Address("TCP", host, 40001)))
        self.assertIsNone(self.server.buildProtocol(IPv6Address("TCP", "2001:db8::1", 40001)))
        self.assertIsNotNone(self.server.buildProtocol(IPv6Address("TCP", "::1", 40001)))
        clients = [self.client() for _ in range(MOST_CONNECTIONS - 1)]
        self.assertIsNone(self.server.buildProtocol(HERE))
        for protocol, _ in clients[:1]:
            protocol.connectionLost(connectionDone)
        self.assertIsNotNone(self.server.buildProtocol(HERE))

    def test_abort_all(self) -> None:
        """Both sides of every connection are broken off, also of one that is only negotiating."""
        _, transport, _, far = self.connected()
        _, negotiating = self.client()
        self.server.abort_all()
        self.assertEqual((transport.aborted, far.aborted, negotiating.aborted), (True, True, True))
