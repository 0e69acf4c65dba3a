"""What ``perfd compare`` does with stored measurements, and how a conclusion is shown."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from perfd.cli.arguments import TIMES, Given
from perfd.cli.csv_output import CSV
from perfd.cli.figures import draw
from perfd.cli.output import complain
from perfd.cli.tables import Column, Display, Table
from perfd.cli.terminal import Progress
from perfd.comparison import words
from perfd.comparison.conclusion import (
    INTERRUPTED,
    NOT_SLOWER,
    SLOWER,
    UNDECIDED,
    Conclusion,
    Design,
    TooLittleError,
    conclude,
)
from perfd.comparison.figures import figures
from perfd.comparison.made import MADE_FIELDS, conclude_made
from perfd.comparison.metrics import Run
from perfd.comparison.page import page
from perfd.comparison.stored import FIELDS, Strata, kinds_in, strata
from perfd.config import Config, ConfigError
from perfd.record import Note
from perfd.store.database import database_path
from perfd.store.filters import Filter
from perfd.store.parameters import EXCLUDING, results_filter
from perfd.store.reader import StoreReader


@attrs.frozen
class Showing:
    """What is declared before, and how the conclusion is shown: as JSON without a ``display``."""

    primary: str
    margin: float
    report: Path | None
    display: Display | CSV | None
    plots: Path | None = None


EXIT_CODES = {NOT_SLOWER: 0, SLOWER: 3, UNDECIDED: 4, INTERRUPTED: 5}

OBSERVATIONAL = (
    "observational: chance did not decide which run belongs to which set, so whatever else differs between them "
    "may be the cause"
)

RANKS = {"p": 1, "median B": 2, "median A": 2, "runs": 3}
"""The columns of the metrics that are left out first where there is no room."""

TELLING = ("source", "experiment", "type", "size", "outcome", "tor", "server", "url", "torversion", "comparison")
"""Filters whose values tell what they are without the filter's name."""

LONGEST = 60
"""Characters of the value of a filter in the name of a set."""

_FIELDS = {"size": "filesize", "url": "URL"}
"""What some filters are called in strata."""


def conclude_with(compare: Callable[[], Conclusion], showing: Showing) -> int:
    """Show what ``compare`` concludes; the exit code says what was decided."""
    try:
        conclusion = compare()
    except TooLittleError as error:
        complain(str(error))
        return 1
    show(conclusion, showing)
    return EXIT_CODES[conclusion.verdict]


def compare_stored(
    config: Config, common: Mapping[str, Any], a: Sequence[Given], b: Sequence[Given], showing: Showing
) -> Conclusion:
    """Compare two sets of what is in the database: those that pass the ``common`` filters and their own.

    Raises ConfigError, TooLittleError, StoreError and sqlite3.Error.
    """
    both = [{each.name: each.value for each in side} for side in (a, b)]
    if both[0] == both[1]:
        raise ConfigError(["compare: --a and --b ask for the same measurements"])
    for side, name in zip((a, b), "ab", strict=True):
        given = Counter(each.name for each in side)
        if given.total() > len(given):
            [(most, _)] = given.most_common(1)
            raise ConfigError([f"compare: --{name} has {most} twice; several values have commas between"])
    runs: list[list[Run]] = []
    path = database_path(config.database, config.directory)
    sides = [results_filter({**common, **side}) for side in both]
    with StoreReader(path) as reader, Progress("reading", 2.0) as progress:
        for name, wanted in zip("AB", sides, strict=True):
            progress.update(name)
            runs.append([*reader.values((*FIELDS, "HELDUP", "id"), wanted)])
            progress.update(f"{name}: {len(runs[-1])} measurements")
        total = reader.count(_period(*sides))
        notes = _changes(reader, [*runs[0], *runs[1]])
    for side, some in zip((a, b), runs, strict=True):
        if not some:
            raise TooLittleError(f"there are no measurements with {_filters(side)}")
    runs, in_both = _disjoint(*runs)
    asked = {each.name.removeprefix(EXCLUDING) for each in (*a, *b)}
    found = strata(runs[0], runs[1], {_FIELDS.get(name, name) for name in asked})
    design = Design(
        a=_label(a),
        b=_label(b),
        primary=showing.primary,
        margin=showing.margin,
        seed=None,
        text=found.text,
        paired=found.paired,
    )
    warnings = _warnings(found, [*runs[0], *runs[1]], total - in_both)
    if in_both:
        warnings.append(f"{in_both} measurements are in both sets, and are left out")
    return conclude(design, found.samples, [*warnings, *map(_noted, notes)])


def compare_made(config: Config, name: str) -> Conclusion:
    """What a comparison of the daemon says by now. Raises TooLittleError, StoreError and sqlite3.Error.

    One that never ends may be looked at whenever one likes: its interval is that of a confidence sequence. One that
    has a number of blocks is looked at five times, so what came after the last look does not count yet.
    """
    with StoreReader(database_path(config.database, config.directory)) as reader:
        stored = reader.comparison(name)
        if stored is None:
            made = reader.count(Filter(comparison=name, requests=False))
            pilot = f"the pilot of {name} is not over: {made} runs were made"
            raise TooLittleError(pilot if made else f"no comparison {name} was begun here")
        runs = reader.values(MADE_FIELDS, Filter(comparison=name, requests=False, oldest_first=True))
    return conclude_made(stored, runs)


