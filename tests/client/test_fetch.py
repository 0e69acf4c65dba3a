"""The measuring HTTP client: parser, progress, endings, the client in memory and against hostile servers."""

from __future__ import annotations

import socket
import time
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock as FakeReactor
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from perfd.client.fetch import Exchange, classify, fetch, get_request
from perfd.client.response import HEAD_LIMIT, Response, ResponseError
from perfd.clock import Clock, Phase, Timeline
from perfd.record import Error, Outcome
from perfd.socks.errors import (
    ConnectionLostEarly,
    HostUnreachable,
    InvalidServerVersion,
    LoginAuthenticationFailed,
    NoAcceptableMethods,
    OnionServiceDescriptorNotFound,
    ReplyError,
    RequestRejectedOrFailed,
    ServerFailure,
    SOCKSError,
    TTLExpired,
    UnknownReplyCode,
    socks4ErrorMap,
    socks5ErrorMap,
)
from perfd.wire.arrival import KernelClock
from tests.support.hostile import BEHAVIOURS, EXPECT, HALF, HEAD, WHOLE, HostileFactory
from tests.support.sockets import let_kernel_stamp

REQUEST = get_request("example.com", "/random/20480")


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


class RequestTests(SynchronousTestCase):
    """`get_request`."""

    def test_bytes(self) -> None:
        """The request is one GET that asks for a plain response and the end of the connection."""
        lines = get_request("a.onion:80", "/random/1", {"X-Perfd-Measurement": "1f"}).decode().split("\r\n")
        self.assertEqual(lines[0], "GET /random/1 HTTP/1.1")
        self.assertEqual(lines[-2:], ["", ""])
        for line in (
            "Host: a.onion:80",
            "Connection: close",
            "Accept-Encoding: identity",
            "X-Perfd-Measurement: 1f",
        ):
            self.assertIn(line, lines)

    def test_refused(self) -> None:
        """Nothing can be smuggled into the head."""
        for host, path, headers in (
            ("a\r\nB: c", "/", {}),
            ("", "/", {}),
            ("a", "random", {}),
            ("a", "/a b", {}),
            ("a", "/\r\n", {}),
            ("a", "/", {"B": "c\nd"}),
            ("a", "/", {"B:": "c"}),
            ("a", "/", {"B": "\N{SNOWMAN}"}),
        ):
            with self.subTest(host=host, path=path, headers=headers), self.assertRaises(ValueError):
                get_request(host, path, headers)


