"""``perfd analyze``: tables and charts of the measurements of a period."""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfd.cli.arguments import PAGING, argument, config_option, display, display_options, filter_options, guarded
from perfd.cli.figures import check_plots, draw
from perfd.cli.instances import load_as_owner
from perfd.cli.times import parse_time
from perfd.config import Config
from perfd.store import parameters
from perfd.store.parameters import Parameter

if TYPE_CHECKING:
    from perfd.charts.model import Chart, Mark, Table
    from perfd.cli import tables
    from perfd.cli.csv_output import CSV
    from perfd.cli.tables import Display
    from perfd.cli.terminal import Progress
    from perfd.record import Guard, Hop
    from perfd.reports.report import Report
    from perfd.reports.runs import Run
    from perfd.store.filters import Filter
    from perfd.store.reader import StoreReader

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

FORMATS = ("png", "svg", "pdf")
LONG = 20_000
"""Measurements between two steps of the progress bar."""

LEFT_OUT = {
    "filtered": "imported measurements are left out, as a filter of OnionPerf's has left them out of its graphs",
    "pilot": "measurements of the pilots of comparisons are left out, since they warm up and do not count",
}
"""What is not asked for by default: a filter, and what to say of that."""

_WHOLE_DAY = re.compile(r"today|yesterday|[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")

Charts = list[tuple[str, list["Chart"]]]
Paths = dict[str, tuple[tuple["Hop", ...], tuple["Guard", ...]]]


def add_command(commands: _Commands) -> None:
    """Add it to those of ``perfd``."""
    parser = commands.add_parser(
        "analyze",
        help="summarise a period in tables and charts",
        description="Summarises what was measured: quartiles, failures, and relays that are slow or fail more "
        "often than others; as charts with --plots and --report.",
        epilog="example: perfd analyze 7d --experiment download-50k --plots plots",
    )
    parser.add_argument(
        "period",
        nargs="?",
        metavar="PERIOD",
        type=argument(period),
        help="7d (until now), yesterday, a day 2026-11-26, a month 2026-11; default: all, or --since and --until",
    )
    config_option(parser)
    filter_options(parser, _asked())
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw charts into DIR, each with a CSV file")
    parser.add_argument("--format", choices=FORMATS, default="png", help="of the charts (default png)")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write all as a page, one file")
    display_options(parser, "as one JSON object")
    parser.set_defaults(command=guarded(_analyze))


def period(text: str) -> tuple[float, float | None]:
    """Beginning and end of a period in seconds since the epoch; None: until now. Raises ValueError."""
    read = next(each.read for each in parameters.WINDOW if each.name == "since")
    word = text.strip().lower()
    since = parse_time(word, time.time(), read)
    if _WHOLE_DAY.fullmatch(word):
        return since, since + timedelta(days=1).total_seconds()
    if _MONTH.fullmatch(word):
        following = datetime.fromtimestamp(since, UTC) + timedelta(days=31)
        return since, following.replace(day=1).timestamp()
    return since, None


def _asked() -> Sequence[Parameter]:
    return [each for each in parameters.RESULTS if each.name not in PAGING]


def _analyze(options: argparse.Namespace) -> int:
    asked = {each.name: getattr(options, each.name) for each in _asked()}
    if options.period is not None:
        if options.since is not None or options.until is not None:
            sys.stderr.write("perfd: analyze: give PERIOD, or --since and --until\n")
            return 2
        asked["since"], asked["until"] = options.period
    config = load_as_owner(options.config)
    if options.plots is not None:
        check_plots()
    return _run(config, parameters.results_filter(asked), options, display(options))


def _run(config: Config, wanted: Filter, options: argparse.Namespace, shown: Display | CSV | None) -> int:
    from perfd.cli.csv_output import CSV  # noqa: PLC0415
    from perfd.cli.terminal import Progress  # noqa: PLC0415
    from perfd.reports.groups import as_rows  # noqa: PLC0415
    from perfd.reports.report import page  # noqa: PLC0415

    with Progress("analyzing", 2.0) as progress, _no_collection():
        found, paths = _report(config, wanted, progress, with_paths=options.plots is not None)
        charts = _charts(config, found) if options.plots or options.report else []
        written = []
        if options.report is not None:
            title = f"Measurements of {config.source}"
            options.report.write_text(page(found, title, charts), encoding="utf-8")
            written.append(str(options.report))
        if options.plots is not None:
            count = sum(len(each) for _, each in charts)
            progress.update(f"drawing {count} charts")
            _draw(found, charts, paths, options.plots, options.format)
            written.append(f"{count} charts and their CSV files in {options.plots}")
    if shown is None:
        sys.stdout.write(json.dumps(found.as_dict()) + "\n")
    elif isinstance(shown, CSV):
        columns, rows = as_rows(found.groups)
        shown.records(rows, columns)
    else:
        _show(found, shown)
    for each in written:
        sys.stderr.write(f"perfd: wrote {each}\n")
    return 0


