"""One connection to a SOCKS proxy, from its first byte until the application has it.

The machines of `perfd.socks.machine` speak SOCKS; this module connects them to Twisted, stamps the phases, and
hands the connection over to the application's protocol: strictly, when the proxy has granted the request, or
optimistically, when the request is sent (Tor's proposal 174).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    ISSLTransport,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from perfd.clock import Phase, Timeline
from perfd.socks.diagnosis import SILENCE, Diagnosis
from perfd.socks.errors import ConnectionLostEarly, InvalidServerVersion, NoApplication, ReplyError, SOCKSError
from perfd.socks.machine import Connected, Event, Failed, Machine, Negotiated, Reply, RequestSent, Send
from perfd.wire.arrival import StampedSocket, arrival, stamp_arrivals
from perfd.wire.delivery import flush


@attrs.frozen
class Hooks:
    """Who wants to know how a connection comes about.

    ``timeline`` is stamped at each phase: SOCKET, CONNECT, NEGOTIATE (SOCKS 5 only), REQUEST, RESPONSE.
    ``connected`` is called with the local address of the connection to the proxy, before a byte is sent on it.
    ``replied`` is called with the reply that granted the request; a refusal is the exception that the
    Deferred fails with, or that the application loses its optimistic connection with.
    An optimistic client calls ``before_request`` before it sends the request, and goes on when that fires.
    """

    timeline: Timeline | None = None
    connected: Callable[[IAddress], None] | None = None
    replied: Callable[[Reply], None] | None = None
    before_request: Callable[[], Deferred[None]] | None = None

    def now(self) -> float:
        """The moment in the timeline's clock (seconds); 0 without a timeline."""
        return self.timeline.now() if self.timeline is not None else 0.0

    def mark(self, phase: Phase, stamp: float | None = None) -> None:
        if self.timeline is not None:
            self.timeline.mark(phase, stamp)


NO_HOOKS = Hooks()

_T = TypeVar("_T")


