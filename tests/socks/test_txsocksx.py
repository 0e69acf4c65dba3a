"""What txsocksx documents of each of its classes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError as TwistedConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory, Factory
from twisted.internet.testing import AccumulatingProtocol, MemoryReactorClock, StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent, HTTPConnectionPool
from zope.interface.verify import verifyObject

from perfd.socks.client import (
    SOCKS4ClientEndpoint,
    SOCKS4ClientFactory,
    SOCKS5ClientEndpoint,
    SOCKS5ClientFactory,
)
from perfd.socks.errors import MethodsNotAcceptedError, RequestRejectedOrFailed, ServerFailure
from perfd.socks.http import SOCKS4Agent, SOCKS5Agent
from perfd.socks.testing import FakeSOCKSFactory, MemoryEndpoint
from perfd.socks.tls import TLSWrapClientEndpoint
from tests.support.certificates import CERTIFICATE, TrustOne
from tests.support.forwarding import FakeEndpoint, Transport

GRANTED4 = b"\x00\x5a" + bytes(6)
GRANTED5 = b"\x05\x00\x05\x00\x00\x01" + bytes(6)


class Nothing(ClientFactory):
    """Builds no protocol."""

    def buildProtocol(self, addr: object) -> None:
        return None


def application() -> Any:
    factory: Any = Factory.forProtocol(AccumulatingProtocol)
    factory.protocolConnectionMade = None
    return factory


class EndpointCase(SynchronousTestCase):
    """An endpoint, and what is behind its proxy's endpoint."""

    def begin(self, endpoint_class: Any, host: str, factory: Any = None, **keywords: Any) -> tuple[Any, Any, Any]:
        """Connect to port 0x1234 of ``host``: the Deferred, the client's protocol, the proxy's endpoint."""
        proxy = FakeEndpoint()
        endpoint = endpoint_class(host, 0x1234, proxy, **keywords)
        self.assertTrue(verifyObject(IStreamClientEndpoint, endpoint))
        connecting = endpoint.connect(application() if factory is None else factory)
        return connecting, proxy.succeed(), proxy

    def assert_fails(self, endpoint_class: Any, refusal: bytes, expected: type[Exception], granted: bytes) -> None:
        """The four reasons for which a connection fails, and the factory that builds nothing."""
        proxy = FakeEndpoint()
        connecting = endpoint_class("spam.com", 80, proxy).connect(application())
        proxy.fail(TwistedConnectionRefusedError())
        self.failureResultOf(connecting, TwistedConnectionRefusedError)

        connecting, client, _ = self.begin(endpoint_class, "spam.com")
        client.dataReceived(refusal)
        self.failureResultOf(connecting, expected)

        connecting, client, _ = self.begin(endpoint_class, "spam.com")
        client.dataReceived(b"HTTP/1.1 400 Bad Request\r\n")
        self.failureResultOf(connecting)

        connecting, client, _ = self.begin(endpoint_class, "spam.com")
        connecting.cancel()
        self.assertTrue(client.transport.aborted)
        self.failureResultOf(connecting, CancelledError)

        connecting, client, _ = self.begin(endpoint_class, "spam.com", Nothing())
        client.dataReceived(granted)
        self.assertTrue(client.transport.aborted)
        trapped: list[Any] = []
        connecting.addErrback(lambda failure: trapped.append(failure.trap(CancelledError)))
        self.assertEqual(trapped, [CancelledError])

        proxy = FakeEndpoint()
        connecting = endpoint_class("spam.com", 80, proxy).connect(application())
        connecting.cancel()
        self.assertTrue(proxy.cancelled)
        self.failureResultOf(connecting, CancelledError)

    def assert_connects(self, connecting: Any, client: Any, granted: bytes) -> None:
        """The Deferred fires with the factory's protocol once the proxy has granted the request."""
        self.assertNoResult(connecting)
        client.dataReceived(granted + b"hello")
        protocol = self.successResultOf(connecting)
        self.assertIsInstance(protocol, AccumulatingProtocol)
        self.assertEqual(protocol.data, b"hello")
        self.assertIs(protocol.transport, client.transport)


