"""Twisted Web agents that reach the web through a SOCKS proxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from perfd.socks.client import SOCKS4ClientEndpoint, SOCKS5ClientEndpoint
from perfd.socks.tls import TLSWrapClientEndpoint


@implementer(IAgent, IAgentEndpointFactory)
class _SOCKSAgent:
    endpointFactory: ClassVar[type[SOCKS4ClientEndpoint] | type[SOCKS5ClientEndpoint]]

    def __init__(
        self,
        reactor: IReactorTime,
        contextFactory: IPolicyForHTTPS | None = None,
        connectTimeout: float | None = None,
        bindAddress: Any = None,
        pool: HTTPConnectionPool | None = None,
        *,
        proxyEndpoint: IStreamClientEndpoint,
        endpointArgs: Mapping[str, Any] | None = None,
    ) -> None:
        # As Agent does: without a policy nobody would check the host's name.
        policy = BrowserLikePolicyForHTTPS() if contextFactory is None else contextFactory
        if not IPolicyForHTTPS.providedBy(policy):
            raise NotImplementedError("contextFactory must provide IPolicyForHTTPS")
        self.proxyEndpoint = proxyEndpoint
        self.endpointArgs = dict(endpointArgs or {})
        self._policyForHTTPS = policy
        self._clock = IReactorTime(reactor, None)
        self._agent = Agent.usingEndpointFactory(reactor, self, pool=pool)

    def request(
        self,
        method: str | bytes,
        uri: str | bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Send a request through the proxy, as `Agent.request` does. Native strings are taken too."""
        response: Deferred[IResponse] = self._agent.request(_ascii(method), _ascii(uri), headers, bodyProducer)
        return response

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """The endpoint that connects to ``uri`` through the proxy."""
        if uri.scheme not in (b"http", b"https"):
            raise SchemeNotSupported(f"Unsupported scheme: {uri.scheme!r}")
        endpoint = self.endpointFactory(uri.host, uri.port, self.proxyEndpoint, **self.endpointArgs)
        if uri.scheme == b"http":
            return endpoint
        creator = self._policyForHTTPS.creatorForNetloc(uri.host, uri.port)
        return TLSWrapClientEndpoint(creator, endpoint, self._clock)


class SOCKS4Agent(_SOCKSAgent):
    """A Twisted Web `Agent` that connects through a SOCKS 4 or 4a proxy.

    ``proxyEndpoint`` is the endpoint of the proxy, ``endpointArgs`` are further keywords for each
    `SOCKS4ClientEndpoint`, for example ``{"user": "spam"}``. The rest is as in `Agent`, but
    ``connectTimeout`` and ``bindAddress`` are ignored: the proxy's endpoint has its own.
    """

    endpointFactory = SOCKS4ClientEndpoint


class SOCKS5Agent(_SOCKSAgent):
    """A Twisted Web `Agent` that connects through a SOCKS 5 proxy.

    ``endpointArgs`` are further keywords for each `SOCKS5ClientEndpoint`, for example
    ``{"methods": {"login": (user, password)}}``. See `SOCKS4Agent` for the rest.
    """

    endpointFactory = SOCKS5ClientEndpoint


def _ascii(text: str | bytes) -> bytes:
    return text.encode("ascii") if isinstance(text, str) else text
