"""Optimistic data: the application's first bytes leave with the SOCKS request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import readBody
from twisted.web.server import Site
from zope.interface import alsoProvides

from perfd.client.fetch import Exchange, classify, fetch, get_request
from perfd.clock import Clock, Phase, Timeline
from perfd.record import Error, Outcome
from perfd.socks import (
    ConnectionLostEarly,
    ConnectionRefused,
    HostUnreachable,
    InvalidServerVersion,
    LoginAuthenticationFailed,
    OnionServiceDescriptorNotFound,
    Reply,
    RequestRejectedOrFailed,
    SOCKS4Agent,
    SOCKS4ClientEndpoint,
    SOCKS5Agent,
    SOCKS5ClientEndpoint,
    SOCKSError,
    TLSWrapClientEndpoint,
    UnknownReplyCode,
)
from perfd.socks.connection import Hooks, SOCKSClientFactory
from perfd.socks.machine import SOCKS4Machine, SOCKS5Machine
from perfd.socks.testing import FakeSOCKSFactory, MemoryEndpoint, SOCKSAnswers
from tests.support.certificates import CERTIFICATE, TrustOne
from tests.support.loopback import Collector, Echo, HalfCloser, LoopbackCase, Page
from tests.support.wire import GRANTED, LOGIN, Application, ManualEndpoint, Recorder, Wire

reactor: Any = global_reactor

LOGIN_BYTES = b"\x01" + b"".join(bytes((len(each),)) + each.encode() for each in LOGIN["login"])
ASK = b"GET / HTTP/1.1\r\n\r\n"
GREETING = b"\x05\x01\x00"
REQUEST = b"\x05\x01\x00\x03\x01a\x00\x50"
GRANTED4 = b"\x00\x5a" + bytes(6)
WITHHELD = SOCKSAnswers(optimistic=True, raw={"reply": b""})


def ask(application: Any) -> None:
    application.transport.write(ASK)


def begin(
    application: Application, *received: bytes, version: int = 5, **keywords: Any
) -> tuple[Deferred[Any], Wire, Any]:
    """An optimistic connection to "a" whose proxy sent ``received``: its Deferred, transport and SOCKS client."""
    endpoint = ManualEndpoint()
    cls: Any = SOCKS5ClientEndpoint if version == 5 else SOCKS4ClientEndpoint
    connecting = cls("a", 80, endpoint, optimistic=True, **keywords).connect(application)
    wire = endpoint.succeed()
    client = wire.protocol
    for data in received:
        client.dataReceived(data)
    return connecting, wire, client


class HandOverTests(SynchronousTestCase):
    """The application is connected with the request, and its connection is direct once the proxy replied."""

    def test_one_segment(self) -> None:
        """The proxy has the application's bytes before it replied; then they go both ways, directly."""
        for endpoint_class in (SOCKS4ClientEndpoint, SOCKS5ClientEndpoint):
            proxy, application = FakeSOCKSFactory(WITHHELD), Application(ask)
            endpoint = MemoryEndpoint(proxy)
            connecting = endpoint_class("example.com", 80, endpoint, optimistic=True).connect(application)
            endpoint.flush()
            self.assertIs(self.successResultOf(connecting), application.recorder)
            peer, near = proxy.peers[0], endpoint.pumps[0].clientIO
            self.assertEqual((peer.server.received, application.recorder.happened), (ASK, ["made"]))
            self.assertIs(application.recorder.transport, near)
            peer.transport.write((GRANTED if endpoint_class is SOCKS5ClientEndpoint else GRANTED4) + b"hello")
            endpoint.flush()
            self.assertIs(near.protocol, application.recorder)
            application.recorder.transport.write(b"more")
            peer.transport.write(b"world")
            endpoint.flush()
            peer.transport.loseConnection()
            endpoint.flush()
            self.assertEqual(peer.server.received, ASK + b"more")
            self.assertEqual(application.recorder.happened, ["made", b"hello", b"world", ConnectionDone])

    def test_not_before_the_request(self) -> None:
        """While the proxy has yet to accept the login there is no application; its bytes are behind the request."""
        application = Application(ask)
        connecting, wire, client = begin(application, b"\x05\x02", methods=LOGIN)
        self.assertNoResult(connecting)
        self.assertEqual(application.addresses, [])
        wire.clear()
        client.dataReceived(b"\x01\x00")
        self.successResultOf(connecting)
        self.assertEqual(wire.value(), REQUEST + ASK)

    def test_waits_for_the_application(self) -> None:
        """With ``before_request`` nothing follows the greeting until that fires, however the answer is cut."""
        asked: list[Deferred[None]] = []

        def before_request() -> Deferred[None]:
            asked.append(Deferred())
            return asked[-1]

        for close in (False, True):
            application, endpoint = Application(ask), ManualEndpoint()
            hooks = Hooks(before_request=before_request)
            machine = SOCKS5Machine("a", 80, LOGIN, pipelined=True)
            factory = SOCKSClientFactory(machine, application, hooks, optimistic=True)
            connecting = factory.connectThrough(endpoint)
            wire = endpoint.succeed()
            self.assertEqual(asked, [])
            for data in (b"\x05", b"\x02"):
                wire.protocol.dataReceived(data)
            (ready,) = asked
            asked.clear()
            self.assertEqual(wire.value(), b"\x05\x01\x02")
            if close:
                wire.protocol.connectionLost(Failure(ConnectionDone()))
                self.failureResultOf(connecting, ConnectionLostEarly)
                ready.callback(None)
                self.assertEqual(wire.value(), b"\x05\x01\x02")
            else:
                ready.callback(None)
                self.successResultOf(connecting)
                self.assertEqual(wire.value(), b"\x05\x01\x02" + LOGIN_BYTES + REQUEST + ASK)

    def test_socks4_waits_for_the_application(self) -> None:
        """In SOCKS 4 the request is the first thing that is sent, so it waits from the start."""
        ready: Deferred[None] = Deferred()
        endpoint = ManualEndpoint()
        machine, hooks = SOCKS4Machine("a", 80), Hooks(before_request=lambda: ready)
        factory = SOCKSClientFactory(machine, Application(ask), hooks, optimistic=True)
        connecting = factory.connectThrough(endpoint)
        wire = endpoint.succeed()
        self.assertEqual(wire.value(), b"")
        ready.callback(None)
        self.successResultOf(connecting)
        self.assertTrue(wire.value().endswith(b"a\x00" + ASK))
        wire.protocol.dataReceived(GRANTED4)
        self.assertEqual(wire.aborted, 0)

    def test_everything_in_one_segment(self) -> None:
        """A proxy that answers all at once (which a pipelining one can) loses no byte."""
        application = Application(ask)
        connecting, wire, _ = begin(application, b"\x05\x00" + GRANTED + b"hello")
        self.successResultOf(connecting)
        self.assertEqual(wire.value(), GREETING + REQUEST + ASK)
        self.assertEqual(application.recorder.happened, ["made", b"hello"])
        self.assertIs(wire.protocol, application.recorder)

    def test_deferred_fires_before_data(self) -> None:
        """The Deferred's callbacks come before the first data, and what they write leaves with the request too."""
        application, endpoint = Application(), ManualEndpoint()
        connecting = SOCKS4ClientEndpoint("a", 80, endpoint, optimistic=True).connect(application)
        connecting.addCallback(ask)
        wire = endpoint.succeed()
        self.assertEqual(wire.value()[-len(ASK) :], ASK)
        wire.protocol.dataReceived(GRANTED4 + b"hello")
        self.assertEqual(application.recorder.happened, ["made", b"hello"])

    def test_transport_without_protocol(self) -> None:
        """Over a transport that cannot be re-pointed everything is passed on, half-close too."""
        application = Application(ask)
        recorder: Any = application.recorder
        alsoProvides(recorder, IHalfCloseableProtocol)
        recorder.readConnectionLost = lambda: recorder.happened.append("read lost")
        recorder.writeConnectionLost = lambda: recorder.happened.append("write lost")
        endpoint = ManualEndpoint()
        SOCKS4ClientEndpoint("a", 80, endpoint, optimistic=True).connect(application)
        client = endpoint.factory.buildProtocol(None)
        wire = Wire(client)
        del wire.protocol
        client.makeConnection(wire)
        client.writeConnectionLost()
        client.dataReceived(GRANTED4[:3])
        client.dataReceived(GRANTED4[3:] + b"hello")
        client.dataReceived(b"more")
        client.readConnectionLost()
        client.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(recorder.happened, ["made", "write lost", b"hello", b"more", "read lost", ConnectionLost])

    def test_application_that_puts_another_protocol_there(self) -> None:
        """What connectionMade puts in the application's place gets the data, not the reply."""
        other = Recorder()
        application = Application(lambda recorder: setattr(recorder.transport, "protocol", other))
        _, wire, client = begin(application, b"\x05\x00")
        self.assertIs(wire.protocol, client)
        client.dataReceived(GRANTED + b"hello")
        self.assertIs(wire.protocol, other)
        self.assertEqual((application.recorder.happened, other.happened), (["made"], [b"hello"]))

    def test_proxy_over_proxy(self) -> None:
        """Optimistic endpoints stack, and nothing of ours stays in the way."""
        last = FakeSOCKSFactory(SOCKSAnswers(payload=b"hello", optimistic=True))
        middle = FakeSOCKSFactory(SOCKSAnswers(optimistic=True), application=last)
        first = FakeSOCKSFactory(SOCKSAnswers(optimistic=True), application=middle)
        endpoint, application = MemoryEndpoint(first), Application(ask)
        through_first = SOCKS4ClientEndpoint("middle.example", 1080, endpoint, optimistic=True)
        through_middle = SOCKS4ClientEndpoint("last.example", 1081, through_first, optimistic=True)
        connecting = SOCKS4ClientEndpoint("a", 80, through_middle, optimistic=True).connect(application)
        # All requests are on their way before a single reply.
        self.assertIs(self.successResultOf(connecting), application.recorder)
        endpoint.flush()
        self.assertEqual(application.recorder.happened, ["made", b"hello"])
        self.assertEqual(last.peers[0].server.received, ASK)
        self.assertIs(endpoint.pumps[0].clientIO.protocol, application.recorder)

    def test_agent(self) -> None:
        """Web agents take the option too: the HTTP request is at the proxy before its reply."""
        for agent_class in (SOCKS4Agent, SOCKS5Agent):
            clock = MemoryReactorClock()
            proxy = FakeSOCKSFactory(WITHHELD)
            endpoint = MemoryEndpoint(proxy, clock)
            agent = agent_class(clock, proxyEndpoint=endpoint, endpointArgs={"optimistic": True})
            responding = agent.request("GET", "http://example.com/spam")
            endpoint.flush()
            self.assertTrue(proxy.peers[0].server.received.startswith(b"GET /spam HTTP/1.1\r\n"))
            granted = GRANTED if agent_class is SOCKS5Agent else GRANTED4
            proxy.peers[0].transport.write(granted + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\neggs")
            endpoint.flush()
            reading = readBody(self.successResultOf(responding))
            endpoint.flush()
            self.assertEqual(self.successResultOf(reading), b"eggs")


class TLSTests(SynchronousTestCase):
    """TLS over an optimistic connection."""

    def connect(self, answers: SOCKSAnswers) -> tuple[FakeSOCKSFactory, MemoryEndpoint, Deferred[Any], Application]:
        clock = MemoryReactorClock()
        server = TLSMemoryBIOFactory(CERTIFICATE.options(), False, Factory.forProtocol(Echo), clock=clock)
        proxy, application = FakeSOCKSFactory(answers, application=server, clock=clock), Application(ask)
        endpoint = MemoryEndpoint(proxy, clock)
        creator = TrustOne().creatorForNetloc(b"example.com", 443)
        socks = SOCKS5ClientEndpoint("example.com", 443, endpoint, optimistic=True)
        connecting = TLSWrapClientEndpoint(creator, socks, clock).connect(application)
        endpoint.flush()
        return proxy, endpoint, connecting, application

    def test_hello_with_the_request(self) -> None:
        """The ClientHello is what leaves with the request, and the handshake goes on behind the reply."""
        proxy, endpoint, connecting, application = self.connect(SOCKSAnswers(optimistic=True, piece=1))
        self.assertIs(self.successResultOf(connecting), application.recorder)
        self.assertEqual(proxy.peers[0].server.received[:1], b"\x16")  # a TLS handshake record
        self.assertEqual(application.recorder.happened, ["made", ASK])
        self.assertIs(endpoint.pumps[0].clientIO.protocol, application.recorder.transport)

    def test_refusal(self) -> None:
        """The application learns why the proxy refused, not that TLS ended early."""
        _, endpoint, _, application = self.connect(SOCKSAnswers(code=4, optimistic=True))
        endpoint.flush()
        self.assertEqual(application.recorder.happened, ["made", HostUnreachable])


class Keeper(Recorder):
    """Keeps why the connection was lost."""

    reasons: list[Failure]

    def __init__(self) -> None:
        super().__init__(ask)
        self.reasons = []

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self.reasons.append(reason)


def keeping() -> tuple[Application, Keeper]:
    application, keeper = Application(), Keeper()
    application.recorder = keeper
    return application, keeper


class FailureTests(SynchronousTestCase):
    """What goes wrong after the request reaches the application once; before it, who called connect()."""

    def test_refusals(self) -> None:
        """The application loses the connection with the refusal, classified as in the strict mode."""
        for version, code, expected in (
            (5, 4, HostUnreachable),
            (5, 5, ConnectionRefused),
            (5, 0xF0, OnionServiceDescriptorNotFound),
            (5, 0x99, UnknownReplyCode),
            (4, 0x5B, RequestRejectedOrFailed),
        ):
            application, keeper = keeping()
            connecting, wire, client = begin(application, *[b"\x05\x00"] * (version == 5), version=version)
            self.assertIs(self.successResultOf(connecting), keeper)
            refusal = bytes((5, code, 0, 1)) + bytes(6) if version == 5 else bytes((0, code)) + bytes(6)
            client.dataReceived(refusal + b"more")
            self.assertEqual(wire.aborted, 1)
            client.dataReceived(b"and more")
            client.connectionLost(Failure(ConnectionAborted()))
            self.assertEqual(keeper.happened, ["made", expected])
            endpoint = ManualEndpoint()
            strict: Any = (SOCKS5ClientEndpoint if version == 5 else SOCKS4ClientEndpoint)("a", 80, endpoint)
            failing = strict.connect(Application())
            wire = endpoint.succeed()
            wire.protocol.dataReceived((b"\x05\x00" if version == 5 else b"") + refusal)
            self.assertEqual(classify(keeper.reasons[0]), classify(self.failureResultOf(failing)))

    def test_garbage(self) -> None:
        """A reply that is not SOCKS is told as such."""
        application, keeper = keeping()
        _, wire, client = begin(application, b"\x05\x00", b"HTTP/1.1 400 Bad Request\r\n\r\n")
        client.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual((keeper.happened, wire.aborted), (["made", InvalidServerVersion], 1))

    def test_refused_before_the_request(self) -> None:
        """A refused login fails the Deferred; there never was an application."""
        application = Application(ask)
        connecting, wire, _ = begin(application, b"\x05\x02", b"\x01\x01", methods=LOGIN)
        self.failureResultOf(connecting, LoginAuthenticationFailed)
        self.assertEqual((application.recorder.happened, wire.aborted), ([], 1))

    def test_closed_early(self) -> None:
        """A proxy that closes before its reply is complete: the same error as in the strict mode."""
        for received in (b"", GRANTED[:-1]):
            application, keeper = keeping()
            _, wire, client = begin(application, b"\x05\x00", received)
            client.connectionLost(Failure(ConnectionDone()))
            self.assertEqual((keeper.happened, wire.aborted), (["made", ConnectionLostEarly], 0))
            self.assertIsInstance(keeper.reasons[0].value.__cause__, ConnectionDone)
            self.assertEqual(classify(keeper.reasons[0]).errorcode, Error.SOCKS)

    def test_closed_by_the_application(self) -> None:
        """An application that closes before the reply gets the reason of its own doing, and no data."""
        application, keeper = keeping()
        _, wire, client = begin(application, b"\x05\x00")
        wire.loseConnection()
        client.dataReceived(GRANTED + b"hello")
        wire.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(keeper.happened, ["made", ConnectionDone])
        application, keeper = keeping()
        _, wire, client = begin(application, b"\x05\x00")
        wire.abortConnection()
        client.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(keeper.happened, ["made", ConnectionAborted])

    def test_application_fails(self) -> None:
        """A factory that builds nothing and a protocol that raises fail the Deferred."""

        def raising(*args: object) -> None:
            raise RuntimeError("spam")

        application = Application(raising)
        connecting, wire, _ = begin(application, b"\x05\x00" + GRANTED + b"hello")
        self.failureResultOf(connecting, RuntimeError)
        self.assertEqual((application.recorder.happened, wire.aborted), (["made"], 1))

    def test_cancelled(self) -> None:
        """Cancelling works until the request is sent, also in connectionMade; then there is nothing to cancel."""
        for received, happened in (([], []), ([b"\x05"], [])):
            application = Application(ask)
            connecting, wire, client = begin(application, *received)
            connecting.cancel()
            self.failureResultOf(connecting, CancelledError)
            client.dataReceived(b"\x05\x00")
            self.assertEqual((application.recorder.happened, wire.aborted), (happened, 1))
        endpoint, application = ManualEndpoint(), Application(lambda recorder: connecting.cancel())
        connecting = SOCKS5ClientEndpoint("a", 80, endpoint, optimistic=True).connect(application)
        wire = endpoint.succeed()
        client = wire.protocol
        client.dataReceived(b"\x05\x00" + GRANTED + b"hello")
        self.failureResultOf(connecting, CancelledError)
        client.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual((application.recorder.happened, wire.aborted), (["made", ConnectionAborted], 1))
        connecting, wire, _ = begin(Application(ask), b"\x05\x00")
        connecting.cancel()
        self.successResultOf(connecting)
        self.assertEqual(wire.aborted, 0)

    def test_replied_hook(self) -> None:
        """The hook is called with the reply; if it raises, the application loses the connection with that."""
        replies: list[Reply] = []
        begin(Application(ask), b"\x05\x00", GRANTED, replied=replies.append)
        self.assertEqual(replies, [Reply(0, "0.0.0.0", 0)])

        def raising(reply: Reply) -> None:
            raise RuntimeError("spam")

        application, keeper = keeping()
        _, wire, client = begin(application, b"\x05\x00", GRANTED + b"hello", replied=raising)
        client.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual((keeper.happened, wire.aborted), (["made", RuntimeError], 1))


class FetchTests(SynchronousTestCase):
    """The measuring client over optimistic connections."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.timeline = Timeline(Clock(wall=lambda: 1000.0, monotonic=self.reactor.seconds))
        self.endpoint = ManualEndpoint()

    def start(self) -> tuple[Deferred[Exchange], Wire, Any]:
        """A fetch whose request was sent, a second after its connection was made."""
        socks = SOCKS5ClientEndpoint("a", 80, self.endpoint, timeline=self.timeline, optimistic=True)
        request = get_request("a", "/random/5")
        running = Deferred.fromCoroutine(
            fetch(self.reactor, socks, request, expect=5, timeline=self.timeline, timeout=60.0)
        )
        wire = self.endpoint.succeed()
        client = wire.protocol
        self.reactor.advance(1)
        client.dataReceived(b"\x05\x00")
        self.assertEqual(wire.value(), GREETING + REQUEST + request)
        self.reactor.advance(1)
        return running, wire, client

    def stamps(self) -> dict[str, float]:
        return {phase.value: stamp for phase, stamp in self.timeline.stamps.items()}

    def test_stamps(self) -> None:
        """The HTTP request is sent before the reply; the first byte of the response is not one of SOCKS."""
        running, wire, client = self.start()
        client.dataReceived(GRANTED)
        self.reactor.advance(1)
        self.assertNotIn(Phase.DATARESPONSE, self.timeline.stamps)
        wire.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nspams")
        exchange = self.successResultOf(running)
        self.assertEqual((exchange.outcome, exchange.payloadbytes), (Outcome.OK, 5))
        self.assertEqual(
            self.stamps(),
            {"START": 0, "SOCKET": 0, "CONNECT": 0, "NEGOTIATE": 1, "REQUEST": 1, "DATAREQUEST": 1, "RESPONSE": 2}
            | {"DATARESPONSE": 3, "DATACOMPLETE": 3},
        )

    def test_response_in_the_segment_of_the_reply(self) -> None:
        """Then reply and first byte have the same stamp, in this order."""
        running, _, client = self.start()
        client.dataReceived(GRANTED + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nspams")
        self.assertIs(self.successResultOf(running).outcome, Outcome.OK)
        self.assertEqual((self.stamps()["RESPONSE"], self.stamps()["DATARESPONSE"]), (2, 2))

    def test_refusal(self) -> None:
        """A refusal has tor's error code, and a RESPONSE."""
        running, wire, client = self.start()
        client.dataReceived(b"\x05\x05\x00\x01" + bytes(6))
        client.connectionLost(Failure(ConnectionAborted()))
        exchange = self.successResultOf(running)
        self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.FAILED, ConnectionRefused.errorcode))
        self.assertEqual(exchange.readbytes, 0)
        self.assertGreater(wire.aborted, 0)
        self.assertEqual(self.stamps()["RESPONSE"], 2)
        self.assertNotIn("DATARESPONSE", self.stamps())

    def test_timeout(self) -> None:
        """A proxy that never replies is given up at the deadline."""
        running, wire, client = self.start()
        self.reactor.advance(58)
        exchange = self.successResultOf(running)
        self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.TIMEOUT, Error.TIMEOUT))
        self.assertEqual(wire.aborted, 1)
        client.dataReceived(GRANTED + b"HTTP/1.1")
        client.connectionLost(Failure(ConnectionAborted()))


