"""perfd.conf: read once into frozen objects, with all mistakes reported together.

The file is an INI file. Unknown sections and options are errors. Every problem names the file, the section and
the option, and says what would be right.
"""

from __future__ import annotations

import configparser
import difflib
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import attrs

from perfd.units import format_size, parse_duration, parse_size
from perfd.values import (
    NAME,
    Address,
    GuardPolicy,
    a_name,
    address,
    control_port,
    database_url,
    lines,
    names,
    nonempty,
    one_of,
    positive,
    several_of,
    transport_of,
    whole_days,
    whole_number,
    yes_or_no,
)

T = TypeVar("T")

NETWORKS = ("testnet", "tor", "socks")
RESULTS = ("all", "local", "none")
TYPES = ("download",)
SERVERS = ("public", "onion")
CIRCUITS = ("fresh", "reuse")


LONGEST_INTERVAL = 366 * 86400.0
LARGEST_SIZE = 2**40


class ConfigError(Exception):
    """Everything that is wrong with a configuration; ``problems`` has a line for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@attrs.frozen(kw_only=True)
class ServerConfig:
    """``[server]``: our own web server."""

    listen: Address
    public_address: Address
    results: str
    max_size: int  # bytes
    max_connections: int
    onion_tor: str  # the tor that publishes the server as an onion service


@attrs.frozen(kw_only=True)
class TorConfig:
    """``[tor:NAME]``: a tor to launch, or (``control``) a running one to attach to."""

    name: str
    binary: str
    torrc: str
    control: str | None  # host:port, or the path of a socket
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
class ExperimentConfig:
    """``[experiment:NAME]``: a kind of measurement and its schedule."""

    name: str
    type: str
    size: int  # bytes
    interval: float  # seconds
    offset: float  # seconds
    timeout: float  # seconds
    tors: tuple[str, ...]
    servers: tuple[str, ...]
    fresh_circuits: bool = True
    skip_until_cbt: bool = False


@attrs.frozen(kw_only=True)
class Config:
    """A whole perfd.conf. Relative paths in it are relative to ``directory``."""

    path: Path
    directory: Path
    source: str
    network: str
    socks_proxy: Address | None
    testnet: Path
    database: str
    keep_logs: int  # days
    keep: int | None  # days of measurements; None: for ever
    keep_events: int  # days of circuits, streams and events
    archive: bool
    server: ServerConfig
    tors: tuple[TorConfig, ...]
    experiments: tuple[ExperimentConfig, ...]


def load_config(path: Path) -> Config:
    """The configuration in the file ``path``, or the perfd.conf in that directory. Raises ``ConfigError``."""
    if path.is_dir():
        path /= "perfd.conf"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file; `perfd init DIR` writes one"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    return parse_config(text, path)


def parse_config(text: str, path: Path) -> Config:
    """The configuration ``text``; ``path`` names it in messages. Raises ``ConfigError``."""
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#",), default_section="")
    try:
        parser.read_string(text, source=str(path))
    except configparser.Error as error:
        raise ConfigError([f"{path}: {' '.join(str(error).split())}"]) from None
    return _Reader(path, {name: dict(parser[name]) for name in parser.sections()}).config()


class _Section:
    """One section while it is read: hands out options, collects problems, and knows what was asked for."""

    def __init__(self, path: Path, name: str, values: Mapping[str, str], problems: list[str]) -> None:
        self._place = f"{path}: [{name}]"
        self._values = values
        self._problems = problems
        self._known: set[str] = set()

    def get(self, option: str, read: Callable[[str], T], default: T) -> T:
        self._known.add(option)
        if option not in self._values:
            return default
        try:
            return read(self._values[option].strip())
        except ValueError as error:
            self.problem(option, str(error))
            return default

    def problem(self, option: str, message: str) -> None:
        self._problems.append(f"{self._place} {option}: {message}")

    def finish(self) -> None:
        """Report the options that nothing asked for."""
        for option in self._values:
            if option not in self._known:
                self.problem(option, f"unknown option{_suggestion(option, self._known)}")


class _Reader:
    """Reads the sections in turn; ``config`` gives the result or raises with all problems."""

    def __init__(self, path: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
        self._path = path
        self._sections = sections
        self._problems: list[str] = []

    def config(self) -> Config:
        self._check_section_names()
        server = self._server()
        tors = self._tors()
        perfd = self._section("perfd")
        network = perfd.get("network", one_of(NETWORKS), "testnet")
        directory = self._path.absolute().parent
        config = Config(
            path=self._path,
            directory=directory,
            source=perfd.get("source", a_name, _host_label()),
            network=network,
            socks_proxy=perfd.get("socks-proxy", address, None),
            testnet=directory / perfd.get("testnet", nonempty, "testnet"),
            database=perfd.get("database", database_url, "sqlite:///perfd.sqlite"),
            keep_logs=perfd.get("keep-logs", whole_days, 14),
            keep=perfd.get("keep", whole_days, None),
            keep_events=perfd.get("keep-events", whole_days, 30),
            archive=perfd.get("archive", yes_or_no, True),
            server=server,
            tors=tors if network != "socks" else (),
            experiments=tuple(
                self._experiment(section, server.max_size, network, {tor.name for tor in tors})
                for section in self._sections
                if section.startswith("experiment:")
            ),
        )
        if config.socks_proxy is not None and network != "socks":
            perfd.problem("socks-proxy", "only used with network = socks")
        perfd.finish()
        if server.onion_tor not in {tor.name for tor in tors}:
            self._section("server").problem("onion-tor", f"no tor is named {server.onion_tor!r}")
        self._check_reachable(config)
        if self._problems:
            raise ConfigError(self._problems)
        return config

    def _section(self, name: str, *, defaults: str | None = None) -> _Section:
        values = {**self._sections.get(defaults or name, {}), **self._sections.get(name, {})}
        return _Section(self._path, name, values, self._problems)

    def _check_section_names(self) -> None:
        plain = ("perfd", "server", "tor")
        for section in self._sections:
            kind, colon, name = section.partition(":")
            if section in plain:
                continue
            if kind not in ("tor", "experiment") or not colon:
                hint = _suggestion(section, (*plain, "tor:NAME", "experiment:NAME"))
                self._problems.append(f"{self._path}: [{section}]: unknown section{hint}")
            elif not NAME.fullmatch(name):
                self._problems.append(
                    f"{self._path}: [{section}]: the name must be letters, digits and hyphens, at most 64"
                )

    def _server(self) -> ServerConfig:
        section = self._section("server")
        listen = section.get("listen", address, Address("127.0.0.1", 8080))
        config = ServerConfig(
            listen=listen,
            public_address=section.get("public-address", address, listen),
            results=section.get("results", one_of(RESULTS), "all"),
            max_size=section.get("max-size", positive(parse_size), 2**30),
            max_connections=section.get("max-connections", positive(whole_number), 500),
            onion_tor=section.get("onion-tor", a_name, "default"),
        )
        if config.max_size > LARGEST_SIZE:
            section.problem("max-size", f"must be at most {format_size(LARGEST_SIZE)}")
        if config.public_address.is_any:
            section.problem("public-address", f"needed, since {listen.host} is no address that others can reach")
        section.finish()
        return config

    def _tors(self) -> tuple[TorConfig, ...]:
        """The tor named default, whose options are the defaults of all, and the named ones."""
        named = [section for section in self._sections if section.startswith("tor:")]
        default = () if "tor:default" in named else (self._tor("tor", "default"),)
        return (*default, *(self._tor(section, section.partition(":")[2]) for section in named))

    def _tor(self, section_name: str, name: str) -> TorConfig:
        section = self._section(section_name, defaults="tor")
        no_lines: tuple[str, ...] = ()
        bridges = section.get("bridges", lines, no_lines)
        config = TorConfig(
            name=name,
            binary=section.get("binary", nonempty, "tor"),
            torrc=section.get("torrc", str, ""),
            control=section.get("control", control_port, None),
            bootstrap_timeout=section.get("bootstrap-timeout", positive(parse_duration), 300.0),
            bridges=bridges,
            transport_plugins=section.get("transport-plugins", lines, no_lines),
            transport=section.get("transport", a_name, transport_of(bridges)),
            guards=section.get("guards", GuardPolicy.parse, GuardPolicy()),
            drop_guards=section.get("drop-guards", positive(parse_duration), None),
        )
        section.finish()
        return config

    def _experiment(self, section_name: str, max_size: int, network: str, tors: set[str]) -> ExperimentConfig:
        section = self._section(section_name)
        interval = section.get("interval", positive(parse_duration), 300.0)
        config = ExperimentConfig(
            name=section_name.partition(":")[2],
            type=section.get("type", one_of(TYPES), "download"),
            size=section.get("size", positive(parse_size), 51200),
            interval=interval,
            offset=section.get("offset", parse_duration, 0.0),
            timeout=section.get("timeout", positive(parse_duration), max(1.0, interval - 5.0)),
            tors=section.get("tor", names, ("default",)),
            servers=section.get("server", several_of(SERVERS), ("public",)),
            fresh_circuits=section.get("circuit", one_of(CIRCUITS), "fresh") == "fresh",
            skip_until_cbt=section.get("skip-until-cbt", yes_or_no, False),
        )
        if not 1 <= interval <= LONGEST_INTERVAL:
            section.problem("interval", "must be from 1 s to 366 d")
        if config.offset >= interval:
            section.problem("offset", "must be smaller than the interval")
        if config.size > max_size:
            section.problem("size", f"larger than max-size of [server], which is {format_size(max_size)}")
        if network == "socks" and "onion" in config.servers:
            section.problem("server", "there are no onion services with network = socks")
        known = {"default"} if network == "socks" else tors
        for tor in config.tors:
            if tor not in known:
                section.problem("tor", f"no tor is named {tor!r}; there is {', '.join(sorted(known))}")
        section.finish()
        return config

    def _check_reachable(self, config: Config) -> None:
        address = config.server.public_address
        public = not config.experiments or any("public" in each.servers for each in config.experiments)
        if config.network == "tor" and address.is_loopback and public and not self._problems:
            self._problems.append(
                f"{self._path}: [server] public-address: {address} cannot be reached over the public Tor network; "
                "give the address at which the internet reaches this server, or use network = testnet"
            )


def _suggestion(word: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def _host_label() -> str:
    label = socket.gethostname().partition(".")[0]
    return label if NAME.fullmatch(label) else "perfd"