class ResponseTests(SynchronousTestCase):
    """The parser of responses."""

    def fails(self, response: Response, data: bytes, errorcode: str) -> str:
        with self.assertRaises(ResponseError) as caught:
            response.feed(data)
        self.assertEqual(caught.exception.errorcode, errorcode)
        return str(caught.exception)

    def test_whole(self) -> None:
        """A plain response ends with the last byte of its Content-Length."""
        response = Response(5)
        response.feed(head("content-length: 5", "Content-Encoding: identity") + b"1234")
        self.assertEqual((response.status, response.payload, response.ended), (200, 4, False))
        response.feed(b"5")
        self.assertEqual((response.payload, response.ended), (5, True))

    @given(st.lists(st.integers(0, 200)), st.booleans())
    def test_any_pieces(self, cuts: list[int], interim: bool) -> None:
        """How a response is cut into pieces makes no difference."""
        data = head(status="100 Continue") * interim + head("A: b", "Content-Length: 50") + b"x" * 50
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        response = Response(50)
        for start, end in pairwise(places):
            self.assertFalse(response.ended)
            response.feed(data[start:end])
        self.assertEqual((response.status, response.payload, response.ended), (200, 50, True))

    def test_without_length(self) -> None:
        """A body without Content-Length ends with the connection, whole or short."""
        for size, errorcode in ((5, None), (4, Error.SHORT)):
            response = Response(5)
            response.feed(head() + b"x" * size)
            self.assertFalse(response.ended)
            try:
                response.close()
            except ResponseError as problem:
                self.assertEqual(problem.errorcode, errorcode)
            else:
                self.assertIsNone(errorcode)
            self.assertTrue(response.ended)

    def test_nothing_expected(self) -> None:
        """An empty payload is complete with its head."""
        response = Response(0)
        response.feed(head("Content-Length: 0"))
        self.assertTrue(response.ended)

    def test_after_the_end(self) -> None:
        """What follows the response on its connection is not payload, however it is cut into reads."""
        response = Response(5)
        response.feed(head("Content-Length: 5") + b"12345HTTP/1.1")
        self.assertEqual((response.payload, response.ended), (5, True))

    def test_short_and_long(self) -> None:
        """A response of another length than asked for is short or long, whatever its Content-Length says."""
        short = Response(5)
        self.fails(short, head("Content-Length: 4") + b"1234", Error.SHORT)
        self.assertEqual((short.payload, short.ended), (4, True))
        self.fails(Response(5), head("Content-Length: 6"), Error.LONG)
        self.fails(Response(5), head() + b"123456", Error.LONG)

    def test_status(self) -> None:
        """With any status but 200 the body is no payload."""
        for status in ("404 Not Found", "302 Found", "206 Partial Content", "204", "500 "):
            response = Response(5)
            self.assertIn(status[:3], self.fails(response, head(status=status) + b"12345", Error.STATUS))
            self.assertEqual((response.status, response.payload), (int(status[:3]), 0))

    def test_not_http(self) -> None:
        """What is not an HTTP/1 response with a plain body is refused as such."""
        for data in (
            b"\x00",
            b"HTTP/2",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1200 OK\r\n\r\n",
            b"HTTP/1.1 099\r\n\r\n",
            b"hTTP/1.1 200 OK\r\n\r\n",
            head("no colon"),
            head(" continued: line"),
            head("a b: c"),
            head(": c"),
            head("Content-Length: x"),
            head("Content-Length: +5"),
            head("Content-Length: "),
            head("Content-Length: 5", "Content-Length: 6"),
            head("Content-Length: 1" + "0" * 5000),
            head("Transfer-Encoding: chunked"),
            head("content-encoding: gzip"),
        ):
            with self.subTest(data=data[:40]):
                self.fails(Response(5), data, Error.HTTP)

    def test_head_limit(self) -> None:
        """A head over the limit is refused, at once or in drops, as are too many interim responses."""
        whole = head("A: " + "a" * HEAD_LIMIT)
        self.fails(Response(5), whole, Error.HTTP)
        response = Response(5)
        for place in range(HEAD_LIMIT - 1):
            response.feed(whole[place : place + 1])
        self.fails(response, b"a", Error.HTTP)
        self.fails(Response(5), head("A: b", status="103 Early Hints") * 1000, Error.HTTP)

    def test_fits_the_limit(self) -> None:
        """A head of exactly the limit is read."""
        padding = HEAD_LIMIT - len(head("Content-Length: 1", "A: "))
        response = Response(1)
        response.feed(head("Content-Length: 1", "A: " + "a" * padding) + b"x")
        self.assertTrue(response.ended)

    @given(st.binary(max_size=300), st.booleans())
    def test_any_bytes(self, data: bytes, prefixed: bool) -> None:
        """No bytes bring anything but a ResponseError."""
        try:
            response = Response(5)
            response.feed(b"HTTP/1.1 200 OK\r\n" * prefixed + data)
            response.close()
        except ResponseError:
            pass

    def test_closed_early(self) -> None:
        """A close before the end of the head or of the Content-Length is no complete response."""
        for data in (b"", b"HTTP/1.1 200 OK\r\n", head("Content-Length: 5") + b"1234"):
            response = Response(5)
            response.feed(data)
            with self.assertRaises(ResponseError) as caught:
                response.close()
            self.assertEqual((caught.exception.errorcode, response.ended), (Error.CLOSED, False))


