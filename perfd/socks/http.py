"""Twisted Web agents that reach the web through a SOCKS proxy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from perfd.socks.client import SOCKS4ClientEndpoint, SOCKS5ClientEndpoint
from perfd.socks.tls import TLSWrapClientEndpoint


@implementer(IPolicyForHTTPS)
@attrs.frozen
class _ContextPolicy:
    """A context factory from before Twisted 14, which gets host and port, as the policy that Agent wants today."""

    contextFactory: Any

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return _Contexts(self.contextFactory, hostname, port)


@attrs.frozen
class _Contexts:
    """Makes the TLS contexts for one host and port."""

    contextFactory: Any
    hostname: bytes
    port: int

    def getContext(self) -> Any:
        return self.contextFactory.getContext(self.hostname, self.port)


@implementer(IAgentEndpointFactory)
class _SOCKSAgent(Agent):
    """What both agents do. The requests are made by another Agent, whose endpoints come from this one."""

    endpointFactory: ClassVar[type[SOCKS4ClientEndpoint] | type[SOCKS5ClientEndpoint]]

    def __init__(
        self,
        reactor: IReactorTime,
        contextFactory: Any = None,
        connectTimeout: float | None = None,
        bindAddress: Any = None,
        pool: HTTPConnectionPool | None = None,
        *,
        proxyEndpoint: IStreamClientEndpoint,
        endpointArgs: Mapping[str, Any] | None = None,
    ) -> None:
        policy = BrowserLikePolicyForHTTPS() if contextFactory is None else contextFactory
        if not IPolicyForHTTPS.providedBy(policy):
            complaint = f"{policy!r} does not provide IPolicyForHTTPS: it may not check whom it speaks to"
            warnings.warn(complaint, DeprecationWarning, stacklevel=2)
            policy = _ContextPolicy(policy)
        # Agent's own __init__ would make endpoints, and a pool, that are never used.
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