def _disjoint(a: Sequence[Run], b: Sequence[Run]) -> tuple[list[list[Run]], int]:
    """Both without the measurements that are in both sets, which cannot differ from themselves; and how many.

    Raises TooLittleError if no others are left of one.
    """
    both = {run["id"] for run in a} & {run["id"] for run in b}
    for name, other, runs in (("A", "B", a), ("B", "A", b)):
        if both and len(both) == len(runs):
            raise TooLittleError(
                f"all measurements of {name} are in {other} as well: leave them out there, with a filter not-NAME"
            )
    return [[run for run in runs if run["id"] not in both] for runs in (a, b)], len(both)


def _changes(reader: StoreReader, runs: Sequence[Run]) -> list[Note]:
    """What changed between the first and the last of them, as far as it concerns them."""
    if not runs:
        return []
    starts = [run["start"] for run in runs]
    tors, experiments = (tuple({run[name] for run in runs} - {None}) for name in ("tor", "experiment"))
    return reader.noted(
        Filter(since=min(starts), until=max(starts), tor=tors or None, experiment=experiments or None)
    )


def _period(a: Filter, b: Filter) -> Filter:
    """All measurements of the time of both."""
    since = None if a.since is None or b.since is None else min(a.since, b.since)
    until = None if a.until is None or b.until is None else max(a.until, b.until)
    return Filter(since=since, until=until, requests=a.requests or b.requests)


def _noted(note: Note) -> str:
    return f"the measurements span what was noted of {_time(note.at)}: {note.text}"


def _warnings(found: Strata, runs: Sequence[Run], total: int) -> list[str]:
    warnings = [] if found.paired else [OBSERVATIONAL]
    if filtered_out := total - len({run["id"] for run in runs}):
        warnings.append(
            f"{filtered_out:,} of {total:,} measurements of the time are in neither set, by the filters"
        )
    if found.left_out:
        warnings.append(f"{found.left_out} of {len(runs)} measurements have no counterpart, and are left out")
    if found.not_counted:
        warnings.append(f"{found.not_counted} skipped or cancelled measurements are left out")
    if held_up := sum(run["HELDUP"] is not None for run in runs):
        warnings.append(f"during {held_up} measurements Perfd itself was held up; --heldup no leaves them out")
    if len(kinds := kinds_in(runs)) > 1:
        warnings.append(f"several types of experiment are put together: {', '.join(kinds)}")
    return warnings


def _label(side: Sequence[Given]) -> str:
    """What to call a set: the value of its only filter, if that tells what it is, or all of them."""
    (first, *others) = side
    return first.text if not others and first.name in TELLING and len(first.text) <= LONGEST else _filters(side)


def _filters(side: Sequence[Given]) -> str:
    return " ".join(f"{each.name}={_text(each)}" for each in side)


def _text(given: Given) -> str:
    if given.name in TIMES:
        return _time(given.value)
    return given.text if len(given.text) <= LONGEST else f"{given.text[: LONGEST - 3]}..."


def _time(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").removesuffix("T00:00:00Z")


def show(conclusion: Conclusion, showing: Showing) -> None:
    """Print a conclusion, and write it as a page and as charts if that was asked for; if these fail it is printed
    all the same.
    """
    try:
        if showing.report is not None:
            showing.report.write_text(page(conclusion), encoding="utf-8")
        if showing.plots is not None:
            draw([*figures(conclusion)], showing.plots)
    finally:
        _print(conclusion, showing.display)


def _print(conclusion: Conclusion, display: Display | CSV | None) -> None:
    if display is None:
        sys.stdout.write(json.dumps(words.as_dict(conclusion)) + "\n")
    elif isinstance(display, CSV):
        rows = words.metric_rows(conclusion)
        display.records([dict(zip(words.HEADINGS, row, strict=True)) for row in rows])
    else:
        _show_tables(conclusion, display)


def _show_tables(conclusion: Conclusion, display: Display) -> None:
    design = conclusion.design
    columns = [
        Column(heading, number=n > 0, rank=RANKS.get(heading, 0)) for n, heading in enumerate(words.HEADINGS)
    ]
    tables = [Table(f"A is {design.a}, B is {design.b}; changes are of B", columns, words.metric_rows(conclusion))]
    if rows := words.decile_rows(conclusion):
        columns = [Column(heading, number=True) for heading in words.DECILES]
        tables.append(Table(f"Where in the distribution of {design.primary}", columns, rows))
    if rows := words.network_rows(conclusion):
        columns = [Column(heading, number=n > 0) for n, heading in enumerate(words.NETWORKS)]
        tables.append(Table("Each network", columns, rows))
    notes = [words.CHANGE, words.failure_text(conclusion), words.design_text(conclusion)]
    for line in display.broken(words.sentence(conclusion)):
        display.console.print(line, style="bold")
    display.console.print()
    display.show(tables, [*notes, *(f"warning: {each}" for each in conclusion.warnings)])
