"""The SOCKS endpoints and factories over transports in memory."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, NoProtocol, UserError
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport, IStreamClientEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer

from perfd.clock import Clock, Phase, Timeline
from perfd.socks import (
    ConnectionLostEarly,
    HostUnreachable,
    InvalidServerVersion,
    LoginAuthenticationFailed,
    NoAcceptableMethods,
    OnionServiceDescriptorNotFound,
    Reply,
    RequestRejectedOrFailed,
    SOCKS4ClientEndpoint,
    SOCKS4ClientFactory,
    SOCKS5ClientEndpoint,
    SOCKS5ClientFactory,
    SOCKSError,
)
from perfd.socks.testing import FakeSOCKSFactory, MemoryEndpoint, SOCKSAnswers
from tests.support.wire import FAR, GRANTED, LOGIN, NEAR, Application, ManualEndpoint, Recorder, Wire


class HandOverTests(SynchronousTestCase):
    """The application gets the connection as if it had been connected directly."""

    def connect(
        self, answers: SOCKSAnswers, **keywords: Any
    ) -> tuple[FakeSOCKSFactory, MemoryEndpoint, Deferred[Any], Application]:
        proxy = FakeSOCKSFactory(answers)
        endpoint = MemoryEndpoint(proxy)
        application = Application()
        connecting = SOCKS5ClientEndpoint("example.com", 80, endpoint, **keywords).connect(application)
        return proxy, endpoint, connecting, application

    def test_socks5(self) -> None:
        """Bytes go both ways, and the transport delivers straight to the application."""
        proxy, endpoint, connecting, application = self.connect(SOCKSAnswers(), methods=LOGIN)
        endpoint.flush()
        self.assertIs(self.successResultOf(connecting), application.recorder)
        self.assertEqual(application.recorder.happened, ["made"])
        self.assertIs(endpoint.pumps[0].clientIO.protocol, application.recorder)
        self.assertIs(application.recorder.transport, endpoint.pumps[0].clientIO)
        application.recorder.transport.write(b"to the server")
        endpoint.flush()
        self.assertEqual(proxy.peers[0].server.received, b"to the server")
        proxy.peers[0].transport.write(b"to the client")
        endpoint.flush()
        proxy.peers[0].transport.loseConnection()
        endpoint.flush()
        self.assertEqual(application.recorder.happened, ["made", b"to the client", ConnectionDone])

    def test_socks4(self) -> None:
        """The same with SOCKS 4."""
        proxy = FakeSOCKSFactory(SOCKSAnswers(payload=b"hello"))
        endpoint, application = MemoryEndpoint(proxy), Application()
        connecting = SOCKS4ClientEndpoint(b"example.com", 80, endpoint, "spam").connect(application)
        endpoint.flush()
        self.assertIs(self.successResultOf(connecting), application.recorder)
        self.assertEqual(application.recorder.happened, ["made", b"hello"])
        self.assertEqual(application.addresses, [FAR])
        request = proxy.peers[0].server.request
        assert request is not None
        self.assertEqual((request.host, request.port, request.user), ("example.com", 80, b"spam"))

    def test_payload_in_the_segment_of_the_reply(self) -> None:
        """Bytes right behind the reply come after connectionMade and after the Deferred's callbacks."""
        _, endpoint, connecting, application = self.connect(SOCKSAnswers(payload=b"hello"))
        connecting.addCallback(lambda recorder: recorder.happened.append("connected"))
        endpoint.flush()
        self.assertEqual(application.recorder.happened, ["made", "connected", b"hello"])

    def test_byte_by_byte(self) -> None:
        """A proxy that sends single bytes is understood, and loses no payload."""
        clock = MemoryReactorClock()
        proxy = FakeSOCKSFactory(SOCKSAnswers(payload=b"hello", piece=1), clock=clock)
        endpoint, application = MemoryEndpoint(proxy, clock), Application()
        connecting = SOCKS5ClientEndpoint("example.com", 80, endpoint, LOGIN).connect(application)
        endpoint.flush()
        self.successResultOf(connecting)
        self.assertEqual(application.recorder.happened, ["made", b"h", b"e", b"l", b"l", b"o"])

    def test_transport_without_protocol(self) -> None:
        """Over a transport that cannot be re-pointed everything is passed on."""
        endpoint, application = ManualEndpoint(), Application()
        connecting = SOCKS5ClientEndpoint("example.com", 80, endpoint).connect(application)
        wire = endpoint.succeed()
        client = wire.protocol
        del wire.protocol
        client.dataReceived(b"\x05\x00" + GRANTED + b"hello")
        self.successResultOf(connecting)
        client.dataReceived(b"more")
        client.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(application.recorder.happened, ["made", b"hello", b"more", ConnectionLost])

    def test_half_close_is_passed_on(self) -> None:
        """Over such a transport half-close reaches an application that knows it, and no other."""
        for knows in (True, False):
            endpoint, application = ManualEndpoint(), Application()
            SOCKS4ClientEndpoint("example.com", 80, endpoint).connect(application)
            if knows:
                recorder: Any = application.recorder
                alsoProvides(recorder, IHalfCloseableProtocol)
                recorder.readConnectionLost = lambda happened=recorder.happened: happened.append("read lost")
                recorder.writeConnectionLost = lambda happened=recorder.happened: happened.append("write lost")
            wire = endpoint.succeed()
            client = wire.protocol
            del wire.protocol
            client.dataReceived(b"\x00\x5a" + bytes(6))
            self.assertEqual(IHalfCloseableProtocol.providedBy(client), knows)
            if knows:
                client.readConnectionLost()
                client.writeConnectionLost()
                self.assertEqual(application.recorder.happened, ["made", "read lost", "write lost"])

    def test_transport_that_speaks_tls(self) -> None:
        """A socket with TLS on it keeps TLS as its protocol: the application must not see ciphertext."""
        endpoint, application = ManualEndpoint(), Application()
        SOCKS5ClientEndpoint("example.com", 80, endpoint).connect(application)
        wire = endpoint.succeed()
        client, tls = wire.protocol, object()
        wire.protocol = tls
        alsoProvides(wire, ISSLTransport)
        client.dataReceived(b"\x05\x00" + GRANTED)
        self.assertIs(wire.protocol, tls)
        client.dataReceived(b"hello")
        self.assertEqual(application.recorder.happened, ["made", b"hello"])

    def test_application_that_puts_another_protocol_there(self) -> None:
        """connectionMade may start TLS or hand over itself: then the payload goes to the new protocol."""
        other = Recorder()

        def hand_over(recorder: Recorder) -> None:
            recorder.transport.protocol = other  # type: ignore[union-attr]

        endpoint, application = ManualEndpoint(), Application(hand_over)
        SOCKS5ClientEndpoint("example.com", 80, endpoint).connect(application)
        wire = endpoint.succeed()
        wire.protocol.dataReceived(b"\x05\x00" + GRANTED + b"hello")
        self.assertIs(wire.protocol, other)
        self.assertEqual((application.recorder.happened, other.happened), (["made"], [b"hello"]))

    def test_application_that_closes_at_once(self) -> None:
        """After loseConnection there is no more data, also not the payload."""
        endpoint, application = ManualEndpoint(), Application(lambda each: each.transport.loseConnection())  # type: ignore[union-attr]
        connecting = SOCKS5ClientEndpoint("example.com", 80, endpoint).connect(application)
        wire = endpoint.succeed()
        wire.protocol.dataReceived(b"\x05\x00" + GRANTED + b"hello")
        self.successResultOf(connecting)
        self.assertEqual(application.recorder.happened, ["made"])

    def test_factory_is_started_and_stopped(self) -> None:
        """The application's factory is started and stopped, as over a plain endpoint."""
        reactor, application = MemoryReactorClock(), Application()
        connecting = SOCKS5ClientEndpoint("a.example", 80, TCP4ClientEndpoint(reactor, "127.0.0.1", 9050)).connect(
            application
        )
        factory = reactor.tcpClients[0][2]
        factory.doStart()
        self.assertEqual(application.starts, 1)
        factory.doStop()
        self.assertEqual(application.starts, 0)
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)

    def test_proxy_over_proxy(self) -> None:
        """Endpoints stack: SOCKS 5 through SOCKS 4 through SOCKS 5, and nothing of ours stays in the way."""
        last = FakeSOCKSFactory(SOCKSAnswers(payload=b"hello"))
        middle = FakeSOCKSFactory(application=last)
        first = FakeSOCKSFactory(application=middle)
        endpoint, application = MemoryEndpoint(first), Application()
        through_first = SOCKS5ClientEndpoint("middle.example", 1080, endpoint)
        through_middle = SOCKS4ClientEndpoint("last.example", 1081, through_first)
        connecting = SOCKS5ClientEndpoint("2001:db8::1", 80, through_middle, LOGIN).connect(application)
        endpoint.flush()
        self.assertIs(self.successResultOf(connecting), application.recorder)
        self.assertEqual(application.recorder.happened, ["made", b"hello"])
        self.assertIs(endpoint.pumps[0].clientIO.protocol, application.recorder)
        requests = [proxy.peers[0].server.request for proxy in (first, middle, last)]
        self.assertEqual(
            [(each.host, each.port) for each in requests if each is not None],
            [("middle.example", 1080), ("last.example", 1081), ("2001:db8::1", 80)],
        )


