"""The commands ``perfd export``, ``perfd import`` and ``perfd results``: what they understand, and their errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfd.cli.arguments import (
    PAGING,
    argument,
    config_option,
    count,
    display,
    display_options,
    filter_options,
    guarded,
)
from perfd.cli.instances import load_as_owner
from perfd.cli.output import complain
from perfd.formats.names import FORMATS
from perfd.store import parameters
from perfd.store.parameters import Parameter
from perfd.units import parse_size

if TYPE_CHECKING:
    from perfd.store.filters import Filter

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: _Commands) -> None:
    """Add them to those of ``perfd``, but for ``results``."""
    _add_export(commands)
    _add_import(commands)
    _add_backup(commands)
    _add_summarize(commands)


def _add_export(commands: _Commands) -> None:
    parser = commands.add_parser(
        "export",
        help="write measurements out of the database in a format for other programs",
        description="Writes measurements out of the database, the oldest first, also while the daemon runs. "
        "A file appears only when it is complete.",
        epilog="example: perfd export --format csv --since 2026-11 --output november.csv",
    )
    config_option(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="; ".join(f"{name}: {doc.replace('`', '')}" for name, doc in FORMATS.items()),
    )
    parser.add_argument(
        "--output",
        metavar="FILE_OR_DIR",
        help="default: standard output, as is -. In a directory (with / at its end it is made), files are named "
        "and divided as the format has it; onionperf and data need one. A device or a FIFO is written to, a "
        "symlink is followed",
    )
    parser.add_argument(
        "--dictionary",
        action="store_true",
        help="instead, print the data dictionary: the columns of csv and parquet, with types, units and meanings",
    )
    parser.add_argument(
        "--curves",
        action="store_true",
        help="instead, write the curves of these measurements (arrival, TCP, circuits) as csv, json or parquet",
    )
    filter_options(parser, _asked())
    parser.add_argument("--limit", type=argument(count), metavar="N", help="at most so many")
    parser.set_defaults(command=guarded(_export))


def _export(options: argparse.Namespace) -> int:
    if options.dictionary:
        from perfd.formats import dictionary  # noqa: PLC0415 - --help must not wait for it

        sys.stdout.write(dictionary.markdown())
        return 0
    if options.format is None:
        complain("say which format: --format " + "|".join(FORMATS))
        return 2
    from perfd.cli.export import export  # noqa: PLC0415

    config = load_as_owner(options.config)
    output = None if options.output is None else Path(options.output)
    if output is not None and options.output.endswith("/"):
        output.mkdir(parents=True, exist_ok=True)
    wanted = _filter(options, oldest_first=True)
    if not options.curves:
        return export(config, wanted, options.format, output)
    from perfd.cli.export_curves import FORMATS as OF_CURVES  # noqa: PLC0415
    from perfd.cli.export_curves import export_curves  # noqa: PLC0415

    if options.format not in OF_CURVES:
        complain("curves can be written with --format " + "|".join(OF_CURVES))
        return 2
    return export_curves(config, wanted, options.format, output)


def _add_import(commands: _Commands) -> None:
    parser = commands.add_parser(
        "import",
        help="read result files of Torperf, OnionPerf, CollecTor and Perfd into the database",
        description="Reads .tpf, OnionPerf analysis documents, .data, .extradata, .mergedata and JSON lines into "
        "the database, also while the daemon runs; plain or compressed with xz, gzip or bzip2, alone or in tar "
        "archives, such as CollecTor's of a month. Results that are in it already are passed over, so an import "
        "that was interrupted is continued by giving the same command again. What is damaged is reported on "
        "standard error, with its file and line, and passed over; then the exit code is 1.",
        epilog="example: perfd import torperf-2016-11.tar.xz",
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="a file, or a directory in which all files with one of the formats' endings are read",
    )
    config_option(parser)
    parser.add_argument("--source", help="the source of .data files whose names do not tell it")
    parser.add_argument("--size", type=argument(parse_size), help="their file size, such as 50KiB")
    parser.set_defaults(command=guarded(_import))


def _import(options: argparse.Namespace) -> int:
    from perfd.cli.importing import import_files  # noqa: PLC0415

    return import_files(load_as_owner(options.config, writes=True), options.files, options.source, options.size)


def add_results(commands: _Commands) -> None:
    """Add ``results`` to those of ``perfd``: people look for it among what shows."""
    parser = commands.add_parser(
        "results",
        help="show the latest measurements and a summary of each variant of each experiment",
        description="Shows the latest measurements, and for each experiment how many there are, how they ended, "
        "and quartiles of the seconds from the start to the first byte and to the last. Without --since that is "
        "the day before the latest measurement.",
        epilog="example: perfd results --since 1h --outcome failed",
    )
    config_option(parser)
    filter_options(parser, _asked("series"))  # which shows something else here
    parser.add_argument(
        "--limit", type=argument(count), default=20, metavar="N", help="measurements to list (default 20)"
    )
    display_options(parser, "as one JSON object")
    parser.add_argument(
        "--series", metavar="ID", help="instead, show how tor used circuits for this request series"
    )
    parser.set_defaults(command=guarded(_results))


def _results(options: argparse.Namespace) -> int:
    if options.series is not None:
        from perfd.cli.series import show_series  # noqa: PLC0415

        return show_series(load_as_owner(options.config), options.series, display(options))
    from perfd.cli.results import show_results  # noqa: PLC0415

    return show_results(load_as_owner(options.config), _filter(options, "series"), display(options))


def _add_backup(commands: _Commands) -> None:
    parser = commands.add_parser(
        "backup",
        help="write the database and perfd.conf into one file, also while the daemon runs",
        description="Writes the database, as it is at one moment, and perfd.conf into a tar file that only its "
        "owner can read. Logs, published files and page loads are not in it.",
        epilog="example: perfd backup /backups/perfd-2026-11-26.tar",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="must not be there yet")
    parser.add_argument(
        "--with-keys", action="store_true", help="also the keys of its onion service; keep it secret"
    )
    config_option(parser)
    parser.set_defaults(command=guarded(_backup))
    parser = commands.add_parser(
        "restore",
        help="make an instance of a backup",
        description="Makes the instance in DIR of a backup, here or on another host, with another version too.",
        epilog="example: perfd restore /backups/perfd-2026-11-26.tar /var/lib/perfd",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("directory", type=Path, metavar="DIR", help="new, or without an instance")
    parser.set_defaults(command=guarded(_restore))


def _add_summarize(commands: _Commands) -> None:
    parser = commands.add_parser(
        "summarize",
        help="bring the hourly summaries up to date that pages are made of",
        description="Summarizes the hours whose measurements have changed. The daemon does it once a day, and "
        "whenever pages are read; after an import of many measurements this makes the next page quick.",
        epilog="example: perfd summarize --rebuild",
    )
    config_option(parser)
    parser.add_argument("--rebuild", action="store_true", help="forget all summaries, and make them anew")
    parser.set_defaults(command=guarded(_summarize))


def _summarize(options: argparse.Namespace) -> int:
    from perfd.cli.summaries import summarize_hours  # noqa: PLC0415

    return summarize_hours(load_as_owner(options.config, writes=True), anew=options.rebuild)


def _backup(options: argparse.Namespace) -> int:
    from perfd.cli.backup import backup  # noqa: PLC0415

    return backup(load_as_owner(options.config), options.file, with_keys=options.with_keys)


def _restore(options: argparse.Namespace) -> int:
    from perfd.cli.backup import restore  # noqa: PLC0415

    return restore(options.file, options.directory)


def _asked(*others: str) -> Sequence[Parameter]:
    return [each for each in parameters.RESULTS if each.name not in (*PAGING, *others)]


def _filter(options: argparse.Namespace, *others: str, oldest_first: bool = False) -> Filter:
    asked = {each.name: getattr(options, each.name) for each in _asked(*others)}
    return parameters.results_filter(asked, requests=True, limit=options.limit, oldest_first=oldest_first)
