"""SOCKS client endpoints and factories, with txsocksx's names.

The machines of `perfd.socks.machine` speak SOCKS; this module connects them to Twisted, stamps the phases, and
hands the connection over to the application's protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    ISSLTransport,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer

from perfd.clock import Phase, Timeline
from perfd.socks.errors import ReplyError
from perfd.socks.machine import (
    ANONYMOUS,
    Connected,
    Event,
    Failed,
    Machine,
    Methods,
    Negotiated,
    Reply,
    RequestSent,
    Send,
    SOCKS4Machine,
    SOCKS5Machine,
)


@attrs.frozen
class Hooks:
    """Who wants to know how a connection comes about.

    ``timeline`` is stamped at each phase: SOCKET, CONNECT, NEGOTIATE (SOCKS 5 only), REQUEST, RESPONSE.
    ``connected`` is called with the local address of the connection to the proxy, before a byte is sent on it.
    ``replied`` is called with the reply that granted the request; a refusal is the exception that the
    Deferred fails with.
    """

    timeline: Timeline | None = None
    connected: Callable[[IAddress], None] | None = None
    replied: Callable[[Reply], None] | None = None

    def now(self) -> float:
        """The moment in the timeline's clock (seconds); 0 without a timeline."""
        return self.timeline.now() if self.timeline is not None else 0.0

    def mark(self, phase: Phase, stamp: float | None = None) -> None:
        if self.timeline is not None:
            self.timeline.mark(phase, stamp)


_NO_HOOKS = Hooks()

_T = TypeVar("_T")


class SOCKSClient(Protocol):
    """One connection to a proxy, until the application's protocol takes it over."""

    factory: _SOCKSClientFactory
    transport: ITransport
    _application: IProtocol | None = None
    _given_up = False

    def connectionMade(self) -> None:
        hooks = self.factory.hooks
        stamp = hooks.now()
        # An endpoint that connects at once gets here before connect() could stamp the socket.
        hooks.mark(Phase.SOCKET, stamp)
        hooks.mark(Phase.CONNECT, stamp)
        if hooks.connected is not None and not self._tell(hooks.connected, self.transport.getHost()):
            return
        self._act(self.factory.machine.start(), stamp)

    def dataReceived(self, data: bytes) -> None:
        stamp = self.factory.hooks.now()
        if self._application is not None:
            self._application.dataReceived(data)
        elif not self._given_up:
            self._act(self.factory.machine.receive(data), stamp)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._application is not None:
            self._application.connectionLost(reason)
            return
        for event in self.factory.machine.close():
            if isinstance(event, Failed):
                event.error.__cause__ = reason.value
                self._given_up = True
                self.factory.proxyConnectionFailed(Failure(event.error))

    def readConnectionLost(self) -> None:
        IHalfCloseableProtocol(self._application).readConnectionLost()

    def writeConnectionLost(self) -> None:
        IHalfCloseableProtocol(self._application).writeConnectionLost()

    def giveUp(self) -> None:
        """Close the connection at once."""
        if not self._given_up:
            self._given_up = True
            getattr(self.transport, "abortConnection", self.transport.loseConnection)()

    def _act(self, events: Iterable[Event], stamp: float) -> None:
        hooks = self.factory.hooks
        for event in events:
            match event:
                case Send(data):
                    self.transport.write(data)
                case Negotiated():
                    hooks.mark(Phase.NEGOTIATE, stamp)
                case RequestSent():
                    hooks.mark(Phase.REQUEST)
                case Connected(reply, leftover):
                    hooks.mark(Phase.RESPONSE, stamp)
                    if hooks.replied is None or self._tell(hooks.replied, reply):
                        self._hand_over(leftover)
                case Failed(error):
                    if isinstance(error, ReplyError):
                        hooks.mark(Phase.RESPONSE, stamp)
                    self.factory.proxyConnectionFailed(Failure(error))

    def _tell(self, hook: Callable[[_T], None], news: _T) -> bool:
        """Call a hook; true if the connection is still wanted after it."""
        try:
            hook(news)
        except Exception:  # noqa: BLE001 (the caller of connect() gets it)
            self.factory.proxyConnectionFailed(Failure())
        return not self._given_up

    def _hand_over(self, leftover: bytes) -> None:
        """Give the connection to the application's protocol, as if it had been connected directly.

        The transport then delivers to the application itself, so nothing of ours is left in the way. That is
        done before ``connectionMade``, which may start TLS and so put its own protocol there. Bytes that came
        with the reply are delivered at once, as the rest of a segment is, also to a paused application.
        """
        transport: Any = self.transport
        try:
            application = self.factory.proxiedFactory.buildProtocol(transport.getPeer())
            if application is None:
                raise NoProtocol
            self._application = application
            direct = _delivers_directly(transport)
            if direct:
                transport.protocol = application
            elif IHalfCloseableProtocol.providedBy(application):
                directlyProvides(self, IHalfCloseableProtocol)
            application.makeConnection(transport)
        except Exception:  # noqa: BLE001 (the caller of connect() gets it)
            self.factory.proxyConnectionFailed(Failure())
            return
        self.factory.proxyConnectionEstablished(application)
        receiver = getattr(transport, "protocol", None) if direct else application
        if leftover and receiver is not None and not getattr(transport, "disconnecting", False):
            receiver.dataReceived(leftover)