class SOCKSClient(Protocol):
    """One connection to a proxy, until the application's protocol takes it over."""

    factory: SOCKSClientFactory
    transport: ITransport
    _receiver: IProtocol | None = None  # the application, or what it put in its place; set when it is connected
    _granted = False  # what arrives from now on is the receiver's
    _given_up = False
    _until_granted: tuple[int, bool] | None = None  # how the application reads, while nothing is read but the reply
    _failure: Failure | None = None  # why it was given up, if the application is still to be told
    _ready: Deferred[None] | None = None  # for the optimistic request
    _held = b""  # what the proxy said before that
    _silence: IDelayedCall | None = None  # when it has lasted too long
    _answered = False

    def connectionMade(self) -> None:
        if self.factory.diagnosis is not None:
            self._silence = self.factory.diagnosis.reactor.callLater(SILENCE, self._silent)
        hooks = self.factory.hooks
        stamp = hooks.now()
        if hooks.timeline is not None:
            stamp_arrivals(self.transport, hooks.timeline.now)
        # An endpoint that connects at once gets here before connect() could stamp the socket.
        hooks.mark(Phase.SOCKET, stamp)
        hooks.mark(Phase.CONNECT, stamp)
        if hooks.connected is not None and not self._tell(hooks.connected, self.transport.getHost()):
            return
        if self.factory.machine.asks_at_once:
            self._when_ready(lambda: self._act(self.factory.machine.start(), stamp))
        else:
            self._act(self.factory.machine.start(), stamp)

    def dataReceived(self, data: bytes) -> None:
        self._not_silent()
        stamp = self._arrival(self.factory.hooks.now())
        if self._granted and self._receiver is not None:
            self._receiver.dataReceived(data)
        else:
            self._held += data
            self._when_ready(lambda: self._receive(stamp))

    def _receive(self, stamp: float) -> None:
        held, self._held = self._held, b""
        if not self._given_up:
            self._act(self.factory.machine.receive(held), stamp)

    def _when_ready(self, step: Callable[[], None]) -> None:
        """Take a step that may send the request; an optimistic one waits for ``before_request``."""
        before_request = self.factory.hooks.before_request
        if self._ready is None and self.factory.optimistic and before_request is not None:
            self._ready = before_request()
            self._ready.addCallback(lambda _: step())
        elif self._ready is None or self._ready.called:
            step()

    def _arrival(self, now: float) -> float:
        """When what was read ``now`` had arrived, as far as the kernel tells."""
        sock = getattr(self.transport, "socket", None)
        hooks = self.factory.hooks
        if not isinstance(sock, StampedSocket) or hooks.timeline is None:
            return now
        return arrival(sock, now, max(hooks.timeline.stamps.values()))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._not_silent()
        failure = self._failure
        if failure is None and not self._closed_by_us(reason):
            for event in self.factory.machine.close():
                if isinstance(event, Failed):
                    event.error.__cause__ = reason.value
                    failure = Failure(event.error)
        self._given_up = True
        if self._receiver is not None:
            self._receiver.connectionLost(failure or reason)
        elif failure is not None:
            self.factory.proxyConnectionFailed(failure)

    def readConnectionLost(self) -> None:
        if self._granted:
            IHalfCloseableProtocol(self._receiver).readConnectionLost()
        else:
            self._act(self.factory.machine.close(), self.factory.hooks.now())

    def writeConnectionLost(self) -> None:
        IHalfCloseableProtocol(self._receiver).writeConnectionLost()

    def giveUp(self) -> None:
        """Close the connection at once."""
        if not self._given_up:
            self._given_up = True
            self._not_silent()
            getattr(self.transport, "abortConnection", self.transport.loseConnection)()

    def _silent(self) -> None:
        """The proxy says nothing: find out whether that is because it does not understand us."""
        finding = self.factory.diagnose()
        finding.addCallback(lambda trouble: self._fail(Failure(trouble)) if self._is_mute(trouble) else None)

    def _is_mute(self, trouble: SOCKSError | None) -> bool:
        return trouble is not None and not self._answered and not self._given_up

    def _not_silent(self) -> None:
        self._answered = True
        if self._silence is not None and self._silence.active():
            self._silence.cancel()

    def _act(self, events: Iterable[Event], stamp: float) -> None:
        """Do what the machine says, at ``stamp``, until the connection is given up, which any step may lead to."""
        hooks = self.factory.hooks
        for event in events:
            if self._given_up:
                return
            match event:
                case Send(data):
                    self.transport.write(data)
                case Negotiated():
                    hooks.mark(Phase.NEGOTIATE, stamp)
                case RequestSent():
                    hooks.mark(Phase.REQUEST)
                    if self.factory.optimistic:
                        self._hand_over()
                case Connected(reply, leftover):
                    hooks.mark(Phase.RESPONSE, stamp)
                    self._grant(reply, leftover)
                case Failed(error):
                    if isinstance(error, ReplyError):
                        hooks.mark(Phase.RESPONSE, stamp)
                    self._fail(Failure(error))
        flush(self.transport)

    def _tell(self, hook: Callable[[_T], None], news: _T) -> bool:
        """Call a hook; true if the connection is still wanted after it."""
        try:
            hook(news)
        except Exception:  # noqa: BLE001 (the caller of connect(), or the application, gets it)
            self._fail(Failure())
        return not self._given_up

    def _fail(self, failure: Failure) -> None:
        """Close the connection, and tell why: who called connect(), or the application if it is connected."""
        if self._receiver is None:
            self.factory.proxyConnectionFailed(failure)
        else:
            self._failure = failure  # for connectionLost, which follows
            self.giveUp()

    def _grant(self, reply: Reply, leftover: bytes) -> None:
        """The proxy granted the request: from here on nothing of ours is in the way of the application.

        Bytes that came with the reply are delivered at once, as the rest of a segment is, also to a paused
        application.
        """
        replied = self.factory.hooks.replied
        if replied is not None and not self._tell(replied, reply):
            return
        self._granted = True
        if self._until_granted is not None:
            transport: Any = self.transport
            transport.bufferSize, transport.socket.wants_first = self._until_granted
        if self._receiver is None:
            self._hand_over()
        elif getattr(self.transport, "protocol", None) is self:
            setattr(self.transport, "protocol", self._receiver)  # noqa: B010 (ITransport has no such attribute)
        wanted = not (self._given_up or getattr(self.transport, "disconnecting", False))
        if leftover and wanted and self._receiver is not None:
            self._receiver.dataReceived(leftover)

    def _hand_over(self) -> None:
        """Give the connection to the application's protocol, as if it had been connected directly.

        The transport then delivers to the application itself. That is done before ``connectionMade``, which may
        start TLS and so put its own protocol there. If the proxy has yet to grant the request, what the transport
        delivers comes here after all until it has. What the application writes at once leaves together with the
        request: transports gather what is written in one turn of the reactor.
        """
        transport: Any = self.transport
        try:
            application = self.factory.proxiedFactory.buildProtocol(transport.getPeer())
            if application is None:
                raise NoApplication
            self._receiver = application
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
        if direct:
            self._receiver = getattr(transport, "protocol", None)
            if not self._granted and self._receiver is not None:
                transport.protocol = self
                sock = getattr(transport, "socket", None)
                if isinstance(sock, StampedSocket):
                    # The reply, and no more: what follows has an arrival of its own.
                    self._until_granted = transport.bufferSize, sock.wants_first
                    transport.bufferSize, sock.wants_first = self.factory.machine.reply_size, False
                if IHalfCloseableProtocol.providedBy(self._receiver):
                    directlyProvides(self, IHalfCloseableProtocol)

    def _closed_by_us(self, reason: Failure) -> bool:
        """Whether the connection was lost because the application or we closed it, rather than the proxy."""
        if self._given_up or self._receiver is None:
            return self._given_up
        return getattr(self.transport, "disconnecting", False) or reason.check(ConnectionAborted) is not None


