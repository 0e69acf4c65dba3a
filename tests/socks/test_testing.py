"""The fake SOCKS proxy is strict: a client that breaks the protocol is caught."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from perfd.socks.testing import (
    FakeSOCKSFactory,
    FakeSOCKSServer,
    MemoryEndpoint,
    ProtocolViolationError,
    SOCKSAnswers,
)

GREETING = b"\x05\x01\x00"


class FakeSOCKSServerTests(SynchronousTestCase):
    """What `FakeSOCKSServer` refuses to be given."""

    def test_violations(self) -> None:
        """Each breach of RFC 1928, RFC 1929 and the SOCKS 4 documents is named."""
        for segments, complaint in (
            ([b"GET / HTTP/1.1"], "version is 71"),
            ([b"\x05\x00"], "no method is offered"),
            ([b"\x05\x02\x00\x00"], "offered twice"),
            ([b"\x05\x01\x01"], "unknown method"),
            ([GREETING + b"\x05"], "did not wait"),
            ([GREETING, b"\x04"], "version of the request is 4"),
            ([GREETING, b"\x05\x02"], "not CONNECT"),
            ([GREETING, b"\x05\x01\x01"], "reserved byte"),
            ([GREETING, b"\x05\x01\x00\x05"], "address type is 5"),
            ([GREETING, b"\x05\x01\x00\x03\x00\x00\x50"], "host name is empty"),
            ([GREETING, b"\x05\x01\x00\x03\x07192.0.2"], None),
            ([GREETING, b"\x05\x01\x00\x03\x03::1\x00\x50"], "IPv6 literal is sent as a name"),
            ([GREETING, b"\x05\x01\x00\x03\x01a\x00\x00"], "port is 0"),
            ([GREETING, b"\x05\x01\x00\x03\x01a\x00\x50GET"], "did not wait"),
            ([b"\x05\x01\x02", b"\x05"], "version of the login is 5"),
            ([b"\x04\x02"], "not CONNECT"),
            ([b"\x04\x01\x00\x00\x7f\x00\x00\x01\x00"], "port is 0"),
            ([b"\x04\x01\x00\x50\x00\x00\x00\x01\x00\x00"], "host name is empty"),
            ([b"\x04\x01\x00\x50\x00\x00\x00\x01\x00192.0.2.1\x00"], "IPv4 literal is sent as a name"),
            ([b"\x04\x01\x00\x50\x00\x00\x00\x01" + b"x" * 256], "more than 255 bytes"),
            ([b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00GET"], "did not wait"),
        ):
            server = FakeSOCKSServer()
            for segment in segments[:-1]:
                server.receive(segment)
            with self.subTest(segments=segments):
                if complaint is None:
                    self.assertEqual(server.receive(segments[-1]), b"")
                else:
                    error = self.assertRaises(ProtocolViolationError, server.receive, segments[-1])
                    self.assertIn(complaint, str(error))

    def test_client_that_goes_on_after_a_refusal(self) -> None:
        """After a refusal nothing may be sent."""
        server = FakeSOCKSServer(SOCKSAnswers(method=0xFF))
        self.assertEqual(server.receive(GREETING), b"\x05\xff")
        self.assertTrue(server.closing)
        self.assertRaises(ProtocolViolationError, server.receive, b"\x05")

    def test_pieces_take_a_clock(self) -> None:
        """Sending in pieces without a clock is a mistake that is told at once."""
        self.assertRaises(ValueError, FakeSOCKSFactory, SOCKSAnswers(piece=1))

    def test_memory_endpoint_without_protocol(self) -> None:
        """A factory that builds nothing fails the connection."""

        class Nothing(Factory):
            def buildProtocol(self, addr: object) -> None:
                return None

        self.failureResultOf(MemoryEndpoint(FakeSOCKSFactory()).connect(Nothing()))

    def test_without_application(self) -> None:
        """Without an application behind it the proxy keeps the bytes."""
        proxy = FakeSOCKSFactory()
        endpoint = MemoryEndpoint(proxy)
        client = self.successResultOf(endpoint.connect(Factory.forProtocol(Protocol)))
        for segment in (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"GET"):
            client.transport.write(segment)
            endpoint.flush()
        self.assertEqual(proxy.peers[0].server.received, b"GET")


@given(st.binary(max_size=300))
def test_any_client(data: bytes) -> None:
    """Whatever a client sends: an answer, silence or a named violation."""
    with contextlib.suppress(ProtocolViolationError):
        assert isinstance(FakeSOCKSServer().receive(data), bytes)
