"""The ``perfd`` command: what it understands, and which part of Perfd does it.

Exit codes: 0 done, 1 failed, 2 wrong usage; ``start``, ``stop`` and ``status`` also have those of LSB init scripts.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfd import __version__
from perfd.cli import analyze, compare, completion, daemon, data, note, records, scan, standalone_commands
from perfd.cli.arguments import config_option, display, display_options
from perfd.cli.output import complain, in_words, say, standard_streams
from perfd.cli.parser import Parser
from perfd.cli.privileges import daemon_user, obstacle
from perfd.config import Config, ConfigError, load_config
from perfd.config.reader import host_label
from perfd.config.section import suggestion
from perfd.instance import CONFIG_FILE, PROFILES, Instance, InstanceError, create_instance
from perfd.processes.users import UserError


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
            complain(in_words(error))
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
        except (InstanceError, UserError) as error:
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
        parser.error(f"{words[0]!r} is no command{suggestion(words[0], commands)}")
    return parser.parse_args(words)


def _parser() -> argparse.ArgumentParser:
    return _parsers()[0]


def _parsers() -> tuple[argparse.ArgumentParser, Collection[str]]:
    """What reads the whole command line, and the names of the commands."""
    parser: argparse.ArgumentParser = Parser(
        prog="perfd", description="Measures the performance of Tor, continuously."
    )
    parser.add_argument("--version", action="version", version=f"perfd {__version__}")
    parser.set_defaults(after_mistakes="")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_init(commands)
    _add_daemon_commands(commands)
    _add_check(commands)
    _add_config(commands)
    standalone_commands.add_commands(commands)
    data.add_results(commands)
    records.add_commands(commands)
    analyze.add_command(commands)
    compare.add_command(commands)
    scan.add_command(commands)
    note.add_command(commands)
    data.add_commands(commands)
    _add_completion(commands)
    explain = commands.add_parser("help", help="explain a command", epilog="example: perfd help measure")
    explain.add_argument("name", nargs="?", metavar="COMMAND")
    return parser, commands.choices


def _add_completion(commands: _Commands) -> None:
    parser = commands.add_parser(
        "completion",
        help="print what makes a shell complete perfd's command line",
        description="Prints the code that makes a shell complete perfd's commands, options, and the names in "
        'perfd.conf. For bash: eval "$(perfd completion bash)" in ~/.bashrc; for zsh the same in ~/.zshrc; for '
        "fish: perfd completion fish > ~/.config/fish/completions/perfd.fish",
        epilog='example: eval "$(perfd completion bash)"',
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
        "init",
        help="make an instance directory: perfd.conf and the control script ./perfd",
        epilog="example: perfd init ~/perfd --profile lab",
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
    for name, text, example in (
        ("start", "start the daemon", "start --config /srv/perfd"),
        ("restart", "stop the daemon, if it runs, and start it", "restart --config /srv/perfd"),
        ("run", "run in the foreground, and show what is measured; Ctrl-C stops it", "run --log | tee run.log"),
    ):
        parser = commands.add_parser(name, help=text, epilog=f"example: perfd {example}")
        config_option(parser)
        parser.add_argument("--uid", help="the user to become once the port is bound (started as root)")
        parser.add_argument("--gid", help="the group to become once the port is bound (started as root)")
        if name == "run":
            parser.add_argument("--log", action="store_true", help="print the log instead, as where no terminal is")
        # Mistakes are found before anything is done: a restart does not cost a daemon that works.
        after = "; perfd was left as it is" if name == "restart" else "; nothing was started"
        parser.set_defaults(command=_daemon, action=getattr(daemon, name), after_mistakes=after)
    parser = _of_instance(commands, "watch", "show what the running daemon measures; Ctrl-C ends only the view")
    parser.set_defaults(command=lambda options: daemon.watch(_load(options)))
    parser = _of_instance(commands, "stop", "stop the daemon")
    parser.set_defaults(command=_stop)
    parser = _of_instance(commands, "reload", "have the daemon take over what perfd.conf says now")
    parser.set_defaults(command=_reload)
    parser = _of_instance(commands, "status", "say whether the daemon runs, and how its parts are")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--json", action="store_true", help="as JSON")
    ways.add_argument("--csv", action="store_true", help="as CSV, with a row for each of its parts")
    parser.set_defaults(command=_status)


def _of_instance(commands: _Commands, name: str, text: str) -> argparse.ArgumentParser:
    """A command that needs to know which instance, and nothing else."""
    parser = commands.add_parser(name, help=text, epilog=f"example: perfd {name} --config /srv/perfd")
    config_option(parser)
    return parser


def _daemon(options: argparse.Namespace) -> int:
    from perfd.preflight import check_machine

    config = _load(options)
    user = daemon_user(config, options.uid, options.gid)
    if found := obstacle(user, config):
        complain(found)
        return daemon.NO_PERMISSION
    check_machine(config, user, may_run=True)
    more = {"log": options.log} if "log" in options else {}
    code: int = options.action(config, user, **more)
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
    if options.csv:
        from perfd.cli.status import status_as_csv

        return status_as_csv(_instance(options), lambda: _load(options))
    return daemon.status(_instance(options), lambda: _load(options), as_json=options.json)


def _add_check(commands: _Commands) -> None:
    parser = commands.add_parser(
        "check", help="find mistakes in perfd.conf", epilog="example: perfd check /srv/perfd"
    )
    config_option(parser)
    parser.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="the same, without --config")
    parser.set_defaults(command=_check)


def _check(options: argparse.Namespace) -> int:
    from rich.text import Text

    from perfd.cli.tables import Display
    from perfd.config.advice import advice
    from perfd.config.summary import summary
    from perfd.descriptors import most, shortage
    from perfd.laboratory.costs import scan_costs
    from perfd.preflight import check_machine

    config = load_config(options.directory or options.config)
    user = daemon_user(config, None, None)
    if found := obstacle(user, config):
        complain(found)
        return daemon.NO_PERMISSION
    check_machine(config, user, may_run=True)
    for line in advice(config):
        complain(f"warning: {line}")
    if found := shortage(config, most()):
        complain(f"{config.path}: warning: {found}")
    say(f"{config.path}: no mistakes found")
    shown = Display.of_terminal()
    for line in (*summary(config), *scan_costs(config)):
        for part in shown.parts(Text(f"  {line}")):
            say(part.plain)
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
