"""The web server: random bytes, limits, errors and stamps, over a socket in memory and over loopback."""

from __future__ import annotations

import json
import zlib
from typing import Any

from twisted.internet import main
from twisted.internet import reactor as global_reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from zope.interface import implementer

from perfd.clock import Clock, Phase, Timeline
from perfd.fetch import fetch, get_request
from perfd.record import Outcome
from perfd.web import random
from perfd.web.random import PIECE, Keystream, random_resources
from perfd.web.site import Site, make_site
from perfd.web.stamps import SendMeter, Served, ServerStamps

GIB = 2**30
LIMIT = 2 * GIB


@implementer(ITCPTransport)
class Socket(FileDescriptor):
    """Twisted's own buffering over a socket in memory, which takes at most ``room`` bytes and then nothing."""

    room = LIMIT * 2
    aborted = False

    def __init__(self, reactor: Any, keep: bool = True) -> None:
        super().__init__(reactor)
        self.connected = 1
        self.taken = 0  # bytes
        self.most_buffered = 0
        self.received = bytearray()  # what the client has, if it keeps it
        self._keep = keep
        self.protocol: Any = None
        self.startReading()

    def receive(self, data: bytes) -> None:
        """The client has sent ``data``; that stays unread if the server does not want to read."""
        if self in self.reactor.readers:
            self.protocol.dataReceived(data)

    def writeSomeData(self, data: bytes) -> int:
        count = min(self.room, len(data), self.SEND_LIMIT)
        self.room -= count
        self.taken += count
        if self._keep:
            self.received += data[:count]
        return count

    def flush(self, turns: int = 1_000_000) -> None:
        """Let the reactor write as long as there is something to write and room for it."""
        while turns and self.connected and self in self.reactor.writers and self.room:
            self.most_buffered = max(self.most_buffered, len(self.dataBuffer) + self._tempDataLen)
            reason = self.doWrite()
            if reason is not None:
                self.reactor.removeWriter(self)
                self.connectionLost(Failure(reason))
            turns -= 1

    def connectionLost(self, reason: Failure) -> None:
        if self.connected:
            super().connectionLost(reason)
            self.protocol.connectionLost(reason)

    def abortConnection(self) -> None:
        self.aborted = True
        self.connectionLost(Failure(ConnectionAborted()))

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8080)

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 50000)

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: example.com", *headers, "", ""]).encode()