def _delivers_directly(transport: object) -> bool:
    """Whether received bytes go from ``transport`` to its ``protocol`` as they are.

    A wrapper, for example TLS, has no ``protocol`` of its own; a socket that speaks TLS has one, but it is TLS's.
    """
    return "protocol" in getattr(transport, "__dict__", ()) and not ISSLTransport.providedBy(transport)


# Older Twisted has a ClientFactory that cannot be subscripted at run time.
if TYPE_CHECKING:
    _ClientFactory = ClientFactory[SOCKSClient]
else:
    _ClientFactory = ClientFactory


class SOCKSClientFactory(_ClientFactory):
    """Makes one connection. ``deferred`` fires with the application's protocol, and can be cancelled.

    With a ``diagnosis``, a proxy that says nothing, closes before it has answered or answers in another version is
    found out, and ``deferred`` fails with what is wrong with it.
    """

    noisy = False
    protocol: type[SOCKSClient] = SOCKSClient

    def __init__(
        self,
        machine: Machine,
        proxiedFactory: IProtocolFactory,
        hooks: Hooks,
        *,
        optimistic: bool = False,
        diagnosis: Diagnosis | None = None,
    ) -> None:
        self.machine = machine
        self.proxiedFactory = proxiedFactory
        self.hooks = hooks
        self.optimistic = optimistic
        self.diagnosis = diagnosis
        self._explaining = False
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
        if self._cancelled or self.deferred.called or self._explaining:
            return
        if self._client is not None:
            self._client.giveUp()
        if self.diagnosis is not None and reason.check(ConnectionLostEarly, InvalidServerVersion):
            self._explaining = True
            self.diagnose().addCallback(lambda trouble: self._explained(reason, trouble))
        else:
            self.deferred.errback(reason)

    def diagnose(self) -> Deferred[SOCKSError | None]:
        """What is wrong with the proxy itself; None if nothing can be found."""
        assert self.diagnosis is not None
        return Deferred.fromCoroutine(self.diagnosis.trouble())

    def _explained(self, reason: Failure, trouble: SOCKSError | None) -> None:
        if not self._cancelled:
            self.deferred.errback(reason if trouble is None else Failure(trouble))

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
