"""The commands that need no daemon: ``measure``, ``proxy`` and ``testnet``; what they understand."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfd.cli.arguments import argument, config_option, display, display_options, pair
from perfd.cli.networks import add_link_options, add_use_options, networks_in, networks_to_start
from perfd.config import ConfigError
from perfd.config.kinds import kinds
from perfd.config.reader import NETWORKS
from perfd.config.relays import FILE
from perfd.config.target import FILES
from perfd.config.testnet import TestnetConfig
from perfd.config.values import (
    Address,
    address,
    control_port,
    names,
    nonempty,
    one_of,
    password_in,
    positive,
    socks_address,
)
from perfd.instance import CONFIG_FILE
from perfd.units import parse_duration, parse_size

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: _Commands) -> None:
    """Add them to those of ``perfd``."""
    _add_measure(commands)
    _add_proxy(commands)
    _add_testnet(commands)


_MEASURE = (
    "Runs measurements at once, without a daemon, and prints them. Nothing is stored. With --keep the private "
    "network stays for a while, and the next measurement starts in two or three seconds."
)


def _width() -> int:
    """Of the lines of a help, as argparse has it."""
    return shutil.get_terminal_size().columns - 2


def _add_measure(commands: _Commands) -> None:
    parser = commands.add_parser(
        "measure",
        help="run measurements at once and print them",
        description=textwrap.fill(_MEASURE, _width()),
        epilog=_options_of_kinds(),  # argparse would fill its lines as one paragraph
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--experiment", metavar="NAME", help="an experiment of perfd.conf; what follows changes its options"
    )
    for name, metavar, read, text in (
        ("type", "TYPE", one_of(tuple(kinds())), f"{', '.join(kinds())} (default: download)"),
        ("size", "SIZE", positive(parse_size), "payload, such as 50KiB (default)"),
        ("timeout", "TIME", positive(parse_duration), "of each (default 1min)"),
        ("tor", "NAME,...", names, "the tors and clients of perfd.conf to measure; none: without Tor"),
        ("server", "WAY,...", names, "public (default), onion or both"),
        ("url", "URL", nonempty, "what to fetch instead of what our own server has; any address, onion too"),
        (
            "guard",
            "RELAYS",
            nonempty,
            "the first relay of a circuit built for each: ~NICKNAME, fingerprint, flag, ...",
        ),
        ("middle", "RELAYS", nonempty, "the one in the middle"),
        ("exit", "RELAYS", nonempty, "the last one"),
        ("path", "'RELAYS > RELAYS'", nonempty, "all of them"),
    ):
        parser.add_argument(f"--{name}", metavar=metavar, type=argument(_checked(read)), help=text)
    parser.add_argument(
        *("-o", "--option"),
        type=argument(pair),
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="any option of an experiment, as in perfd.conf",
    )
    parser.add_argument("--count", type=argument(_count), default=5, metavar="N", help="how many (default 5)")
    parser.add_argument("--network", choices=NETWORKS, help="default: as in perfd.conf, or testnet without one")
    add_use_options(parser)
    config_option(parser)
    display_options(parser)
    parser.set_defaults(command=_measure, after_mistakes="; nothing was started")


def _options_of_kinds() -> str:
    """What each type measures, and the options that it has, with their defaults."""
    width = _width()
    indent = " " * (29 if width > 60 else 8)
    lines = ["example: perfd measure --size 1MiB --count 3 --keep", ""]
    lines += ["types of experiment, and their options for -o:"]
    for kind in kinds().values():
        lines += textwrap.wrap(f"  {kind.name}: {kind.doc}", width, subsequent_indent="      ")
        for option in kind.options:
            named = f"{option.name}={option.default or ''}"
            lines += textwrap.wrap(f"    {named:<24} {option.doc}", width, subsequent_indent=indent)
    return "\n".join(lines)


def _measure(options: argparse.Namespace) -> int:
    from perfd.cli.measure import MeasureOptions, measure

    is_default = options.config == Path(CONFIG_FILE)
    path = None if is_default and not options.config.exists() else options.config
    names = ("type", "size", "timeout", "tor", "server", "url", "guard", "middle", "exit", "path")
    named = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in named.items() if value is not None} | dict(options.option)
    # Files that the command line names are where it is given, and not beside perfd.conf.
    given |= {name: str(Path(given[name]).absolute()) for name in FILES if given.get(name)}
    given = {name: re.sub(rf"{FILE}(?=[^/])", f"{FILE}{Path.cwd()}/", value) for name, value in given.items()}
    wanted = MeasureOptions(
        experiment=options.experiment,
        options=given,
        count=options.count,
        network=options.network,
        testnet=options.testnet,
        keep=options.keep,
    )
    return measure(path, wanted, display(options))


def _add_proxy(commands: _Commands) -> None:
    parser = commands.add_parser(
        "proxy",
        help="be a SOCKS proxy that measures each connection of any program",
        description="A SOCKS proxy for programs on this machine, in front of a tor. It measures each "
        "connection, and writes a JSON object about it, with tor's stream and circuit. Ctrl-C stops it.",
        epilog="example: perfd proxy --control 127.0.0.1:9051 --log connections.json",
    )
    parser.add_argument(
        "--listen",
        type=argument(_loopback),  # whoever can reach it uses this machine's tor
        default=Address("127.0.0.1", 9150),
        metavar="HOST:PORT",
        help="where programs connect to (default 127.0.0.1:9150)",
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--socks",
        type=argument(socks_address),
        metavar="PROXY",
        help="the SOCKS port of a running tor, as [SCHEME://][USER:PASSWORD@]HOST:PORT (SCHEME: socks4, socks4a, "
        "socks5, socks5h; default socks5); without control port, streams and circuits are not known",
    )
    ways.add_argument(
        "--control",
        type=argument(control_port),
        metavar="ADDRESS",
        help="the control port of a running tor: HOST:PORT, or the path of its socket",
    )
    ways.add_argument(
        "--network",
        choices=NETWORKS,
        metavar="NETWORK",
        help=f"{', '.join(NETWORKS)} (default: as in perfd.conf, or testnet without one)",
    )
    add_use_options(parser)
    passwords = parser.add_mutually_exclusive_group()
    passwords.add_argument(
        "--control-password",
        type=argument(nonempty),
        metavar="PASSWORD",
        help="for its HashedControlPassword; other users of this machine see it",
    )
    passwords.add_argument(
        "--control-password-file",
        dest="control_password",
        type=argument(partial(password_in, Path())),
        metavar="FILE",
        help="its first line is the password",
    )
    parser.add_argument("--tor", default="default", metavar="NAME", help="the tor or client of perfd.conf to use")
    parser.add_argument("--optimistic", action="store_true", help="tell programs at once that they are connected")
    parser.add_argument("--log", default="-", metavar="FILE", help="default: -, standard output")
    config_option(parser)
    parser.set_defaults(command=_proxy, after_mistakes="; nothing was started")


def _proxy(options: argparse.Namespace) -> int:
    from perfd.cli.proxy import ProxyOptions, proxy

    is_default = options.config == Path(CONFIG_FILE)
    path = None if is_default and not options.config.exists() else options.config
    if options.control_password is not None and options.control is None:
        raise ConfigError(["perfd proxy: --control-password is only used with --control"])
    names = (
        "listen",
        "socks",
        "control",
        "control_password",
        "network",
        "tor",
        "optimistic",
        "log",
        "testnet",
        "keep",
    )
    return proxy(path, ProxyOptions(**{name: getattr(options, name) for name in names}))


def _loopback(text: str) -> Address:
    """An address that only programs on this machine can reach."""
    listen = address(text)
    if not listen.is_loopback:
        raise ValueError(f"{text} is not a loopback address; the proxy serves this machine only")
    return Address("127.0.0.1", listen.port) if listen.host == "localhost" else listen


def _add_testnet(commands: _Commands) -> None:
    parser = commands.add_parser(
        "testnet", help="a private Tor network on this machine", epilog="example: perfd testnet start /tmp/network"
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="start|stop|status")
    for name, text in (
        ("start", "start it, and return when it works; it stays until stopped"),
        ("stop", "stop all of its relays"),
        ("status", "say what runs"),
    ):
        action = actions.add_parser(name, help=text, epilog=f"example: perfd testnet {name} /tmp/network")
        action.add_argument("directory", type=Path, metavar="DIR", help="its keys, data and logs")
        action.add_argument("--tor", default="tor", metavar="BINARY", help="the tor to run (default: tor)")
        if name == "start":
            add_link_options(action)
        if name == "status":
            display_options(action, "a JSON object for each network")
        action.set_defaults(command=_testnet, action=name)


def _testnet(options: argparse.Namespace) -> int:
    from perfd.cli.testnet import run

    wanted: dict[Path, TestnetConfig | None]
    if options.action == "start":
        wanted = dict(networks_to_start(options))
    else:
        wanted = dict.fromkeys(networks_in(options.directory))
    return run(options.action, wanted, options.tor, display(options) if options.action == "status" else None)


def _checked(read: Callable[[str], Any]) -> Callable[[str], str]:
    """The text itself, if ``read`` can read it: perfd.conf has the same options."""

    def check(text: str) -> str:
        read(text)
        return text

    return check


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise ValueError(f"{text!r} is not a number from 1 to 1000000")
    return int(text)
