"""``perfd compare``: is B slower than A, by how much, and how sure is that?"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfd.cli.arguments import (
    PAGING,
    TIMES,
    argument,
    config_option,
    display,
    display_options,
    filter_options,
    guarded,
)
from perfd.cli.output import complain
from perfd.cli.times import parse_time
from perfd.comparison.metrics import METRICS, PRIMARY
from perfd.config import load_config
from perfd.store import parameters

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


ASKED = {each.name: each for each in parameters.RESULTS if each.name not in (*PAGING, "series")}
"""What may be asked of both sets, and of each."""


def add_command(commands: _Commands) -> None:
    """Add it to those of ``perfd``."""
    parser = commands.add_parser(
        "compare",
        help="say whether B is slower than A, by how much, and how sure that is",
        description="Compares two sets of stored measurements. Exit codes: 0 B is not slower than A by the margin, "
        "3 it is, 4 that is not decided, 1 it cannot be said, 2 wrong usage.",
        epilog="example: perfd compare --experiment download-50k --a tor=alpha --b tor=beta --margin 3%%",
    )
    for side, of in (("a", "A"), ("b", "B, which is compared with A")):
        parser.add_argument(
            f"--{side}",
            action="append",
            default=[],
            type=argument(filter_of),
            metavar="FILTER=VALUE",
            help=f"the stored measurements of {of}; several times for several filters, which are those below",
        )
    filter_options(parser, list(ASKED.values()))
    common_options(parser)
    config_option(parser)
    parser.set_defaults(command=guarded(_compare))


def common_options(parser: argparse.ArgumentParser) -> None:
    """Add what all comparisons have."""
    parser.add_argument(
        "--primary",
        choices=tuple(METRICS),
        default=PRIMARY,
        help=f"the metric that decides (default {PRIMARY}); the others are shown as well",
    )
    parser.add_argument(
        "--margin",
        type=argument(per_cent),
        default=0.0,
        metavar="PERCENT",
        help="by how much B may be slower, such as 3%% (default 0%%: not at all)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="also write it as a page, one file")
    display_options(parser, "as one JSON object")


def per_cent(text: str) -> float:
    """``3%`` as 0.03."""
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%?", text)
    if match is None:
        raise ValueError(f"{text!r} is not a percentage such as 3%")
    return float(match.group(1)) / 100


def filter_of(text: str) -> tuple[str, Any]:
    """The filter and its value in ``tor=alpha``."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or name not in ASKED:
        raise ValueError(f"{text!r} is not FILTER=VALUE, with a filter of {', '.join(ASKED)}")
    read = ASKED[name].read
    return name, parse_time(value, time.time(), read) if name in TIMES else read(value)


def _compare(options: argparse.Namespace) -> int:
    if not options.a or not options.b:
        complain("compare: say what is compared: --a FILTER=VALUE and --b FILTER=VALUE")
        return 2
    from perfd.cli.comparing import Showing, compare_stored, conclude_with  # noqa: PLC0415 - --help must not wait for it

    config = load_config(options.config)
    common = {name: getattr(options, name) for name in ASKED}
    showing = Showing(options.primary, options.margin, options.report, display(options))
    return conclude_with(lambda: compare_stored(config, common, dict(options.a), dict(options.b), showing), showing)