class ClassifyTests(SynchronousTestCase):
    """`classify`."""

    def test_twisted(self) -> None:
        """Twisted's errors have their codes."""
        for exception, outcome, errorcode in (
            (error.ConnectionRefusedError(), Outcome.FAILED, Error.CONNECT),
            (error.TimeoutError(), Outcome.FAILED, Error.CONNECT),
            (error.DNSLookupError("no such host"), Outcome.FAILED, Error.CONNECT),
            (OSError(24, "Too many open files"), Outcome.FAILED, Error.CONNECT),
            (error.ConnectionLost(), Outcome.FAILED, Error.RESET),
            (error.ConnectionAborted(), Outcome.FAILED, Error.RESET),
            (error.ConnectionDone(), Outcome.FAILED, Error.CLOSED),
            (CancelledError(), Outcome.CANCELLED, Error.STOPPED),
            (error.ConnectingCancelledError(IPv4Address("TCP", "1.2.3.4", 5)), Outcome.CANCELLED, Error.STOPPED),
            (RuntimeError("a\n  bug"), Outcome.FAILED, Error.INTERNAL),
        ):
            with self.subTest(exception=exception):
                ending = classify(Failure(exception))
                self.assertEqual(ending[:2], (outcome, errorcode))
                self.assertTrue(ending.reason and "\n" not in ending.reason)

    def test_own_code(self) -> None:
        """An exception's own errorcode comes first; a bare code says that it is the proxy's."""

        class Refused(error.ConnectionDone):
            code = 4

        self.assertEqual(classify(Failure(Refused()))[:2], (Outcome.FAILED, Error.SOCKS))
        Refused.errorcode = "TOR/MISC"
        self.assertEqual(classify(Failure(Refused()))[:2], (Outcome.FAILED, "TOR/MISC"))

    def test_socks(self) -> None:
        """What the SOCKS client fails with: refusals are Tor's, all else is the proxy's, a mere close included."""
        for exception, errorcode in (
            (ServerFailure(), "TOR/GENERAL_FAILURE"),
            (HostUnreachable(), "TOR/HOST_UNREACHABLE"),
            (TTLExpired(), "TOR/TTL_EXPIRED"),
            (OnionServiceDescriptorNotFound(), "TOR/ONION_DESCRIPTOR_NOT_FOUND"),
            (RequestRejectedOrFailed(), "TOR/REJECTED_OR_FAILED"),
            (ReplyError(), "TOR"),
            (SOCKSError(), Error.SOCKS),
            (ConnectionLostEarly(), Error.SOCKS),
            (InvalidServerVersion(code=72), Error.SOCKS),
            (NoAcceptableMethods(), Error.SOCKS),
            (LoginAuthenticationFailed(), Error.SOCKS),
        ):
            with self.subTest(exception=exception):
                self.assertEqual(classify(Failure(exception))[:2], (Outcome.FAILED, errorcode))

    def test_socks_refusals(self) -> None:
        """Each refusal has an error code of its own, in the form of Tor's."""
        refusals = [*socks5ErrorMap.values(), *socks4ErrorMap.values(), UnknownReplyCode]
        codes = [classify(Failure(refusal())).errorcode for refusal in refusals]
        self.assertEqual(len(set(codes)), len(refusals))
        for code in codes:
            self.assertRegex(code, r"\ATOR/[A-Z]+(_[A-Z]+)*\Z")


