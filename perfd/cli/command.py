"""The ``perfd`` command: what it understands, and which part of Perfd does it.

Exit codes: 0 done, 1 failed, 2 wrong usage; ``start``, ``stop`` and ``status`` also have those of LSB init scripts.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfd import __version__
from perfd.cli import analyze, compare, completion, daemon, data, records
from perfd.cli.arguments import argument, config_option, display, display_options
from perfd.cli.networks import add_link_options, add_use_options, networks_in, networks_to_start
from perfd.cli.output import complain, say, standard_streams
from perfd.cli.privileges import User
from perfd.config import Config, ConfigError, load_config
from perfd.config.kinds import KINDS
from perfd.config.reader import NETWORKS, host_label
from perfd.config.section import suggestion
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
from perfd.instance import CONFIG_FILE, PROFILES, Instance, InstanceError, create_instance
from perfd.units import parse_duration, parse_size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    with standard_streams():
        os.umask(os.umask(0o077) | 0o022)  # nobody else may write what is made here
        try:
            return _run(sys.argv[1:] if arguments is None else list(arguments))
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            return 1  # the reader has gone; there is nobody to tell
        except OSError as error:
            complain(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
            return 1


def _run(words: list[str]) -> int:
    """Raises SystemExit, and OSError for what no command has expected, as when standard output is full."""
    try:
        options = _parsed(words)
        try:
            code: int = options.command(options)
        except ConfigError as error:
            for problem in error.problems:
                complain(problem)
            count = len(error.problems)
            complain(f"{count} problem{'s' if count > 1 else ''}{options.after_mistakes}")
            return 1
        except InstanceError as error:
            complain(str(error))
            return 1
        return code
    finally:
        sys.stdout.flush()


def _parsed(words: list[str]) -> argparse.Namespace:
    """The command line as options. Raises SystemExit when it is wrong, or asks for help."""
    parser, commands = _parsers()
    if completion.ASKED in os.environ:
        completion.complete(parser)
    if not words or (words[0] == "help" and len(words) < 3):
        words = [*words[1:], "--help"]
    if not words[0].startswith("-") and words[0] not in commands:
        hint = suggestion(words[0], commands)
        parser.exit(2, f"perfd: {words[0]!r} is no command{hint}; `perfd help` explains them\n")
    return parser.parse_args(words)


def _parser() -> argparse.ArgumentParser:
    return _parsers()[0]


def _parsers() -> tuple[argparse.ArgumentParser, Collection[str]]:
    """What reads the whole command line, and the names of the commands."""
    parser = argparse.ArgumentParser(prog="perfd", description="Measures the performance of Tor, continuously.")
    parser.add_argument("--version", action="version", version=f"perfd {__version__}")
    parser.set_defaults(after_mistakes="")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_init(commands)
    _add_daemon_commands(commands)
    _add_check(commands)
    _add_config(commands)
    _add_measure(commands)
    _add_proxy(commands)
    _add_testnet(commands)
    commands.add_parser("help", help="explain a command").add_argument("name", nargs="?", metavar="COMMAND")
    records.add_commands(commands)
    _add_completion(commands)
    data.add_commands(commands)
    compare.add_command(commands)
    analyze.add_command(commands)
    return parser, commands.choices


def _add_completion(commands: _Commands) -> None:
    parser = commands.add_parser(
        "completion",
        help="print what makes a shell complete perfd's command line",
        description="Prints the code that makes a shell complete perfd's commands, options, and the names in "
        'perfd.conf. For bash: eval "$(perfd completion bash)" in ~/.bashrc; for zsh the same in ~/.zshrc; for '
        "fish: perfd completion fish > ~/.config/fish/completions/perfd.fish",
    )
    parser.add_argument("shell", choices=completion.SHELLS)
    parser.set_defaults(command=lambda options: completion.print_code(options.shell))


if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _load(options: argparse.Namespace) -> Config:
    return load_config(options.config)


def _instance(options: argparse.Namespace) -> Instance:
    """The instance, whatever is in its perfd.conf."""
    path: Path = options.config.absolute()
    return Instance(path if path.is_dir() else path.parent)


_PROFILES = (
    "what perfd.conf is to measure: testnet (a private network on this machine, the default), lab (a little of "
    "everything there), or on the public network torperf, onionperf, onion (a service), relay (yours as guard)"
)


def _add_init(commands: _Commands) -> None:
    parser = commands.add_parser(
        "init", help="make an instance directory: perfd.conf and the control script ./perfd"
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--profile", choices=PROFILES, default="testnet", help=_PROFILES)
    parser.set_defaults(command=_init)


def _init(options: argparse.Namespace) -> int:
    for path in create_instance(options.directory, options.profile, host_label()):
        say(f"wrote {path}")
    say(f"next: edit {options.directory / CONFIG_FILE}, then cd {options.directory}; ./perfd start")
    return 0


def _add_daemon_commands(commands: _Commands) -> None:
    for name, text in (
        ("start", "start the daemon"),
        ("restart", "stop the daemon, if it runs, and start it"),
        ("run", "run in the foreground, and show what is measured; Ctrl-C stops it"),
    ):
        parser = commands.add_parser(name, help=text)
        config_option(parser)
        parser.add_argument("--uid", help="the user to become once the port is bound (started as root)")
        parser.add_argument("--gid", help="the group to become once the port is bound (started as root)")
        if name == "run":
            parser.add_argument("--log", action="store_true", help="print the log instead, as where no terminal is")
        # Mistakes are found before anything is done: a restart does not cost a daemon that works.
        after = "; perfd was left as it is" if name == "restart" else "; nothing was started"
        parser.set_defaults(command=_daemon, action=getattr(daemon, name), after_mistakes=after)
    parser = commands.add_parser("watch", help="show what the running daemon measures; Ctrl-C ends only the view")
    config_option(parser)
    parser.set_defaults(command=lambda options: daemon.watch(_load(options)))
    parser = commands.add_parser("stop", help="stop the daemon")
    config_option(parser)
    parser.set_defaults(command=_stop)
    parser = commands.add_parser("reload", help="have the daemon take over what perfd.conf says now")
    config_option(parser)
    parser.set_defaults(command=_reload)
    parser = commands.add_parser("status", help="say whether the daemon runs, and how its parts are")
    config_option(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(command=_status)


def _daemon(options: argparse.Namespace) -> int:
    from perfd.preflight import check_machine

    config = _load(options)
    check_machine(config, may_run=True)
    more = {"log": options.log} if "log" in options else {}
    code: int = options.action(config, User.of(config, options.uid, options.gid), **more)
    return code


def _is_configured(options: argparse.Namespace) -> bool:
    """Whether there is a perfd.conf, or a daemon that has outlived it; complains if not."""
    instance = _instance(options)
    path = options.config / CONFIG_FILE if options.config.is_dir() else options.config
    if path.exists() or instance.is_locked():
        return True
    complain(f"{path}: no such file, so there is no instance here; `perfd init DIR` makes one")
    return False


def _stop(options: argparse.Namespace) -> int:
    return daemon.stop(_instance(options)) if _is_configured(options) else daemon.NOT_CONFIGURED


def _reload(options: argparse.Namespace) -> int:
    return daemon.reload(_instance(options)) if _is_configured(options) else daemon.NOT_CONFIGURED


def _status(options: argparse.Namespace) -> int:
    if not _is_configured(options):
        return daemon.STATUS_UNKNOWN
    return daemon.status(_instance(options), lambda: _load(options), as_json=options.json)


def _add_check(commands: _Commands) -> None:
    parser = commands.add_parser("check", help="find mistakes in perfd.conf")
    config_option(parser)
    parser.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="the same, without --config")
    parser.set_defaults(command=_check)


def _check(options: argparse.Namespace) -> int:
    from perfd.config.advice import advice
    from perfd.config.summary import summary
    from perfd.descriptors import most, shortage
    from perfd.preflight import check_machine

    config = load_config(options.directory or options.config)
    check_machine(config)
    for line in advice(config):
        complain(f"warning: {line}")
    if found := shortage(config, most()):
        complain(f"{config.path}: warning: {found}")
    say(f"{config.path}: no mistakes found")
    for line in summary(config):
        say(f"  {line}")
    return 0


def _add_config(commands: _Commands) -> None:
    parser = commands.add_parser(
        "config",
        help="show each option as it counts, and where it comes from",
        description="Shows each option of perfd.conf as it counts, with the line that says so, or that it is "
        "the default.",
        epilog="example: perfd config --json",
    )
    config_option(parser)
    display_options(parser, "as one JSON array")
    parser.set_defaults(command=_config)


def _config(options: argparse.Namespace) -> int:
    from perfd.cli.settings import show_settings

    return show_settings(options.config, display(options))


def _add_measure(commands: _Commands) -> None:
    parser = commands.add_parser(
        "measure",
        help="run measurements at once and print them",
        description="Runs measurements at once, without a daemon, and prints them. Nothing is stored.",
        epilog=_options_of_kinds(),  # argparse would fill its lines as one paragraph
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--experiment", metavar="NAME", help="an experiment of perfd.conf; what follows changes its options"
    )
    for name, metavar, read, text in (
        ("type", "TYPE", one_of(tuple(KINDS)), f"{', '.join(KINDS)} (default: download)"),
        ("size", "SIZE", positive(parse_size), "payload, such as 50KiB (default)"),
        ("timeout", "TIME", positive(parse_duration), "of each (default 1min)"),
        ("tor", "NAME,...", names, "the tors of perfd.conf to measure; none: without Tor"),
        ("server", "WAY,...", names, "public (default), onion or both"),
        ("url", "URL", nonempty, "the page, for type pageload"),
    ):
        parser.add_argument(f"--{name}", metavar=metavar, type=argument(_checked(read)), help=text)
    parser.add_argument(
        *("-o", "--option"),
        type=argument(_pair),
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="any option of an experiment, as in perfd.conf",
    )
    parser.add_argument("--count", type=argument(_count), default=5, metavar="N", help="how many (default 5)")
    parser.add_argument("--network", choices=NETWORKS, help="default: as in perfd.conf, or testnet without one")
    add_use_options(parser)
    parser.add_argument("--json", action="store_true", help="a JSON object per line instead of the table")
    config_option(parser)
    parser.set_defaults(command=_measure, after_mistakes="; nothing was started")


def _options_of_kinds() -> str:
    """What each type measures, and the options that it has, with their defaults."""
    lines = ["types of experiment, and their options for -o:"]
    for kind in KINDS.values():
        lines.append(f"  {kind.name}: {kind.doc}")
        named = ((f"{option.name}={option.default or ''}", option.doc) for option in kind.options)
        lines += [f"    {option:<24} {doc}" for option, doc in named]
    return "\n".join(lines)


def _measure(options: argparse.Namespace) -> int:
    from perfd.cli.measure import MeasureOptions, measure

    is_default = options.config == Path(CONFIG_FILE)
    path = None if is_default and not options.config.exists() else options.config
    named = {name: getattr(options, name) for name in ("type", "size", "timeout", "tor", "server", "url")}
    given = {name: value for name, value in named.items() if value is not None} | dict(options.option)
    wanted = MeasureOptions(
        experiment=options.experiment,
        options=given,
        count=options.count,
        network=options.network,
        testnet=options.testnet,
        keep=options.keep,
    )
    return measure(path, wanted, as_json=options.json)


def _add_proxy(commands: _Commands) -> None:
    parser = commands.add_parser(
        "proxy",
        help="be a SOCKS proxy that measures each connection of any program",
        description="A SOCKS proxy for programs on this machine, in front of a tor. It measures each "
        "connection, and writes a JSON object about it, with tor's stream and circuit. Ctrl-C stops it.",
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
        metavar="[SCHEME://][USER:PASSWORD@]HOST:PORT",
        help="the SOCKS port of a running tor (SCHEME: socks4, socks4a, socks5, socks5h; default socks5); without "
        "control port, streams and circuits are not known",
    )
    ways.add_argument(
        "--control",
        type=argument(control_port),
        metavar="HOST:PORT|PATH",
        help="the control port of a running tor",
    )
    ways.add_argument("--network", choices=NETWORKS, help="default: as in perfd.conf, or testnet without one")
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
    parser.add_argument("--tor", default="default", metavar="NAME", help="the tor of perfd.conf to use")
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
    parser = commands.add_parser("testnet", help="a private Tor network on this machine")
    actions = parser.add_subparsers(title="actions", required=True, metavar="start|stop|status")
    for name, text in (
        ("start", "start it, and return when it works; it stays until stopped"),
        ("stop", "stop all of its relays"),
        ("status", "say what runs"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("directory", type=Path, metavar="DIR", help="its keys, data and logs")
        action.add_argument("--tor", default="tor", metavar="BINARY", help="the tor to run (default: tor)")
        if name == "start":
            add_link_options(action)
        if name == "status":
            action.add_argument("--json", action="store_true", help="as JSON")
        action.set_defaults(command=_testnet, action=name, json=False)


def _testnet(options: argparse.Namespace) -> int:
    from perfd.cli.testnet import run

    wanted: dict[Path, TestnetConfig | None]
    if options.action == "start":
        wanted = dict(networks_to_start(options))
    else:
        wanted = dict.fromkeys(networks_in(options.directory))
    return run(options.action, wanted, options.tor, as_json=options.json)


def _checked(read: Callable[[str], Any]) -> Callable[[str], str]:
    """The text itself, if ``read`` can read it: perfd.conf has the same options."""

    def check(text: str) -> str:
        read(text)
        return text

    return check


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"{text!r} is not OPTION=VALUE")
    return name.strip(), value.strip()


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise ValueError(f"{text!r} is not a number from 1 to 1000000")
    return int(text)
