"""What must be right with the machine before anything is started; all of it is told at once."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import attrs

from perfd.comparison.design import DesignError, check_comparison
from perfd.config import BrowserConfig, Config, ConfigError, ServerConfig, TorConfig
from perfd.config.records import ComparisonConfig
from perfd.config.values import Address
from perfd.extras import how_to_get
from perfd.instance import Instance, InstanceError
from perfd.processes.alive import has_proc
from perfd.processes.programs import find_processes, program_trouble
from perfd.processes.users import User, UserError
from perfd.store.database import StoreError, database_path
from perfd.store.schema import check_database
from perfd.tor.testnet.bridges import obfs4_program
from perfd.tor.unusable import taken_ports, unusable_lines
from perfd.tor.verify import binary_trouble, torrc_trouble

NOBODY_ELSE = User()
"""The daemon stays who starts it."""


def check_machine(config: Config, user: User = NOBODY_ELSE, *, may_run: bool = False) -> None:
    """Raises ConfigError if the daemon could not start as configured, and become ``user`` then.

    ``may_run``: that one runs already is no problem. Its port is then not looked at, since it is in use.
    """
    instance = Instance(config.directory)
    problems = list[str]()
    running = None  # not known
    try:
        running = instance.is_locked()
    except InstanceError as error:
        problems.append(str(error))
    if running and not may_run:
        pid = instance.recorded_pid() or "unknown"
        problems.append(f"{config.directory}: Perfd is already running here (pid {pid})")
    if running is False:
        problems += [f"{config.path}: {problem}" for problem in _ports(config.server)]
    try:
        # As the daemon's user: its programs are run, and its files read, to see whether they can be used.
        problems += user.ask(partial(_problems, config, are_free=running is False))
    except (UserError, OSError) as error:
        problems.append(str(error))
    if problems:
        raise ConfigError(problems)


def _problems(config: Config, *, are_free: bool) -> list[str]:
    """What concerns files and programs, and if they are to be free the ports of tors, which that user launches."""
    found = (
        *_programs(config),
        *comparison_troubles(config),
        *_testnet(config),
        *_directory(config.directory),
        *_local(config),
        *(_ports_of_tors(config) if are_free else ()),
    )
    problems = [f"{config.path}: {problem}" for problem in found]
    database, instance = database_path(config.database, config.directory), Instance(config.directory)
    if database in (config.path.absolute(), instance.lock_file, instance.pid_file, instance.log_file):
        problems.append(f"{config.path}: [perfd] database: {database.name} is another file of Perfd's")
    try:
        check_database(database)
    except StoreError as error:
        problems.append(str(error))
    return problems


def comparison_troubles(config: Config) -> list[str]:
    """What keeps comparisons from answering, or their arms from being launched."""
    problems = []
    clients = {client.name for client in config.clients}
    all_tors = {tor.name: tor for tor in config.tors}
    for comparison in config.comparisons:
        tors = [all_tors[name] for name in comparison.tors]
        problems += [
            f"[comparison:{comparison.name}] {trouble}"
            for trouble in design_trouble(comparison, tors, clients, all_tors)
        ]
    return problems


def design_trouble(
    comparison: ComparisonConfig,
    tors: Sequence[TorConfig],
    clients: Collection[str],
    all_tors: Mapping[str, TorConfig],
) -> list[str]:
    """Why it cannot be made; see `check_comparison`. ``tors`` are those of its data directories."""
    try:
        check_comparison(comparison, tors[0].torrc_lines if tors else (), clients, all_tors)
    except DesignError as error:
        return [str(error)]
    problems = []
    for arm in comparison.arms if tors else ():
        torrc = "\n".join((tors[0].torrc, *arm.torrc))
        tor = attrs.evolve(tors[0], torrc=torrc, binary=arm.binary or tors[0].binary)
        if trouble := tor_trouble(tor):
            problems.append(f"{arm.name}: {trouble}")
    return problems


def _programs(config: Config) -> list[str]:
    problems = [f"[tor:{tor.name}] {trouble}" for tor in config.tors if (trouble := tor_trouble(tor))]
    if config.network == "testnet" and (trouble := program_trouble("tor-gencert")):
        problems.append(f"[perfd] network: testnet needs tor-gencert: {trouble}")
    used = {name for experiment in config.experiments for name in experiment.browsers}
    if used and not _is_utf8(config.directory):
        problems.append(f"{config.directory}: Firefox cannot run in a directory whose path is not UTF-8")
    return problems + [
        f"[browser:{browser.name}] {trouble}"
        for browser in config.browsers
        if browser.name in used and (trouble := browser_trouble(browser))
    ]


def tor_trouble(tor: TorConfig) -> str | None:
    """Why the tor can never run, as its option and the reason; None if it can, or is somebody else's."""
    if tor.control is not None:
        path = Path(tor.control.removeprefix("unix:"))
        is_other = path.is_absolute() and path.exists() and not path.is_socket()
        return f"control: {path} is no socket" if is_other else None
    trouble = program_trouble(tor.binary) or binary_trouble(tor.binary)
    if trouble is not None:
        return f"binary: {trouble}"
    for plugin in tor.transport_plugins:
        words = plugin.split()
        if words[1:2] == ["exec"]:
            trouble = program_trouble(words[2], package=None) if len(words) > 2 else "no program after exec"
            if trouble is not None:
                return f"transport-plugins: {trouble}"
    if tor.uses_testnet_bridges and tor.transport == "obfs4" and obfs4_program() is None:
        return "transport: there is no program obfs4proxy; install it (Debian: apt-get install obfs4proxy)"
    trouble = torrc_trouble(tor.binary, tor.torrc_lines)
    if trouble is None and (unusable := next(unusable_lines(tor.torrc_lines), None)):
        return f"torrc: {unusable}"
    return None if trouble is None else f"torrc: tor would not take it: {trouble}"


