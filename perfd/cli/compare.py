"""``perfd compare``: is B slower than A, by how much, and how sure is that?"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from secrets import randbelow
from typing import TYPE_CHECKING, Any

from perfd.cli.arguments import (
    PAGING,
    Given,
    argument,
    config_option,
    count,
    display,
    display_options,
    filter_options,
    guarded,
    pair,
    reading,
)
from perfd.cli.figures import check_plots, check_writable
from perfd.cli.instances import load_as_owner
from perfd.cli.networks import (
    NETWORK_OPTIONS,
    add_network_options,
    add_use_options,
    network_options,
    number_of_networks,
    overrides,
)
from perfd.cli.output import complain
from perfd.comparison.metrics import METRICS, PRIMARY
from perfd.config.comparison import block_size
from perfd.config.reader import NETWORKS
from perfd.config.values import Arm, per_cent
from perfd.instance import CONFIG_FILE
from perfd.store import parameters

if TYPE_CHECKING:
    from perfd.cli.comparing import Showing

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


ASKED = {each.name: each for each in parameters.RESULTS if each.name not in (*PAGING, "series")}
"""What may be asked of both sets, and of each."""


def add_command(commands: _Commands) -> None:
    """Add it to those of ``perfd``."""
    parser = commands.add_parser(
        "compare",
        help="say whether B is slower than A, by how much, and how sure that is",
        description="Compares two sets of stored measurements. Exit codes: 0 B is not slower than A by the margin, "
        "3 it is, 4 that is not decided, 5 it was interrupted, 1 it cannot be said, 2 wrong usage.",
        epilog="example: perfd compare --experiment download-50k --a tor=alpha --b tor=beta --margin 3%",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a comparison of perfd.conf, which the daemon makes"
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
    _add_lab_options(parser)
    config_option(parser)
    parser.set_defaults(command=guarded(partial(_compare, parser.get_default)))


def _add_lab_options(parser: argparse.ArgumentParser) -> None:
    """Add those of a comparison that is measured at once."""
    lab = parser.add_argument_group(
        "measure at once",
        "With two arms, downloads (or another --type, --size, --server) are made for this question, in blocks of "
        "random order, over tors that share data directories.",
    )
    lab.add_argument(
        "--arm",
        action="append",
        default=[],
        type=argument(Arm.parse),
        metavar="NAME=OPTIONS",
        help="A, then B: lines of a torrc, binary=PATH, or options of the experiment, with ; between",
    )
    lab.add_argument(
        *("-o", "--option"),
        action="append",
        default=[],
        type=argument(pair),
        metavar="OPTION=VALUE",
        help="any option of the experiment of both arms, as in perfd.conf",
    )
    lab.add_argument("--network", choices=NETWORKS, help="default: as in perfd.conf, or testnet without one")
    lab.add_argument(
        "--until-decided", action="store_true", help="look five times, and end as soon as it is decided"
    )
    lab.add_argument(
        "--effect",
        type=argument(per_cent),
        metavar="PERCENT",
        help="the change that enough runs are made to find (default: the margin, or 3%% if that is 0)",
    )
    lab.add_argument("--blocks", type=argument(count), metavar="N", help="so many blocks, whatever the pilot says")
    lab.add_argument("--block-size", type=argument(block_size), metavar="N", help="runs of each arm in a block")
    lab.add_argument("--seed", type=argument(count), metavar="N", help="of the random order (default: a new one)")
    lab.add_argument(
        "--inject",
        type=argument(per_cent),
        default=0.0,
        metavar="PERCENT",
        help="slow B down by this share of the pilot's median, by a delay in front of its SOCKS port, to check "
        "that a difference is found",
    )
    add_use_options(lab)
    add_network_options(lab)
    lab.add_argument(
        "--networks",
        type=argument(number_of_networks),
        metavar="N",
        help="make it on so many private networks of at least 8 relays, each with the next seed, as units; with "
        "--testnet DIR on DIR/network1 and so on",
    )
    lab.add_argument(
        "--network-seed", type=argument(count), metavar="N", help="of the (first) private network (default 1)"
    )
    lab.add_argument(
        "--records", type=Path, metavar="FILE", help="also write all measurements, a JSON object per line"
    )


def common_options(parser: argparse.ArgumentParser) -> None:
    """Add what all comparisons have."""
    parser.add_argument(
        "--primary",
        choices=tuple(METRICS),
        default=PRIMARY,
        metavar="METRIC",
        help=f"the metric that decides: {', '.join(METRICS)} (default {PRIMARY}); the others are shown as well",
    )
    parser.add_argument(
        "--margin",
        type=argument(per_cent),
        default=0.0,
        metavar="PERCENT",
        help="by how much B may be slower, such as 3%% (default 0%%: not at all)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="also write it as a page, one file")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw charts into DIR, each with a CSV file")
    display_options(parser, "as one JSON object")


def showing(options: argparse.Namespace) -> Showing:
    """What these options say. Raises MissingLibraryError for charts without matplotlib, and OSError for a page or
    charts that could not be written.
    """
    from perfd.cli.comparing import Showing  # noqa: PLC0415 - --help must not wait

    if options.plots is not None:
        check_plots()
    check_writable(options.report, options.plots)
    return Showing(options.primary, options.margin, options.report, display(options), options.plots)


def filter_of(text: str) -> Given:
    """The filter and its value in ``tor=alpha``."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or name not in ASKED:
        raise ValueError(f"{text!r} is not FILTER=VALUE, with a filter of {_filter_names()}")
    return Given(name, reading(ASKED[name])(value), value)