class LoopbackTests(LoopbackCase):
    """What only a socket can show."""

    async def test_one_write(self) -> None:
        """Request and data are one write of the socket."""
        written: list[bytes] = []
        write: Any = Connection.writeSomeData

        def writing(connection: Any, data: Any) -> Any:
            written.append(bytes(data))
            return write(connection, data)

        self.patch(Connection, "writeSomeData", writing)
        proxy = FakeSOCKSFactory(SOCKSAnswers(optimistic=True), Factory.forProtocol(Echo))
        for endpoint_class, request in (
            (SOCKS4ClientEndpoint, b"\x04\x01\x00\x50\x00\x00\x00\x01\x00a\x00"),
            (SOCKS5ClientEndpoint, REQUEST),
        ):
            _, endpoint = await self.listen(proxy)
            connecting = endpoint_class("a", 80, endpoint, optimistic=True).connect(Factory.forProtocol(Collector))
            connecting.addCallback(lambda application: (ask(application), application)[1])
            application: Any = await connecting
            await application.when_received(len(ASK))
            self.assertIs(application.transport.protocol, application)
            self.assertIn(request + ASK, written)
            await self.close(application)

    async def test_start_tls_in_connection_made(self) -> None:
        """An application that starts TLS in its connectionMade gets TLS behind the reply."""

        class Starter(Collector):
            def connectionMade(self) -> None:
                self.transport.startTLS(TrustOne().creatorForNetloc(b"example.com", 443))
                self.transport.write(b"hello")

        server = TLSMemoryBIOFactory(CERTIFICATE.options(), False, Factory.forProtocol(Echo))
        proxy = FakeSOCKSFactory(SOCKSAnswers(optimistic=True, piece=3), server, reactor)
        _, endpoint = await self.listen(proxy)
        application: Any = await SOCKS5ClientEndpoint("example.com", 443, endpoint, optimistic=True).connect(
            Factory.forProtocol(Starter)
        )
        await application.when_received(5)
        self.assertEqual(application.data, b"hello")
        self.assertTrue(ISSLTransport.providedBy(application.transport))
        await self.close(application)

    async def test_half_close(self) -> None:
        """An application may close its direction at once; a proxy that does so before its reply has failed."""
        for answers, expected in (
            (SOCKSAnswers(optimistic=True, payload=b"hello"), ConnectionDone),
            (WITHHELD, ConnectionLostEarly),
        ):
            proxy = FakeSOCKSFactory(answers, Factory.forProtocol(HalfCloser))
            _, endpoint = await self.listen(proxy)
            application: Any = await SOCKS5ClientEndpoint("a", 80, endpoint, optimistic=True).connect(
                Factory.forProtocol(HalfCloser)
            )
            await self.wait_until(lambda: proxy.peers and proxy.peers[0].server.connected)  # noqa: B023
            if answers.payload:
                await application.when_received(5)
            transport: Any = proxy.peers[0].transport
            transport.loseWriteConnection()
            if answers.payload:
                await application.read_lost
                application.transport.loseConnection()
            await application.lost
            self.assertIsInstance(application.reason.value, expected)

    async def test_refusal(self) -> None:
        """A refusal reaches the application as its connectionLost, and the socket is closed."""
        proxy = FakeSOCKSFactory(SOCKSAnswers(code=5, optimistic=True))
        _, endpoint = await self.listen(proxy)
        application: Any = await SOCKS5ClientEndpoint("a", 80, endpoint, optimistic=True).connect(
            Factory.forProtocol(Collector)
        )
        await application.lost
        self.assertIsInstance(application.reason.value, ConnectionRefused)
        await proxy.peers[0].closed

    async def test_site(self) -> None:
        """A web server behind the proxy answers a request that came with the SOCKS request."""
        proxy = FakeSOCKSFactory(SOCKSAnswers(optimistic=True), Site(Page(), reactor=reactor))
        _, endpoint = await self.listen(proxy)
        agent = SOCKS5Agent(reactor, proxyEndpoint=endpoint, endpointArgs={"optimistic": True})
        response = await agent.request("GET", "http://example.com/spam")
        self.assertEqual(await readBody(response), b"/spam on example.com plain")


