"""What perfd.conf says, as frozen records. Durations are in seconds, sizes in bytes."""

from __future__ import annotations

from pathlib import Path

import attrs

from perfd.config.values import Address, GuardPolicy, SOCKSAddress


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

    @property
    def torrc_lines(self) -> tuple[str, ...]:
        """All lines for the torrc of this tor."""
        return (
            *self.torrc.splitlines(),
            *(["UseBridges 1"] if self.bridges else []),
            *(f"ClientTransportPlugin {plugin}" for plugin in self.transport_plugins),
            *(f"Bridge {bridge}" for bridge in self.bridges),
        )


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
    """``[experiment:NAME]``: a kind of measurement and its schedule. Options of other types have their defaults."""

    name: str
    type: str
    size: int
    interval: float
    offset: float
    timeout: float
    tors: tuple[str, ...]
    servers: tuple[str, ...]
    fresh_circuits: bool = True
    skip_until_cbt: bool = False
    fresh_descriptor: bool = False
    # download, pageload
    optimistic: str | None = None  # yes, no or both; None: no, and not in the record
    # download
    parallel: int = 1
    is_on_one_circuit: bool = True
    # upload
    expect_continue: bool = False
    # series
    requests: int = 10
    groups: int = 1
    stagger: float | None = None  # None: one after the other
    # rtt
    rate: float = 10.0  # exchanges per second
    duration: float = 10.0  # of each of the two phases
    # pageload
    page: str = "canonical"
    url: str | None = None
    browsers: tuple[str, ...] = ("default",)
    quiet: float = 2.0
    screenshot: bool = True
    filmstrip: bool = False
    insecure: bool = False


@attrs.frozen(kw_only=True)
class Config:
    """A whole perfd.conf. Relative paths in it are relative to ``directory``."""

    path: Path
    directory: Path
    source: str
    network: str
    socks_proxy: SOCKSAddress | None
    testnet: Path
    database: str
    keep_logs: int  # days
    keep: int | None  # days of measurements; None: for ever
    keep_events: int  # days of circuits, streams and events
    keep_har: int  # days of HAR files and screenshots
    archive: bool
    user: str | None  # whom a daemon that root starts becomes
    group: str | None
    server: ServerConfig
    tors: tuple[TorConfig, ...]
    browsers: tuple[BrowserConfig, ...]
    experiments: tuple[ExperimentConfig, ...]
