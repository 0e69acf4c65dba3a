"""Targets elsewhere, in memory: requests, redirects, pauses, keys."""

from __future__ import annotations

from perfd import __version__
from perfd.experiments.target import redirected
from perfd.formats.published import is_plain
from perfd.record import REQUEST, Error, Measurement, Outcome
from perfd.variant import Variant
from tests.support.experiments import ExperimentCase
from tests.support.scripted import WALL

URL = "http://example.org/file?a=b"
MOVED = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {}\r\n\r\n"


class VisitTests(ExperimentCase):
    """Downloads and series with ``url``."""

    def lines(self, number: int = 0) -> list[str]:
        """The request over a connection."""
        text: str = self.connections[number].transport.value().decode()
        return text.split("\r\n")

    def answer(self, number: int, body: bytes = b"12345") -> None:
        self.connections[number].open()
        self.connections[number].respond_with(body)

    def test_download(self) -> None:
        """An honest request that tells nothing of us but who we are, and a record with what came."""
        running = self.bench.run(self.bench.experiment(f"url = {URL}"))
        self.answer(0)
        m = self.result(running)
        self.assertEqual((m.outcome, m.server, m.payloadbytes, m.filesize), (Outcome.OK, "url", 5, 0))
        self.assertEqual(sorted(m.dataperc), list(range(0, 101, 10)))
        self.assertEqual((m.hostnameremote, m.endpointremote), ("example.org", "example.org:0.0.0.0:80"))
        self.assertEqual(dict(m.extra), {"URL": URL, "STAMPS": "user"})
        self.assertEqual(self.connections[0].place, ("example.org", 80))
        lines = self.lines()
        self.assertEqual(lines[0], "GET /file?a=b HTTP/1.1")
        self.assertIn("Host: example.org", lines)
        self.assertIn(f"User-Agent: perfd/{__version__} (+me@example.org)", lines)
        self.assertNotIn(m.id, "".join(lines))
        self.assertEqual(Variant.of(m).url, URL)
        self.assertFalse(is_plain(m))

    def test_skipped(self) -> None:
        """A slot without a run is one of the same variant."""
        self.tor.not_ready = "bootstrapping"
        m = self.result(self.bench.run(self.bench.experiment(f"url = {URL}\nmethod = HEAD")))
        self.assertEqual((m.outcome, dict(m.extra)), (Outcome.SKIPPED, {"URL": URL, "METHOD": "HEAD"}))

    def test_ports_and_names(self) -> None:
        """The Host header has the port if it is not the scheme's; names and paths are as the wire has them."""
        for number, (url, host, place, path) in enumerate(
            (
                ("http://example.org:8080", "example.org:8080", ("example.org", 8080), "/"),
                ("http://[::1]:80/?q", "[::1]", ("::1", 80), "/?q"),
                (
                    "http://bücher.example/ä%20b",
                    "xn--bcher-kva.example",
                    ("xn--bcher-kva.example", 80),
                    "/%C3%A4%20b",
                ),
            )
        ):
            running = self.bench.run(self.bench.experiment(f"url = {url}"))
            self.answer(number)
            self.assertEqual(self.result(running).outcome, Outcome.OK)
            self.assertIn(f"Host: {host}", self.lines(number))
            self.assertEqual(self.lines(number)[0], f"GET {path} HTTP/1.1")
            self.assertEqual(self.connections[number].place, place)

    def test_expectations(self) -> None:
        """What is not as expected has failed."""
        for number, (options, errorcode) in enumerate(
            (
                ("size = 5", None),
                ("size = 6", Error.SHORT),
                ("size-limit = 4", Error.LONG),
                ("expect-status = 206", Error.STATUS),
                (f"expect-digest = {'0' * 64}", Error.DIGEST),
            )
        ):
            running = self.bench.run(self.bench.experiment(f"url = http://host{number}.example/\n{options}"))
            self.answer(number)
            self.assertEqual(self.result(running).errorcode, errorcode, options)

    def test_head(self) -> None:
        """HEAD is answered without a payload."""
        running = self.bench.run(self.bench.experiment(f"url = {URL}\nmethod = HEAD\nsize = 5"))
        self.connections[0].open()
        self.connections[0].receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        m = self.result(running)
        self.assertEqual((m.outcome, m.payloadbytes, m.filesize, m.extra["METHOD"]), (Outcome.OK, 0, 5, "HEAD"))
        self.assertEqual(self.lines()[0], "HEAD /file?a=b HTTP/1.1")
        self.assertEqual(m.dataperc, {})

    def redirect(self, number: int, location: str) -> None:
        self.connections[number].open()
        self.connections[number].receive(MOVED.format(location).encode())

    def test_redirects(self) -> None:
        """They are followed over connections that are isolated alike; START stays that of the first request."""
        running = self.bench.run(self.bench.experiment(f"url = {URL}\nredirects = 2"))
        self.reactor.advance(1.0)
        self.redirect(0, "/next")
        self.reactor.advance(1.0)
        self.redirect(1, "http://other.example:81/last#part")
        self.reactor.advance(1.0)
        self.answer(2)
        m = self.result(running)
        self.assertEqual((m.outcome, m.start, m.dataresponse), (Outcome.OK, WALL, WALL + 3.0))
        self.assertEqual(m.extra["REDIRECTS"], 2)
        self.assertEqual(m.extra["REDIRECTEDTO"], "http://other.example:81/last")
        self.assertEqual((m.extra["REDIRECTED"], m.extra["URL"]), (WALL + 2.0, URL))
        self.assertEqual(self.lines(1)[0], "GET /next HTTP/1.1")
        self.assertEqual(
            [each.place for each in self.connections[1:]], [("example.org", 80), ("other.example", 81)]
        )
        self.assertEqual(len({each.user for each in self.connections}), 1)
        self.assertEqual(m.hostnameremote, "other.example")

    def test_bounds_of_redirects(self) -> None:
        """Those that nobody wants, too many, and those that lead nowhere."""
        for number, (redirects, location, errorcode, reason) in enumerate(
            (
                (0, "/b", Error.STATUS, "HTTP status 302 leads to /b"),
                (1, "file:///etc/passwd", Error.REDIRECTS, "cannot be followed"),
                (1, "http://me:secret@b/", Error.REDIRECTS, "cannot be followed"),
            )
        ):
            url = f"http://host{number}.example/"
            running = self.bench.run(self.bench.experiment(f"url = {url}\nredirects = {redirects}"))
            self.redirect(number, location)
            m = self.result(running)
            self.assertEqual((m.outcome, m.errorcode, m.status), (Outcome.FAILED, errorcode, 302))
            self.assertIn(reason, m.reason or "")
        running = self.bench.run(self.bench.experiment("url = http://loop.example/\nredirects = 1"))
        self.redirect(3, "/again")
        self.redirect(4, "/again")
        m = self.result(running)
        self.assertEqual((m.errorcode, m.extra["REDIRECTS"]), (Error.REDIRECTS, 1))
        self.assertIn("over 1 redirects", m.reason or "")

    def test_deadline(self) -> None:
        """The one deadline is of all requests together."""
        running = self.bench.run(self.bench.experiment(f"url = {URL}\nredirects = 2\ntimeout = 10 s"))
        self.reactor.advance(6.0)
        self.redirect(0, "/next")
        self.reactor.advance(3.9)
        self.assertNoResult(running)
        self.reactor.advance(0.2)
        self.assertEqual(self.result(running).outcome, Outcome.TIMEOUT)

    def test_pause(self) -> None:
        """A host is left alone for a while between two requests, whichever experiments they are of."""
        first = self.bench.run(self.bench.experiment(f"url = {URL}\npause = 5 s"))
        self.answer(0)
        self.result(first)
        self.reactor.advance(1.0)
        second = self.bench.run(self.bench.experiment("url = http://example.org/other"))
        third = self.bench.run(self.bench.experiment("url = http://other.example/\ntor = none"))
        self.reactor.advance(3.9)
        self.assertEqual(len(self.connections), 1)
        self.reactor.advance(0.2)
        self.assertEqual(len(self.connections), 2)
        self.answer(1)
        m = self.successResultOf(second)
        self.assertEqual((m.outcome, m.start), (Outcome.OK, WALL + 5.1))
        self.answer(2)
        self.assertEqual(self.result(third).outcome, Outcome.OK)

    def test_cancelled_in_the_pause(self) -> None:
        """Who is stopped while waiting asks for nothing, and has a record."""
        first = self.bench.run(self.bench.experiment(f"url = {URL}"))
        self.answer(0)
        self.result(first)
        second = self.bench.run(self.bench.experiment(f"url = {URL}"))
        second.cancel()
        m = self.result(second)
        self.assertEqual((m.outcome, m.extra["URL"], len(self.connections)), (Outcome.CANCELLED, URL, 1))

    def test_series(self) -> None:
        """Each request of a series, and the series, is of the target; the pause is between them."""
        running = self.bench.run(self.bench.experiment(f"type = series\nurl = {URL}\nrequests = 3"))
        for number in range(2):
            self.answer(number)
            self.reactor.advance(1.0)
        self.connections[2].open()
        self.reactor.advance(300.0)
        m = self.result(running)
        parts = self.parts
        self.assertEqual([part.outcome for part in parts], [Outcome.OK, Outcome.OK, Outcome.TIMEOUT])
        self.assertEqual([part.start for part in parts], [WALL, WALL + 1.0, WALL + 2.0])
        self.assertEqual({part.type for part in parts}, {REQUEST})
        variants: set[Variant] = {Variant.of(each) for each in (*parts, m)}
        self.assertEqual(len(variants), 1)

    def test_parallel(self) -> None:
        """Several at once, where that was asked for."""
        running = self.bench.run(self.bench.experiment(f"url = {URL}\nparallel = 2\npause = 0 s"))
        for number in range(2):
            self.answer(number)
        m: Measurement = self.result(running)
        self.assertEqual((m.outcome, m.payloadbytes, m.extra["URL"]), (Outcome.OK, 10, URL))


class RedirectedTests(ExperimentCase):
    """`redirected`."""

    def test_relative(self) -> None:
        """A location is relative to the address that gave it; what is not ASCII is quoted, once."""
        for location, expected in (
            ("/b", "http://a.example/b"),
            ("c", "http://a.example/x/c"),
            ("?q=ä", "http://a.example/x/y?q=%C3%A4"),
            ("//b.example/%20 z#f", "http://b.example/%20%20z"),
            ("https://b.example", "https://b.example"),
        ):
            self.assertEqual(redirected("http://a.example/x/y", location), expected)
