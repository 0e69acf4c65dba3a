"""Web agents and TLS through the fake SOCKS proxy, in memory."""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import TLS_METHOD, Context
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import AccumulatingProtocol, MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from perfd.socks import (
    HostUnreachable,
    SOCKS4Agent,
    SOCKS5Agent,
    SOCKS5ClientEndpoint,
    TLSWrapClientEndpoint,
)
from perfd.socks.testing import FakeSOCKSFactory, MemoryEndpoint, SOCKSAnswers
from tests.support.certificates import CERTIFICATE, TrustOne
from tests.support.loopback import Page


class AgentTests(SynchronousTestCase):
    """`SOCKS4Agent` and `SOCKS5Agent` are Twisted Web agents."""

    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.site: Any = Site(Page(), reactor=self.clock)

    def proxy(
        self, answers: SOCKSAnswers | None = None, tls: bool = False
    ) -> tuple[FakeSOCKSFactory, MemoryEndpoint]:
        behind: IProtocolFactory = self.site
        if tls:
            behind = TLSMemoryBIOFactory(CERTIFICATE.options(), False, self.site, clock=self.clock)
        proxy = FakeSOCKSFactory(answers, application=behind, clock=self.clock)
        return proxy, MemoryEndpoint(proxy, self.clock)

    def body_of(self, endpoint: MemoryEndpoint, responding: Deferred[Any]) -> bytes:
        endpoint.flush()
        response = self.successResultOf(responding)
        self.assertEqual(response.code, 200)
        body = AccumulatingProtocol()
        response.deliverBody(body)
        endpoint.flush()
        self.assertTrue(body.closed)
        return body.data

    def test_http(self) -> None:
        """A request reaches the site, and its response comes back, with native strings and with bytes."""
        for agent_class, version in ((SOCKS4Agent, 4), (SOCKS5Agent, 5)):
            for method, uri in ((b"GET", b"http://example.com/spam"), ("GET", "http://example.com/spam")):
                proxy, endpoint = self.proxy()
                agent = agent_class(self.clock, proxyEndpoint=endpoint)
                self.assertEqual(self.body_of(endpoint, agent.request(method, uri)), b"/spam on example.com plain")
                request = proxy.peers[0].server.request
                assert request is not None
                self.assertEqual((request.version, request.kind, request.port), (version, "name", 80))

    def test_https(self) -> None:
        """An https request speaks TLS through the proxy, and checks the certificate."""
        for agent_class in (SOCKS4Agent, SOCKS5Agent):
            proxy, endpoint = self.proxy(tls=True)
            agent = agent_class(self.clock, TrustOne(), proxyEndpoint=endpoint)
            body = self.body_of(endpoint, agent.request(b"GET", b"https://example.com/eggs"))
            self.assertEqual(body, b"/eggs on example.com secure")
            request = proxy.peers[0].server.request
            assert request is not None
            self.assertEqual(request.port, 443)

    def test_https_with_a_context_factory_of_old(self) -> None:
        """What gives a context for host and port is taken as Agent takes it: with a warning."""
        asked: list[Any] = []

        class ContextFactory:
            def getContext(self, hostname: bytes, port: int) -> Any:
                asked.append((hostname, port))
                return Context(TLS_METHOD)

        for agent_class in (SOCKS4Agent, SOCKS5Agent):
            _, endpoint = self.proxy(tls=True)
            agent = agent_class(self.clock, ContextFactory(), proxyEndpoint=endpoint)
            (warning,) = self.flushWarnings([self.test_https_with_a_context_factory_of_old])
            self.assertIs(warning["category"], DeprecationWarning)
            body = self.body_of(endpoint, agent.request(b"GET", b"https://example.com/eggs"))
            self.assertEqual(body, b"/eggs on example.com secure")
        self.assertEqual(set(asked), {(b"example.com", 443)})

    def test_https_that_is_not_trusted(self) -> None:
        """The default policy does not trust a self-signed certificate."""
        _, endpoint = self.proxy(tls=True)
        responding = SOCKS5Agent(self.clock, proxyEndpoint=endpoint).request("GET", "https://example.com/")
        endpoint.flush()
        self.failureResultOf(responding)

    def test_endpoint_arguments(self) -> None:
        """``endpointArgs`` reach the endpoint; a literal in the URI goes without its brackets."""
        proxy, endpoint = self.proxy()
        agent = SOCKS5Agent(
            self.clock, proxyEndpoint=endpoint, endpointArgs={"methods": {"login": ("spam", "eggs")}}
        )
        self.body_of(endpoint, agent.request("GET", "http://[2001:db8::1]:8080/"))
        request = proxy.peers[0].server.request
        assert request is not None
        self.assertEqual(
            (request.user, request.password, request.kind, request.host, request.port),
            (b"spam", b"eggs", "ipv6", "2001:db8::1", 8080),
        )
        proxy, endpoint = self.proxy()
        agent4 = SOCKS4Agent(self.clock, proxyEndpoint=endpoint, endpointArgs={"user": "spam"})
        self.body_of(endpoint, agent4.request("GET", "http://192.0.2.1/"))
        request = proxy.peers[0].server.request
        assert request is not None
        self.assertEqual((request.user, request.kind, request.host), (b"spam", "ipv4", "192.0.2.1"))

    def test_pool(self) -> None:
        """A pool keeps the connection through the proxy for the next request."""
        proxy, endpoint = self.proxy()
        pool = HTTPConnectionPool(self.clock)
        agent = SOCKS5Agent(self.clock, proxyEndpoint=endpoint, pool=pool)
        for _ in range(2):
            self.body_of(endpoint, agent.request("GET", "http://example.com/"))
        self.assertEqual(len(proxy.peers), 1)
        closing = pool.closeCachedConnections()
        endpoint.flush()
        self.successResultOf(closing)

    def test_refusal(self) -> None:
        """A refusal by the proxy fails the request with its own error."""
        _, endpoint = self.proxy(SOCKSAnswers(code=4))
        responding = SOCKS5Agent(self.clock, proxyEndpoint=endpoint).request("GET", "http://example.com/")
        endpoint.flush()
        self.failureResultOf(responding, HostUnreachable)

    def test_other_schemes(self) -> None:
        """Only http and https are supported."""
        _, endpoint = self.proxy()
        responding = SOCKS5Agent(self.clock, proxyEndpoint=endpoint).request("GET", "ftp://example.com/")
        self.failureResultOf(responding, SchemeNotSupported)

    def test_interfaces(self) -> None:
        """The agents provide Twisted Web's interfaces; a proxy must be given."""
        for agent_class in (SOCKS4Agent, SOCKS5Agent):
            agent = agent_class(self.clock, proxyEndpoint=self.proxy()[1])
            self.assertTrue(verifyObject(IAgent, agent))
            self.assertIsInstance(agent, Agent)
            self.assertTrue(verifyObject(IAgentEndpointFactory, agent))
        self.assertRaises(TypeError, SOCKS5Agent, self.clock)


class TLSWrapClientEndpointTests(SynchronousTestCase):
    """TLS on top of a SOCKS endpoint."""

    def test_fires_with_the_application(self) -> None:
        """The Deferred fires with the application's own protocol, and TLS is the transport's protocol."""
        clock = MemoryReactorClock()
        server = TLSMemoryBIOFactory(CERTIFICATE.options(), False, Factory.forProtocol(Protocol), clock=clock)
        endpoint = MemoryEndpoint(FakeSOCKSFactory(application=server), clock)
        creator = TrustOne().creatorForNetloc(b"example.com", 443)
        wrapped = TLSWrapClientEndpoint(creator, SOCKS5ClientEndpoint("example.com", 443, endpoint), clock)
        connecting = wrapped.connect(Factory.forProtocol(Protocol))
        endpoint.flush()
        application = self.successResultOf(connecting)
        self.assertIs(type(application), Protocol)
        self.assertIs(endpoint.pumps[0].clientIO.protocol, application.transport)
        self.assertIsNotNone(application.transport.getPeerCertificate())