class Transport(StringTransport):
    """A connection in memory that knows how it was closed."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Connects when the test says so."""

    def __init__(self) -> None:
        self.connecting: Deferred[Any] = Deferred(self._cancelled)
        self.cancelled = False
        self.transport = Transport(IPv4Address("TCP", "127.0.0.1", 4000), IPv4Address("TCP", "127.0.0.1", 9050))

    def _cancelled(self, _: object) -> None:
        self.cancelled = True

    def connect(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        return self.connecting

    def connected(self) -> None:
        self.protocol = self.factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        if not self.connecting.called:
            self.connecting.callback(self.protocol)

    def receive(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def lose(self, reason: Exception) -> None:
        self.protocol.connectionLost(Failure(reason))


class ClientTests(SynchronousTestCase):
    """The client, in memory and with the hands on the clock."""

    def setUp(self) -> None:
        self.clock = FakeReactor()
        self.clock.advance(100.0)
        self.timeline = Timeline(Clock(wall=lambda: 1_000_000.0, monotonic=self.clock.seconds))
        self.endpoint = Endpoint()

    def start(self, timeout: float = 60.0, expect: int = EXPECT) -> Deferred[Exchange]:
        coroutine = fetch(
            self.clock, self.endpoint, REQUEST, expect=expect, timeline=self.timeline, timeout=timeout
        )
        return Deferred.fromCoroutine(coroutine)

    def result(self, running: Deferred[Exchange]) -> Exchange:
        """The result; nothing may be left that could still happen."""
        exchange = self.successResultOf(running)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return exchange

    def seconds(self) -> dict[str, float]:
        start = self.timeline.stamps[Phase.START]
        return {phase.value: stamp - start for phase, stamp in self.timeline.stamps.items()}

    def test_all_well(self) -> None:
        """Each step has the stamp of the event that it stands for, and every byte is counted."""
        running = self.start()
        self.clock.advance(1.0)
        self.endpoint.connected()
        self.assertEqual(self.endpoint.transport.value(), REQUEST)
        self.clock.advance(1.0)
        self.endpoint.receive(HEAD[:10])
        self.clock.advance(1.0)
        self.endpoint.receive(HEAD[10:])
        self.clock.advance(1.0)
        self.endpoint.receive(HALF)
        self.assertNoResult(running)
        self.clock.advance(1.0)
        self.endpoint.receive(HALF)
        exchange = self.result(running)
        self.assertEqual(self.seconds(), {"START": 0, "DATAREQUEST": 1, "DATARESPONSE": 2, "DATACOMPLETE": 5})
        self.assertEqual((exchange.outcome, exchange.errorcode, exchange.reason), (Outcome.OK, None, None))
        self.assertEqual(exchange.status, 200)
        self.assertEqual(exchange.writebytes, len(REQUEST))
        self.assertEqual(exchange.readbytes, len(HEAD) + EXPECT)
        self.assertEqual(exchange.payloadbytes, EXPECT)
        self.assertEqual(exchange.partial, {10240: 1_000_004.0, 20480: 1_000_005.0})
        self.assertEqual(exchange.dataperc[0], 1_000_004.0)
        self.assertEqual(exchange.dataperc[60], 1_000_005.0)
        self.assertEqual(exchange.local, self.endpoint.transport.getHost())
        self.assertEqual(exchange.remote, self.endpoint.transport.getPeer())
        self.assertTrue(self.endpoint.transport.disconnecting)
        self.assertFalse(self.endpoint.transport.aborted)

    def test_stamp_before_work(self) -> None:
        """A read is stamped with one look at the clock, before anything is done with it."""
        looks: list[float] = []

        def monotonic() -> float:
            looks.append(float(len(looks)))
            return looks[-1]

        self.timeline = Timeline(Clock(wall=lambda: 0.0, monotonic=monotonic))
        running = self.start()
        self.endpoint.connected()
        before = len(looks)
        self.endpoint.receive(HEAD + WHOLE)
        self.assertEqual(len(looks), before + 1)
        exchange = self.result(running)
        stamps = {self.timeline.stamps[Phase.DATARESPONSE], self.timeline.stamps[Phase.DATACOMPLETE]}
        self.assertEqual(stamps, {looks[before]})
        self.assertEqual(len({*exchange.dataperc.values(), *exchange.partial.values()}), 1)

    def test_connected_at_once(self) -> None:
        """An endpoint that connects inside connect() is fine."""
        endpoint = self.endpoint

        def connect(factory: Any) -> Deferred[Any]:
            endpoint.factory = factory
            endpoint.connected()
            return succeed(endpoint.protocol)

        endpoint.connect = connect
        running = self.start()
        endpoint.receive(HEAD + WHOLE)
        self.assertIs(self.result(running).outcome, Outcome.OK)

    def test_deadline_from_start(self) -> None:
        """The deadline counts from START, not from the call."""
        self.clock.advance(50.0)
        running = self.start(timeout=60.0)
        self.clock.advance(9.9)
        self.assertNoResult(running)
        self.clock.advance(0.1)
        self.assertIs(self.result(running).outcome, Outcome.TIMEOUT)

    def test_timeout_connecting(self) -> None:
        """A deadline before there is a connection gives up connecting; what was not counted is None."""
        running = self.start(timeout=5.0)
        self.clock.advance(5.0)
        exchange = self.result(running)
        self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.TIMEOUT, Error.TIMEOUT))
        self.assertTrue(self.endpoint.cancelled)
        self.assertEqual((exchange.writebytes, exchange.readbytes, exchange.payloadbytes), (None, None, None))
        self.assertEqual((exchange.local, exchange.remote, exchange.status), (None, None, None))

    def test_connected_too_late(self) -> None:
        """A connection that is made all the same after the end is closed without a request."""
        running = self.start(timeout=5.0)
        self.clock.advance(5.0)
        self.endpoint.connected()
        self.assertTrue(self.endpoint.transport.aborted)
        self.assertEqual(self.endpoint.transport.value(), b"")
        self.assertNotIn(Phase.DATAREQUEST, self.timeline.stamps)
        self.assertIs(self.result(running).outcome, Outcome.TIMEOUT)

    def test_timeout_without_answer(self) -> None:
        """Silence from the first is a timeout: nothing was moving that could have stalled."""
        running = self.start(timeout=200.0)
        self.endpoint.connected()
        self.clock.advance(200.0)
        exchange = self.result(running)
        self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.TIMEOUT, Error.TIMEOUT))
        self.assertEqual((exchange.readbytes, exchange.payloadbytes), (0, 0))
        self.assertTrue(self.endpoint.transport.aborted)

    def test_timeout_or_stall(self) -> None:
        """It stalled if the silence at the end was 30 s, or half of the time since the request."""
        for timeout, last, errorcode in (
            (200.0, 170.0, Error.STALL),
            (200.0, 170.1, Error.TIMEOUT),
            (10.0, 5.5, Error.STALL),
            (10.0, 5.6, Error.TIMEOUT),
        ):
            with self.subTest(timeout=timeout, last=last):
                self.setUp()
                running = self.start(timeout=timeout)
                self.clock.advance(1.0)
                self.endpoint.connected()
                self.clock.advance(last - 1.0)
                self.endpoint.receive(HEAD + HALF)
                self.clock.advance(timeout - last)
                exchange = self.result(running)
                self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.TIMEOUT, errorcode))
                self.assertEqual(exchange.payloadbytes, len(HALF))
                self.assertEqual(list(exchange.partial), [10240])
                self.assertNotIn(Phase.DATACOMPLETE, self.timeline.stamps)
                self.assertTrue(self.endpoint.transport.aborted)

    def test_cancelled(self) -> None:
        """Cancelling at any moment closes the connection and is an outcome, with the progress so far."""
        connecting = self.start()
        connecting.cancel()
        exchange = self.result(connecting)
        self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.CANCELLED, Error.STOPPED))
        self.assertTrue(self.endpoint.cancelled)

        for received in (b"", HEAD[:5], HEAD, HEAD + HALF):
            with self.subTest(received=len(received)):
                self.setUp()
                running = self.start()
                self.endpoint.connected()
                if received:
                    self.endpoint.receive(received)
                running.cancel()
                exchange = self.result(running)
                self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.CANCELLED, Error.STOPPED))
                self.assertEqual(exchange.readbytes, len(received))
                self.assertTrue(self.endpoint.transport.aborted)

    def test_after_the_end(self) -> None:
        """Whatever still comes after the end changes nothing."""
        running = self.start()
        self.endpoint.connected()
        self.endpoint.receive(HEAD + WHOLE)
        stamps = dict(self.timeline.stamps)
        self.clock.advance(1.0)
        self.endpoint.receive(b"more")
        self.endpoint.lose(error.ConnectionLost())
        running.cancel()
        self.assertEqual(self.result(running).readbytes, len(HEAD) + EXPECT)
        self.assertEqual(self.timeline.stamps, stamps)

    def test_connection_lost(self) -> None:
        """Reset and close in the middle are told apart and keep the progress."""
        for reason, errorcode in ((error.ConnectionLost(), Error.RESET), (error.ConnectionDone(), Error.CLOSED)):
            self.setUp()
            running = self.start()
            self.endpoint.connected()
            self.endpoint.receive(HEAD + HALF)
            self.endpoint.lose(reason)
            exchange = self.result(running)
            self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.FAILED, errorcode))
            self.assertEqual(sorted(exchange.dataperc), [0, 10, 20, 30, 40, 50])

    def test_proxy_ended_it(self) -> None:
        """A connection that the SOCKS proxy ended has its error, also if the request left with optimistic data."""
        for reason in (ConnectionLostEarly(), ServerFailure()):
            self.setUp()
            running = self.start()
            self.endpoint.connected()
            self.endpoint.lose(reason)
            exchange = self.result(running)
            self.assertEqual(
                (exchange.outcome, exchange.errorcode), (Outcome.FAILED, classify(Failure(reason)).errorcode)
            )
            self.assertNotEqual(exchange.errorcode, Error.CLOSED)

    def test_short(self) -> None:
        """A complete response that is too short has a DATACOMPLETE, and is a failure."""
        running = self.start()
        self.endpoint.connected()
        self.endpoint.receive(head("Content-Length: 10240"))
        self.clock.advance(1.0)
        self.endpoint.receive(HALF)
        exchange = self.result(running)
        self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.FAILED, Error.SHORT))
        self.assertEqual(self.seconds()["DATACOMPLETE"], 1.0)

    def test_connecting_fails(self) -> None:
        """What the endpoint fails with is classified, never raised."""
        running = self.start()
        self.endpoint.connecting.errback(error.ConnectionRefusedError())
        exchange = self.result(running)
        self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.FAILED, Error.CONNECT))

    def test_endpoint_raises(self) -> None:
        """An endpoint that breaks in an unknown way is an internal error, and logged."""

        def connect(factory: Any) -> Deferred[Any]:
            raise ZeroDivisionError("oh")

        self.endpoint.connect = connect
        exchange = self.result(self.start())
        self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.FAILED, Error.INTERNAL))
        self.assertEqual(exchange.reason, "ZeroDivisionError: oh")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class HostileTests(TestCase):
    """The client against servers on loopback that do what servers must not do."""

    timeout = 30

    async def meet(self, name: str, timeout: float) -> Exchange:
        server = HostileFactory(global_reactor, BEHAVIOURS[name])
        try:
            return await fetch(
                global_reactor,
                TCP4ClientEndpoint(global_reactor, "127.0.0.1", server.port),
                REQUEST,
                expect=EXPECT,
                timeline=Timeline(Clock()),
                timeout=timeout,
            )
        finally:
            await server.stop()

    async def test_failures(self) -> None:
        """Each kind of bad server has its error code, and its connection is closed."""
        for name, errorcode, payload in (
            ("closes without an answer", Error.CLOSED, 0),
            ("resets without an answer", Error.RESET, 0),
            ("wrong status", Error.STATUS, 0),
            ("redirect", Error.STATUS, 0),
            ("short body", Error.SHORT, EXPECT // 2),
            ("short body that ends with the connection", Error.SHORT, EXPECT // 2),
            ("long body", Error.LONG, 0),
            ("long body that ends with the connection", Error.LONG, EXPECT + 1),
            ("closes in the body", Error.CLOSED, EXPECT // 2),
            ("resets in the body", Error.RESET, EXPECT // 2),
            ("garbage", Error.HTTP, 0),
            ("another protocol", Error.HTTP, 0),
            ("endless header", Error.HTTP, 0),
            ("endless headers", Error.HTTP, 0),
            ("endless interim responses", Error.HTTP, 0),
            ("chunked", Error.HTTP, 0),
            ("compressed", Error.HTTP, 0),
            ("two lengths", Error.HTTP, 0),
            ("negative length", Error.HTTP, 0),
        ):
            with self.subTest(name):
                exchange = await self.meet(name, timeout=20.0)
                self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.FAILED, errorcode), name)
                self.assertEqual(exchange.payloadbytes, payload, name)

    async def test_timeouts(self) -> None:
        """Servers that go silent meet the deadline."""
        for name, errorcode in (
            ("never answers", Error.TIMEOUT),
            ("stalls in the head", Error.STALL),
            ("stalls in the body", Error.STALL),
        ):
            with self.subTest(name):
                exchange = await self.meet(name, timeout=0.5)
                self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.TIMEOUT, errorcode), name)

    async def test_refused(self) -> None:
        """Where nobody listens, the code is that of connecting."""
        server = HostileFactory(global_reactor, BEHAVIOURS["never answers"])
        await server.stop()
        exchange = await fetch(
            global_reactor,
            TCP4ClientEndpoint(global_reactor, "127.0.0.1", server.port),
            REQUEST,
            expect=EXPECT,
            timeline=Timeline(Clock()),
            timeout=20.0,
        )
        self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.FAILED, Error.CONNECT))

    async def test_cancelled(self) -> None:
        """Cancelling closes a real connection."""
        server = HostileFactory(global_reactor, lambda hostile: running.cancel())
        running = Deferred.fromCoroutine(
            fetch(
                global_reactor,
                TCP4ClientEndpoint(global_reactor, "127.0.0.1", server.port),
                REQUEST,
                expect=EXPECT,
                timeline=Timeline(Clock()),
                timeout=20.0,
            )
        )
        exchange = await running
        await server.stop()
        self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.CANCELLED, Error.STOPPED))