class FailureTests(SynchronousTestCase):
    """Whatever goes wrong is one clear error, and the connection is closed."""

    def fail_with(self, answers: SOCKSAnswers, expected: type[Exception], methods: Any = LOGIN) -> Any:
        endpoint, application = MemoryEndpoint(FakeSOCKSFactory(answers)), Application()
        connecting = SOCKS5ClientEndpoint("example.com", 80, endpoint, methods).connect(application)
        endpoint.flush()
        reason = self.failureResultOf(connecting, expected)
        self.assertTrue(endpoint.pumps[0].clientIO.disconnecting)
        self.assertEqual(application.recorder.happened, [])
        return reason.value

    def test_refusals(self) -> None:
        """A refusal at any step fails the Deferred with its own class."""
        self.fail_with(SOCKSAnswers(method=0xFF), NoAcceptableMethods)
        self.fail_with(SOCKSAnswers(login_status=1), LoginAuthenticationFailed)
        self.fail_with(SOCKSAnswers(code=4), HostUnreachable)
        self.assertEqual(self.fail_with(SOCKSAnswers(code=0xF0), OnionServiceDescriptorNotFound).code, 0xF0)

    def test_garbage(self) -> None:
        """A peer that is no SOCKS proxy is told from one."""
        raw = {"method": b"HTTP/1.1 400 Bad Request\r\n\r\n"}
        self.fail_with(SOCKSAnswers(raw=raw, close_after="method"), InvalidServerVersion)

    def test_closed_in_each_phase(self) -> None:
        """A proxy that closes in the middle of any answer fails the Deferred; the cause is Twisted's reason."""
        for answers in (
            SOCKSAnswers(close_after="method", raw={"method": b""}),
            SOCKSAnswers(close_after="method", raw={"method": b"\x05"}),
            SOCKSAnswers(close_after="login", raw={"login": b"\x01"}),
            SOCKSAnswers(close_after="reply", raw={"reply": GRANTED[:-1]}),
        ):
            lost = self.fail_with(answers, ConnectionLostEarly)
            self.assertIsInstance(lost.__cause__, ConnectionDone)

    def test_socks4_refusal(self) -> None:
        """The same with SOCKS 4."""
        endpoint = MemoryEndpoint(FakeSOCKSFactory(SOCKSAnswers(code=0x5B)))
        connecting = SOCKS4ClientEndpoint("example.com", 80, endpoint).connect(Application())
        endpoint.flush()
        self.failureResultOf(connecting, RequestRejectedOrFailed)

    def test_closed_at_once_and_deaf_after_failure(self) -> None:
        """A failure aborts the connection once; what still arrives, and its end, change nothing."""
        endpoint = ManualEndpoint()
        connecting = SOCKS5ClientEndpoint("example.com", 80, endpoint).connect(Application())
        wire = endpoint.succeed()
        wire.protocol.dataReceived(b"\x04")
        self.failureResultOf(connecting, InvalidServerVersion)
        wire.protocol.dataReceived(b"\x05\x00" + GRANTED)
        wire.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual((wire.aborted, wire.value()), (1, b"\x05\x01\x00"))

    def test_lost_connection_is_left_alone(self) -> None:
        """A connection that is lost already is not aborted."""
        endpoint = ManualEndpoint()
        connecting = SOCKS5ClientEndpoint("example.com", 80, endpoint).connect(Application())
        wire = endpoint.succeed()
        wire.protocol.connectionLost(Failure(ConnectionLost()))
        self.failureResultOf(connecting, ConnectionLostEarly)
        self.assertEqual(wire.aborted, 0)

    def test_proxy_cannot_be_reached(self) -> None:
        """What the proxy's endpoint fails with is passed on."""
        for version in (SOCKS4ClientEndpoint, SOCKS5ClientEndpoint):
            endpoint = ManualEndpoint()
            endpoint.connecting = fail(ConnectError())
            connecting = version("example.com", 80, endpoint).connect(Application())
            self.failureResultOf(connecting, ConnectError)

    def test_endpoint_that_raises(self) -> None:
        """An endpoint that raises, rather than fail, fails the Deferred."""

        @implementer(IStreamClientEndpoint)
        class Broken:
            def connect(self, factory: object) -> Deferred[Any]:
                raise RuntimeError("spam")

        connecting = SOCKS5ClientEndpoint("example.com", 80, Broken()).connect(Application())
        self.failureResultOf(connecting, RuntimeError)

    def test_endpoint_that_fails_after_connecting(self) -> None:
        """An endpoint that fails when it was connected already leaves no connection behind."""
        endpoint = ManualEndpoint()
        connecting = SOCKS5ClientEndpoint("example.com", 80, endpoint).connect(Application())
        wire = Wire(endpoint.factory.buildProtocol(FAR))
        wire.protocol.makeConnection(wire)
        endpoint.connecting.errback(RuntimeError("spam"))
        self.failureResultOf(connecting, RuntimeError)
        self.assertEqual(wire.aborted, 1)

    def test_application_fails(self) -> None:
        """A factory that builds nothing or raises, and a protocol that raises, fail the Deferred."""

        def raising(*args: object) -> None:
            raise RuntimeError("spam")

        nothing, broken = Application(), Application()
        nothing.buildProtocol = lambda addr: None  # type: ignore[method-assign,assignment,return-value]
        broken.buildProtocol = raising  # type: ignore[method-assign,assignment]
        for application, expected in (
            (nothing, NoProtocol),
            (broken, RuntimeError),
            (Application(raising), RuntimeError),
        ):
            endpoint = ManualEndpoint()
            connecting = SOCKS5ClientEndpoint("example.com", 80, endpoint).connect(application)
            wire = endpoint.succeed()
            wire.protocol.dataReceived(b"\x05\x00" + GRANTED + b"hello")
            self.failureResultOf(connecting, expected)
            self.assertEqual(wire.aborted, 1)
            self.assertNotIn(b"hello", application.recorder.happened)

    def test_bad_arguments(self) -> None:
        """What SOCKS cannot carry is refused by the constructor, before anything is connected."""
        self.assertRaises(ValueError, SOCKS5ClientEndpoint, "x" * 256, 80, None)
        self.assertRaises(ValueError, SOCKS5ClientEndpoint, "example.com", 65536, None)
        self.assertRaises(ValueError, SOCKS5ClientEndpoint, None, None, None, methods={})
        self.assertRaises(ValueError, SOCKS5ClientFactory, None, None, None, methods={})
        self.assertRaises(ValueError, SOCKS5ClientEndpoint, "example.com", 80, None, {"login": ("x" * 256, "")})
        self.assertRaises(ValueError, SOCKS4ClientEndpoint, "0.0.0.1", 80, None)
        self.assertRaises(ValueError, SOCKS4ClientFactory, "0.0.0.255", 80, None)
        self.assertRaises(ValueError, SOCKS4ClientEndpoint, "example.com", 80, None, user="a\0b")