def _delivers_directly(transport: object) -> bool:
    """Whether received bytes go from ``transport`` to its ``protocol`` as they are.

    A wrapper, for example TLS, has no ``protocol`` of its own; a socket that speaks TLS has one, but it is TLS's.
    """
    return "protocol" in getattr(transport, "__dict__", ()) and not ISSLTransport.providedBy(transport)


class SOCKS4Client(SOCKSClient):
    """A connection to a SOCKS 4 proxy."""


class SOCKS5Client(SOCKSClient):
    """A connection to a SOCKS 5 proxy."""


# Older Twisted has a ClientFactory that cannot be subscripted at run time.
if TYPE_CHECKING:
    _ClientFactory = ClientFactory[SOCKSClient]
else:
    _ClientFactory = ClientFactory


class _SOCKSClientFactory(_ClientFactory):
    """Makes one connection. ``deferred`` fires with the application's protocol, and can be cancelled."""

    noisy = False
    protocol: type[SOCKSClient]

    def __init__(self, machine: Machine, proxiedFactory: IProtocolFactory, hooks: Hooks) -> None:
        self.machine = machine
        self.proxiedFactory = proxiedFactory
        self.hooks = hooks
        self.deferred: Deferred[IProtocol] = Deferred(self._cancel)
        self._client: SOCKSClient | None = None
        self._stop_connecting: Callable[[], object] | None = None
        self._cancelled = False

    def doStart(self) -> None:
        self.proxiedFactory.doStart()

    def doStop(self) -> None:
        self.proxiedFactory.doStop()

    def startedConnecting(self, connector: IConnector) -> None:
        self._stop_connecting = connector.stopConnecting

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self.proxyConnectionFailed(reason)

    def connectThrough(self, proxyEndpoint: IStreamClientEndpoint) -> Deferred[IProtocol]:
        """Connect to the proxy; returns ``deferred``."""
        connecting = maybeDeferred(proxyEndpoint.connect, self)
        self.hooks.mark(Phase.SOCKET)
        self._stop_connecting = connecting.cancel
        connecting.addCallbacks(lambda _: None, self.proxyConnectionFailed)
        return self.deferred

    def buildProtocol(self, addr: IAddress | None) -> SOCKSClient | None:
        if self.deferred.called or self._client is not None:
            return None
        self._client = self.protocol()
        self._client.factory = self
        return self._client

    def proxyConnectionFailed(self, reason: Failure) -> None:
        """Close the connection, if there is one, and tell why it failed."""
        if self._cancelled or self.deferred.called:
            return
        if self._client is not None:
            self._client.giveUp()
        self.deferred.errback(reason)

    def proxyConnectionEstablished(self, application: IProtocol) -> None:
        """Tell that ``application`` has the connection, unless it cancelled it while being connected."""
        if not self.deferred.called:
            self.deferred.callback(application)

    def _cancel(self, deferred: Deferred[IProtocol]) -> None:
        # The Deferred fails with its own CancelledError after this.
        self._cancelled = True
        if self._client is not None:
            self._client.giveUp()
        elif self._stop_connecting is not None:
            self._stop_connecting()