class SOCKS4ClientEndpointTests(EndpointCase):
    """A literal goes as SOCKS 4, any other host as 4a, unresolved; with a user ID."""

    def test_request(self) -> None:
        """Every form of host, with and without a user."""
        for host, keywords, sent in (
            ("127.0.0.1", {}, b"\x04\x01\x12\x34\x7f\x00\x00\x01\x00"),
            ("0.0.0.0", {"user": "spam"}, b"\x04\x01\x12\x34\x00\x00\x00\x00spam\x00"),
            ("spam.com", {}, b"\x04\x01\x12\x34\x00\x00\x00\x01\x00spam.com\x00"),
            ("spam.com", {"user": "spam"}, b"\x04\x01\x12\x34\x00\x00\x00\x01spam\x00spam.com\x00"),
        ):
            connecting, client, _ = self.begin(SOCKS4ClientEndpoint, host, **keywords)
            self.assertEqual(client.transport.value(), sent)
            self.assert_connects(connecting, client, GRANTED4)

    def test_reserved(self) -> None:
        """The addresses that SOCKS 4a reserves are refused."""
        for made in (SOCKS4ClientEndpoint, SOCKS4ClientFactory):
            self.assertRaises(ValueError, made, "0.0.0.1", 80, None)

    def test_failures(self) -> None:
        """Every way to fail."""
        self.assert_fails(SOCKS4ClientEndpoint, b"\x00\x5b" + bytes(6), RequestRejectedOrFailed, GRANTED4)


class SOCKS5ClientEndpointTests(EndpointCase):
    """The host goes as it is, with the methods that are given."""

    def test_request(self) -> None:
        """A name, and a literal that looks like one to the proxy."""
        for host in ("spam.com", "127.0.0.1"):
            connecting, client, _ = self.begin(SOCKS5ClientEndpoint, host)
            self.assertEqual(client.transport.value(), b"\x05\x01\x00")
            client.transport.clear()
            client.dataReceived(GRANTED5[:2])
            sent = b"\x05\x01\x00\x03" + bytes((len(host),)) + host.encode() + b"\x12\x34"
            self.assertEqual(client.transport.value(), sent)
            self.assert_connects(connecting, client, GRANTED5[2:])

    def test_methods(self) -> None:
        """Login alone, or both, of which the proxy chooses; an empty password is sent as it is."""
        for methods, greeting, login in (
            ({"login": ("spam", "eggs")}, b"\x05\x01\x02", b"\x01\x04spam\x04eggs"),
            ({"anonymous": (), "login": ("spam", "")}, b"\x05\x02\x00\x02", b"\x01\x04spam\x00"),
        ):
            connecting, client, _ = self.begin(SOCKS5ClientEndpoint, "spam.com", methods=methods)
            self.assertEqual(client.transport.value(), greeting)
            client.transport.clear()
            client.dataReceived(b"\x05\x02")
            self.assertEqual(client.transport.value(), login)
            self.assert_connects(connecting, client, b"\x01\x00" + GRANTED5[2:])
        for made in (SOCKS5ClientEndpoint, SOCKS5ClientFactory):
            self.assertRaises(ValueError, made, "spam.com", 80, None, methods={})

    def test_no_acceptable_method(self) -> None:
        """The error has what was offered and what the proxy said."""
        connecting, client, _ = self.begin(SOCKS5ClientEndpoint, "spam.com")
        client.dataReceived(b"\x05\xff")
        message, methods, method = self.failureResultOf(connecting, MethodsNotAcceptedError).value.args
        self.assertIsInstance(message, str)
        self.assertEqual((methods, method), ({b"\x00": ()}, b"\xff"))

    def test_failures(self) -> None:
        """Every way to fail."""
        refusal = b"\x05\x00\x05\x01\x00\x01" + bytes(6)
        self.assert_fails(SOCKS5ClientEndpoint, refusal, ServerFailure, GRANTED5)


class FactoryTests(SynchronousTestCase):
    """The factories tell by their ``deferred``, and are used with a reactor's connectTCP too."""

    def test_life(self) -> None:
        """Connected; lost before that; cancelled; never connected."""
        for factory_class, granted in ((SOCKS4ClientFactory, GRANTED4), (SOCKS5ClientFactory, GRANTED5)):
            made = factory_class("spam.com", 80, application())
            client: Any = made.buildProtocol(None)
            client.makeConnection(Transport())
            client.dataReceived(granted)
            self.assertIsInstance(self.successResultOf(made.deferred), AccumulatingProtocol)

            made = factory_class("spam.com", 80, application())
            client = made.buildProtocol(None)
            client.makeConnection(Transport())
            made.deferred.cancel()
            self.assertTrue(client.transport.aborted)
            self.failureResultOf(made.deferred, CancelledError)

            made = factory_class("spam.com", 80, application())
            made.clientConnectionFailed(None, Failure(TwistedConnectionRefusedError()))
            self.failureResultOf(made.deferred, TwistedConnectionRefusedError)


