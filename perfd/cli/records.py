"""The commands that show records: ``circuits``, ``streams``, ``events``, ``show`` and ``logs``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from perfd.cli.arguments import (
    argument,
    config_option,
    count,
    display,
    display_options,
    filter_options,
    guarded,
)
from perfd.cli.instances import load_as_owner
from perfd.instance import Instance
from perfd.store import parameters

if TYPE_CHECKING:
    from perfd.record import Measurement

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

LISTINGS = {
    "circuits": ("tor's circuits", parameters.CIRCUITS, "CircuitFilter"),
    "streams": ("tor's streams", parameters.STREAMS, "StreamFilter"),
    "events": ("what tor said besides", parameters.EVENTS, "EventFilter"),
}
"""Command: what it shows, what may be asked, and the class of that."""


def add_commands(commands: _Commands) -> None:
    """Add them to those of ``perfd``."""
    for name, (text, asked, _) in LISTINGS.items():
        parser = commands.add_parser(
            name,
            help=f"show {text}",
            description=f"Shows {text}, the latest last.",
            epilog=f"example: perfd {name} --since 1h -f",
        )
        config_option(parser)
        filter_options(parser, asked)
        _line_options(parser, "records")
        display_options(parser)
        parser.set_defaults(command=guarded(_list), listing=name)
    _add_show(commands)
    _add_logs(commands)


def _line_options(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("-n", "--limit", type=argument(count), default=20, help=f"{what} to show (default 20)")
    parser.add_argument("-f", "--follow", action="store_true", help="then go on with new ones, until Ctrl-C")


def _list(options: argparse.Namespace) -> int:
    from perfd.cli import tor_records  # noqa: PLC0415 - --help must not wait for it
    from perfd.store import filters  # noqa: PLC0415

    _, asked, name = LISTINGS[options.listing]
    values = {each.name: getattr(options, each.name) for each in asked if each.name != "after"}
    wanted = getattr(filters, name)(**values)
    listing = getattr(tor_records, options.listing.upper())
    config = load_as_owner(options.config)
    return tor_records.show(config, listing, wanted, display(options), follow=options.follow)


def _add_show(commands: _Commands) -> None:
    parser = commands.add_parser(
        "show",
        help="show one measurement: its steps, circuit, streams and what went wrong",
        description="Shows one measurement as a person reads it. `perfd results` and `perfd logs` name the latest.",
        epilog="example: perfd show last",
    )
    parser.add_argument("id", metavar="ID", help="its ID; last: the latest, failed: the latest that failed")
    config_option(parser)
    display_options(parser, "the records as one JSON object")
    parser.set_defaults(command=guarded(_show))


def _show(options: argparse.Namespace) -> int:
    from perfd.cli.show import show_measurement  # noqa: PLC0415

    return show_measurement(load_as_owner(options.config), options.id, display(options))


def _add_logs(commands: _Commands) -> None:
    parser = commands.add_parser(
        "logs",
        help="show perfd.log as a person reads it",
        description="Shows the end of perfd.log, a short line for each measurement.",
        epilog="example: perfd logs -f --experiment download-50k",
    )
    config_option(parser)
    for name, text in (("experiment", "an experiment"), ("tor", "a tor"), ("outcome", "an outcome")):
        parser.add_argument(f"--{name}", help=f"only measurements of {text}")
    _line_options(parser, "lines")
    display_options(parser, "the measurements, a JSON object per line")
    parser.set_defaults(command=guarded(_logs))


def _logs(options: argparse.Namespace) -> int:
    from perfd.cli.logs import show_logs  # noqa: PLC0415

    names = [name for name in ("experiment", "tor", "outcome") if getattr(options, name) is not None]

    def wanted(m: Measurement) -> bool:
        return all(getattr(m, name) == getattr(options, name) for name in names)

    instance = Instance(load_as_owner(options.config).directory)
    return show_logs(
        instance.log_file, options.limit, wanted if names else None, display(options), follow=options.follow
    )