class Broken(Resource):
    """A resource with a bug."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        raise ZeroDivisionError(self)


class SiteTestCase(SynchronousTestCase):
    """A site and its clients in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.stamps = ServerStamps(self.reactor.seconds)
        self.site = self.make()

    def make(self, **limits: Any) -> Site:
        children = {**random_resources(LIMIT), "broken": Broken()}
        return make_site(children, reactor=self.reactor, stamps=self.stamps, **limits)

    def open(self, keep: bool = True) -> Socket:
        """A client has connected."""
        socket = Socket(self.reactor, keep)
        socket.protocol = self.site.buildProtocol(socket.getPeer())
        socket.protocol.makeConnection(socket)
        return socket

    def ask(self, *request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the response to a request on a connection of its own."""
        socket = self.open()
        for piece in request:
            socket.receive(piece)
        socket.flush()
        return self.read(socket)

    def read(self, socket: Socket) -> tuple[int, dict[str, str], bytes]:
        head, _, body = bytes(socket.received).partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body

    def fails(self, request: bytes, status: int) -> str:
        """The message of the error with which the request is answered."""
        answered, headers, body = self.ask(request)
        self.assertEqual(answered, status)
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertEqual(int(headers["Content-Length"]), len(body))
        document = json.loads(body)
        self.assertEqual(list(document), ["error"])
        self.assertEqual(document["error"]["status"], status)
        return document["error"]["message"]


class RandomBytesTests(SiteTestCase):
    """``/random/SIZE`` and its aliases."""

    def test_sizes(self) -> None:
        """All ways to name a size give exactly as many bytes."""
        for path, size in (
            ("/random/0", 0),
            ("/random/1", 1),
            ("/random/51200", 51200),
            ("/urandom/51200", 51200),
            ("/random/50KiB", 51200),
            ("/random/50%20KiB", 51200),
            ("/random/1MiB", 1048576),
            (f"/random/{PIECE}", PIECE),
            (f"/random/{PIECE + 1}", PIECE + 1),
            ("/.50kbfile", 51200),
            ("/.1mbfile", 1048576),
            ("/.5mbfile", 5242880),
            ("/random/100?id=1", 100),
        ):
            with self.subTest(path=path):
                status, headers, body = self.ask(get(path))
                self.assertEqual((status, len(body)), (200, size))
                self.assertEqual(int(headers["Content-Length"]), size)
                self.assertEqual(headers["Content-Type"], "application/octet-stream")
                self.assertEqual(headers["Cache-Control"], "no-store")
                self.assertTrue(headers["Server"].startswith("perfd/"))

    def test_head(self) -> None:
        """HEAD gives the head of GET, and the connection can be used again."""
        for path in ("/.5mbfile", "/random/10"):
            socket = self.open()
            socket.receive(get(path, method="HEAD"))
            socket.flush()
            status, headers, body = self.read(socket)
            self.assertEqual((status, body), (200, b""))
            self.assertEqual(headers["Content-Length"], "5242880" if "5mb" in path else "10")
            socket.received.clear()
            socket.receive(get("/random/3"))
            socket.flush()
            self.assertEqual(len(self.read(socket)[2]), 3)

    def test_random(self) -> None:
        """The bytes cannot be compressed, and no two bodies share a block."""
        bodies = [self.ask(get("/random/1MiB"))[2] for _ in range(2)] + [self.ask(get("/random/50KiB"))[2]]
        whole = b"".join(bodies)
        self.assertGreater(len(zlib.compress(whole)), len(whole))
        blocks = [whole[place : place + 16] for place in range(0, len(whole), 16)]
        self.assertEqual(len(set(blocks)), len(blocks))

    def test_keystream(self) -> None:
        """No byte is given twice, over the ends of blocks and of keys."""
        self.patch(random, "REKEY_AFTER", 3 * PIECE)
        keystream = Keystream()
        taken = b"".join(keystream.take(size) for size in [PIECE, 16, PIECE - 16, 51200, 51200, 51200] * 5)
        blocks = [taken[place : place + 16] for place in range(0, len(taken), 16)]
        self.assertEqual(len(set(blocks)), len(blocks))

    def test_bad_requests(self) -> None:
        """What cannot be answered is a JSON error that says why."""
        for request, status, word in (
            (get("/random"), 400, "/random/50KiB"),
            (get("/random/"), 400, "size"),
            (get("/random/x"), 400, "size"),
            (get("/random/-1"), 400, "size"),
            (get("/random/1.5"), 400, "whole number"),
            (get("/random/%ff%00"), 400, "size"),
            (get("/random/1/2"), 400, "/random/50KiB"),
            (get("/random/50TiB"), 400, "TiB"),
            (get("/random/3GiB"), 413, "2 GiB"),
            (get("/random/999999999999999"), 413, "2 GiB"),
            (get("/random/" + "9" * 1000), 400, "size"),
            (get("/.50kbfile/1"), 404, ""),
            (get("/nothing/here"), 404, "/nothing/here"),
            (get("/%ff"), 404, ""),
            (get("/random/1", method="DELETE"), 405, "GET, HEAD"),
            (get("/", method="BREW"), 405, "GET, HEAD"),
            (get("/random/1", "Content-Length: 5", method="POST") + b"12345", 413, "bodies"),
            (get("/random/1", "Transfer-Encoding: chunked", method="POST"), 413, "bodies"),
            (get("/random/1", "Content-Length: 5", "Expect: 100-continue"), 413, "bodies"),
            (get("/" + "x" * 9000), 431, "too long"),
        ):
            with self.subTest(request=request[:60]):
                self.assertIn(word, self.fails(request, status))

    def test_allow(self) -> None:
        """A wrong method is told the right ones."""
        self.assertEqual(self.ask(get("/random/1", method="PUT"))[1]["Allow"], "GET, HEAD")

    def test_index(self) -> None:
        """``/`` says what there is, without the hidden names."""
        status, _, body = self.ask(get("/"))
        self.assertEqual((status, json.loads(body)["resources"]), (200, ["/broken", "/random", "/urandom"]))

    def test_bug(self) -> None:
        """A bug is logged here and tells the client nothing."""
        self.assertNotIn("Zero", self.fails(get("/broken"), 500))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class BackPressureTests(SiteTestCase):
    """However large the body and however slow the client, little is buffered."""

    def test_one_gib(self) -> None:
        """A GiB goes through the buffer a piece at a time."""
        socket = self.open(keep=False)
        socket.receive(get("/random/1GiB"))
        socket.flush()
        self.assertGreater(socket.taken, GIB)
        self.assertLess(socket.taken, GIB + 1000)
        self.assertLess(socket.most_buffered, PIECE + 1000)

    def test_unread(self) -> None:
        """Nothing is made for a client that takes nothing."""
        socket = self.open()
        socket.room = 1000
        socket.receive(get("/random/1GiB"))
        socket.flush()
        self.assertLess(socket.most_buffered, PIECE + 1000)

    def test_disconnect(self) -> None:
        """A client that goes in the middle leaves nothing behind."""
        socket = self.open()
        socket.room = 200_000
        socket.receive(get("/random/1GiB"))
        socket.flush()
        socket.connectionLost(Failure(main.CONNECTION_LOST))
        self.reactor.advance(2.0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.ask(get("/random/5"))[0], 200)

    def test_pipelined(self) -> None:
        """Pipelined requests are not answered ahead of the client's reading: the first is, then it is over."""
        for path in ("/random/50KiB", "/random/1MiB"):
            with self.subTest(path=path):
                socket = self.open(keep=False)
                socket.room = 0
                for _ in range(3):
                    socket.receive(get(path) * 1000)
                self.assertLess(len(socket.dataBuffer) + socket._tempDataLen, PIECE + 1000)
                socket.room = LIMIT
                socket.flush()
                self.assertFalse(socket.connected)
                self.assertLess(socket.taken, 1024 * 1024 + 1000)

    def test_pipelined_later(self) -> None:
        """A request that comes while another is answered ends the connection after that answer."""
        socket = self.open()
        socket.room = 1000
        socket.receive(get("/random/1MiB"))
        socket.flush()
        socket.receive(get("/random/5"))
        socket.room = LIMIT
        socket.flush()
        self.assertEqual(len(self.read(socket)[2]), 1048576)
        self.assertFalse(socket.connected)

    def test_asks_without_reading(self) -> None:
        """A request that comes before the last answer is with the client is pipelined as well."""
        socket = self.open()
        socket.room = 100
        for _ in range(1000):
            socket.receive(get("/random/50KiB"))
            socket.flush()
        self.assertLess(len(socket.dataBuffer) + socket._tempDataLen, PIECE)
        socket.room = LIMIT
        socket.flush()
        self.assertEqual((len(self.read(socket)[2]), socket.connected), (51200, 0))


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

    def test_too_many(self) -> None:
        """Beyond the limit a connection is told so and closed, until another ends."""
        first, *_ = (self.open() for _ in range(3))
        fourth = self.open()
        fourth.flush()
        status, _, body = self.read(fourth)
        self.assertEqual((status, fourth.connected), (503, 0))
        self.assertIn("too many connections", json.loads(body)["error"]["message"])
        first.connectionLost(Failure(main.CONNECTION_DONE))
        self.assertEqual(self.ask(get("/random/5"))[0], 200)

    def test_head_too_large(self) -> None:
        """A head with too much in it is refused and the connection closed."""
        for header in ("A: " + "a" * 4000, *["A: b"] * 100), ("A: " + "a" * 4000,) * 5, ("A: " + "a" * 20_000,):
            socket = self.open()
            socket.receive(get("/random/5", *header))
            socket.flush()
            self.assertIn(self.read(socket)[0], (400, 431))
            self.assertFalse(socket.connected)

    def test_not_http(self) -> None:
        """Bytes that are not HTTP are refused and the connection closed."""
        for data in (b"\x16\x03\x01\x02\x00\r\n", b"GET\r\n", get("/random/1", "no colon"), b"\x00" * 9000):
            socket = self.open()
            socket.receive(data)
            socket.flush()
            self.assertFalse(socket.connected)

    def test_stop(self) -> None:
        """When the port is closed, so are its connections, and nothing is left to happen."""
        sockets = [self.open() for _ in range(3)]
        sockets[0].receive(get("/random/1GiB"))
        self.site.stopFactory()
        self.assertTrue(all(socket.aborted for socket in sockets))
        self.assertEqual(self.reactor.getDelayedCalls(), [])


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
        meter = SendMeter(transport, lambda: 7.0)
        served = Served()
        meter.begin(served)
        transport.write(b"a")
        transport.writeSequence([b"b", b"c"])
        meter.end()
        self.assertEqual((transport.value(), served), (b"abc", Served(response=7.0, complete=7.0)))
        meter.remove()
        self.assertNotIn("write", vars(transport))


class LoopbackTests(TestCase):
    """The client and the server together, over real sockets."""

    timeout = 30

    def setUp(self) -> None:
        self.clock = Clock()
        self.stamps = ServerStamps(self.clock.monotonic)
        site = make_site(random_resources(LIMIT), reactor=global_reactor, stamps=self.stamps)
        self.port = global_reactor.listenTCP(0, site, interface="127.0.0.1")
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
