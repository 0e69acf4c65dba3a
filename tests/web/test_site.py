"""The web server: limits and deadlines of connections, late answers, and stamps, in memory and over loopback."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet import main
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from perfd.client.fetch import fetch, get_request
from perfd.clock import Clock, Phase, Timeline
from perfd.record import Outcome
from perfd.web.errors import WebError
from perfd.web.request import Request
from perfd.web.site import make_site
from perfd.web.stamps import ResponseMeter, Served, ServerStamps
from perfd.web.targets.random import random_resources
from perfd.wire.keystream import PIECE
from tests.support.web_client import GIB, LIMIT, SiteTestCase, Socket, get


class ConnectionTests(SiteTestCase):
    """Deadlines and limits of connections."""

    def setUp(self) -> None:
        super().setUp()
        self.site = self.make(max_connections=3, head_timeout=10.0, idle_timeout=60.0)

    def wait(self, seconds: float) -> None:
        self.reactor.pump([0.5] * int(seconds * 2))

    def test_slow_loris(self) -> None:
        """Trickled bytes do not move the deadline of a head."""
        socket = self.open()
        for byte in get("/random/5")[:9]:
            self.wait(1.0)
            socket.receive(bytes([byte]))
        self.assertTrue(socket.connected)
        self.wait(2.0)
        self.assertTrue(socket.aborted)

    def test_silent(self) -> None:
        """Who says nothing is dropped, also after a request that was answered."""
        silent, answered = self.open(), self.open()
        answered.receive(get("/random/5"))
        answered.flush()
        self.wait(12.0)
        self.assertEqual((silent.aborted, answered.aborted), (True, False))
        self.wait(50.0)
        self.assertTrue(answered.aborted)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_never_reads(self) -> None:
        """Who takes nothing is dropped, in the middle of a response and after its end was written."""
        for path in ("/random/1GiB", "/random/50KiB"):
            socket = self.open()
            socket.room = 1000
            socket.receive(get(path))
            socket.flush()
            self.wait(58.0)
            self.assertTrue(socket.connected)
            self.wait(4.0)
            self.assertTrue(socket.aborted)

    def test_slow_reader(self) -> None:
        """Who takes little now and then is served to the end."""
        socket = self.open()
        socket.room = 0
        socket.receive(get("/random/50KiB", "Connection: close"))
        while socket.connected:
            self.wait(50.0)
            socket.room = 5000
            socket.flush()
        self.assertEqual((len(self.read(socket)[2]), socket.aborted), (51200, False))

    def test_keep_alive(self) -> None:
        """One connection can ask again and again, in its own time."""
        socket = self.open()
        for size in (5, 200_000, 7):
            socket.received.clear()
            socket.receive(get(f"/random/{size}"))
            socket.flush()
            self.assertEqual(len(self.read(socket)[2]), size)
            self.wait(50.0)
        self.assertTrue(socket.connected)

    def test_connection_close(self) -> None:
        """Connection: close and HTTP/1.0 close the connection after the response."""
        for request in (get("/random/200000", "Connection: close"), b"GET /random/200000 HTTP/1.0\r\n\r\n"):
            socket = self.open()
            socket.receive(request)
            socket.flush()
            self.assertEqual((len(self.read(socket)[2]), socket.connected), (200_000, 0))

    def test_head_too_large(self) -> None:
        """A head with too much in it is refused and the connection closed."""
        for header in ("A: " + "a" * 4000, *["A: b"] * 100), ("A: " + "a" * 4000,) * 5, ("A: " + "a" * 20_000,):
            socket = self.open()
            socket.receive(get("/random/5", *header))
            socket.flush()
            self.assertIn(self.read(socket)[0], (400, 431))
            self.assertTrue(socket.shut or not socket.connected)
            self.wait(12.0)
            self.assertFalse(socket.connected)

    def test_not_http(self) -> None:
        """Bytes that are not HTTP are refused and the connection closed."""
        for data in (b"\x16\x03\x01\x02\x00\r\n", b"GET\r\n", get("/random/1", "no colon"), b"\x00" * 9000):
            socket = self.open()
            socket.receive(data)
            socket.flush()
            self.assertTrue(socket.shut or not socket.connected)

    def test_stop(self) -> None:
        """When the port is closed, so are its connections, and nothing is left to happen."""
        sockets = [self.open() for _ in range(3)]
        sockets[0].receive(get("/random/1GiB"))
        self.site.stopFactory()
        self.assertTrue(all(socket.aborted for socket in sockets))
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class Late(Resource):
    """Answers when the test says so."""

    isLeaf = True

    def render_GET(self, request: Request) -> int:
        self.request = request
        self.answer: Deferred[bytes] = Deferred()
        self.answer.addCallbacks(request.respond, request.processingFailed)
        return NOT_DONE_YET


class Broken(Resource):
    """Has a bug, before or after its answer has begun."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        if request.args:
            request.write(b"It begins")
        raise ZeroDivisionError