def _charts(config: Config, found: Report) -> Charts:
    """Those of the report, and of what page loads have left in files beside the database."""
    from perfd.cli.page_loads import of_page_loads  # noqa: PLC0415
    from perfd.store.page_files import DIRECTORY  # noqa: PLC0415

    left = of_page_loads(found.groups, config.directory / DIRECTORY)
    return [(name, [*each, *left.get(name, [])]) for name, each in found.charts()]


@contextmanager
def _no_collection() -> Iterator[None]:
    """There are no cycles among the runs, and to look for them again and again takes half of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _report(config: Config, wanted: Filter, progress: Progress, *, with_paths: bool) -> tuple[Report, Paths]:
    """With what is known besides of the circuits of runs whose records say little of them, if it is needed."""
    from perfd.reports.onionperf import ids_of_less_known  # noqa: PLC0415
    from perfd.reports.report import report  # noqa: PLC0415
    from perfd.reports.runs import FIELDS, RunReader  # noqa: PLC0415
    from perfd.store.database import database_path  # noqa: PLC0415
    from perfd.store.reader import StoreReader  # noqa: PLC0415

    make = RunReader().run
    with StoreReader(database_path(config.database, config.directory)) as reader:
        notes = _left_out(reader, wanted)
        wanted, also_left_out = _without_what_misleads(reader, wanted)
        notes += [*also_left_out, *_held_up(reader, wanted)]
        marks = _marks(reader, wanted)
        total = reader.count(wanted)

        def told() -> Iterator[Run]:
            for n, row in enumerate(reader.rows(FIELDS, wanted)):
                if n % LONG == 0:
                    progress.update(f"{n} of {total} measurements", n, total)
                yield make(row)

        found = report(told(), marks, notes)
        return found, reader.paths_of(ids_of_less_known(found.groups)) if with_paths else {}


def _without_what_misleads(reader: StoreReader, wanted: Filter) -> tuple[Filter, list[str]]:
    """Without what is left out unless it was said what to do with it, and what to say of that."""
    import attrs  # noqa: PLC0415

    def evolved(name: str, *, value: bool) -> Filter:
        changes: dict[str, Any] = {name: value}
        return attrs.evolve(wanted, **changes)

    notes = []
    for name, words in LEFT_OUT.items():
        count = reader.count(evolved(name, value=True)) if getattr(wanted, name) is None else 0
        if count:
            wanted = evolved(name, value=False)
            notes.append(f"{count:,} {words}; --{name} any keeps them.")
    return wanted, notes


def _marks(reader: StoreReader, wanted: Filter) -> list[Mark]:
    """The notes of the period, by the operator or of what Perfd saw to change."""
    from perfd.charts.model import Mark  # noqa: PLC0415

    return [Mark(note.at, note.text) for note in reader.noted(wanted)]


def _left_out(reader: StoreReader, wanted: Filter) -> list[str]:
    """How many measurements of the period did not pass the filters."""
    left_out, count = reader.filtered_out(wanted)
    return [f"{left_out:,} of {count:,} measurements of the period were left out by the filters."] * (left_out > 0)


def _held_up(reader: StoreReader, wanted: Filter) -> list[str]:
    """Whether Perfd's own trouble is in the times."""
    import attrs  # noqa: PLC0415

    count = reader.count(attrs.evolve(wanted, heldup=True)) if wanted.heldup is None else 0
    if not count:
        return []
    return [f"During {count:,} of them Perfd itself was held up, which bends stamps; --heldup no leaves them out."]


def _draw(found: Report, charts: Charts, paths: Paths, directory: Path, form: str) -> None:
    from perfd.charts import files  # noqa: PLC0415
    from perfd.charts.model import Table  # noqa: PLC0415
    from perfd.reports import onionperf  # noqa: PLC0415

    draw([chart for _, each in charts for chart in each], directory, form)
    files.write_csv(Table(onionperf.COLUMNS, tuple(onionperf.rows(found.groups, paths))), directory / "runs.csv")


def _show(found: Report, shown: Display) -> None:
    from perfd.reports.report import relay_titles, summary  # noqa: PLC0415

    tables = [("Median and quartiles of the successes", summary(found)), *relay_titles(found)]
    shown.show([_table(title, table) for title, table in tables if table.rows], [found.lead, *found.notes])


def _table(title: str, table: Table) -> tables.Table:
    from perfd.cli import tables  # noqa: PLC0415

    last = len(table.headings) - 1
    columns = []
    for n, heading in enumerate(table.headings):
        prose = n == last and heading.startswith("what")  # it stands below its row before anything is left out
        columns.append(
            tables.Column(heading, number=0 < n < last, rank=n if n > 2 and not prose else 0, prose=prose)
        )
    rows = [["" if cell is None else str(cell) for cell in row] for row in table.rows]
    return tables.Table(title, columns, rows)