def browser_trouble(browser: BrowserConfig) -> str | None:
    """What the browser lacks, and how to get it; None if it can be driven."""
    if browser.driver == "selenium" and find_spec("selenium") is None:
        return f"driver: selenium needs the library of that name: {how_to_get('selenium')}"
    if browser.selenium_url is not None:
        return None
    if trouble := program_trouble(browser.binary, package="firefox-esr"):
        other = "; name another Firefox, or install one (Debian: apt-get install firefox-esr)"
        return f"binary: {trouble}{other if '/' in browser.binary else ''}"
    if browser.driver == "selenium" and (trouble := program_trouble(browser.geckodriver, package=None)):
        return f"geckodriver: {trouble}"
    return None


def _is_utf8(path: Path) -> bool:
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _directory(directory: Path) -> list[str]:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return [] if os.access(existing, os.W_OK | os.X_OK) else [f"{existing} is not writable for this user"]


def _testnet(config: Config) -> list[str]:
    """Whether the private network's directory can be one."""
    taken = config.network == "testnet" and config.testnet.exists() and not config.testnet.is_dir()
    return [f"[perfd] testnet: {config.testnet} is no directory"] if taken else []


def _local(config: Config) -> list[str]:
    """Whether it can be told what is local."""
    if config.server.results != "local" or has_proc():
        return []
    return ["[server] results: local cannot be told from what comes through a tor here without /proc; use none"]


def _ports(server: ServerConfig) -> list[str]:
    """Whether all ports can be bound now."""
    wanted = [("listen", server.listen)]
    wanted += [("page-ports", Address(server.listen.host, port)) for port in server.page_ports if port]
    return [f"[server] {option}: {problem}" for option, listen in wanted for problem in _port(listen)]


def _ports_of_tors(config: Config) -> list[str]:
    """Whether the ports that the lines of torrc name can be bound now.

    What is left of our own tor still has them, after a kill of the daemon; it is ended before the next is launched.
    """
    instance, listen = Instance(config.directory), config.server.listen
    return [
        f"[tor:{tor.name}] torrc: {problem}"
        for tor in config.tors
        if tor.control is None and not find_processes([instance.tor_data(tor.name) / "torrc"])
        for problem in taken_ports(tor.torrc_lines, listen)
    ]


def _port(listen: Address) -> list[str]:
    """Whether the port can be bound now; what holds it then is not Perfd's daemon of this instance."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, listen.port))
        except OSError as error:
            remedy = (
                "; port numbers below 1024 need root to start the daemon, and a user for it in perfd.conf"
                if error.errno == errno.EACCES
                else ""
            )
            return [f"cannot listen on {listen}: {error.strerror}{remedy}"]
    return []