class AnswerTests(SiteTestCase):
    """Answers that come late, that fail, and that nobody waits for any more."""

    def children(self) -> dict[str, IResource]:
        self.late = Late()
        return {**super().children(), "late": self.late, "broken": Broken()}

    def test_late(self) -> None:
        """A late answer is a whole response, and the connection can be used again."""
        for method, body in (("GET", b"{}"), ("HEAD", b""), ("GET", b"")):
            with self.subTest(method=method, body=body):
                socket = self.open()
                socket.receive(get("/late", method=method))
                socket.flush()
                self.assertEqual(socket.received, b"")
                self.late.answer.callback(b"{}" if method == "HEAD" else body)
                socket.flush()
                status, headers, received = self.read(socket)
                self.assertEqual((status, received), (200, body))
                self.assertEqual(headers["Content-Length"], "2" if method == "HEAD" else str(len(body)))
                socket.received.clear()
                socket.receive(get("/random/3"))
                socket.flush()
                self.assertEqual(len(self.read(socket)[2]), 3)

    def test_late_failure(self) -> None:
        """A late failure is a JSON error; a bug is logged and tells the client nothing."""
        for problem, status, message in (
            (WebError(503, "try again later"), 503, "try again later"),
            (ZeroDivisionError("secret"), 500, "an error in Perfd; its log says more"),
        ):
            with self.subTest(status=status):
                socket = self.open()
                socket.receive(get("/late"))
                self.late.answer.errback(Failure(problem))
                socket.flush()
                answered, headers, body = self.read(socket)
                self.assertEqual((answered, headers["Content-Length"]), (status, str(len(body))))
                self.assertEqual(json.loads(body), {"error": {"status": status, "message": message}})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_client_has_gone(self) -> None:
        """Nothing is sent to, and nothing breaks for, a client that has gone; a bug is logged all the same."""
        for answer, logged in (
            (b"{}", 0),
            (Failure(WebError(503, "try again later")), 0),
            (Failure(ZeroDivisionError()), 1),
        ):
            with self.subTest(answer=answer):
                socket = self.open()
                socket.receive(get("/late"))
                socket.connectionLost(Failure(main.CONNECTION_LOST))
                self.late.answer.callback(answer)
                self.successResultOf(self.late.answer)
                self.assertEqual(socket.received, b"")
                self.assertEqual(len(self.flushLoggedErrors()), logged)
        self.assertEqual(self.ask(get("/random/5"))[0], 200)

    def test_gone_in_the_middle(self) -> None:
        """A failure after the client has gone, and after the answer had begun, is logged and no more."""
        socket = self.open()
        socket.receive(get("/late"))
        self.late.request.write(b"It begins")
        socket.connectionLost(Failure(main.CONNECTION_LOST))
        self.late.answer.errback(Failure(ZeroDivisionError()))
        self.successResultOf(self.late.answer)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_asks_meanwhile(self) -> None:
        """A request that comes while an answer is being made ends the connection after that answer."""
        socket = self.open()
        socket.receive(get("/late"))
        socket.receive(get("/random/5"))
        self.late.answer.callback(b"{}")
        socket.flush()
        self.assertEqual((self.read(socket)[2], socket.connected), (b"{}", 0))

    def test_never(self) -> None:
        """A connection whose answer never comes does not stay for ever."""
        self.site = self.make(idle_timeout=10.0)
        socket = self.open()
        socket.receive(get("/late"))
        self.reactor.pump([1.0] * 12)
        self.assertTrue(socket.aborted)

    def test_bug(self) -> None:
        """A bug is logged here and tells the client nothing."""
        self.assertNotIn("Zero", self.fails(get("/broken"), 500))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_bug_in_the_middle(self) -> None:
        """After its answer has begun, the connection is closed so that the client sees that it is not whole."""
        socket = self.open()
        socket.receive(get("/broken?a=1"))
        self.assertTrue(socket.aborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class RegistryTests(SynchronousTestCase):
    """`ServerStamps`."""

    def setUp(self) -> None:
        self.now = 0.0
        self.stamps = ServerStamps(lambda: self.now, limit=3, max_age=100.0)

    def test_first_claim_wins(self) -> None:
        """One request gets the stamps of an announced id; all others get none."""
        self.stamps.expect("one")
        served = self.stamps.claim("one")
        assert served is not None
        served.request = 5.0
        self.assertIsNone(self.stamps.claim("one"))
        self.assertEqual(self.stamps.take("one"), Served(request=5.0))
        self.assertIsNone(self.stamps.claim("one"))
        self.assertEqual(self.stamps.take("one"), Served())

    def test_strangers(self) -> None:
        """Ids that nobody announced leave no trace."""
        for number in range(100):
            self.assertIsNone(self.stamps.claim(f"stranger{number}"))
        self.assertEqual(len(self.stamps), 0)
        self.assertEqual(self.stamps.take("stranger1"), Served())

    def test_taken_is_final(self) -> None:
        """What was taken does not change when the server goes on."""
        self.stamps.expect("one")
        served = self.stamps.claim("one")
        assert served is not None
        taken = self.stamps.take("one")
        served.complete = 1.0
        self.assertIsNone(taken.complete)

    def test_bounds(self) -> None:
        """The oldest ids go when there are too many or when they are too old."""
        for number in range(5):
            self.now += 1.0
            self.stamps.expect(f"m{number}")
        self.assertEqual(len(self.stamps), 3)
        self.assertIsNone(self.stamps.claim("m1"))
        self.assertIsNotNone(self.stamps.claim("m2"))
        self.now += 99.5
        self.stamps.expect("m5")
        self.assertEqual([self.stamps.claim(f"m{n}") is not None for n in (3, 4, 5)], [False, True, True])

    def test_bad_ids(self) -> None:
        """An id that could not stand in a header or a record cannot be announced."""
        for bad in ("", "a b", "a\n", "x" * 65, "\N{SNOWMAN}"):
            with self.assertRaises(ValueError):
                self.stamps.expect(bad)


class StampTests(SiteTestCase):
    """The stamps of requests."""

    def serve(self, request: bytes, room: int = LIMIT) -> Socket:
        """The request comes in two reads, at 1 s and 2 s; the socket has ``room`` at 3 s."""
        socket = self.open()
        socket.room = 0
        self.reactor.advance(1.0)
        socket.receive(request[:20])
        self.reactor.advance(1.0)
        socket.receive(request[20:])
        self.reactor.advance(1.0)
        socket.room = room
        socket.flush()
        return socket

    def test_small(self) -> None:
        """A body that one send takes has one stamp for first and last byte."""
        self.stamps.expect("m1")
        self.serve(get("/random/50KiB", "X-Perfd-Measurement: m1"))
        self.assertEqual(self.stamps.take("m1"), Served(request=2.0, response=3.0, complete=3.0))

    def test_at_once(self) -> None:
        """The socket takes a whole body when it is written, not at the reactor's next turn."""
        self.stamps.expect("m1")
        socket = self.open()
        self.reactor.advance(1.0)
        socket.receive(get("/random/50KiB", "X-Perfd-Measurement: m1"))
        self.assertEqual(len(self.read(socket)[2]), 51200)
        self.assertEqual(self.stamps.take("m1"), Served(request=1.0, response=1.0, complete=1.0))

    def test_send_fails(self) -> None:
        """An error of a send is met again by the reactor, which ends the connection."""
        self.stamps.expect("m1")
        socket = self.open()
        socket.broken = True
        self.reactor.advance(1.0)
        socket.receive(get("/random/50KiB", "X-Perfd-Measurement: m1"))
        self.assertTrue(socket.connected)
        socket.flush()
        self.assertFalse(socket.connected)
        self.assertEqual(self.stamps.take("m1"), Served(request=1.0))

    def test_query(self) -> None:
        """The id can also be in the query."""
        self.stamps.expect("m1")
        self.serve(get("/random/50KiB?id=m1"))
        self.assertEqual(self.stamps.take("m1"), Served(request=2.0, response=3.0, complete=3.0))

    def test_in_parts(self) -> None:
        """First and last byte are stamped when the socket has taken them, not when they were written."""
        for size in (50_000, 1_000_000):
            with self.subTest(size=size):
                self.setUp()
                self.stamps.expect("m1")
                socket = self.serve(get(f"/random/{size}", "X-Perfd-Measurement: m1"), room=1)
                self.reactor.advance(1.0)
                socket.room = size
                socket.flush()
                self.assertEqual(self.stamps._expected["m1"][1], Served(request=2.0, response=3.0))
                self.reactor.advance(1.0)
                socket.room = size
                socket.flush()
                self.assertEqual(self.stamps.take("m1"), Served(request=2.0, response=3.0, complete=5.0))

    def test_unfinished(self) -> None:
        """A response that never got away has no last stamp; one that was never taken up has no first."""
        for room, expected in ((100_000, Served(request=2.0, response=3.0)), (0, Served(request=2.0))):
            self.setUp()
            self.stamps.expect("m1")
            socket = self.serve(get("/random/1MiB", "X-Perfd-Measurement: m1"), room)
            socket.connectionLost(Failure(main.CONNECTION_LOST))
            self.assertEqual(self.stamps.take("m1"), expected)

    def test_kept_connection(self) -> None:
        """A measurement on a connection that was used before has its own stamps only."""
        socket = self.serve(get("/random/200000"))
        self.stamps.expect("m1")
        self.reactor.advance(1.0)
        socket.room = 0
        socket.receive(get("/random/200000", "X-Perfd-Measurement: m1"))
        self.reactor.advance(1.0)
        socket.room = LIMIT
        socket.flush()
        self.reactor.advance(1.0)
        socket.receive(get("/random/5"))
        socket.flush()
        self.assertEqual(self.stamps.take("m1"), Served(request=4.0, response=5.0, complete=5.0))

    def test_forged(self) -> None:
        """A second request with an id, and one with an id that is not expected, are served but not stamped."""
        self.stamps.expect("m1")
        self.serve(get("/random/5", "X-Perfd-Measurement: m1"))
        for name in ("m1", "m2", "\xff" * 70, ""):
            socket = self.serve(get("/random/5", f"X-Perfd-Measurement: {name}"))
            self.assertEqual(len(self.read(socket)[2]), 5)
        self.assertEqual(len(self.stamps), 1)
        self.assertEqual(self.stamps.take("m1"), Served(request=2.0, response=3.0, complete=3.0))

    def test_error(self) -> None:
        """A response that is an error is stamped too."""
        self.stamps.expect("m1")
        self.serve(get("/random/x?id=m1"))
        self.assertEqual(self.stamps.take("m1").complete, 3.0)

    def test_meter_in_memory(self) -> None:
        """Without a socket, what is written counts as sent; the transport is left as it was."""
        transport = StringTransport()
        meter = ResponseMeter(transport, ServerStamps(lambda: 7.0))
        served = Served()
        meter.begin(served)
        transport.write(b"a")
        transport.writeSequence([b"b", b"c"])
        meter.end()
        self.assertEqual((transport.value(), served), (b"abc", Served(response=7.0, complete=7.0)))
        meter.remove()
        self.assertNotIn("write", vars(transport))


class Rude(Protocol):
    """A client that says ``said`` and reads nothing, or aborts when ``enough`` bytes have come."""

    transport: Any

    def __init__(self, said: bytes, enough: int | None = None) -> None:
        self._said = said
        self._enough = enough

    def connectionMade(self) -> None:
        self.transport.write(self._said)
        if self._enough is None:
            self.transport.pauseProducing()
        elif self._enough == 0:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        assert self._enough is not None
        self._enough -= len(data)
        if self._enough <= 0:
            self.transport.abortConnection()


class LoopbackTests(TestCase):
    """The client and the server together, over real sockets."""

    timeout = 30

    def setUp(self) -> None:
        self.clock = Clock()
        self.stamps = ServerStamps(self.clock.monotonic)
        self.site = make_site(random_resources(LIMIT), reactor=global_reactor, stamps=self.stamps)
        self.port = global_reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.endpoint = TCP4ClientEndpoint(global_reactor, "127.0.0.1", self.port.getHost().port)

    async def test_stamps_in_order(self) -> None:
        """The stamps of client and server, on one clock, are in the order in which things happen."""
        for number, size in enumerate((0, 1, 51200, 5242880)):
            with self.subTest(size=size):
                name = f"m{number}"
                self.stamps.expect(name)
                timeline = Timeline(self.clock)
                exchange = await fetch(
                    global_reactor,
                    self.endpoint,
                    get_request("localhost", f"/random/{size}", {"X-Perfd-Measurement": name}),
                    expect=size,
                    timeline=timeline,
                    timeout=20.0,
                )
                self.assertEqual((exchange.outcome, exchange.payloadbytes), (Outcome.OK, size))
                served = self.stamps.take(name)
                there = [timeline.stamps[Phase.START], timeline.stamps[Phase.DATAREQUEST], served.request]
                first = [*there, served.response, timeline.stamps[Phase.DATARESPONSE]]
                self.assertEqual(first, sorted(first))
                last = [served.response, served.complete, timeline.stamps[Phase.DATACOMPLETE]]
                self.assertEqual(last, sorted(last))
                steps = [*exchange.dataperc.values()]
                self.assertEqual(steps, sorted(steps))

    async def test_error(self) -> None:
        """A size over the limit is the server's status for the client."""
        timeline = Timeline(self.clock)
        request = get_request("localhost", "/random/3GiB")
        exchange = await fetch(
            global_reactor, self.endpoint, request, expect=3 * GIB, timeline=timeline, timeout=20.0
        )
        self.assertEqual((exchange.outcome, exchange.errorcode, exchange.status), ("failed", "PERFD/STATUS", 413))

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for it; the test's own time limit is the only one."""
        while not true():
            await deferLater(global_reactor, 0.01)

    async def test_not_reading(self) -> None:
        """For a client that does not read a GiB, no more than a piece of it is ever held here."""
        most = 0
        write = Request.write

        def watched(request: Request, data: bytes) -> None:
            nonlocal most
            write(request, data)
            most = max(most, request.channel.meter.unsent)

        self.patch(Request, "write", watched)
        client = await connectProtocol(self.endpoint, Rude(get("/random/1GiB")))
        await self.until(lambda: self.site._channels)
        (channel,) = self.site._channels
        sent = -1.0
        while not channel.meter.unsent or sent != channel.meter.last_sent:
            sent = channel.meter.last_sent
            await deferLater(global_reactor, 0.05)
        self.assertLess(most, PIECE + 1000)
        client.transport.abortConnection()
        await self.until(lambda: not self.site._channels)

    async def test_rude_clients(self) -> None:
        """Clients that go at any moment, or never spoke HTTP, leave nothing behind, and others are served."""
        for said, enough in (
            (b"", 0),
            (get("/random/1GiB")[:20], 0),
            (get("/random/1GiB"), 0),
            (get("/random/1GiB"), 1),
            (get("/random/1GiB"), 1_000_000),
            (get("/random/50KiB") * 100, 60_000),
            (bytes(range(256)) * 100, 1),
        ):
            await connectProtocol(self.endpoint, Rude(said, enough))
        request = get_request("localhost", "/random/50KiB")
        exchange = await fetch(
            global_reactor, self.endpoint, request, expect=51200, timeline=Timeline(Clock()), timeout=20.0
        )
        self.assertIs(exchange.outcome, Outcome.OK)
        await self.until(lambda: not self.site._channels)
