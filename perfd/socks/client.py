"""SOCKS client endpoints and factories, with txsocksx's names."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from perfd.clock import Timeline
from perfd.socks.connection import NO_HOOKS, Hooks, SOCKSClient, SOCKSClientFactory
from perfd.socks.machine import ANONYMOUS, Methods, Reply, SOCKS4Machine, SOCKS5Machine


class SOCKS4Client(SOCKSClient):
    """A connection to a SOCKS 4 proxy."""


class SOCKS5Client(SOCKSClient):
    """A connection to a SOCKS 5 proxy."""


class SOCKS4ClientFactory(SOCKSClientFactory):
    """Connects ``proxiedFactory``'s protocol through the SOCKS 4 proxy that it is itself connected to."""

    protocol = SOCKS4Client

    def __init__(
        self,
        host: str | bytes,
        port: int,
        proxiedFactory: IProtocolFactory,
        user: str | bytes = "",
        hooks: Hooks = NO_HOOKS,
        *,
        optimistic: bool = False,
    ) -> None:
        super().__init__(SOCKS4Machine(host, port, user), proxiedFactory, hooks, optimistic=optimistic)


class SOCKS5ClientFactory(SOCKSClientFactory):
    """Connects ``proxiedFactory``'s protocol through the SOCKS 5 proxy that it is itself connected to."""

    protocol = SOCKS5Client

    def __init__(
        self,
        host: str | bytes,
        port: int,
        proxiedFactory: IProtocolFactory,
        methods: Methods = ANONYMOUS,
        hooks: Hooks = NO_HOOKS,
        *,
        optimistic: bool = False,
    ) -> None:
        super().__init__(SOCKS5Machine(host, port, methods), proxiedFactory, hooks, optimistic=optimistic)


@implementer(IStreamClientEndpoint)
class SOCKS4ClientEndpoint:
    """An endpoint behind a SOCKS 4 or 4a proxy.

    ``host`` is where to connect to: an IPv4 literal is sent as SOCKS 4; any other host is a name, which goes to
    the proxy in SOCKS 4a, unresolved. ``proxyEndpoint`` is the endpoint of the proxy itself, ``user`` the user ID.
    Host and user can be str or bytes. ``timeline``, ``connected`` and ``replied`` are explained at `Hooks`,
    ``optimistic`` at `SOCKS5ClientEndpoint`.
    Raises ValueError for what SOCKS 4 cannot carry.
    """

    def __init__(
        self,
        host: str | bytes,
        port: int,
        proxyEndpoint: IStreamClientEndpoint,
        user: str | bytes = "",
        *,
        timeline: Timeline | None = None,
        connected: Callable[[IAddress], None] | None = None,
        replied: Callable[[Reply], None] | None = None,
        optimistic: bool = False,
    ) -> None:
        SOCKS4Machine(host, port, user)  # raises if they do not fit
        self.host = host
        self.port = port
        self.proxyEndpoint = proxyEndpoint
        self.user = user
        self.optimistic = optimistic
        self._hooks = Hooks(timeline, connected, replied)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect through the proxy; see `SOCKS5ClientEndpoint.connect`."""
        factory = SOCKS4ClientFactory(
            self.host, self.port, protocolFactory, self.user, self._hooks, optimistic=self.optimistic
        )
        return factory.connectThrough(self.proxyEndpoint)


@implementer(IStreamClientEndpoint)
class SOCKS5ClientEndpoint:
    """An endpoint behind a SOCKS 5 proxy.

    ``host`` is where to connect to: it goes to the proxy as it is, unresolved, except that an IPv6 literal is sent
    as an address. ``proxyEndpoint`` is the endpoint of the proxy itself. ``methods`` are the authentication methods
    to offer: ``{"anonymous": ()}``, ``{"login": (user, password)}`` or both; an empty user or password is sent as
    it is, though RFC 1929 has at least one byte. Host, user and password can be str or bytes. ``timeline``,
    ``connected`` and ``replied`` are explained at `Hooks`.

    With ``optimistic`` the application is connected when the request is sent, before the proxy has replied, and
    what it writes at once leaves in one segment with the request (Tor's proposal 174). That saves the round trip
    that the reply takes, if the proxy sends such data on at once. Tor does, but not over Conflux circuits.
    Raises ValueError for what SOCKS 5 cannot carry.
    """

    def __init__(
        self,
        host: str | bytes,
        port: int,
        proxyEndpoint: IStreamClientEndpoint,
        methods: Methods = ANONYMOUS,
        *,
        timeline: Timeline | None = None,
        connected: Callable[[IAddress], None] | None = None,
        replied: Callable[[Reply], None] | None = None,
        optimistic: bool = False,
    ) -> None:
        SOCKS5Machine(host, port, methods)  # raises if they do not fit
        self.host = host
        self.port = port
        self.proxyEndpoint = proxyEndpoint
        self.methods = methods
        self.optimistic = optimistic
        self._hooks = Hooks(timeline, connected, replied)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect through the proxy.

        The Deferred fires with the protocol that ``protocolFactory`` built, connected to ``host`` by the real
        transport of the proxy's connection. It fails with what ``proxyEndpoint.connect`` failed with, with a
        `SOCKSError`, or with `NoApplication` if the factory built no protocol. Cancelling it closes the connection
        at once, in whatever phase, and it fails with ``CancelledError``. In every failure the connection is closed.

        An optimistic connection fires it with the request; what the proxy does after that reaches the protocol.
        A refusal is the reason that its ``connectionLost`` gets: the same `SOCKSError`.
        """
        factory = SOCKS5ClientFactory(
            self.host, self.port, protocolFactory, self.methods, self._hooks, optimistic=self.optimistic
        )
        return factory.connectThrough(self.proxyEndpoint)