class StampTests(TestCase):
    """Stamps over a real socket, whose other end the test has in its own hands."""

    timeout = 30

    async def test_held_up(self) -> None:
        """The request is with the kernel as soon as it is stamped, and the response has the time of its coming."""
        let_kernel_stamp(self)
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        listening.setblocking(False)
        endpoint = TCP4ClientEndpoint(global_reactor, *listening.getsockname())
        seen: list[tuple[bytes, float]] = []

        class Watched:
            """Looks what the server has when the client has just been told that it is connected."""

            def connect(self, factory: Any) -> Deferred[Any]:
                build = factory.buildProtocol

                def watched(address: Any) -> Any:
                    protocol = build(address)
                    made = protocol.makeConnection

                    def make_connection(transport: Any) -> None:
                        made(transport)
                        self.server, _ = listening.accept()
                        self.server.setblocking(False)
                        seen.append((self.server.recv(10_000), time.monotonic()))

                    protocol.makeConnection = make_connection
                    return protocol

                factory.buildProtocol = watched
                return endpoint.connect(factory)

        way: Any = Watched()
        timeline = Timeline(Clock())
        running = Deferred.fromCoroutine(
            fetch(global_reactor, way, REQUEST, expect=EXPECT, timeline=timeline, timeout=20.0)
        )
        while not seen:
            await deferLater(global_reactor, 0.001)
        self.addCleanup(way.server.close)
        request, after = seen[0]
        self.assertEqual(request, REQUEST)
        self.assertLessEqual(timeline.stamps[Phase.DATAREQUEST], after)

        stamps = []
        for part in (HEAD, WHOLE):
            stamps.append(time.monotonic())
            way.server.sendall(part)
            stamps.append(time.monotonic())
            time.sleep(0.05)
            await deferLater(global_reactor, 0.001)
        exchange = await running
        self.assertEqual((exchange.outcome, exchange.exact), (Outcome.OK, True))
        noise = KernelClock.TOLERANCE
        response, complete = (timeline.stamps[phase] for phase in (Phase.DATARESPONSE, Phase.DATACOMPLETE))
        self.assertTrue(stamps[0] - noise <= response <= stamps[1] + noise, (response, stamps))
        self.assertTrue(stamps[2] - noise <= complete <= stamps[3] + noise, (complete, stamps))
