"""perfd.conf: read once into frozen objects, with all mistakes reported together.

The file is an INI file. Unknown sections and options are errors. Every problem names the file, the section and
the option, and says what would be right.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

import attrs

from perfd.config.client import read_client
from perfd.config.comparison import DIRECTORIES, LEARNT, NO_CBT, OFF, read_comparison
from perfd.config.experiment import read_experiment
from perfd.config.kind import Context
from perfd.config.kinds import kind_of
from perfd.config.records import (
    NO_TOR,
    BrowserConfig,
    ClientConfig,
    ComparisonConfig,
    Config,
    ServerConfig,
    TorConfig,
)
from perfd.config.section import ConfigError, Section, Setting, suggestion
from perfd.config.syntax import read_sections
from perfd.config.testnet import nicknames, read_testnet
from perfd.config.tor import check_testnet_bridges, read_tor
from perfd.config.values import (
    NAME,
    a_name,
    address,
    contact,
    database_url,
    nonempty,
    one_of,
    path_beside,
    ports,
    positive,
    rate,
    socks_address,
    whole_days,
    whole_number,
    words,
    yes_or_no,
)
from perfd.units import format_size, parse_duration, parse_size

NETWORKS = ("testnet", "tor", "socks")
RESULTS = ("all", "local", "none")
DRIVERS = ("bidi", "selenium")
PROCESSES = ("warm", "fresh")

DEFAULT_MAX_SIZE = 2**30
DEFAULT_MAX_RATE = "32 MiB/s"
LARGEST_SIZE = 2**40

EMPTY: Mapping[str, Mapping[str, str]] = MappingProxyType({})


Overrides = Mapping[str, Mapping[str, str]]
"""Options that take the place of those in the file, by section; a section that is not there is added."""


def load_config(path: Path, overrides: Overrides = EMPTY, only: str | None = None) -> Config:
    """The configuration in the file ``path``, or the perfd.conf in that directory. Raises ``ConfigError``.

    ``only``: the one experiment that matters; the others are not looked at.
    """
    if path.is_dir():
        path /= "perfd.conf"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file; `perfd init DIR` writes one"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    return parse_config(text, path, overrides, only)


def parse_config(text: str, path: Path, overrides: Overrides = EMPTY, only: str | None = None) -> Config:
    """The configuration ``text``; ``path`` names it in messages. See ``load_config``."""
    sections, problems = read_sections(text, path)
    for name, options in overrides.items():
        sections[name] = {**sections.get(name, {}), **options}
    if only is not None:
        others = [name for name in sections if name.startswith("experiment:") and name != f"experiment:{only}"]
        for name in others:
            del sections[name]
    return _Reader(path, sections, overrides, problems).config()


def load_settings(path: Path) -> list[Setting]:
    """Each option as it counts, in the order in which they are read. Raises ``ConfigError``."""
    config = load_config(path)
    sections, problems = read_sections(config.path.read_text(encoding="utf-8-sig"), config.path)
    reader = _Reader(config.path, sections, EMPTY, problems)
    reader.config()
    return list({(each.section, each.option): each for each in reader.settings}.values())


class _Reader:
    """Reads the sections in turn; ``config`` gives the result or raises with all problems."""

    def __init__(
        self, path: Path, sections: Mapping[str, Mapping[str, str]], overrides: Overrides, problems: Iterable[str]
    ) -> None:
        self._path = path
        self._sections = sections
        self._overrides = overrides
        self._problems = list(problems)
        self.settings: list[Setting] = []

    def config(self) -> Config:
        self._check_section_names()
        perfd = self._section("perfd")
        network = perfd.get("network", one_of(NETWORKS), "testnet")
        server = self._server(network)
        tors = self._tors()
        directory = self._path.absolute().parent
        clients = self._clients(directory)
        names = {"default"} if network == "socks" else {tor.name for tor in tors}
        browsers = self._browsers(directory)
        private_network = read_testnet(self._section("testnet"), directory)
        context = Context(
            max_size=server.max_size,
            max_connections=server.max_connections,
            network=network,
            tors=names | {client.name for client in clients},
            browsers={browser.name for browser in browsers},
            directory=directory,
            single_onion_tor=server.onion_tor if server.single_onion else None,
            clients=clients,
            onion_auth=server.onion_auth,
            attached={tor.name for tor in tors if tor.control is not None},
            bridged={tor.name for tor in tors if tor.transport is not None},
            relays=nicknames(private_network.relays) if network == "testnet" else (),
        )
        config = Config(
            path=self._path,
            directory=directory,
            source=perfd.get("source", a_name, host_label()),
            network=network,
            socks_proxy=perfd.get("socks-proxy", socks_address, None),
            testnet=directory / perfd.get("testnet", nonempty, "testnet"),
            private_network=private_network,
            database=perfd.get("database", database_url, "sqlite:///perfd.sqlite"),
            keep_logs=perfd.get("keep-logs", whole_days, "14 d"),
            keep=perfd.get("keep", whole_days, None),
            keep_events=perfd.get("keep-events", whole_days, "30 d"),
            keep_curves=perfd.get("keep-curves", whole_days, "30 d"),
            keep_har=perfd.get("keep-har", whole_days, "30 d"),
            archive=perfd.get("archive", yes_or_no, "yes"),
            user=perfd.get("user", nonempty, None),
            group=perfd.get("group", nonempty, None),
            contact=perfd.get("contact", contact, None),
            server=server,
            tors=tors if network != "socks" else (),
            browsers=browsers,
            clients=clients,
            experiments=tuple(
                read_experiment(self._section(section), section.partition(":")[2], context)
                for section in self._sections
                if section.startswith("experiment:")
            ),
        )
        config = self._with_comparisons(config, context)
        self._check_testnet_bridges(config)
        if config.socks_proxy is not None and network != "socks":
            perfd.problem("socks-proxy", "only used with network = socks")
        perfd.finish()
        if server.onion_tor not in {tor.name for tor in tors}:
            self._section("server").problem("onion-tor", f"no tor is named {server.onion_tor!r}")
        self._check_reachable(config)
        if self._problems:
            raise ConfigError(self._problems)
        return config

    def _with_comparisons(self, config: Config, context: Context) -> Config:
        """With the comparisons, and the tors of their data directories."""
        tors, comparisons = list(config.tors), []
        for name in (section for section in self._sections if section.startswith("comparison:")):
            section = self._section(name)
            comparison, made = read_comparison(section, name.partition(":")[2])
            if made is not None and f"experiment:{made}" not in self._sections:
                section.problem("experiment", f"no experiment is named {made!r}")
            if self._problems or made is None:
                continue
            values = self._sections[f"experiment:{made}"]
            base = values.get("tor", "default").partition(",")[0].strip()
            ways = [arm.options.get("tor", base) for arm in comparison.arms]
            self._check_ways(section, comparison, ways, base)
            directories = self._directories(config, comparison.name, base) if ways == [base, base] else []
            timeouts = _build_timeouts(directories)
            if timeouts == LEARNT and "skip-until-cbt" not in values:
                values = {**values, "skip-until-cbt": "yes"}
            known = attrs.evolve(context, tors={*context.tors, *(tor.name for tor in directories)})
            names = ",".join(tor.name for tor in directories)
            experiments = tuple(
                read_experiment(
                    Section(self._path, name, {**values, **arm.options, "tor": names or way}, self._problems),
                    comparison.name,
                    known,
                )
                for arm, way in zip(comparison.arms, ways, strict=True)
            )
            if directories and any(kind_of(each.type).is_launched for each in experiments):
                section.problem(
                    "experiment", "its tors are launched for each run; give each arm a tor = of its own"
                )
            tors += directories
            comparisons.append(
                attrs.evolve(
                    comparison,
                    experiments=experiments,
                    tors=tuple(tor.name for tor in directories),
                    build_timeouts=timeouts,
                )
            )
        return attrs.evolve(config, tors=tuple(tors), comparisons=tuple(comparisons))

    def _check_ways(self, section: Section, comparison: ComparisonConfig, ways: list[str], base: str) -> None:
        """Arms over a tor or client each use what is there, as it is."""
        if ways == [base, base]:
            return
        for arm, way in zip(comparison.arms, ways, strict=True):
            if "," in way:
                section.problem("arms", f"{arm.name}: an arm is measured over one tor or client")
            if arm.torrc or arm.binary:
                section.problem(
                    "arms", f"{arm.name}: with tor = it has no options of tor; give them to [tor:NAME] instead"
                )

    def _directories(self, config: Config, name: str, base: str) -> list[TorConfig]:
        """The tors of a comparison, launched like the tor ``base``; none where there is none to launch."""
        found = next((tor for tor in config.tors if tor.name == base), None)
        if found is None or found.control is not None:
            return []
        torrc = found.torrc
        if config.network == "testnet" and "learncircuitbuildtimeout" not in torrc.lower():
            torrc = f"{torrc}\n{NO_CBT}"
        return [attrs.evolve(found, name=f"{name}-{n}", torrc=torrc) for n in range(1, DIRECTORIES + 1)]

    def _section(self, name: str, *, defaults: str | None = None) -> Section:
        values = {**self._sections.get(defaults or name, {}), **self._sections.get(name, {})}
        given = self._overrides.get(name, ())
        return Section(self._path, name, values, self._problems, given, self.settings)

    def _check_section_names(self) -> None:
        plain = ("perfd", "server", "testnet", "tor", "browser")
        kinds = ("tor", "client", "browser", "experiment", "comparison")
        for section in self._sections:
            kind, colon, name = section.partition(":")
            if section in plain:
                continue
            if kind not in kinds or not colon:
                hint = suggestion(section, (*plain, *(f"{kind}:NAME" for kind in kinds)))
                self._problems.append(f"{self._path}: [{section}]: unknown section{hint}")
            # Names become those of directories, labels of metrics and parts of log prefixes.
            elif not NAME.fullmatch(name):
                self._problems.append(
                    f"{self._path}: [{section}]: the name must be letters, digits and hyphens, at most 64"
                )
            elif kind in ("tor", "client") and name == NO_TOR:
                self._problems.append(f"{self._path}: [{section}]: tor = {NO_TOR} stands for no tor at all")
            elif kind == "client" and (name == "default" or f"tor:{name}" in self._sections):
                self._problems.append(f"{self._path}: [{section}]: a tor has that name")

    def _server(self, network: str) -> ServerConfig:
        section = self._section("server")
        listen = section.get("listen", address, "127.0.0.1:8080")
        config = ServerConfig(
            listen=listen,
            public_address=section.get("public-address", address, str(listen)),
            results=section.get("results", one_of(RESULTS), "all"),
            max_size=section.get("max-size", positive(parse_size), format_size(DEFAULT_MAX_SIZE)),
            max_rate=section.get("max-rate", rate, DEFAULT_MAX_RATE),
            max_connections=section.get("max-connections", positive(whole_number), "500"),
            page_ports=section.get("page-ports", ports, "" if network == "tor" else "0, 0"),
            onion_tor=section.get("onion-tor", a_name, "default"),
            single_onion=section.get("single-onion", yes_or_no, "no"),
            onion_auth=section.get("onion-auth", yes_or_no, "no"),
            onion_metrics=section.get("onion-metrics", positive(parse_duration), None),
            onion_pow=section.get("onion-pow", yes_or_no, "no"),
            title=section.get("title", words(60), "Tor performance"),
            description=section.get("description", words(500), ""),
            contact=section.get("contact", words(200), ""),
            is_indexed=section.get("robots", one_of(("none", "index")), "none") == "index",
        )
        if config.max_size > LARGEST_SIZE:
            section.problem("max-size", f"must be at most {format_size(LARGEST_SIZE)}")
        if config.public_address.is_any:
            section.problem("public-address", f"needed, since {listen.host} is no address that others can reach")
        fixed = [port for port in config.page_ports if port]
        if listen.port in fixed:
            section.problem("page-ports", f"{listen.port} is the port of listen; they are further ones")
        if len(set(fixed)) < len(fixed):
            section.problem("page-ports", "each must be another one")
        # Whoever opens them in a firewall must know them.
        if network == "tor" and 0 in config.page_ports:
            section.problem("page-ports", "must be ports that the internet can reach, so 0 will not do")
        section.finish()
        return config

    def _tors(self) -> tuple[TorConfig, ...]:
        """The tor named default, whose options are the defaults of all, and the named ones."""
        named = [section for section in self._sections if section.startswith("tor:")]
        names = {"tor": "default"} if "tor:default" not in named else {}
        names |= {section: section.partition(":")[2] for section in named}
        here = self._path.absolute().parent
        return tuple(
            read_tor(self._section(section, defaults="tor"), name, here) for section, name in names.items()
        )

    def _check_testnet_bridges(self, config: Config) -> None:
        for tor in config.tors:
            name = f"tor:{tor.name}"
            if name in self._sections or tor.name == "default":
                section = self._section(name if name in self._sections else "tor")
                check_testnet_bridges(section, tor, config)

    def _clients(self, directory: Path) -> tuple[ClientConfig, ...]:
        named = [section for section in self._sections if section.startswith("client:")]
        return tuple(read_client(self._section(name), name.partition(":")[2], directory) for name in named)

    def _browsers(self, directory: Path) -> tuple[BrowserConfig, ...]:
        """The browser named default, whose options are the defaults of all, and the named ones."""
        named = [section for section in self._sections if section.startswith("browser:")]
        default = () if "browser:default" in named else (self._browser("browser", "default", directory),)
        return (*default, *(self._browser(name, name.partition(":")[2], directory) for name in named))

    def _browser(self, section_name: str, name: str, directory: Path) -> BrowserConfig:
        section = self._section(section_name, defaults="browser")
        profile = section.get("profile", nonempty, None)
        config = BrowserConfig(
            name=name,
            driver=section.get("driver", one_of(DRIVERS), "bidi"),
            binary=section.get("binary", partial(path_beside, directory), "firefox-esr"),
            profile=None if profile is None else directory / profile,
            is_warm=section.get("process", one_of(PROCESSES), "warm") == "warm",
            geckodriver=section.get("geckodriver", partial(path_beside, directory), "geckodriver"),
            selenium_url=section.get("selenium-url", nonempty, None),
        )
        # An option that would do nothing is a mistake, and better told than passed over.
        if config.driver == "bidi":
            for option in ("geckodriver", "selenium-url"):
                if option in section:
                    section.problem(option, "only used with driver = selenium")
        section.finish()
        return config

    def _check_reachable(self, config: Config) -> None:
        address = config.server.public_address
        used = [each for each in config.experiments if "public" in each.servers]
        public = not config.experiments or any(set(each.tors) != {NO_TOR} for each in used)
        if config.network == "tor" and address.is_loopback and public and not self._problems:
            self._problems.append(
                f"{self._path}: [server] public-address: {address} cannot be reached over the public Tor network; "
                "give the address at which the internet reaches this server, or use network = testnet"
            )


def host_label() -> str:
    """The first label of this host's name, which is the default of ``source``."""
    label = socket.gethostname().partition(".")[0]
    return label if NAME.fullmatch(label) else "perfd"


def _build_timeouts(tors: Sequence[TorConfig]) -> str:
    """What tors of a comparison know of circuit build timeouts; nothing is said where there are none."""
    if not tors:
        return ""
    lines = [line.lower().split() for line in tors[0].torrc.splitlines()]
    return OFF if NO_CBT.lower().split() in lines else LEARNT
