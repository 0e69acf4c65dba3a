"""How variants have gone on lately: what ``/`` shows of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from perfd.analysis.periods import DAY
from perfd.analysis.quantiles import quartiles
from perfd.charts.model import Chart
from perfd.record import Outcome
from perfd.reports.figures import LINES, over_time_of
from perfd.reports.groups import MEASURES, Group, Measure, grouped
from perfd.reports.runs import FIELDS, Run, RunReader
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader
from perfd.variant import Variant

STRIP = 48
"""Parts of the strip of 24 hours."""

BAND = 28 * DAY
"""What is usual is what happened in so many seconds before."""

CHARTED = 7 * DAY
PERIODS = 45
"""Of a line of the last days; many make the page long."""

_VARIANT = tuple(field.metadata.get("key", field.name) for field in attrs.fields(Variant))
_USUAL = ("experiment", *_VARIANT, "start", "datacomplete", "LOAD", "RTTIDLEMEDIAN")

_WORST = (Outcome.FAILED, Outcome.TIMEOUT, Outcome.SKIPPED, Outcome.CANCELLED, Outcome.OK)


@attrs.frozen
class Last:
    """The last run of a variant."""

    id: str
    start: float
    outcome: str
    errorcode: str | None


@attrs.frozen(kw_only=True)
class History:
    """How a variant has gone on.

    ``strip`` has the worst outcome of each part of 24 hours, and what to say of it.
    """

    experiment: str
    variant: Variant
    measure: Measure
    last: Last | None = None
    last_success: float | None = None
    day_median: float | None = None
    band: tuple[float, float, float] | None = None
    counts: Mapping[str, int] = attrs.Factory(dict)
    strip: tuple[tuple[str | None, str], ...] = ((None, ""),) * STRIP


@attrs.frozen
class Histories:
    """Those of all variants, and the charts of the last days."""

    histories: Sequence[History]
    charts: Sequence[Chart]


def read_histories(reader: StoreReader, wanted: Sequence[tuple[str, Variant]], now: float) -> Histories:
    """How each of the ``wanted`` variants of experiments went on until ``now``."""
    usual = _usual(reader, now)
    read, known = RunReader(), set(wanted)
    rows = reader.rows(FIELDS, Filter(since=now - CHARTED, until=now, requests=False))
    recent = [run for run in map(read.run, rows) if (run.experiment, run.variant) in known]
    by_variant: dict[tuple[str, Variant], list[Run]] = {}
    for run in recent:
        by_variant.setdefault((run.experiment, run.variant), []).append(run)
    found = [history(*one, by_variant.get(one, ()), usual.get(one, ()), now) for one in wanted]
    return Histories(found, list(_charts(grouped(recent))))


def _usual(reader: StoreReader, now: float) -> Mapping[tuple[str, Variant], Sequence[float]]:
    """What successes of each variant took in 28 days, by its usual measure."""
    found: dict[tuple[str, Variant], list[float]] = {}
    variants: dict[tuple[object, ...], tuple[str, Variant]] = {}
    for row in reader.rows(_USUAL, Filter(since=now - BAND, until=now, outcome=Outcome.OK, requests=False)):
        key = row[: len(_VARIANT) + 1]
        if key not in variants:
            variants[key] = (row[0], Variant(*row[1 : len(_VARIANT) + 1]))
        start, complete, load, idle = row[len(_VARIANT) + 1 :]
        at = load if load is not None else complete
        value = idle if idle is not None else None if at is None else at - start
        if value is not None:
            found.setdefault(variants[key], []).append(float(value))
    return found


def history(experiment: str, variant: Variant, runs: Sequence[Run], usual: Sequence[float], now: float) -> History:
    """That of one variant: its latest ``runs`` in the order of time, and what is ``usual`` of its measure."""
    done = [run for run in runs if run.outcome != Outcome.CANCELLED.value]
    if not done:
        return History(experiment=experiment, variant=variant, measure=MEASURES[1])
    measure = usual_measure(done[-1].type)
    values = [(run.start, value) for run in done if run.is_ok and (value := measure.value(run)) is not None]
    of_day = [value for start, value in values if start >= now - DAY]
    today = [run for run in done if run.start >= now - DAY]
    last = done[-1]
    return History(
        experiment=experiment,
        variant=variant,
        measure=measure,
        last=Last(last.id, last.start, last.outcome, last.errorcode),
        last_success=max((run.start for run in done if run.is_ok), default=None),
        day_median=quartiles(of_day)[1] if of_day else None,
        band=quartiles(usual) if usual else None,
        counts=_counted(today),
        strip=strip(today, now),
    )


def usual_measure(kind: str) -> Measure:
    """What is shown first of measurements of a type."""
    return PRIMARY.get(kind, MEASURES[1])


PRIMARY: Mapping[str, Measure] = {
    "pageload": Measure("load", "page load", "s", lambda run: run.times.get("LOAD")),
    "rtt": Measure("rtt", "round trip, idle", "s", lambda run: run.rtt_idle),
}


def strip(runs: Iterable[Run], now: float) -> tuple[tuple[str | None, str], ...]:
    """The worst of each part of the last 24 hours."""
    length = DAY / STRIP
    parts: list[Counter[str]] = [Counter() for _ in range(STRIP)]
    for run in runs:
        place = int((run.start - (now - DAY)) / length)
        if 0 <= place < STRIP:
            parts[place][run.outcome] += run.slots
    return tuple(map(_part, parts))


def _part(counts: Counter[str]) -> tuple[str | None, str]:
    if not counts:
        return None, ""
    worst = next(outcome.value for outcome in _WORST if counts[outcome.value])
    return worst, ", ".join(f"{count} {outcome}" for outcome, count in _ordered(counts).items())


def _ordered(counts: Mapping[str, int]) -> Mapping[str, int]:
    """In the order in which outcomes are always named."""
    return {outcome.value: counts[outcome.value] for outcome in Outcome if counts.get(outcome.value)}


def _counted(runs: Iterable[Run]) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for run in runs:
        counts[run.outcome] += run.slots
    return _ordered(counts)


def _charts(groups: Sequence[Group]) -> Iterator[Chart]:
    for measure in (MEASURES[0], MEASURES[2]) if groups else ():
        yield from over_time_of("overview", groups[:LINES], measure, most=PERIODS)
