"""What perfd.conf says, as frozen records. Durations are in seconds, sizes in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from perfd.config.relays import RelaysConfig, ScanConfig
from perfd.config.target import TargetConfig
from perfd.config.testnet import TestnetConfig
from perfd.config.values import Address, Arm, GuardPolicy, SOCKSAddress

EMPTY: Mapping[str, Any] = MappingProxyType({})

ELSEWHERE = "url"
"""In the place of a way to our server, for what is not ours."""

NO_TOR = "none"
"""The name that stands for no tor at all: a direct connection, the baseline."""


@attrs.frozen(kw_only=True)
class ServerConfig:
    """``[server]``: our own web server."""

    listen: Address
    public_address: Address
    results: str
    max_size: int
    max_rate: int | None  # bytes per second that strangers get; None: no bound
    max_connections: int
    page_ports: tuple[int, ...]  # more ports, for the other origins of the canonical page; 0: any free one
    onion_tor: str  # the tor that publishes the server as an onion service
    single_onion: bool
    onion_auth: bool  # only our own tors are let in
    onion_metrics: float | None  # seconds from one look at its tor's MetricsPort to the next; None: it is not read
    onion_pow: bool  # clients may have to do a proof of work when it has too many
    title: str  # of the pages for people
    description: str  # what is measured here, in a sentence or two; may be empty
    contact: str  # of the operator; may be empty
    is_indexed: bool  # search engines may have the pages


@attrs.frozen(kw_only=True)
class TorConfig:
    """``[tor:NAME]``: a tor to launch, or (``control``) a running one to attach to."""

    name: str
    binary: str
    torrc: str
    control: str | None  # host:port, or the path of a socket
    control_password: str | None = attrs.field(repr=False)  # for a HashedControlPassword
    bootstrap_timeout: float  # seconds
    bridges: tuple[str, ...]
    transport_plugins: tuple[str, ...]
    transport: str | None  # the label of the bridges' transport in records
    guards: GuardPolicy
    drop_guards: float | None  # seconds
    uses_testnet_bridges: bool = False  # those of the private network that take ``transport``
    conflux_ux: str | None = None  # what exits are asked to send over Conflux sets for; None: tor's default

    @property
    def torrc_lines(self) -> tuple[str, ...]:
        """All lines for the torrc of this tor."""
        return (
            *self.torrc.splitlines(),
            *([f"ConfluxClientUX {self.conflux_ux}"] if self.conflux_ux else []),
            *(["UseBridges 1"] if self.bridges else []),
            *(f"ClientTransportPlugin {plugin}" for plugin in self.transport_plugins),
            *(f"Bridge {bridge}" for bridge in self.bridges),
        )


@attrs.frozen(kw_only=True)
class ClientConfig:
    """``[client:NAME]``: a client with a SOCKS port and no control port, in the place of a tor."""

    name: str
    kind: str  # socks or arti
    socks: SOCKSAddress | None  # None: Arti says itself where it listens
    command: tuple[str, ...]  # what is launched; none: somebody else runs it
    directory: Path  # in which it is
    version_command: tuple[str, ...]
    is_isolating: bool  # a user name keeps streams apart from those with another
    bootstrap_timeout: float  # seconds

    @property
    def is_our_arti(self) -> bool:
        """Whether Perfd launches it with a configuration, that of the private network too."""
        return self.kind == "arti" and bool(self.command)


@attrs.frozen(kw_only=True)
class BrowserConfig:
    """``[browser:NAME]``: a browser to load pages with."""

    name: str
    driver: str  # bidi or selenium
    binary: str
    profile: Path | None  # copied for each process
    is_warm: bool  # one process for many page loads
    geckodriver: str
    selenium_url: str | None


@attrs.frozen(kw_only=True)
class ExperimentConfig:
    """``[experiment:NAME]``: a kind of measurement and its schedule."""

    name: str
    type: str
    size: int  # 0 for kinds that have none
    interval: float
    offset: float
    timeout: float
    tors: tuple[str, ...]
    servers: tuple[str, ...]
    fresh_circuits: bool = True
    skip_until_cbt: bool = False
    fresh_descriptor: bool = False
    options: Mapping[str, Any] = EMPTY
    """Those of its kind, by ``Option.attribute``: what a run of it is made with."""
    targets: tuple[TargetConfig, ...] = ()  # what is fetched from elsewhere, in turn; it is measured once for each
    relays: RelaysConfig | None = None  # over which circuits are built for it; None: tor's own circuits
    scan: ScanConfig | None = None  # the relays that are measured in turn

    @property
    def browsers(self) -> tuple[str, ...]:
        """The browsers in which it is measured, in turn; none for most kinds."""
        browsers: tuple[str, ...] = self.options.get("browsers", ())
        return browsers

    @property
    def url(self) -> str | None:
        """A page elsewhere, which is loaded instead of anything from our own server."""
        url: str | None = self.options.get("url")
        return url

    @property
    def ways(self) -> int:
        """By how many ways and browsers each tor is measured."""
        return len(self.targets or self.servers) * max(1, len(self.browsers))

    @property
    def reaches_onion(self) -> bool:
        """Whether what it reaches, all of it, is an onion service."""
        if self.targets:
            return all(target.onion is not None for target in self.targets)
        return self.servers == ("onion",)


@attrs.frozen(kw_only=True)
class ComparisonConfig:
    """``[comparison:NAME]``. ``experiments`` are those of both arms; ``blocks`` None: it never ends."""

    name: str
    arms: tuple[Arm, ...]
    experiments: tuple[ExperimentConfig, ...] = ()
    tors: tuple[str, ...] = ()  # of its data directories
    block: int | None  # None: as many as the pilot finds best
    blocks: int | None
    looks: int  # of one with ``blocks``
    primary: str
    margin: float
    pause: float  # seconds between two runs
    beside: bool  # whether it runs while other experiments do
    build_timeouts: str = (
        ""  # what its tors know of circuit build timeouts: ``learnt`` before it begins, or ``off``
    )

    @property
    def design(self) -> dict[str, object]:
        """What must not change while it goes on, ready for JSON."""
        urls = [target.url for target in self.experiments[0].targets]
        return {
            "arms": [[arm.name, *arm.torrc, arm.binary, dict(sorted(arm.options.items()))] for arm in self.arms],
            "type": self.experiments[0].type,
            "size": self.experiments[0].size,
            "block": self.block,
            "blocks": self.blocks,
            "looks": self.looks,
            "build timeouts": self.build_timeouts,
            "primary": self.primary,
            "margin": self.margin,
            **({"urls": urls} if urls else {}),
            **({"relays": relays} if any(relays := [str(each.relays or "") for each in self.experiments]) else {}),
        }


@attrs.frozen(kw_only=True)
class Config:
    """A whole perfd.conf. Relative paths in it are relative to ``directory``."""

    path: Path
    directory: Path
    source: str
    network: str
    socks_proxy: SOCKSAddress | None
    testnet: Path
    private_network: TestnetConfig
    database: str
    keep_logs: int  # days
    keep: int | None  # days of measurements; None: for ever
    keep_events: int  # days of circuits, streams and events
    keep_har: int  # days of HAR files and screenshots
    archive: bool
    user: str | None  # whom a daemon that root starts becomes
    group: str | None
    contact: str | None  # how the operators of other servers reach ours; it is sent to them
    server: ServerConfig
    tors: tuple[TorConfig, ...]
    browsers: tuple[BrowserConfig, ...]
    experiments: tuple[ExperimentConfig, ...]
    comparisons: tuple[ComparisonConfig, ...] = ()
    clients: tuple[ClientConfig, ...] = ()
    keep_curves: int = 30  # days of curves
