"""``perfd results``: the latest measurements, and a summary of each variant of each experiment."""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from perfd.cli.csv_output import CSV
from perfd.cli.tables import Column, Display, Table
from perfd.cli.terminal import Progress
from perfd.config import Config
from perfd.config.kind import Kind, Time
from perfd.config.kinds import kind_of, kinds
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

COLUMNS = (
    Column("start (UTC)"),
    Column("experiment"),
    Column("size", number=True, rank=3),
    Column("tor", rank=1),
    Column("server", rank=2),
    Column("outcome"),
    Column("first byte", number=True),
    Column("complete", number=True),
    Column("what happened", prose=True),
)
SUMMARY_COLUMNS = (
    *(Column("experiment"), Column("all", number=True), Column("ok", number=True)),
    *(Column("first byte", number=True), Column("quartiles", rank=2, of="first byte")),
    *(Column("complete", number=True), Column("quartiles", rank=1, of="complete")),
    Column("what happened to the others", prose=True),
)
"""With the medians of the successes."""


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


def show_results(config: Config, wanted: Filter, display: Display | CSV | None) -> int:
    """Print them, as JSON without a ``display``; ``wanted.limit`` is for the list, the summary is of all.

    As CSV it is the list alone. Raises StoreError and sqlite3.Error.
    """
    if wanted.type is None:
        wanted = attrs.evolve(wanted, requests=False)
    with StoreReader(database_path(config.database, config.directory)) as reader:
        listed = reader.measurements(wanted)
        if wanted.since is None and listed:
            wanted = attrs.evolve(wanted, since=listed[0].start - DAY)
            listed = [m for m in listed if m.start >= listed[0].start - DAY]
        left_out, total = reader.filtered_out(wanted)
        summaries = summarize(reader, attrs.evolve(wanted, limit=None)) if listed else []
    if display is None:
        document = {
            "since": wanted.since,
            "until": wanted.until,
            "filtered_out": left_out,
            "experiments": [summary.as_dict() for summary in summaries],
            "results": [m.as_dict() for m in listed],
        }
        sys.stdout.write(json.dumps(document) + "\n")
    elif isinstance(display, CSV):
        display.measurements(reversed(listed))
    elif listed:
        since = "" if wanted.since is None else f" since {date(wanted.since)}"
        medians = f"{since}: medians of the successes"
        named = list(zip(_names(summaries), summaries, strict=True))
        tables = [
            Table("The latest measurements", COLUMNS, [_row(m, display) for m in reversed(listed)]),
            Table(
                f"All measurements{since}: medians of the successes",
                SUMMARY_COLUMNS,
                [_summary_row(*each) for each in named],
            ),
        ]
        for kind in kinds().values():
            rows = [_times_row(*each) for each in named if kind.times and tuple(each[1].times) == kind.times]
            if rows:
                tables.append(Table(f"{kind.plural.capitalize()}{medians}", _times_columns(kind), rows))
        note = f"{left_out:,} of {total:,} measurements{since} were left out by the filters."
        display.show(tables, [note] * (left_out > 0))
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


def _row(m: Measurement, display: Display) -> tuple[str, ...]:
    return (
        display.time(m.start),
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


def _times_columns(kind: Kind) -> list[Column]:
    columns = [Column("experiment"), Column("ok", number=True)]
    for rank, time in enumerate(kind.times):
        columns += [Column(time.heading, number=True, rank=rank), Column("quartiles", rank=10, of=time.heading)]
    return columns


def _times_row(name: str, summary: Summary) -> tuple[str, ...]:
    return (name, str(summary.outcomes["ok"]), *_quartile_cells(*summary.times.values()))


def _quartile_cells(*durations: Sequence[float]) -> list[str]:
    """Of each, the median, and the first and the third quartile."""
    cells: list[str] = []
    for values in durations:
        found = quartiles(values)
        cells += ["", ""] if found is None else [seconds(found[1]), f"{found[0]:.3f} to {found[2]:.3f} s"]
    return cells


def seconds(value: float | None) -> str:
    """A duration; nothing for None."""
    return "" if value is None else f"{value:.3f} s"


def date(epoch: float) -> str:
    """A time in UTC."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S")
