"""The ways of a measurement: a tor, or what stands in its place when there is none, and the ways to our server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import attrs
from twisted.internet.defer import Deferred, DeferredLock, fail, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

from perfd.clock import Phase, Timeline
from perfd.config.records import ELSEWHERE, NO_TOR, ExperimentConfig
from perfd.config.target import TargetConfig
from perfd.interfaces import Tor, WayToServer
from perfd.record import Error
from perfd.socks import Hooks
from perfd.tor.bootstrap.launcher import Launcher
from perfd.tor.circuits.chosen import Circuits
from perfd.tor.events.listener import ControlEvents
from perfd.tor.guards.keeper import Guards
from perfd.tor.onion import VIRTUAL_PORT, OnionService


@attrs.frozen
class MeasuredTor:
    """A tor with what belongs to it: its turn, its control events, its guards, the label of its transport."""

    tor: Tor
    turn: DeferredLock = attrs.Factory(DeferredLock)  # whoever holds it is alone on this tor
    events: ControlEvents | None = None
    guards: Guards | None = None  # None: tor's own choice
    circuits: Circuits | None = None  # what builds them over relays that are chosen
    _transport: str | None = None
    client: str | None = None  # what kind of client is in the place of a tor
    told_transport: Callable[[], str | None] = lambda: None
    launcher: Launcher | None = None  # of a tor that does not run, but is launched for each run

    @property
    def transport(self) -> str | None:
        """The label of its bridges' transport: as configured, or as a tor that is attached to tells."""
        return self._transport or self.told_transport()

    @property
    def name(self) -> str:
        return str(self.tor.name)

    @property
    def version(self) -> str | None:
        """That of tor, None of what is none."""
        return self.tor.version if self.client is None else None

    @property
    def keys(self) -> Mapping[str, str]:
        """The keys CLIENT and CLIENTVERSION of records over a client that is no tor."""
        if self.client is None:
            return {}
        version = self.tor.version
        return {"CLIENT": self.client, **({} if version is None else {"CLIENTVERSION": version})}

    @property
    def not_ready(self) -> str | None:
        """Why no measurement can run now; None when one can."""
        return self.tor.not_ready or (self.guards.not_ready if self.guards is not None else None)

    def endpoint(
        self,
        host: str,
        port: int,
        user: str,
        *,
        timeline: Timeline,
        connected: Callable[[IAddress], None],
        optimistic: bool,
    ) -> IStreamClientEndpoint:
        """The way to ``host`` through this tor.

        Tor carries streams with the same ``user`` on the same circuits, and no others (IsolateSOCKSAuth).
        ``connected`` is called with our address before anything is written to the SOCKS port. If the tor was lost,
        connecting fails.
        """
        try:
            socks_port = self.tor.socks_port()
        except RuntimeError:
            return NoWay(self.tor.not_ready or f"tor {self.name} was lost")
        hooks = Hooks(timeline, connected)
        return socks_port.through(host, port, (user, "perfd"), hooks, optimistic=optimistic)


class TorLostError(Exception):
    """A tor that was there when a run began is not any more; the message says why."""

    errorcode = Error.NOTREADY


@implementer(IStreamClientEndpoint)
@attrs.frozen
class NoWay:
    """In the place of a tor's endpoint when there is none: connecting fails with ``TorLostError``."""

    reason: str

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return fail(TorLostError(self.reason))


@attrs.frozen
class NoTor:
    """``tor = none``: what ``MeasuredTor`` does, by a direct connection."""

    reactor: IReactorTime
    turn: DeferredLock = attrs.Factory(DeferredLock)
    name: str = attrs.field(default=NO_TOR, init=False)
    version: None = attrs.field(default=None, init=False)
    events: None = attrs.field(default=None, init=False)
    guards: None = attrs.field(default=None, init=False)
    transport: None = attrs.field(default=None, init=False)
    keys: Mapping[str, str] = attrs.field(factory=dict, init=False)
    not_ready: None = attrs.field(default=None, init=False)

    def endpoint(
        self,
        host: str,
        port: int,
        user: str,
        *,
        timeline: Timeline,
        connected: Callable[[IAddress], None],
        optimistic: bool,
    ) -> IStreamClientEndpoint:
        """The direct way to ``host``: there is nothing to isolate, and no reply to wait for."""
        kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        return _Direct(kind(self.reactor, host, port), timeline, connected)


WayIn = MeasuredTor | NoTor
"""What an experiment measures through."""


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _Direct:
    """An endpoint that stamps SOCKET and CONNECT, as those of SOCKS do."""

    endpoint: IStreamClientEndpoint
    timeline: Timeline
    connected: Callable[[IAddress], None]

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        def build(addr: IAddress) -> IProtocol | None:
            stamp = self.timeline.now()
            self.timeline.mark(Phase.SOCKET, stamp)
            self.timeline.mark(Phase.CONNECT, stamp)
            return factory.buildProtocol(addr)

        stamping = _StampingFactory(build)
        connecting = maybeDeferred(self.endpoint.connect, stamping)
        self.timeline.mark(Phase.SOCKET)
        return connecting.addCallback(self._tell)

    def _tell(self, protocol: Any) -> Any:
        if getattr(protocol, "transport", None) is not None:
            self.connected(protocol.transport.getHost())
        return protocol


class _StampingFactory(Factory):
    """Stamps when the connection is there, and has the protocol built."""

    noisy = False

    def __init__(self, build: Callable[[IAddress], IProtocol | None]) -> None:
        self._build = build

    def buildProtocol(self, addr: Any) -> Any:
        return self._build(addr)


class Listening(Protocol):
    """A server that knows its port once that is bound."""

    @property
    def port(self) -> int:
        """The port."""


@attrs.frozen
class PublicAddress:
    """The way to our server over an exit: its public address; the port is known when it is bound."""

    name: str = attrs.field(default="public", init=False)
    not_ready: str | None = attrs.field(default=None, init=False)
    host: str
    configured_port: int
    web: Listening

    @property
    def port(self) -> int:
        return self.configured_port or self.web.port


@attrs.frozen
class OnionAddress:
    """The way to our server over its onion service."""

    name: str = attrs.field(default="onion", init=False)
    port: int = attrs.field(default=VIRTUAL_PORT, init=False)
    service: OnionService

    @property
    def not_ready(self) -> str | None:
        return self.service.not_ready

    @property
    def host(self) -> str:
        return self.service.host


@attrs.frozen
class Elsewhere:
    """In the place of a way to our server, for what is not ours: a ``target``, or a page (None)."""

    name: str = attrs.field(default=ELSEWHERE, init=False)
    not_ready: None = attrs.field(default=None, init=False)
    host: str
    port: int
    target: TargetConfig | None = None

    @classmethod
    def of(cls, url: str, target: TargetConfig | None = None) -> Elsewhere:
        """Where ``url`` is."""
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), target)


def elsewhere(config: ExperimentConfig) -> list[Elsewhere]:
    """Where all is that an experiment measures elsewhere."""
    if config.url is not None:
        return [Elsewhere.of(config.url)]
    return [Elsewhere.of(target.url, target) for target in config.targets]


def authority(server: WayToServer) -> str:
    """A server as the Host header and URLs name it."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{host}:{server.port}"
