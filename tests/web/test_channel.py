"""Requests in all forms that RFC 9112 has, and clients that close their side."""

from __future__ import annotations

import json
import socket as sockets

from twisted.internet import reactor as global_reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import IResource, Resource

from perfd.clock import Clock
from perfd.web.channel import MOST_EMPTY_LINES
from perfd.web.request import Request, json_body
from perfd.web.site import make_site
from perfd.web.stamps import ServerStamps
from perfd.web.targets.random import random_resources
from perfd.web.targets.upload import UploadPage
from tests.support.web_client import LIMIT, SiteTestCase, get


class Echoed(Resource):
    """Answers with what it was asked."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        below = [each.decode() for each in request.postpath or ()]
        args = {name.decode(): values[-1].decode() for name, values in request.args.items()}
        return json_body(request, {"host": request.getHeader("host"), "below": below, "args": args})


class HeadTests(SiteTestCase):
    """What is in the head of a request."""

    def children(self) -> dict[str, IResource]:
        return {**super().children(), "echoed": Echoed(), "upload": UploadPage(LIMIT, Clock())}

    def test_absolute_form(self) -> None:
        """The host of the target is the host that is asked, whatever Host says; a path may be missing."""
        for target, host, below, args in (
            ("http://a.example/echoed/b", "a.example", ["b"], {}),
            ("HTTP://a.example:8080/echoed?c=d", "a.example:8080", [], {"c": "d"}),
            ("https://[::1]:80/echoed/b/?c=http://x/y", "[::1]:80", ["b", ""], {"c": "http://x/y"}),
        ):
            status, _, body = self.ask(get(target))
            self.assertEqual((status, json.loads(body)), (200, {"host": host, "below": below, "args": args}))
        for target in ("http://a.example", "http://a.example?x=y"):
            self.assertIn("/random", json.loads(self.ask(get(target))[2])["resources"])
        for target in ("http:///echoed", "http://user@a.example/echoed", "http://a b/"):
            self.fails(get(target), 400)
        body = b"x" * 10
        status, _, answer = self.ask(
            get("http://a.example/upload", f"Content-Length: {len(body)}", method="POST") + body
        )
        self.assertEqual((status, json.loads(answer)["bytes"]), (200, 10))

    def test_host(self) -> None:
        """HTTP/1.1 has one Host, which may be empty; 1.0 can do without; nobody can have two, or nonsense."""
        for headers, status in (
            ("Host: a.example:80", 200),
            ("Host: [2001:db8::1]", 200),
            ("Host:", 200),
            ("X: y", 400),
            ("Host: a\r\nHost: a", 400),
            ("Host: a b", 400),
            ("Host: a/b", 400),
            ("Host: a:b", 400),
        ):
            for method in ("GET", "HEAD"):
                request = f"{method} /echoed HTTP/1.1\r\n{headers}\r\n\r\n".encode()
                with self.subTest(request=request):
                    self.assertEqual(self.ask(request)[0], status)
        self.assertEqual(self.ask(b"GET /echoed HTTP/1.0\r\n\r\n")[0], 200)
        self.assertEqual(self.ask(b"GET /echoed HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n")[0], 400)
        self.assertIn("Host", self.fails(b"POST /upload HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 400))

    def test_bare_line_feeds(self) -> None:
        """Lines may end in LF alone, also some of them, in any pieces."""
        for request in (
            b"GET /echoed HTTP/1.1\nHost: a\n\n",
            b"GET /echoed HTTP/1.1\r\nHost: a\n\r\n",
            b"\nGET /echoed HTTP/1.1\nHost: a\r\n\n",
        ):
            for pieces in ([request], [request[n : n + 1] for n in range(len(request))]):
                self.assertEqual(self.ask(*pieces)[0], 200)
        self.assertEqual(self.ask(b"GET /echoed HTTP/1.1\nHost: a\nX: a\rb\n\n")[0], 400)

    def test_refused_once(self) -> None:
        """What follows a head that was refused is no request."""
        socket = self.open()
        socket.receive(b"GET /echoed HTTP/1.1\r\n\r\n" + get("/random/5") * 2)
        socket.flush()
        self.assertEqual(socket.received.count(b"HTTP/1.1 "), 1)
        self.assertTrue(socket.shut)


class HalfClosedTests(SiteTestCase):
    """Clients that have said all that they will say."""

    def children(self) -> dict[str, IResource]:
        return {**super().children(), "upload": UploadPage(LIMIT, Clock())}

    def test_whole_answer(self) -> None:
        """A client that closes its side behind its request gets all of the answer, and then the end."""
        for size in (5, 200_000, 5_000_000):
            socket = self.open()
            socket.room = 100
            socket.receive(get(f"/random/{size}"))
            socket.shut_down()
            socket.room = LIMIT
            socket.flush()
            self.assertEqual((len(self.read(socket)[2]), socket.connected), (size, 0))

    def test_answered(self) -> None:
        """One that closes its side while its answer is on the way, or after that, is done."""
        socket = self.open()
        socket.receive(get("/random/5"))
        socket.flush()
        socket.shut_down()
        socket.flush()
        self.assertFalse(socket.connected)

    def test_incomplete(self) -> None:
        """Nobody waits for the rest of a head or of a body that will not come, nor after a refusal."""
        for said in (
            b"",
            b"GET /ra",
            get("/upload", "Content-Length: 10", method="POST") + b"abc",
            get("/random/5", "Content-Length: 10", method="POST") + b"abc",
        ):
            socket = self.open()
            socket.receive(said)
            socket.flush()
            socket.shut_down()
            socket.flush()
            self.assertFalse(socket.connected)

    def test_empty_lines(self) -> None:
        """Some before a request are passed over, also between two; an endless number is no request."""
        for empty in (b"\r\n", b"\r\n\r\n", b"\n\n\n"):
            socket = self.open()
            for _ in range(2):
                socket.receive(empty + get("/random/5"))
                self.assertEqual(self.read(socket)[0], 200)
        socket = self.open()
        socket.receive(b"\r\n" * (MOST_EMPTY_LINES + 3))
        socket.flush()
        self.assertEqual(self.read(socket)[0], 400)


class LoopbackTests(TestCase):
    """The same over a real socket."""

    timeout = 30

    async def test_incomplete_body(self) -> None:
        """Who ends in the middle of a body is told so, without a reset."""
        resources = {"upload": UploadPage(LIMIT, Clock())}
        site = make_site(resources, reactor=global_reactor, stamps=ServerStamps(Clock().monotonic))
        port = global_reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)

        def upload() -> bytes:
            with sockets.create_connection(("127.0.0.1", port.getHost().port), timeout=20) as connection:
                connection.sendall(get("/upload", "Content-Length: 10", method="POST") + b"abc")
                connection.shutdown(sockets.SHUT_WR)
                said = b""
                while data := connection.recv(65536):
                    said += data
                return said

        said = await deferToThread(upload)
        self.assertTrue(said.startswith(b"HTTP/1.1 400 "), said)
        self.assertIn(b"ended before it was complete", said)

    async def test_half_closed(self) -> None:
        """5 MiB come whole after the client has closed its side, and the connection ends."""
        site = make_site(random_resources(LIMIT), reactor=global_reactor, stamps=ServerStamps(Clock().monotonic))
        port = global_reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)

        def download() -> int:
            with sockets.create_connection(("127.0.0.1", port.getHost().port), timeout=20) as connection:
                connection.sendall(get("/.5mbfile"))
                connection.shutdown(sockets.SHUT_WR)
                count = 0
                while data := connection.recv(65536):
                    count += len(data)
                return count

        self.assertGreater(await deferToThread(download), 5242880)
