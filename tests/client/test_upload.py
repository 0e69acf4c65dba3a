"""The measuring HTTP client for uploads: in memory, and over loopback with our server and with hostile ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from perfd.client.upload import ANSWER_LIMIT, Upload, post_request, read_answer, upload
from perfd.clock import Clock, Phase, Timeline
from perfd.record import Error, Outcome
from perfd.web.site import make_site
from perfd.web.stamps import ServerStamps
from perfd.web.targets.upload import UploadPage
from perfd.wire.keystream import PIECE
from tests.support.web_client import Socket

SIZE = 1_000_000
WALL = 1_000_000.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def response(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def receipt(body: bytes) -> bytes:
    """What a server answers that has received ``body``."""
    return response(json.dumps({"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}).encode())


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Connects when the test says so, over a socket in memory that takes what it has room for."""

    def __init__(self, reactor: Any) -> None:
        self.socket = Socket(reactor)
        self.cancelled = False
        self.connecting: Deferred[Any] = Deferred(lambda _: setattr(self, "cancelled", True))

    def connect(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        return self.connecting

    def connected(self) -> None:
        self.socket.protocol = self.factory.buildProtocol(None)
        self.socket.protocol.makeConnection(self.socket)
        if not self.connecting.called:
            self.connecting.callback(self.socket.protocol)


class RequestTests(SynchronousTestCase):
    """`post_request`."""

    def test_bytes(self) -> None:
        """The request tells the size of its body, and asks whether it is wanted if it should."""
        lines = post_request("a.onion:80", "/upload", 5, {"X-Perfd-Measurement": "1f"}).decode().split("\r\n")
        self.assertEqual((lines[0], lines[-2:]), ("POST /upload HTTP/1.1", ["", ""]))
        for line in ("Host: a.onion:80", "Content-Length: 5", "Connection: close", "X-Perfd-Measurement: 1f"):
            self.assertIn(line, lines)
        self.assertNotIn("Expect: 100-continue", lines)
        self.assertIn(b"\r\nExpect: 100-continue\r\n", post_request("a", "/upload", 5, expect_continue=True))

    def test_refused(self) -> None:
        """Nothing can be smuggled into the head."""
        for host, path, headers in (("a\r\nB: c", "/", {}), ("a", "/a b", {}), ("a", "/", {"B": "c\nd"})):
            with self.assertRaises(ValueError):
                post_request(host, path, 5, headers)


class AnswerTests(SynchronousTestCase):
    """`read_answer`."""

    def test_answer(self) -> None:
        """An answer may have more than is needed."""
        self.assertEqual(read_answer(b'{"bytes": 5, "sha256": "ab", "first": null}'), (5, "ab"))

    def test_anything_else(self) -> None:
        """What is no answer of /upload is none."""
        for body in (
            b"",
            b"[]",
            b"5",
            b"{}",
            b'{"bytes": 1.5, "sha256": "a"}',
            b'{"bytes": Infinity}',
            b"\xff",
            b"[" * 8000,
        ):
            self.assertIsNone(read_answer(body))


class ClientTests(SynchronousTestCase):
    """The client, in memory and with the hands on the clock."""

    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.clock.advance(100.0)
        self.timeline = Timeline(Clock(wall=lambda: WALL, monotonic=self.clock.seconds))
        self.endpoint = Endpoint(self.clock)
        self.socket = self.endpoint.socket

    def start(self, size: int = SIZE, timeout: float = 60.0, expect_continue: bool = False) -> Deferred[Upload]:
        self.request = post_request("example.com", "/upload", size, expect_continue=expect_continue)
        coroutine = upload(
            self.clock,
            self.endpoint,
            self.request,
            size=size,
            timeline=self.timeline,
            timeout=timeout,
            expect_continue=expect_continue,
        )
        return Deferred.fromCoroutine(coroutine)

    @property
    def body(self) -> bytes:
        """What the server has received behind the head."""
        return bytes(self.socket.received[len(self.request) :])

    def seconds(self) -> dict[str, float]:
        start = self.timeline.stamps[Phase.START]
        return {phase.value: stamp - start for phase, stamp in self.timeline.stamps.items()}

    def result(self, running: Deferred[Upload]) -> Upload:
        """The result; nothing may be left that could still happen."""
        result = self.successResultOf(running)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertNotIn("writeSomeData", vars(self.socket))
        return result

    def fails(self, running: Deferred[Upload], errorcode: str, outcome: Outcome = Outcome.FAILED) -> Upload:
        result = self.result(running)
        self.assertEqual((result.outcome, result.errorcode), (outcome, errorcode))
        self.assertTrue(result.reason)
        return result

    def test_all_well(self) -> None:
        """Each step has the stamp of the event that it stands for; every byte is counted and hashed."""
        self.socket.room = 0
        running = self.start()
        self.clock.advance(1.0)
        self.endpoint.connected()
        for part in range(11):
            self.clock.advance(1.0)
            self.socket.room = 100_000 if part else len(self.request)
            self.socket.flush()
            self.assertEqual(len(self.body), 100_000 * part)
        self.assertNoResult(running)
        self.clock.advance(1.0)
        self.socket.receive(receipt(self.body)[:10])
        self.clock.advance(1.0)
        self.socket.receive(receipt(self.body)[10:])
        result = self.result(running)
        self.assertEqual(self.seconds(), {"START": 0, "DATAREQUEST": 2, "DATARESPONSE": 13, "DATACOMPLETE": 14})
        self.assertEqual((result.outcome, result.errorcode, result.reason), (Outcome.OK, None, None))
        self.assertEqual(result.status, 200)
        self.assertEqual((result.sentbytes, result.payloadbytes), (SIZE, SIZE))
        self.assertEqual(result.writebytes, len(self.request) + SIZE)
        self.assertEqual(result.readbytes, len(receipt(self.body)))
        self.assertEqual(result.sentperc, {0: WALL + 3, **{n: WALL + 2 + n / 10 for n in range(10, 101, 10)}})
        self.assertEqual((result.sentfirst, result.sentlast), (WALL + 3, WALL + 12))
        self.assertEqual(result.digest, hashlib.sha256(self.body).hexdigest())
        self.assertEqual((result.continued, result.dataperc, result.partial), (None, {}, {}))
        self.assertEqual((result.local, result.remote), (self.socket.getHost(), self.socket.getPeer()))
        self.assertFalse(self.socket.aborted)
        self.socket.room = 1
        self.socket.flush()
        self.assertFalse(self.socket.connected)

    def test_little_is_buffered(self) -> None:
        """However large the body and however slow the socket, little of it is made ahead."""
        self.socket.room = 1000
        running = self.start(size=50 * PIECE)
        self.endpoint.connected()
        while len(self.body) < 50 * PIECE:
            self.socket.room = 300_000
            self.socket.flush()
        self.assertLessEqual(self.socket.most_buffered, 2 * PIECE + 1000)
        self.socket.receive(receipt(self.body))
        self.assertIs(self.result(running).outcome, Outcome.OK)

    @given(
        st.integers(0, 3 * PIECE),
        st.lists(st.integers(1, PIECE), min_size=1, max_size=5),
        st.lists(st.integers(0, 300)),
    )
    def test_any_pieces(self, size: int, rooms: list[int], cuts: list[int]) -> None:
        """In which pieces the socket takes the body and the answer comes makes no difference."""
        self.setUp()
        self.socket.room = 0
        running = self.start(size=size)
        self.endpoint.connected()
        while len(self.body) < size:
            for room in rooms:
                self.socket.room = room + 10_000
                self.socket.flush()
        self.socket.room = PIECE
        self.socket.flush()
        answer = receipt(self.body)
        places = [0, *sorted(cut for cut in cuts if 0 < cut < len(answer)), len(answer)]
        for start, end in pairwise(places):
            if start < end:
                self.socket.receive(answer[start:end])
        result = self.result(running)
        self.assertIs(result.outcome, Outcome.OK)
        self.assertEqual((result.sentbytes, len(self.body)), (size, size))

    def test_nothing(self) -> None:
        """An empty body is complete with its head."""
        running = self.start(size=0)
        self.endpoint.connected()
        self.socket.flush()
        self.socket.receive(receipt(b""))
        result = self.result(running)
        self.assertEqual((result.outcome, result.sentbytes, result.sentfirst), (Outcome.OK, 0, None))

    def test_random(self) -> None:
        """No two uploads send the same."""
        bodies = []
        for _ in range(2):
            self.setUp()
            self.start(size=1000)
            self.endpoint.connected()
            self.socket.flush()
            bodies.append(self.body)
        self.assertNotEqual(*bodies)

    def test_continue(self) -> None:
        """The body waits for 100 Continue, which has a stamp of its own and is no response."""
        for pieces in ([CONTINUE], [CONTINUE[:9], CONTINUE[9:]]):
            self.setUp()
            running = self.start(expect_continue=True)
            self.endpoint.connected()
            self.socket.flush()
            self.assertEqual(self.socket.received, self.request)
            for piece in pieces:
                self.clock.advance(1.0)
                self.socket.receive(piece)
            self.clock.advance(1.0)
            self.socket.flush()
            self.assertEqual(len(self.body), SIZE)
            self.clock.advance(1.0)
            self.socket.receive(receipt(self.body))
            result = self.result(running)
            self.assertIs(result.outcome, Outcome.OK)
            self.assertEqual(result.continued, WALL + len(pieces))
            self.assertEqual(result.sentfirst, WALL + len(pieces) + 1)
            self.assertEqual(self.seconds()["DATARESPONSE"], len(pieces) + 2)

    def test_unasked_continue(self) -> None:
        """A 100 Continue that was not asked for changes nothing."""
        running = self.start()
        self.endpoint.connected()
        self.socket.receive(CONTINUE)
        self.socket.flush()
        self.socket.receive(CONTINUE + receipt(self.body))
        result = self.result(running)
        self.assertEqual((result.outcome, result.continued, len(self.body)), (Outcome.OK, None, SIZE))

    def test_refused(self) -> None:
        """An error response ends it, instead of 100 Continue, right behind it, and in the middle of the body."""
        for expect_continue, answer, sent in (
            (True, response(b"", "413 Too Large"), 0),
            (True, CONTINUE + response(b"", "413 Too Large"), 0),
            (False, response(b"", "413 Too Large"), 200_000),
        ):
            self.setUp()
            running = self.start(expect_continue=expect_continue)
            self.socket.room = len(self.request) + 200_000
            self.endpoint.connected()
            self.socket.flush()
            self.clock.advance(1.0)
            self.socket.receive(answer)
            result = self.fails(running, Error.STATUS)
            self.assertEqual((result.status, result.sentbytes, result.payloadbytes), (413, sent, None))
            self.assertEqual(len(self.body), sent)
            self.assertIsNone(result.sentlast)
            self.assertTrue(self.socket.aborted)
            self.assertEqual(self.seconds()["DATARESPONSE"], 1.0)
            self.assertNotIn("DATACOMPLETE", self.seconds())

    def test_digest(self) -> None:
        """If the server says that it received something else, or answers before the end, that is a failure."""
        for answer, received in (
            (lambda body: receipt(body[:-1] + b"?"), SIZE),
            (lambda body: receipt(body[:-1]), SIZE - 1),
            (lambda body: receipt(body + b"x"), SIZE + 1),
        ):
            self.setUp()
            running = self.start()
            self.endpoint.connected()
            self.socket.flush()
            self.socket.receive(answer(self.body))
            result = self.fails(running, Error.DIGEST)
            self.assertEqual((result.status, result.payloadbytes), (200, received))
            self.assertIn("DATACOMPLETE", self.seconds())
        self.setUp()
        running = self.start()
        self.socket.room = 300_000
        self.endpoint.connected()
        self.socket.flush()
        self.socket.receive(receipt(bytes(SIZE)))
        self.fails(running, Error.DIGEST)

    def test_not_the_answer(self) -> None:
        """A response that is not that of /upload is recognised, and not kept if it is long."""
        for answer, errorcode in (
            (response(b"hello"), Error.HTTP),
            (b"SSH-2.0-OpenSSH\r\n", Error.HTTP),
            (response(b"x" * (ANSWER_LIMIT + 1)), Error.LONG),
            (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (ANSWER_LIMIT + 1), Error.LONG),
        ):
            self.setUp()
            running = self.start(size=1000)
            self.endpoint.connected()
            self.socket.flush()
            self.socket.receive(answer)
            self.fails(running, errorcode)

    def test_deadline(self) -> None:
        """The one deadline counts from START; a body that no longer moves has stalled."""
        for room, timeout, last, errorcode, word in (
            (0, 10.0, 0.0, Error.TIMEOUT, "no response"),
            (200_000, 200.0, 170.0, Error.STALL, "taken by the socket"),
            (200_000, 200.0, 170.5, Error.TIMEOUT, "taken by the socket"),
            (SIZE, 10.0, 1.0, Error.STALL, f"{SIZE} of {SIZE}"),
        ):
            with self.subTest(room=room, last=last):
                self.setUp()
                running = self.start(timeout=timeout)
                self.socket.room = len(self.request)
                self.endpoint.connected()
                self.socket.flush()
                self.clock.advance(last)
                self.socket.room = room
                self.socket.flush()
                self.clock.advance(timeout - last - 0.1)
                self.assertNoResult(running)
                self.clock.advance(0.2)
                result = self.fails(running, errorcode, Outcome.TIMEOUT)
                self.assertIn(word, result.reason or "")
                self.assertEqual(result.sentbytes, room)
                self.assertTrue(self.socket.aborted)

    def test_no_connection(self) -> None:
        """Without a connection nothing was counted."""
        running = self.start(timeout=5.0)
        self.clock.advance(5.0)
        result = self.fails(running, Error.TIMEOUT, Outcome.TIMEOUT)
        self.assertEqual((result.sentbytes, result.writebytes, result.payloadbytes), (None, None, None))
        self.assertTrue(self.endpoint.cancelled)
        self.endpoint.connected()
        self.assertTrue(self.socket.aborted)

    def test_cancelled(self) -> None:
        """Cancelling at any moment closes the connection and is an outcome, with the progress so far."""
        for room in (0, 200, 200_000, 2 * SIZE):
            self.setUp()
            running = self.start()
            self.socket.room = room
            self.endpoint.connected()
            self.socket.flush()
            running.cancel()
            result = self.fails(running, Error.STOPPED, Outcome.CANCELLED)
            self.assertEqual(result.writebytes, len(self.socket.received))
            self.assertTrue(self.socket.aborted)

    def test_connection_lost(self) -> None:
        """Reset and close are told apart, and keep the progress."""
        for reason, errorcode in ((error.ConnectionLost(), Error.RESET), (error.ConnectionDone(), Error.CLOSED)):
            self.setUp()
            running = self.start()
            self.endpoint.connected()
            self.socket.room = 250_000
            self.socket.flush()
            self.socket.connectionLost(Failure(reason))
            result = self.fails(running, errorcode)
            self.assertEqual(max(result.sentperc), 20)

    def test_broken(self) -> None:
        """A socket that fails when it is written to is a reset connection."""
        running = self.start()
        self.endpoint.connected()
        self.socket.broken = True
        self.socket.flush()
        self.fails(running, Error.RESET)


class Reader(Protocol):
    """A server that reads ``limit`` bytes and then does ``behaviour``."""

    transport: Any

    def __init__(self, limit: int, behaviour: Callable[[Any], None], lost: Deferred[None]) -> None:
        self._limit = limit
        self._behaviour = behaviour
        self._lost = lost

    def dataReceived(self, data: bytes) -> None:
        before, self._limit = self._limit, self._limit - len(data)
        if self._limit <= 0 < before:
            self._behaviour(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost.callback(None)


class LoopbackTests(TestCase):
    """The client over real sockets."""

    timeout = 60

    def listen(self, factory: Any) -> int:
        port = global_reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return port.getHost().port

    def site(self, max_size: int = 2**30) -> int:
        """The port of our own server."""
        self.stamps = ServerStamps(Clock().monotonic)
        resources = {"upload": UploadPage(max_size, Clock())}
        return self.listen(make_site(resources, reactor=global_reactor, stamps=self.stamps))

    async def send(
        self, port: int, size: int = SIZE, timeout: float = 40.0, *, expect_continue: bool = False
    ) -> tuple[Upload, Timeline]:
        headers = {"X-Perfd-Measurement": "ours"}
        timeline = Timeline(Clock())
        result = await upload(
            global_reactor,
            TCP4ClientEndpoint(global_reactor, "127.0.0.1", port),
            post_request(f"127.0.0.1:{port}", "/upload", size, headers, expect_continue=expect_continue),
            size=size,
            timeline=timeline,
            timeout=timeout,
            expect_continue=expect_continue,
        )
        return result, timeline

    async def test_our_server(self) -> None:
        """Client and server agree on bytes and digest, and their stamps are in the order of what happens."""
        port = self.site()
        for size, expect_continue in ((0, False), (1, True), (51200, False), (20 * 2**20, False), (SIZE, True)):
            with self.subTest(size=size, expect_continue=expect_continue):
                self.stamps.expect("ours")
                result, timeline = await self.send(port, size, expect_continue=expect_continue)
                self.assertEqual((result.outcome, result.reason), (Outcome.OK, None))
                served = self.stamps.take("ours")
                received = served.received
                self.assertEqual((result.payloadbytes, result.status), (size, 200))
                if not size:
                    continue
                assert received is not None
                self.assertEqual((received.count, received.digest), (size, result.digest))
                epoch = timeline.anchor.epoch
                steps = [timeline.epoch(Phase.DATAREQUEST), epoch(served.request), result.continued]
                steps += [result.sentfirst] if expect_continue else []
                steps += [epoch(received.first), epoch(received.last), epoch(served.response)]
                steps += [timeline.epoch(Phase.DATARESPONSE), timeline.epoch(Phase.DATACOMPLETE)]
                known = [step for step in steps if step is not None]
                self.assertEqual(known, sorted(known))
                self.assertEqual(sorted(received.dataperc), list(range(0, 101, 10)))
                self.assertLessEqual(result.sentfirst, epoch(received.first) + 0.01)
                self.assertEqual(result.continued is not None, expect_continue)

    async def test_too_large(self) -> None:
        """A refusal is heard though the body is being sent, however much of it there is."""
        port = self.site(max_size=1000)
        for expect_continue in (False, True):
            result, _ = await self.send(port, 200 * 2**20, expect_continue=expect_continue)
            self.assertEqual((result.outcome, result.errorcode, result.status), (Outcome.FAILED, Error.STATUS, 413))
            self.assertIsNone(result.sentlast)

    async def test_hostile(self) -> None:
        """Servers that do what servers must not do are told apart, and their connections closed."""
        for limit, behaviour, timeout, outcome, errorcode in (
            (1, lambda transport: transport.abortConnection(), 30.0, Outcome.FAILED, Error.RESET),
            (200_000, lambda transport: transport.abortConnection(), 30.0, Outcome.FAILED, Error.RESET),
            (1, lambda transport: transport.loseWriteConnection(), 30.0, Outcome.FAILED, Error.CLOSED),
            (1, lambda transport: transport.pauseProducing(), 2.0, Outcome.TIMEOUT, Error.STALL),
            (SIZE, lambda transport: None, 2.0, Outcome.TIMEOUT, Error.STALL),
            (1, lambda transport: transport.write(b"\x00" * 100), 30.0, Outcome.FAILED, Error.HTTP),
            (1, lambda transport: transport.write(CONTINUE * 1000), 30.0, Outcome.FAILED, Error.HTTP),
            (1, lambda transport: transport.write(response(b"no")), 30.0, Outcome.FAILED, Error.HTTP),
            (1, lambda transport: transport.write(receipt(b"")), 30.0, Outcome.FAILED, Error.DIGEST),
        ):
            with self.subTest(limit=limit, errorcode=errorcode):
                lost: Deferred[None] = Deferred()
                # The reactor forgets a paused one, whose socket then closes.
                reader = Reader(limit, behaviour, lost)
                port = self.listen(Factory.forProtocol(lambda r=reader: r))
                result, _ = await self.send(port, 20 * SIZE if limit < SIZE else SIZE, timeout)
                self.assertEqual((result.outcome, result.errorcode), (outcome, errorcode), result.reason)
                if behaviour.__code__.co_names != ("pauseProducing",):
                    await lost

    async def test_cancelled(self) -> None:
        """Cancelling closes a real connection."""
        lost: Deferred[None] = Deferred()
        port = self.listen(Factory.forProtocol(lambda: Reader(1, lambda _: running.cancel(), lost)))
        running = Deferred.fromCoroutine(self.send(port, 20 * SIZE))
        result, _ = await running
        self.assertEqual((result.outcome, result.errorcode), (Outcome.CANCELLED, Error.STOPPED))
        await lost
        self.assertIsInstance(result.local, IPv4Address)