@pytest.mark.parametrize("version", [4, 5])
@given(
    pieces=st.lists(st.integers(min_value=1, max_value=30), max_size=30),
    payload=st.binary(max_size=200),
    granted=st.booleans(),
)
def test_any_chunking(version: int, pieces: list[int], payload: bytes, granted: bool) -> None:
    """However the proxy's bytes are cut: the application gets its own bytes, and one end."""
    application, keeper = keeping()
    connecting, wire, client = begin(application, version=version)
    answer = (b"\x05\x00" + GRANTED) if version == 5 else GRANTED4
    if not granted:
        answer = (b"\x05\x00\x05\x05" + GRANTED[2:]) if version == 5 else b"\x00\x5b" + bytes(6)
    answer += payload
    for size in [*pieces, len(answer)]:
        if piece := answer[:size]:
            wire.protocol.dataReceived(piece)
        answer = answer[size:]
    receiver: Protocol = wire.protocol
    assert receiver is (keeper if granted else client)
    receiver.connectionLost(Failure(ConnectionDone()))
    assert connecting.result is keeper
    assert wire.value().endswith(REQUEST + ASK if version == 5 else b"a\0" + ASK)
    assert b"".join(each for each in keeper.happened if isinstance(each, bytes)) == (payload if granted else b"")
    assert len(keeper.reasons) == 1
    assert isinstance(keeper.reasons[0].value, ConnectionDone if granted else SOCKSError)
