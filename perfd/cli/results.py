"""``perfd results``: the latest measurements, and a summary of each variant of each experiment."""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

from perfd.cli.terminal import Progress
from perfd.config import Config
from perfd.config.kinds import KINDS, Kind, Time, kind_of
from perfd.experiments.highlights import highlights
from perfd.record import Measurement, Outcome
from perfd.store.database import database_path
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader
from perfd.units import format_size
from perfd.variant import Variant, names

DAY = 86400.0
LONG = 20_000
"""Measurements whose summary takes long enough for a progress bar."""

PAUSE = 10.0  # seconds between two lines about the progress, where nobody watches

HEADINGS = (
    "start (UTC)",
    "experiment",
    "size",
    "tor",
    "server",
    "outcome",
    "first byte",
    "complete",
    "what happened",
)
SUMMARY_HEADINGS = (
    *("experiment", "all", "ok", "first byte q1", "median", "q3", "complete q1", "median", "q3"),
    "what happened to the others",
)


@attrs.define
class Summary:
    """What is known of the measurements of one variant; durations are in seconds from START, of the successes."""

    experiment: str
    variant: Variant
    outcomes: Counter[str] = attrs.field(factory=Counter)
    errors: Counter[str] = attrs.field(factory=Counter)
    first_byte: list[float] = attrs.field(factory=list)
    complete: list[float] = attrs.field(factory=list)
    times: dict[Time, list[float]] = attrs.field(factory=dict)  # those that only its kind has

    def add(self, m: Measurement) -> None:
        self.outcomes[m.outcome.value] += m.slots
        if not self.times:
            self.times = {time: [] for time in kind_of(m.type).times}
        if m.outcome is not Outcome.OK:
            self.errors[m.errorcode or m.outcome.value] += m.slots
            return
        for durations, end in ((self.first_byte, m.dataresponse), (self.complete, m.datacomplete)):
            if end is not None:
                durations.append(end - m.start)
        for time, durations in self.times.items():
            at = m.extra.get(time.key)
            if isinstance(at, int | float):
                durations.append(at - m.start)

    def as_dict(self) -> dict[str, Any]:
        return {
            "experiment": self.experiment,
            **attrs.asdict(self.variant),
            "count": self.outcomes.total(),
            "ok": self.outcomes["ok"],
            "outcomes": dict(self.outcomes),
            "errors": dict(self.errors.most_common()),
            "first_byte": quartiles(self.first_byte),
            "complete": quartiles(self.complete),
            **{time.name: quartiles(values) for time, values in self.times.items()},
        }


def quartiles(values: Sequence[float]) -> list[float] | None:
    """First quartile, median and third quartile, by linear interpolation as SQL's PERCENTILE_CONT; None of none."""
    if not values:
        return None
    found = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return [round(value, 6) for value in found]


def show_results(config: Config, wanted: Filter, *, as_json: bool) -> int:
    """Print them; ``wanted.limit`` is for the list, the summary is of all. Raises StoreError and sqlite3.Error."""
    if wanted.type is None:
        wanted = attrs.evolve(wanted, requests=False)
    with StoreReader(database_path(config.database, config.directory)) as reader:
        listed = reader.measurements(wanted)
        if wanted.since is None and listed:
            wanted = attrs.evolve(wanted, since=listed[0].start - DAY)
            listed = [m for m in listed if m.start >= listed[0].start - DAY]
        summaries = summarize(reader, attrs.evolve(wanted, limit=None)) if listed else []
    if as_json:
        document = {
            "since": wanted.since,
            "until": wanted.until,
            "experiments": [summary.as_dict() for summary in summaries],
            "results": [m.as_dict() for m in listed],
        }
        sys.stdout.write(json.dumps(document) + "\n")
    elif listed:
        since = "" if wanted.since is None else f" since {date(wanted.since)}"
        print_table("The latest measurements", HEADINGS, map(_row, reversed(listed)))
        named = list(zip(_names(summaries), summaries, strict=True))
        print_table(f"All measurements{since}", SUMMARY_HEADINGS, (_summary_row(*each) for each in named))
        for kind in KINDS.values():
            rows = [_times_row(*each) for each in named if kind.times and tuple(each[1].times) == kind.times]
            if rows:
                print_table(f"{kind.plural.capitalize()}{since}", _times_headings(kind), rows)
    else:
        sys.stdout.write("there are no such measurements\n")
    return 0