class CancellationTests(SynchronousTestCase):
    """Cancelling ends the connection in every phase, with one CancelledError."""

    def assert_cancelled(self, connecting: Deferred[Any]) -> None:
        results: list[Any] = []
        connecting.addBoth(results.append)
        connecting.cancel()
        connecting.cancel()
        self.assertEqual([each.type for each in results], [CancelledError])

    def test_while_connecting(self) -> None:
        """During the TCP connect the attempt is stopped."""
        reactor = MemoryReactorClock()
        connecting = SOCKS5ClientEndpoint("a.example", 80, TCP4ClientEndpoint(reactor, "127.0.0.1", 9050)).connect(
            Application()
        )
        self.assert_cancelled(connecting)
        self.assertTrue(reactor.connectors[0].stoppedConnecting)
        reactor.tcpClients[0][2].clientConnectionFailed(reactor.connectors[0], Failure(UserError()))

    def test_before_each_answer(self) -> None:
        """Before and in the middle of each answer the connection is aborted, and what follows is ignored."""
        answers = b"\x05\x02\x01\x00" + GRANTED
        for received in range(len(answers)):
            endpoint, application = ManualEndpoint(), Application()
            connecting = SOCKS5ClientEndpoint("example.com", 80, endpoint, LOGIN).connect(application)
            wire = endpoint.succeed()
            if received:
                wire.protocol.dataReceived(answers[:received])
            self.assert_cancelled(connecting)
            self.assertEqual(wire.aborted, 1)
            wire.protocol.dataReceived(answers[received:])
            wire.protocol.connectionLost(Failure(ConnectionLost()))
            self.assertEqual(application.recorder.happened, [])

    def test_while_waiting_for_socks4(self) -> None:
        """The same with SOCKS 4."""
        endpoint = ManualEndpoint()
        connecting = SOCKS4ClientEndpoint("example.com", 80, endpoint).connect(Application())
        wire = endpoint.succeed()
        self.assert_cancelled(connecting)
        self.assertEqual(wire.aborted, 1)

    def test_peer_sees_the_end(self) -> None:
        """The proxy's side sees the connection closed."""
        proxy = FakeSOCKSFactory(SOCKSAnswers(raw={"reply": b""}))
        endpoint = MemoryEndpoint(proxy)
        connecting = SOCKS5ClientEndpoint("example.com", 80, endpoint).connect(Application())
        endpoint.flush()
        self.assertNoResult(connecting)
        self.assert_cancelled(connecting)
        endpoint.flush()
        self.successResultOf(proxy.peers[0].closed)

    def test_by_a_hook(self) -> None:
        """A hook may cancel: nothing is sent after `connected`, and no application built after `replied`."""
        for name, sent in (("connected", b""), ("replied", b"\x05\x01\x00\x05\x01\x00\x03\x01a\x00\x50")):
            endpoint, application = ManualEndpoint(), Application()
            connecting: Deferred[Any] = Deferred()
            hook: Any = {name: lambda news: connecting.cancel()}  # noqa: B023
            connecting = SOCKS5ClientEndpoint("a", 80, endpoint, **hook).connect(application)
            wire = endpoint.succeed()
            wire.protocol.dataReceived(b"\x05\x00" + GRANTED)
            self.failureResultOf(connecting, CancelledError)
            self.assertEqual((wire.value(), wire.aborted, application.recorder.happened), (sent, 1, []))

    def test_by_the_application(self) -> None:
        """An application that cancels in its connectionMade is connected and then loses the connection."""
        endpoint = ManualEndpoint()
        application = Application(lambda recorder: connecting.cancel())
        connecting = SOCKS5ClientEndpoint("a", 80, endpoint).connect(application)
        wire = endpoint.succeed()
        wire.protocol.dataReceived(b"\x05\x00" + GRANTED + b"hello")
        self.failureResultOf(connecting, CancelledError)
        self.assertEqual(wire.aborted, 1)
        wire.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(application.recorder.happened, ["made", ConnectionLost])

    def test_endpoint_that_cannot_be_cancelled(self) -> None:
        """A connection that comes about after all is refused."""
        endpoint = ManualEndpoint()
        connecting = SOCKS5ClientEndpoint("a", 80, endpoint).connect(Application())
        self.assert_cancelled(connecting)
        self.assertIsNone(endpoint.factory.buildProtocol(FAR))

    def test_after_connecting(self) -> None:
        """Once connected the Deferred has nothing to cancel."""
        endpoint, application = ManualEndpoint(), Application()
        connecting = SOCKS5ClientEndpoint("a", 80, endpoint).connect(application)
        wire = endpoint.succeed()
        wire.protocol.dataReceived(b"\x05\x00" + GRANTED)
        connecting.cancel()
        self.successResultOf(connecting)
        self.assertEqual(wire.aborted, 0)