def _filter_names() -> str:
    return ", ".join(name for name in ASKED if not name.startswith(parameters.EXCLUDING)) + ", or not- and that"


_AT_ONCE = (
    *("option", "network", "until_decided", "effect", "blocks", "block_size", "seed", "inject", "records"),
    *("testnet", "keep", "networks", "network_seed", *NETWORK_OPTIONS),
)
"""What says something of measurements that are made at once, as attributes of what was parsed."""

_DECLARED = ("primary", "margin")
"""What a comparison of perfd.conf declares there."""


def _compare(default: Callable[[str], Any], options: argparse.Namespace) -> int:
    given = [name for name, value in vars(options).items() if value != default(name)]
    if options.name is not None:
        return _of_daemon(options, given)
    of_sets = options.a or options.b
    if len(options.arm) == 2 and not of_sets:
        return _lab(options)
    unused = [name for name in given if name in _AT_ONCE]
    if options.arm and of_sets:
        complain("compare: --a and --b are for stored measurements, and --arm for those that are made at once")
    elif unused:
        complain(f"compare: {_flag(unused[0])} is for what is measured at once, with two of --arm NAME=OPTIONS")
    elif not options.a or not options.b:
        complain(
            "compare: say what is compared: --a FILTER=VALUE and --b FILTER=VALUE, or two of --arm NAME=OPTIONS"
        )
    else:
        return _of_sets(options)
    return 2


def _of_sets(options: argparse.Namespace) -> int:
    common = {name: getattr(options, name) for name in ASKED}
    if twice := [each.name for each in (*options.a, *options.b) if common[each.name] is not None]:
        complain(f"compare: {_flag(twice[0])} is for both sets, and --a or --b says another {twice[0]}")
        return 2
    from perfd.cli.comparing import compare_stored, conclude_with  # noqa: PLC0415

    config = load_as_owner(options.config)
    shown = showing(options)
    return conclude_with(lambda: compare_stored(config, common, options.a, options.b, shown), shown)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _of_daemon(options: argparse.Namespace, given: Sequence[str]) -> int:
    if options.a or options.b or options.arm:
        complain("compare: a comparison of perfd.conf has arms of its own")
        return 2
    if unused := [name for name in given if name in (*ASKED, *_AT_ONCE, *_DECLARED)]:
        complain(
            f"compare: {_flag(unused[0])} is not asked here: [comparison:{options.name}] says what is compared and "
            "what decides, and all of its measurements count"
        )
        return 2
    from perfd.cli.comparing import compare_made, conclude_with  # noqa: PLC0415

    config = load_as_owner(options.config)
    shown = showing(options)
    return conclude_with(lambda: compare_made(config, options.name), shown)


LAB_OPTIONS = ("type", "size", "server")
"""The filters that are options of the experiment where it is measured at once."""


def _lab(options: argparse.Namespace) -> int:
    from perfd.cli.compare_lab import LabComparison  # noqa: PLC0415
    from perfd.cli.comparing import conclude_with  # noqa: PLC0415
    from perfd.cli.trial import Trial  # noqa: PLC0415

    for name in LAB_OPTIONS:
        if isinstance(getattr(options, name), tuple):
            complain(f"compare: --{name} has one value where it is measured at once")
            return 2
    for name in ASKED:
        if name not in LAB_OPTIONS and getattr(options, name) is not None:
            complain(f"compare: --{name} is for stored measurements, and --arm for those that are made at once")
            return 2
    given = {name: str(value) for name in LAB_OPTIONS if (value := getattr(options, name)) is not None}
    is_default = options.config == Path(CONFIG_FILE)
    path = None if is_default and not options.config.exists() else options.config
    a, b = options.arm
    links = network_options(options)
    if options.network_seed is not None:
        links["seed"] = str(options.network_seed)
    trial = Trial(
        a=a,
        b=b,
        options=given | dict(options.option),
        network=options.network,
        links=links,
        using=overrides(options.testnet, options.keep),
        until_decided=options.until_decided,
        effect=options.effect or options.margin or 0.03,
        blocks=options.blocks,
        block_size=options.block_size,
        seed=options.seed or randbelow(10**9) + 1,
        inject=options.inject,
        records=options.records,
    )
    shown = showing(options)
    if options.networks is not None:
        from perfd.cli.compare_networks import NetworksComparison  # noqa: PLC0415

        over = NetworksComparison(path, trial, shown, options.networks, options.testnet)
        return conclude_with(over.run, shown)
    return conclude_with(LabComparison(path, trial, shown).run, shown)
