"""``perfd scan``: what scans found, relay by relay."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from perfd.cli.arguments import PAGING, argument, config_option, display, display_options, filter_options, guarded
from perfd.config import Config, load_config
from perfd.config.values import per_cent
from perfd.store import parameters

if TYPE_CHECKING:
    from perfd.analysis.standing import Standing
    from perfd.cli.tables import Table
    from perfd.reports.scans import ScannedRelay
    from perfd.store.filters import Filter

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

ASKED = [each for each in parameters.RESULTS if each.name not in (*PAGING, "type", "series")]

SHOWN = 20
"""Relays that stand out by nothing, of which no more are shown without --all."""

MARGIN, FALSE_DISCOVERY = "10%", "5%"


def add_command(commands: _Commands) -> None:
    """Add it to those of ``perfd``."""
    parser = commands.add_parser(
        "scan",
        help="say which relays stand out in scans",
        description="Says which relays are slower than the others in their place, or fail more often, as "
        "experiments with type = scan have measured them.",
        epilog="example: perfd scan --since 30d --experiment exits",
    )
    filter_options(parser, ASKED)
    for name, default, text in (
        ("margin", MARGIN, "by how much slower a relay may be than the others"),
        ("false-discovery", FALSE_DISCOVERY, "the share that may be false of the relays that are named"),
    ):
        parser.add_argument(
            f"--{name}",
            metavar="PERCENT",
            type=argument(per_cent),
            default=per_cent(default),
            help=f"{text} (default {default.replace('%', '%%')})",
        )
    parser.add_argument("--all", action="store_true", help="show all relays, also those that stand out by nothing")
    config_option(parser)
    display_options(parser)
    parser.set_defaults(command=guarded(_scan))


def _scan(options: argparse.Namespace) -> int:
    from perfd.cli.csv_output import CSV  # noqa: PLC0415

    wanted = parameters.results_filter({each.name: getattr(options, each.name) for each in ASKED})
    relays = _relays(load_config(options.config), attrs.evolve(wanted, type="scan"), options)
    shown = display(options)
    if shown is None:
        for relay in relays:
            sys.stdout.write(json.dumps(relay.as_dict()) + "\n")
    elif isinstance(shown, CSV):
        shown.records([relay.as_dict() for relay in relays])
    else:
        found = [relay for relay in relays if relay.found]
        others = [relay for relay in relays if not relay.found]
        some = others if options.all else others[:SHOWN]
        tables = [_table("Relays that stand out", found), _table("The others", some)]
        notes = [_lead(relays, found, options)]
        if len(some) < len(others):
            notes.append(f"{len(others) - len(some):,} more relays stand out by nothing; --all shows them.")
        shown.show([each for each in tables if each.rows], notes)
    return 0


def _relays(config: Config, wanted: Filter, options: argparse.Namespace) -> list[ScannedRelay]:
    from perfd.cli.terminal import Progress  # noqa: PLC0415
    from perfd.reports.scans import FIELDS, scanned  # noqa: PLC0415
    from perfd.store.database import database_path  # noqa: PLC0415
    from perfd.store.reader import StoreReader  # noqa: PLC0415

    with (
        Progress("looking through scans", 2.0),
        StoreReader(database_path(config.database, config.directory)) as reader,
    ):
        return scanned(reader.rows(FIELDS, wanted), options.margin, options.false_discovery)


def _lead(relays: Sequence[ScannedRelay], found: Sequence[ScannedRelay], options: argparse.Namespace) -> str:
    from perfd.reports.scans import LEAST  # noqa: PLC0415

    if not relays:
        return "No scan has measured a relay in this period."
    runs = sum(relay.runs for relay in relays)
    tested = sum(1 for relay in relays if relay.adjusted)
    return (
        f"{runs:,} runs over {len(relays):,} relays, of which {tested:,} have enough ({LEAST}) to be compared with "
        f"the others in their place; {len(found):,} stand out: slower by more than {100 * options.margin:g} %, or "
        f"failing more often, at a rate of false discoveries of {100 * options.false_discovery:g} %."
    )


def _table(title: str, relays: Sequence[ScannedRelay]) -> Table:
    from perfd.cli.tables import Column, Table  # noqa: PLC0415

    columns = [
        Column("relay"),
        Column("place"),
        Column("runs", number=True, rank=2),
        Column("failed", number=True),
        Column("95 % interval", rank=4),
        Column("build", number=True),
        Column("to the others", rank=3),
        Column("transfer", number=True),
        Column("to the others", rank=3),
        Column("stands out by"),
    ]
    return Table(title, columns, [_row(relay) for relay in relays])


def _row(relay: ScannedRelay) -> list[str]:
    low, high = relay.failed
    name = f"{relay.nickname} {relay.relay[:9]}"
    return [
        *(name, relay.place, str(relay.runs), f"{100 * relay.failures / relay.runs:.3g} %"),
        f"{100 * low:.3g} to {100 * high:.3g} %",
        *_times(relay.build),
        *_times(relay.transfer),
        ", ".join(f"{each} (q = {relay.adjusted[each]:.2g})" for each in relay.found),
    ]


def _times(standing: Standing | None) -> tuple[str, str]:
    if standing is None:
        return "", ""
    low, high = (100 * value for value in (standing.ratio.low, standing.ratio.high))
    return f"{standing.median:.3f} s", f"{low:+.3g} to {high:+.3g} %"