class HookTests(SynchronousTestCase):
    """What the endpoints tell while they connect."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.clock = Clock(wall=lambda: 1000.0, monotonic=self.reactor.seconds)
        self.reactor.advance(1)
        self.timeline = Timeline(self.clock)

    def stamps(self) -> dict[str, float]:
        return {phase.value: stamp for phase, stamp in self.timeline.stamps.items()}

    def test_every_phase_of_socks5(self) -> None:
        """Each phase is stamped when it is reached."""
        endpoint = ManualEndpoint()
        SOCKS5ClientEndpoint("a", 80, endpoint, LOGIN, timeline=self.timeline).connect(Application())
        self.reactor.advance(1)
        wire = endpoint.succeed()
        for received in (b"\x05\x02", b"\x01", b"\x00", GRANTED[:5], GRANTED[5:] + b"hello"):
            self.reactor.advance(1)
            wire.protocol.dataReceived(received)
        self.assertEqual(
            self.stamps(), {"START": 1, "SOCKET": 1, "CONNECT": 2, "NEGOTIATE": 5, "REQUEST": 5, "RESPONSE": 7}
        )

    def test_socks4_negotiates_nothing(self) -> None:
        """SOCKS 4 has no NEGOTIATE; its request goes out with the connection."""
        endpoint = ManualEndpoint()
        SOCKS4ClientEndpoint("a", 80, endpoint, timeline=self.timeline).connect(Application())
        self.reactor.advance(1)
        wire = endpoint.succeed()
        self.reactor.advance(1)
        wire.protocol.dataReceived(b"\x00\x5a" + bytes(6))
        self.assertEqual(self.stamps(), {"START": 1, "SOCKET": 1, "CONNECT": 2, "REQUEST": 2, "RESPONSE": 3})

    def test_received_data_is_stamped_first(self) -> None:
        """What we do with received data does not delay its stamp."""
        endpoint = ManualEndpoint()
        SOCKS5ClientEndpoint(
            "a",
            80,
            endpoint,
            timeline=self.timeline,
            connected=lambda address: self.reactor.advance(10),
            replied=lambda reply: self.reactor.advance(100),
        ).connect(Application(lambda recorder: self.reactor.advance(1000)))
        wire = endpoint.succeed()
        wire.protocol.dataReceived(b"\x05\x00" + GRANTED)
        self.assertEqual(
            self.stamps(), {"START": 1, "SOCKET": 1, "CONNECT": 1, "NEGOTIATE": 11, "REQUEST": 11, "RESPONSE": 11}
        )

    def test_endpoint_that_connects_at_once(self) -> None:
        """The socket is never stamped later than its connection."""
        ticks = iter(range(100))
        timeline = Timeline(Clock(wall=lambda: 0.0, monotonic=lambda: float(next(ticks))))
        endpoint = MemoryEndpoint(FakeSOCKSFactory())
        SOCKS5ClientEndpoint("a", 80, endpoint, timeline=timeline).connect(Application())
        endpoint.flush()
        stamps = list(timeline.stamps.values())
        self.assertEqual(stamps, sorted(stamps))
        self.assertEqual(timeline.stamps[Phase.SOCKET], timeline.stamps[Phase.CONNECT])

    def test_refusal_is_a_response(self) -> None:
        """A refusal of the request is a response; garbage is none."""
        for answers, responded in (
            (SOCKSAnswers(code=4), True),
            (SOCKSAnswers(raw={"reply": b"\x04"}, close_after="reply"), False),
            (SOCKSAnswers(raw={"reply": b"\x05"}, close_after="reply"), False),
            (SOCKSAnswers(login_status=1), False),
        ):
            timeline = Timeline(self.clock)
            endpoint = MemoryEndpoint(FakeSOCKSFactory(answers))
            connecting = SOCKS5ClientEndpoint("a", 80, endpoint, LOGIN, timeline=timeline).connect(Application())
            endpoint.flush()
            self.failureResultOf(connecting, SOCKSError)
            self.assertEqual(Phase.RESPONSE in timeline.stamps, responded)

    def test_local_address_and_reply(self) -> None:
        """The local address is told before the first byte is sent, the reply before the application is built."""
        endpoint, application = ManualEndpoint(), Application()
        told: list[object] = []
        SOCKS5ClientEndpoint(
            "a",
            80,
            endpoint,
            connected=lambda address: told.append((address, endpoint.factory)),
            replied=lambda reply: told.append((reply, list(application.addresses))),
        ).connect(application)
        wire = endpoint.succeed()
        self.assertEqual(told, [(NEAR, endpoint.factory)])
        wire.protocol.dataReceived(b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
        self.assertEqual(told[1:], [(Reply(0, "127.0.0.1", 80), [])])
        self.assertEqual(application.addresses, [FAR])

    def test_connected_comes_first(self) -> None:
        """When `connected` is called nothing has been sent."""
        endpoint = ManualEndpoint()
        sent: list[bytes] = []
        wires: list[Wire] = []
        SOCKS4ClientEndpoint("a", 80, endpoint, connected=lambda address: sent.append(wires[0].value())).connect(
            Application()
        )
        client = endpoint.factory.buildProtocol(FAR)
        wires.append(Wire(client))
        client.makeConnection(wires[0])
        self.assertEqual(sent, [b""])
        self.assertNotEqual(wires[0].value(), b"")

    def test_hook_that_raises(self) -> None:
        """A hook's exception fails the Deferred and closes the connection."""

        def raising(news: object) -> None:
            raise RuntimeError("spam")

        for hook in ({"connected": raising}, {"replied": raising}):
            keywords: Any = hook
            endpoint, application = ManualEndpoint(), Application()
            connecting = SOCKS5ClientEndpoint("a", 80, endpoint, **keywords).connect(application)
            wire = endpoint.succeed()
            wire.protocol.dataReceived(b"\x05\x00" + GRANTED)
            self.failureResultOf(connecting, RuntimeError)
            self.assertEqual((wire.aborted, application.recorder.happened), (1, []))