class SOCKS4ClientFactory(_SOCKSClientFactory):
    """Connects ``proxiedFactory``'s protocol through the SOCKS 4 proxy that it is itself connected to."""

    protocol = SOCKS4Client

    def __init__(
        self,
        host: str | bytes,
        port: int,
        proxiedFactory: IProtocolFactory,
        user: str | bytes = "",
        hooks: Hooks = _NO_HOOKS,
    ) -> None:
        super().__init__(SOCKS4Machine(host, port, user), proxiedFactory, hooks)


class SOCKS5ClientFactory(_SOCKSClientFactory):
    """Connects ``proxiedFactory``'s protocol through the SOCKS 5 proxy that it is itself connected to."""

    protocol = SOCKS5Client

    def __init__(
        self,
        host: str | bytes,
        port: int,
        proxiedFactory: IProtocolFactory,
        methods: Methods = ANONYMOUS,
        hooks: Hooks = _NO_HOOKS,
    ) -> None:
        super().__init__(SOCKS5Machine(host, port, methods), proxiedFactory, hooks)


@implementer(IStreamClientEndpoint)
class SOCKS4ClientEndpoint:
    """An endpoint behind a SOCKS 4 or 4a proxy.

    ``host`` is where to connect to: an IPv4 literal is sent as SOCKS 4; any other host is a name, which goes to
    the proxy in SOCKS 4a, unresolved. ``proxyEndpoint`` is the endpoint of the proxy itself, ``user`` the user ID.
    Host and user can be str or bytes. ``timeline``, ``connected`` and ``replied`` are explained at `Hooks`.
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
    ) -> None:
        SOCKS4Machine(host, port, user)  # raises if they do not fit
        self.host = host
        self.port = port
        self.proxyEndpoint = proxyEndpoint
        self.user = user
        self._hooks = Hooks(timeline, connected, replied)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect through the proxy; see `SOCKS5ClientEndpoint.connect`."""
        factory = SOCKS4ClientFactory(self.host, self.port, protocolFactory, self.user, self._hooks)
        return factory.connectThrough(self.proxyEndpoint)


@implementer(IStreamClientEndpoint)
class SOCKS5ClientEndpoint:
    """An endpoint behind a SOCKS 5 proxy.

    ``host`` is where to connect to: an IPv4 or IPv6 literal goes to the proxy as an address, any other host as a
    name, unresolved. ``proxyEndpoint`` is the endpoint of the proxy itself. ``methods`` are the authentication
    methods to offer: ``{"anonymous": ()}``, ``{"login": (user, password)}`` or both. Host, user and password can
    be str or bytes. ``timeline``, ``connected`` and ``replied`` are explained at `Hooks`.
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
    ) -> None:
        SOCKS5Machine(host, port, methods)  # raises if they do not fit
        self.host = host
        self.port = port
        self.proxyEndpoint = proxyEndpoint
        self.methods = methods
        self._hooks = Hooks(timeline, connected, replied)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect through the proxy.

        The Deferred fires with the protocol that ``protocolFactory`` built, connected to ``host`` by the real
        transport of the proxy's connection. It fails with what ``proxyEndpoint.connect`` failed with, with a
        `SOCKSError`, or with `NoProtocol` if the factory built none. Cancelling it closes the connection at once,
        in whatever phase, and it fails with ``CancelledError``. In every failure the connection is closed.
        """
        factory = SOCKS5ClientFactory(self.host, self.port, protocolFactory, self.methods, self._hooks)
        return factory.connectThrough(self.proxyEndpoint)