def summarize(reader: StoreReader, wanted: Filter) -> list[Summary]:
    """A summary for each variant of each experiment, in the order of their names."""
    total = reader.count(wanted)
    summaries: dict[tuple[str, Variant], Summary] = {}

    def add_all(progress: Progress | None) -> None:
        done = 0
        for page in reader.pages(wanted):
            for measurement in page:
                key = measurement.experiment, Variant.of(measurement)
                summaries.setdefault(key, Summary(*key)).add(measurement)
            done += len(page)
            if progress is not None:
                progress.update(f"{done} of {total} measurements", done, total)

    if total < LONG:
        add_all(None)
    else:
        with Progress("reading", PAUSE) as progress:
            add_all(progress)
    return sorted(summaries.values(), key=lambda each: (each.experiment, str(each.variant)))


def _names(summaries: Sequence[Summary]) -> list[str]:
    """What to call each of them: the experiment, and what tells its variants apart."""
    variants: dict[str, list[Variant]] = {}
    for each in summaries:
        variants.setdefault(each.experiment, []).append(each.variant)
    named = {experiment: names(experiment, its) for experiment, its in variants.items()}
    return [named[each.experiment][each.variant] for each in summaries]


def _row(m: Measurement) -> tuple[str, ...]:
    return (
        date(m.start),
        m.experiment,
        format_size(m.filesize),
        m.tor or "",
        m.server or "",
        m.outcome.value,
        seconds(None if m.dataresponse is None else m.dataresponse - m.start),
        seconds(None if m.datacomplete is None else m.datacomplete - m.start),
        " ".join(filter(None, (m.id if kind_of(m.type).parts else None, *highlights(m), m.errorcode, m.reason))),
    )


def _summary_row(name: str, summary: Summary) -> tuple[str, ...]:
    return (
        name,
        str(summary.outcomes.total()),
        str(summary.outcomes["ok"]),
        *_quartile_cells(summary.first_byte, summary.complete),
        ", ".join(f"{count} {code}" for code, count in summary.errors.most_common()),
    )


def _times_headings(kind: Kind) -> tuple[str, ...]:
    return ("experiment", "ok", *(text for time in kind.times for text in (f"{time.heading} q1", "median", "q3")))


def _times_row(name: str, summary: Summary) -> tuple[str, ...]:
    return (name, str(summary.outcomes["ok"]), *_quartile_cells(*summary.times.values()))


def _quartile_cells(*durations: Sequence[float]) -> list[str]:
    return [seconds(value) for values in durations for value in quartiles(values) or (None,) * 3]


def seconds(value: float | None) -> str:
    """A duration; nothing for None."""
    return "" if value is None else f"{value:.3f} s"


def date(epoch: float) -> str:
    """A time in UTC."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S")


def print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for the terminal; where there is none, plain columns that other programs can cut."""
    console = Console(highlight=False, markup=False)
    cells = [[_printable(cell) for cell in row] for row in rows]
    if console.is_terminal:
        table = Table(title=title)
        for heading in headings:
            numeric = heading in ("size", "all", "ok") or "q" in heading or heading in ("median", "first byte")
            table.add_column(heading, justify="right" if numeric or heading == "complete" else "left")
        for row in cells:
            table.add_row(*row)
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    sys.stdout.write(f"{title}\n")
    for line in (headings, *cells):
        padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(padded.rstrip() + "\n")
    sys.stdout.write("\n")


def _printable(text: str) -> str:
    """``text`` from the database, which others may have written, without control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)
