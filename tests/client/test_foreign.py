"""Responses of servers that are not ours: chunks, what is expected, redirects, and TLS on loopback."""

from __future__ import annotations

import datetime
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase

from perfd.client.chunks import LINE_LIMIT, Chunks
from perfd.client.expected import Expected, ForeignResponse
from perfd.client.fetch import Exchange, fetch, get_request
from perfd.client.response import ResponseError
from perfd.client.tls import TLSServer, Trust
from perfd.clock import Clock, Phase, Timeline
from perfd.record import Error, Outcome
from perfd.socks.tls import TLSWrapClientEndpoint
from tests.support.certificates import CERTIFICATE, pem

PAYLOAD = bytes(range(250)) * 20
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()
ANY = Expected(most=10_000)


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def chunked(payload: bytes, size: int, *, trailer: bytes = b"") -> bytes:
    """The payload in chunks, with all that a chunk may have."""
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    framed = [b"%X;name=value\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return b"".join(framed) + b"0\r\n" + trailer + b"\r\n"


class ResponseTests(SynchronousTestCase):
    """`ForeignResponse`."""

    def fails(self, response: ForeignResponse, data: bytes, errorcode: str) -> str:
        with self.assertRaises(ResponseError) as caught:
            response.feed(data)
        self.assertEqual(caught.exception.errorcode, errorcode)
        return str(caught.exception)

    @given(st.lists(st.integers(0, 6000)), st.integers(1, 6000), st.sampled_from([b"", b"A: b\r\n"]))
    def test_chunks(self, cuts: list[int], size: int, trailer: bytes) -> None:
        """However a chunked response is cut into pieces, its payload is whole, and what follows it is not of it."""
        data = head("Transfer-Encoding: chunked") + chunked(PAYLOAD, size, trailer=trailer) + b"HTTP/1.1"
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        response = ForeignResponse(Expected(most=5000, digest=DIGEST))
        for start, end in pairwise(places):
            response.feed(data[start:end])
        self.assertEqual((response.payload, response.ended, response.total), (5000, True, None))

    def test_chunks_outweigh_a_length(self) -> None:
        """A length beside them does not count (RFC 9112, 6.3)."""
        response = ForeignResponse(ANY)
        response.feed(head("Content-Length: 3", "Transfer-Encoding: Chunked") + chunked(b"12345", 2))
        self.assertEqual((response.payload, response.ended), (5, True))

    def test_mistaken_chunks(self) -> None:
        """What is no chunk is refused at once, and so is what never ends."""
        for body in (b"x\r\n", b"-1\r\n", b"2\r\nabc\r\n", b"\r\n", b"1" * 13 + b"\r\n", b"1;" + b"x" * LINE_LIMIT):
            with self.subTest(body=body[:20]):
                self.fails(ForeignResponse(ANY), head("Transfer-Encoding: chunked") + body, Error.HTTP)
        trailer = b"A: " + b"a" * 4000 + b"\r\n"
        self.fails(ForeignResponse(ANY), head("Transfer-Encoding: chunked") + b"0\r\n" + trailer * 5, Error.HTTP)

    def test_cut_off_in_chunks(self) -> None:
        """The end of the connection does not end a body in chunks."""
        response = ForeignResponse(ANY)
        response.feed(head("Transfer-Encoding: chunked") + b"5\r\n12345\r\n")
        with self.assertRaises(ResponseError) as caught:
            response.close()
        self.assertEqual((caught.exception.errorcode, response.payload), (Error.CLOSED, 5))

    def test_any_size(self) -> None:
        """Without a size any number of bytes will do, up to the limit."""
        response = ForeignResponse(ANY)
        response.feed(head("Content-Length: 7", "Content-Encoding: gzip") + b"1234567")
        self.assertEqual((response.payload, response.total, response.ended), (7, 7, True))
        response = ForeignResponse(ANY)
        response.feed(head() + b"1234567")
        self.assertEqual((response.total, response.ended), (None, False))
        response.close()
        self.assertTrue(response.ended)
        self.fails(ForeignResponse(ANY), head("Content-Length: 10001"), Error.LONG)
        self.fails(ForeignResponse(ANY), head() + bytes(10001), Error.LONG)

    def test_size(self) -> None:
        """A size that is expected."""
        for size, errorcode in ((4, Error.SHORT), (6, Error.LONG)):
            response = ForeignResponse(Expected(most=100, size=5))
            self.fails(response, head(f"Content-Length: {size}") + bytes(size), errorcode)

    def test_digest(self) -> None:
        """A digest that is expected."""
        response = ForeignResponse(Expected(most=5000, digest=DIGEST))
        response.feed(head("Content-Length: 5000") + PAYLOAD)
        self.assertTrue(response.ended)
        wrong = ForeignResponse(Expected(most=5000, digest=DIGEST))
        found = self.fails(wrong, head("Content-Length: 4") + b"else", Error.DIGEST)
        self.assertIn(hashlib.sha256(b"else").hexdigest(), found)
        self.assertTrue(wrong.ended)

    def test_statuses(self) -> None:
        """Statuses that are expected, and no other."""
        for status, ended in (("404 Not Found", True), ("204 No Content", True), ("301 Moved", True)):
            response = ForeignResponse(Expected(most=10, statuses=(204, 301, 404)))
            body = b"" if status.startswith("204") else b"gone"
            response.feed(head("Location: /x", f"Content-Length: {len(body)}", status=status) + body)
            self.assertEqual((response.ended, response.location), (ended, None))
        self.fails(ForeignResponse(Expected(most=10, statuses=(404,))), head(), Error.STATUS)
        self.fails(ForeignResponse(ANY), head(status="302 Found"), Error.STATUS)

    def test_redirect(self) -> None:
        """A redirect ends it, and says where it leads."""
        response = ForeignResponse(ANY)
        found = self.fails(response, head("Location: /there", status="307 Temporary"), Error.REDIRECTS)
        self.assertEqual((response.location, found), ("/there", "HTTP status 307 leads to /there"))

    def test_head(self) -> None:
        """The answer to HEAD is over with its head; its Content-Length is what a size is compared with."""
        response = ForeignResponse(Expected(most=10, size=50, is_head=True))
        response.feed(head("Content-Length: 50"))
        self.assertEqual((response.payload, response.ended), (0, True))
        self.fails(
            ForeignResponse(Expected(most=10, size=50, is_head=True)), head("Content-Length: 49"), Error.SHORT
        )


def test_many_small_chunks() -> None:
    """A read full of tiny chunks is gone through once, not copied for each."""
    chunks = Chunks()
    assert sum(map(len, chunks.feed(b"1\r\nx\r\n" * 100_000))) == 100_000
    with pytest.raises(ResponseError):
        list(chunks.feed(b"\xff\r\n"))


@contextmanager
def trusted() -> Iterator[Trust]:
    """A machine whose one authority is that of the tests' certificate."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "authorities.pem"
        path.write_bytes(pem(CERTIFICATE))
        with patch.dict("os.environ", {"SSL_CERT_FILE": str(path)}):
            yield Trust()


class HTTPServer(Protocol):
    """Answers one request with the payload and closes."""

    transport: Any
    _request = b""

    def dataReceived(self, data: bytes) -> None:
        self._request += data
        if self._request.endswith(b"\r\n\r\n"):
            self.transport.write(head(f"Content-Length: {len(PAYLOAD)}") + PAYLOAD)
            self.transport.loseConnection()


class TLSTests(TestCase):
    """`fetch` over TLS."""

    timeout = 30

    async def fetch(self, server: TLSServer, factory: Any = None) -> tuple[Exchange, Timeline]:
        if factory is None:
            factory = TLSMemoryBIOFactory(CERTIFICATE.options(), False, Factory.forProtocol(HTTPServer))
        reactor: Any = global_reactor
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        timeline = Timeline(Clock())
        way = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        exchange = await fetch(
            reactor,
            TLSWrapClientEndpoint(server, way, reactor),
            get_request("example.com", "/"),
            expect=Expected(most=10_000, digest=DIGEST),
            timeline=timeline,
            timeout=20.0,
            tls=server,
        )
        return exchange, timeline

    async def test_session(self) -> None:
        """The handshake is stamped between the connection and the request, and its outcome told."""
        with trusted() as trust:
            exchange, timeline = await self.fetch(TLSServer("example.com", trust))
        session = exchange.session
        assert session is not None
        assert session.done is not None
        self.assertEqual((exchange.outcome, exchange.payloadbytes), (Outcome.OK, 5000), exchange)
        asked, answered = timeline.stamps[Phase.DATAREQUEST], timeline.stamps[Phase.DATARESPONSE]
        steps = [timeline.stamps[Phase.START], session.begun, session.done, asked, answered]
        self.assertEqual(steps, sorted(steps))
        self.assertLess(session.begun, session.done)
        self.assertEqual(session.version, "TLSv1.3")
        self.assertRegex(session.cipher or "", "^TLS_")
        end = CERTIFICATE.original.to_cryptography().not_valid_after_utc
        self.assertEqual(datetime.datetime.fromtimestamp(session.certificate_end or 0, datetime.UTC), end)
        self.assertEqual(sorted(exchange.dataperc), list(range(0, 101, 10)))

    async def test_another_name(self) -> None:
        """A certificate for somebody else is refused before the request leaves."""
        for name in ("example.org", "127.0.0.1"):
            with trusted() as trust:
                exchange, timeline = await self.fetch(TLSServer(name, trust))
            self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.FAILED, Error.TLS))
            self.assertIn("the certificate is not the server's", exchange.reason or "")
            assert exchange.session is not None
            self.assertIsNone(exchange.session.done)
            self.assertNotIn(Phase.DATAREQUEST, timeline.stamps)

    async def test_nobody_signed_it(self) -> None:
        """A certificate that no authority signed is refused, unless that was asked for."""
        exchange, _ = await self.fetch(TLSServer("example.com", Trust()))
        self.assertEqual((exchange.errorcode, exchange.reason), (Error.TLS, "certificate verify failed"))
        for name in ("example.org", "127.0.0.1"):
            exchange, _ = await self.fetch(TLSServer(name, Trust(insecure=True)))
            self.assertEqual(exchange.outcome, Outcome.OK, exchange)

    async def test_no_tls(self) -> None:
        """A server that answers in something else."""
        exchange, _ = await self.fetch(TLSServer("example.com", Trust()), Factory.forProtocol(Greeter))
        self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.FAILED, Error.TLS))


class Greeter(Protocol):
    """Speaks first, and not TLS."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.write(b"220 mail.example.com ESMTP\r\n")
