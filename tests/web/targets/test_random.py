"""``/random/SIZE`` over a socket in memory: the bytes, bad requests, and how little is buffered."""

from __future__ import annotations

import json
import zlib

from twisted.internet import main
from twisted.python.failure import Failure

from perfd.web.targets.random import random_resources
from perfd.wire import keystream
from perfd.wire.keystream import PIECE, Keystream
from tests.support.web_client import GIB, LIMIT, SiteTestCase, get


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

    def test_max_size(self) -> None:
        """Aliases are no way round the largest size, whether the body is asked for or the head."""
        for max_size, status in ((5242880, 200), (5242879, 413), (51200, 413)):
            self.site = self.make(children=random_resources(max_size))
            for method in ("GET", "HEAD"):
                self.assertEqual(self.ask(get("/.5mbfile", method=method))[0], status)
            self.assertEqual(self.ask(get("/.50kbfile"))[0], 200)
        self.assertIn("50 KiB", self.fails(get("/.1mbfile"), 413))

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
        self.patch(keystream, "REKEY_AFTER", 3 * PIECE)
        stream = Keystream()
        taken = b"".join(stream.take(size) for size in [PIECE, 16, PIECE - 16, 51200, 51200, 51200] * 5)
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
        self.assertEqual((status, json.loads(body)["resources"]), (200, ["/random", "/urandom"]))


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