class AgentCase(SynchronousTestCase):
    """Both agents are an ``Agent``, with ``proxyEndpoint`` and ``endpointArgs`` as keywords."""

    def sent(self, agent_class: Any, uri: str, granted: bytes, **keywords: Any) -> tuple[bytes, list[bytes]]:
        """What a request sends: to the proxy, and to the site as lines."""
        proxy = FakeEndpoint()
        agent = agent_class(None, proxyEndpoint=proxy, **keywords)
        self.assertIsInstance(agent, Agent)
        responding = agent.request("GET", uri)
        client = proxy.succeed()
        for at in range(len(granted)):
            client.dataReceived(granted[at : at + 1])
        asked, _, request = client.transport.value().partition(b"GET /eggs ")
        self.assertNoResult(responding)
        client.dataReceived(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual(self.successResultOf(responding).code, 204)
        return asked, request.splitlines()

    def assert_arguments(self, agent_class: Any) -> None:
        """All that Agent takes is taken, by place and by name; only a proxy must be named."""
        proxy: Any = StringTransport()
        pool = HTTPConnectionPool(None)
        agent_class(None, TrustOne(), 1.0, ("127.0.0.1", 0), pool, proxyEndpoint=proxy)
        agent_class(None, contextFactory=TrustOne(), connectTimeout=1, bindAddress=None, proxyEndpoint=proxy)
        self.assertRaises(TypeError, agent_class, None)


class SOCKS4AgentTests(AgentCase):
    """Requests over SOCKS 4 and 4a."""

    def test_requests(self) -> None:
        """By address, by name, and with a user ID."""
        for host, keywords, asked in (
            ("127.0.0.1", {}, b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00"),
            ("spam.com", {}, b"\x04\x01\x00\x50\x00\x00\x00\x01\x00spam.com\x00"),
            ("spam.com", {"endpointArgs": {"user": "u"}}, b"\x04\x01\x00\x50\x00\x00\x00\x01u\x00spam.com\x00"),
        ):
            sent, lines = self.sent(SOCKS4Agent, f"http://{host}/eggs", GRANTED4, **keywords)
            self.assertEqual(sent, asked)
            self.assertEqual(lines[0], b"HTTP/1.1")
            self.assertIn(b"Host: " + host.encode(), lines)

    def test_arguments(self) -> None:
        """As Agent's."""
        self.assert_arguments(SOCKS4Agent)


class SOCKS5AgentTests(AgentCase):
    """Requests over SOCKS 5."""

    def test_requests(self) -> None:
        """By name, without and with a login."""
        login = {"endpointArgs": {"methods": {"login": ("spam", "eggs")}}}
        request = b"\x05\x01\x00\x03\x08spam.com\x00\x50"
        for keywords, granted, asked in (
            ({}, GRANTED5, b"\x05\x01\x00" + request),
            (login, b"\x05\x02\x01\x00" + GRANTED5[2:], b"\x05\x01\x02\x01\x04spam\x04eggs" + request),
        ):
            sent, lines = self.sent(SOCKS5Agent, "http://spam.com/eggs", granted, **keywords)
            self.assertEqual(sent, asked)
            self.assertIn(b"Host: spam.com", lines)

    def test_arguments(self) -> None:
        """As Agent's."""
        self.assert_arguments(SOCKS5Agent)


class TLSWrapClientEndpointTests(SynchronousTestCase):
    """TLS starts as soon as the wrapped endpoint is connected."""

    def test_connect(self) -> None:
        """The Deferred fires with the same protocol; bytes go both ways, encrypted on the wire."""
        clock = MemoryReactorClock()
        site = TLSMemoryBIOFactory(CERTIFICATE.options(), False, application(), clock=clock)
        proxy = FakeSOCKSFactory(application=site)
        endpoint = MemoryEndpoint(proxy, clock)
        through = SOCKS5ClientEndpoint("example.com", 443, endpoint)
        wrapped = TLSWrapClientEndpoint(TrustOne().creatorForNetloc(b"example.com", 443), through)
        connecting = wrapped.connect(application())
        endpoint.flush()
        protocol = self.successResultOf(connecting)
        self.assertIsInstance(protocol, AccumulatingProtocol)
        protocol.transport.write(b"secret")
        clock.advance(0)
        endpoint.flush()
        self.assertNotIn(b"secret", proxy.peers[0].server.received)
        self.assertTrue(protocol.transport.getPeerCertificate())

    def test_failure(self) -> None:
        """What the wrapped endpoint fails with."""
        proxy = FakeEndpoint()
        creator = TrustOne().creatorForNetloc(b"example.com", 443)
        connecting = TLSWrapClientEndpoint(creator, proxy).connect(application())
        proxy.fail(TwistedConnectionRefusedError())
        self.failureResultOf(connecting, TwistedConnectionRefusedError)
