"""``/upload`` over a socket in memory: what it answers and refuses, how slow a client may be, and its stamps."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import main
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from perfd.clock import Clock
from perfd.web.receiving import DRAIN, GRACE
from perfd.web.site import Site
from perfd.web.stamps import Served
from perfd.web.targets.upload import UploadPage
from tests.support.web_client import SiteTestCase, Socket, get

MAX_SIZE = 10 * 2**20
BODY = bytes(range(256)) * 200
WALL = 1_000_000.0


def post(size: int | None = len(BODY), *headers: str, path: str = "/upload") -> bytes:
    """The head of an upload of ``size`` bytes."""
    length = [] if size is None else [f"Content-Length: {size}"]
    return get(path, *length, *headers, method="POST")


class UploadTestCase(SiteTestCase):
    """A site that takes uploads."""

    def children(self) -> dict[str, IResource]:
        clock = Clock(wall=lambda: WALL + self.reactor.seconds(), monotonic=self.reactor.seconds)
        return {**super().children(), "upload": UploadPage(MAX_SIZE, clock)}

    def wait(self, seconds: float) -> None:
        self.reactor.pump([0.5] * int(seconds * 2))

    def answer(self, socket: Socket) -> dict[str, Any]:
        """The answer to an upload that was received."""
        socket.flush()
        status, headers, body = self.read(socket)
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        document: dict[str, Any] = json.loads(body)
        return document

    def refused(self, socket: Socket, status: int) -> str:
        """The message with which an upload was refused."""
        socket.flush()
        answered, headers, body = self.read(socket)
        self.assertEqual((answered, int(headers["Content-Length"])), (status, len(body)))
        self.assertEqual(json.loads(body)["error"]["status"], status)
        message: str = json.loads(body)["error"]["message"]
        return message


class AnswerTests(UploadTestCase):
    """Uploads that are received."""

    def test_stamps(self) -> None:
        """The answer counts, hashes, and tells when the bytes came, since the head was complete."""
        socket = self.open()
        self.reactor.advance(1.0)
        socket.receive(post()[:20])
        self.reactor.advance(1.0)
        socket.receive(post()[20:])
        for place in range(0, len(BODY), 5120):
            self.reactor.advance(0.25)
            socket.receive(BODY[place : place + 5120])
        self.assertEqual(
            self.answer(socket),
            {
                "bytes": len(BODY),
                "sha256": hashlib.sha256(BODY).hexdigest(),
                "request": None,
                "first": 0.25,
                "last": 2.5,
                "dataperc": {"0": 0.25, **{str(n): n / 40 for n in range(10, 101, 10)}},
            },
        )

    @given(st.lists(st.integers(0, 3000)), st.booleans())
    def test_any_pieces(self, cuts: list[int], pipelined: bool) -> None:
        """How the request is cut into pieces makes no difference, and what follows it is not of the body."""
        body = BODY[:2800]
        data = post(len(body)) + body + b"GET / HTTP/1.1\r\n\r\n" * pipelined
        places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
        socket = self.open()
        for start, end in pairwise(places):
            if start < end:
                socket.receive(data[start:end])
        answer = self.answer(socket)
        self.assertEqual((answer["bytes"], answer["sha256"]), (len(body), hashlib.sha256(body).hexdigest()))
        self.assertEqual(list(answer["dataperc"]), [str(n) for n in range(0, 101, 10)])

    def test_nothing(self) -> None:
        """An empty upload is one too: it has a digest and no times."""
        socket = self.open()
        socket.receive(post(0))
        answer = self.answer(socket)
        self.assertEqual((answer["bytes"], answer["sha256"]), (0, hashlib.sha256().hexdigest()))
        self.assertEqual((answer["first"], answer["last"], answer["dataperc"]), (None, None, {}))

    def test_largest(self) -> None:
        """As many bytes as the server's max-size can be sent, and none of them is kept."""
        socket = self.open()
        socket.receive(post(MAX_SIZE))
        piece = bytes(2**16)
        for _ in range(MAX_SIZE // 2**16):
            socket.receive(piece)
            self.assertLessEqual(len(socket.protocol._buffer), 0)
        self.assertEqual(self.answer(socket)["bytes"], MAX_SIZE)

    def test_keep_alive(self) -> None:
        """A connection can be used for more uploads, and for other requests."""
        socket = self.open()
        for _ in range(3):
            socket.received.clear()
            socket.receive(post() + BODY)
            self.assertEqual(self.answer(socket)["bytes"], len(BODY))
            socket.received.clear()
            socket.receive(get("/random/5"))
            socket.flush()
            self.assertEqual(len(self.read(socket)[2]), 5)

    def test_pipelined(self) -> None:
        """A request right behind the body is not answered: the connection ends with the answer to the upload."""
        for request in (post() + BODY + get("/random/5"), post(0) + get("/random/5")):
            socket = self.open()
            socket.receive(request)
            socket.flush()
            _, headers, body = self.read(socket)
            self.assertEqual((headers["Connection"], socket.connected), ("close", 0))
            self.assertIn("sha256", json.loads(body))

    def test_continue(self) -> None:
        """A client that waits for it is told to go on, at once; one that does not wait is fine too."""
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        for at_once in (False, True):
            socket = self.open()
            head = post(len(BODY), "Expect: 100-continue")
            socket.receive(head + BODY if at_once else head)
            self.assertTrue(socket.received.startswith(interim))
            if not at_once:
                self.assertEqual(socket.received, interim)
                socket.receive(BODY)
            socket.flush()
            del socket.received[: len(interim)]
            self.assertEqual(self.answer(socket)["bytes"], len(BODY))

    def test_form(self) -> None:
        """What the body is said to be makes no difference."""
        for kind in ("multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/plain"):
            socket = self.open()
            socket.receive(post(3, f"Content-Type: {kind}") + b"a=b")
            self.assertEqual(self.answer(socket)["bytes"], 3)


class RefusalTests(UploadTestCase):
    """Uploads that are refused."""

    def test_heads(self) -> None:
        """What cannot be taken is refused when the head is there, with a reason, and not asked to continue."""
        for head, status, word in (
            (post(None), 411, "Content-Length"),
            (post(None, "Transfer-Encoding: chunked"), 411, "Content-Length"),
            (post(MAX_SIZE + 1), 413, "10 MiB"),
            (post(MAX_SIZE + 1, "Expect: 100-continue"), 413, "10 MiB"),
            (post(None, "Transfer-Encoding: chunked", "Expect: 100-continue"), 411, "Content-Length"),
            (post(5, path="/upload/more"), 413, "bodies"),
            (post(0, path="/upload/more"), 404, "below"),
            (post(5, path="/random/5"), 413, "bodies"),
            (get("/upload", "Content-Length: 5", method="PUT"), 405, "POST"),
            (get("/upload", "Transfer-Encoding: chunked", method="TRACE"), 405, "POST"),
            (get("/upload", method="PUT"), 405, "POST"),
            (get("/upload"), 405, "POST"),
        ):
            with self.subTest(head=head):
                self.assertIn(word, self.fails(head, status))
        self.assertEqual(self.ask(get("/upload", method="HEAD"))[0], 405)
        for headers in ([], ["Content-Length: 5"]):
            self.assertEqual(self.ask(get("/upload", *headers))[1]["Allow"], "POST")

    def test_lengths(self) -> None:
        """A Content-Length that is no number, or two, or too many digits, is refused."""
        for headers in (
            ["Content-Length: -1"],
            ["Content-Length: 5", "Content-Length: 6"],
            ["Content-Length: 1e3"],
        ):
            self.assertEqual(self.ask(get("/upload", *headers, method="POST"))[0], 400)
        self.assertEqual(self.ask(post(None, "Content-Length: " + "9" * 5000))[0], 400)
        self.assertEqual(self.ask(post(5, "Transfer-Encoding: chunked"))[0], 400)

    def test_drained(self) -> None:
        """Who sends on after a refusal can read it, is read for a while, and is then cut off."""
        for first in (post(MAX_SIZE + 1) + BODY, post(None, "Transfer-Encoding: chunked") + BODY):
            with self.subTest(first=first[:80]):
                socket = self.open()
                socket.receive(first)
                self.refused(socket, 413 if b"chunked" not in first else 411)
                self.assertTrue(socket.shut)
                sent = len(BODY)
                while socket.connected and sent < 10 * DRAIN:
                    socket.receive(BODY)
                    sent += len(BODY)
                self.assertTrue(socket.aborted)
                self.assertLessEqual(sent, DRAIN + 2 * len(BODY))

    def test_drained_slowly(self) -> None:
        """A refused client that stays is cut off after some seconds, however it trickles."""
        socket = self.open()
        socket.receive(post(MAX_SIZE + 1))
        self.refused(socket, 413)
        for _ in range(9):
            self.wait(1.0)
            socket.receive(b"x")
        self.assertTrue(socket.connected)
        self.wait(3.0)
        self.assertTrue(socket.aborted)

    def test_refused_and_gone(self) -> None:
        """A refused client that closes leaves nothing behind."""
        socket = self.open()
        socket.receive(post(MAX_SIZE + 1))
        self.refused(socket, 413)
        socket.connectionLost(Failure(main.CONNECTION_DONE))
        self.wait(2.0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_too_many(self) -> None:
        """Where strangers fill the server, only a measurement's upload is taken, and no other cuts it off."""
        self.site = self.make(max_connections=1)
        busy = self.open(peer="192.0.2.1")
        busy.receive(post(len(BODY)) + BODY[:1])
        stranger = self.open(peer="192.0.2.1")
        stranger.receive(post())
        self.assertIn("too many connections", self.refused(stranger, 503))
        self.stamps.expect("ours")
        ours = self.open(peer="192.0.2.1")
        ours.receive(post(len(BODY), "X-Perfd-Measurement: ours"))
        self.wait(5.0)
        self.open(peer="192.0.2.1").receive(post() + BODY)
        self.assertEqual((busy.aborted, ours.aborted), (True, False))
        ours.receive(BODY)
        self.assertEqual(self.answer(ours)["bytes"], len(BODY))


class SlowTests(UploadTestCase):
    """Clients that take their time."""

    def make(self, **limits: Any) -> Site:
        return super().make(**{"head_timeout": 10.0, "idle_timeout": 300.0} | limits)

    def trickle(self, socket: Socket, piece: bytes, seconds: float) -> None:
        """Send ``piece`` each second for so long, or until it is over."""
        for _ in range(int(seconds)):
            if not socket.shut:
                socket.receive(piece)
            self.wait(1.0)

    def test_slow_loris(self) -> None:
        """Trickled bytes keep an upload alive for the grace and no longer; it is told, and then closed."""
        socket = self.open()
        socket.receive(post(MAX_SIZE))
        self.trickle(socket, b"x", GRACE - 2)
        socket.flush()
        self.assertEqual(socket.received, b"")
        self.trickle(socket, b"x", 4)
        self.assertIn("slowly", self.refused(socket, 408))
        self.assertTrue(socket.shut)
        self.wait(12.0)
        self.assertTrue(socket.aborted)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_slow(self) -> None:
        """More than 1 kB/s is fast enough, for as long as it takes."""
        socket = self.open()
        socket.receive(post(600_000))
        self.trickle(socket, bytes(1100), 545)
        self.assertTrue(socket.connected)
        socket.receive(bytes(500))
        self.assertEqual(self.answer(socket)["bytes"], 600_000)

    def test_stalled(self) -> None:
        """However much came, nothing more for the idle time ends it, also for a client that had an answer."""
        socket = self.open()
        socket.receive(get("/random/5"))
        socket.flush()
        socket.received.clear()
        socket.receive(post(MAX_SIZE) + bytes(2**20))
        self.wait(298.0)
        socket.flush()
        self.assertEqual((socket.connected, socket.received), (1, b""))
        self.wait(4.0)
        self.refused(socket, 408)

    def test_measurement(self) -> None:
        """A measurement has its own deadline, so a stall is measured, not cut off; only silence can be too long."""
        self.stamps.expect("ours")
        socket = self.open()
        socket.receive(post(1000, "X-Perfd-Measurement: ours"))
        for _ in range(4):
            self.wait(250.0)
            socket.receive(bytes(200))
        self.wait(250.0)
        socket.receive(bytes(200))
        self.assertEqual(self.answer(socket)["last"], 1250.0)
        self.stamps.expect("silent")
        silent = self.open()
        silent.receive(post(1000, "X-Perfd-Measurement: silent"))
        self.wait(302.0)
        self.refused(silent, 408)

    def test_slow_head(self) -> None:
        """The head's deadline is that of all requests."""
        socket = self.open()
        socket.receive(post()[:30])
        self.wait(12.0)
        self.assertTrue(socket.aborted)

    def test_gone(self) -> None:
        """A client that goes in the middle of the body, or a site that stops, leaves nothing behind."""
        for stops in (False, True):
            socket = self.open()
            socket.receive(post() + BODY[:100])
            if stops:
                self.site.stopFactory()
            else:
                socket.connectionLost(Failure(main.CONNECTION_LOST))
            self.wait(2.0)
            self.assertEqual(self.reactor.getDelayedCalls(), [])
            self.assertEqual(self.ask(post() + BODY)[0], 200)


class StampTests(UploadTestCase):
    """What a measurement gets to know in the same process."""

    def setUp(self) -> None:
        super().setUp()
        self.stamps.expect("ours")
        self.socket = self.open()
        self.reactor.advance(1.0)
        self.socket.receive(post(20480, "X-Perfd-Measurement: ours", "Expect: 100-continue"))

    def test_whole(self) -> None:
        """Head, body and answer have their stamps; 100 Continue is no part of the answer."""
        for _ in range(2):
            self.reactor.advance(1.0)
            self.socket.receive(BODY[:10240])
        self.socket.received.clear()
        self.assertEqual(self.stamps.claim("ours"), None)
        served = self.stamps.take("ours")
        self.assertEqual((served.request, served.response, served.complete), (1.0, 3.0, 3.0))
        received = served.received
        assert received is not None
        self.assertEqual((received.size, received.count), (20480, 20480))
        self.assertEqual((received.first, received.last), (2.0, 3.0))
        self.assertEqual(received.partial, {10240: 2.0, 20480: 3.0})
        self.assertEqual(received.dataperc, {n: 2.0 if n <= 50 else 3.0 for n in range(0, 101, 10)})
        self.assertEqual(received.digest, hashlib.sha256(BODY[:10240] * 2).hexdigest())

    def test_answer(self) -> None:
        """The answer to a measurement has the time of its head since the epoch."""
        self.reactor.advance(5.0)
        self.socket.receive(BODY[:20480])
        del self.socket.received[: self.socket.received.index(b"\r\n\r\n") + 4]
        answer = self.answer(self.socket)
        self.assertEqual((answer["request"], answer["first"]), (WALL + 1.0, 5.0))

    def test_unfinished(self) -> None:
        """What was taken in the middle is what had come by then, and stays so."""
        self.socket.receive(BODY[:10240])
        received = self.stamps.take("ours").received
        assert received is not None
        self.socket.receive(BODY[:10240])
        self.assertEqual((received.count, received.last, received.digest), (10240, None, None))
        self.assertEqual(max(received.dataperc), 50)
        self.assertEqual(list(received.partial), [10240])
        self.assertEqual(self.stamps.take("ours"), Served())

    def test_refused(self) -> None:
        """A measurement's upload that is refused has the stamp of its head and no body."""
        self.stamps.expect("large")
        socket = self.open()
        socket.receive(post(MAX_SIZE + 1, "X-Perfd-Measurement: large"))
        self.refused(socket, 413)
        self.assertEqual(self.stamps.take("large"), Served(request=1.0))