class FactoryTests(SynchronousTestCase):
    """The factories with a reactor's connectTCP, as txsocksx allowed."""

    def test_connects(self) -> None:
        """The factory's Deferred fires with the application's protocol."""
        reactor, application = MemoryReactorClock(), Application()
        factory = SOCKS5ClientFactory("example.com", 80, application)
        reactor.connectTCP("127.0.0.1", 9050, factory)
        client = factory.buildProtocol(FAR)
        assert client is not None
        wire = Wire(client)
        client.makeConnection(wire)
        client.dataReceived(b"\x05\x00" + GRANTED + b"hello")
        self.assertIs(self.successResultOf(factory.deferred), application.recorder)
        self.assertEqual(application.recorder.happened, ["made", b"hello"])

    def test_cannot_connect(self) -> None:
        """A failed connection fails the Deferred."""
        factory = SOCKS4ClientFactory("example.com", 80, Application())
        factory.clientConnectionFailed(None, Failure(ConnectError()))
        self.failureResultOf(factory.deferred, ConnectError)

    def test_cancelled_while_connecting(self) -> None:
        """Cancelling stops the connector, whose failure is then no news."""
        reactor = MemoryReactorClock()
        factory = SOCKS5ClientFactory("example.com", 80, Application())
        connector = reactor.connectTCP("127.0.0.1", 9050, factory)
        factory.startedConnecting(connector)
        factory.deferred.cancel()
        self.assertTrue(connector.stoppedConnecting)
        factory.clientConnectionFailed(connector, Failure(UserError()))
        self.failureResultOf(factory.deferred, CancelledError)

    def test_one_connection(self) -> None:
        """A factory makes one connection, and none after it was cancelled."""
        factory = SOCKS5ClientFactory("example.com", 80, Application())
        self.assertIsNotNone(factory.buildProtocol(FAR))
        self.assertIsNone(factory.buildProtocol(FAR))
        cancelled = SOCKS5ClientFactory("example.com", 80, Application())
        cancelled.deferred.cancel()
        self.failureResultOf(cancelled.deferred, CancelledError)
        self.assertIsNone(cancelled.buildProtocol(FAR))


@given(
    st.lists(st.one_of(st.binary(max_size=12), st.sampled_from([b"\x05\x00", b"\x05\x02", b"\x01\x00", GRANTED])))
)
def test_any_proxy(pieces: list[bytes]) -> None:
    """Whatever a proxy sends before it closes: one result, and the application gets all that is its own."""
    endpoint, application = ManualEndpoint(), Application()
    connecting = SOCKS5ClientEndpoint("a", 80, endpoint, {"anonymous": (), **LOGIN}).connect(application)
    results: list[Any] = []
    connecting.addBoth(results.append)
    wire = endpoint.succeed()
    for piece in pieces:
        wire.protocol.dataReceived(piece)
    wire.protocol.connectionLost(Failure(ConnectionDone()))
    assert len(results) == 1
    if isinstance(results[0], Failure):
        assert results[0].check(SOCKSError) is not None
        assert application.recorder.happened == []
    else:
        happened = application.recorder.happened
        payload = b"".join(each for each in happened if isinstance(each, bytes))
        assert (happened[0], happened[-1]) == ("made", ConnectionDone)
        assert b"".join(pieces).endswith(payload)
