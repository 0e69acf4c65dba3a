"""How variants have gone on lately: what ``/`` shows of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from perfd.analysis.periods import DAY
from perfd.analysis.quantiles import quartiles
from perfd.charts.model import Chart
from perfd.pages.marks import marks_of
from perfd.pages.summarized import Way, over_time_of_ways, together, ways
from perfd.record import Outcome
from perfd.reports.figures import LINES
from perfd.reports.groups import MEASURES, Measure
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader
from perfd.summaries.hour import Hour
from perfd.summaries.kept import read_hours
from perfd.variant import Variant

STRIP = 48
"""Parts of the strip of 24 hours."""

BAND = 28 * DAY
"""What is usual is what happened in so many seconds before."""

CHARTED = 7 * DAY
MOST_COMPUTED = 24 * 14
"""Hours that are computed where there is no summary yet; older ones are left out until there is."""

PERIODS = 45
"""Of a line of the last days; many make the page long."""

_VARIANT = tuple(field.metadata.get("key", field.name) for field in attrs.fields(Variant))
_LIGHT = (
    *("experiment", "id", "start", "outcome", "errorcode", "COUNT", "datacomplete", "LOAD", "RTTIDLEMEDIAN"),
    *_VARIANT,
)

_WORST = (Outcome.FAILED, Outcome.TIMEOUT, Outcome.SKIPPED, Outcome.CANCELLED, Outcome.OK)


@attrs.frozen
class Last:
    """A run of a variant."""

    id: str
    start: float
    outcome: str
    errorcode: str | None
    slots: int = 1
    value: float | None = None  # of its measure, if it went well


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
    known = set(wanted)
    hours: dict[tuple[str, Variant], list[Hour]] = {one: [] for one in wanted}
    for hour in read_hours(reader, now - BAND, now, most_computed=MOST_COMPUTED):
        if (hour.experiment, hour.variant) in known:
            hours[hour.experiment, hour.variant].append(hour)
    day = _day(reader, now)
    found = [history(*one, hours[one], day.get(one, ()), now) for one in wanted]
    charted = [hour for some in hours.values() for hour in some if hour.start >= now - CHARTED]
    return Histories(found, list(_charts(reader, ways(charted), now)))


def _day(reader: StoreReader, now: float) -> Mapping[tuple[str, Variant], Sequence[Last]]:
    """What ended in the last 24 hours, by variant, in the order of time."""
    found: dict[tuple[str, Variant], list[Last]] = {}
    variants: dict[tuple[object, ...], Variant] = {}
    for row in reader.rows(_LIGHT, Filter(since=now - DAY, until=now, requests=False)):
        experiment, record_id, start, outcome, errorcode, slots, complete, load, idle, *variant = row
        key = tuple(variant)
        if key not in variants:
            variants[key] = Variant(*variant)
        ended = load if load is not None else complete
        value = idle if idle is not None else None if ended is None else ended - start
        last = Last(record_id, start, outcome, errorcode, slots or 1, value if outcome == "ok" else None)
        found.setdefault((experiment, variants[key]), []).append(last)
    return found


def history(experiment: str, variant: Variant, hours: Sequence[Hour], day: Sequence[Last], now: float) -> History:
    """That of one variant: its ``hours``, and what ended in the last ``day``, both in the order of time."""
    measure = usual_measure(hours[-1].type) if hours else MEASURES[1]
    usual = together(hours, measure.name)
    done = [run for run in day if run.outcome != Outcome.CANCELLED.value]
    of_day = [run.value for run in done if run.value is not None]
    successes = [hour.last_success for hour in hours if hour.last_success is not None]
    return History(
        experiment=experiment,
        variant=variant,
        measure=measure,
        last=done[-1] if done else None,
        last_success=max(successes, default=None),
        day_median=quartiles(of_day)[1] if of_day else None,
        band=quartiles(usual) if usual else None,
        counts=_counted(done),
        strip=strip(done, now),
    )


def usual_measure(kind: str) -> Measure:
    """What is shown first of measurements of a type."""
    return PRIMARY.get(kind, MEASURES[1])


PRIMARY: Mapping[str, Measure] = {
    "pageload": Measure("load", "page load", "s", lambda run: run.times.get("LOAD")),
    "rtt": Measure("rtt", "round trip, idle", "s", lambda run: run.rtt_idle),
}


def strip(runs: Iterable[Last], now: float) -> tuple[tuple[str | None, str], ...]:
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


def _counted(runs: Iterable[Last]) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for run in runs:
        counts[run.outcome] += run.slots
    return _ordered(counts)


def _charts(reader: StoreReader, charted: Sequence[Way], now: float) -> Iterator[Chart]:
    first = min((hour.start for way in charted for hour in way.hours), default=now)
    since = max(now - CHARTED, min(first, now - DAY))
    marks = marks_of(reader, since, now)
    for measure in (MEASURES[0], MEASURES[2]):
        yield from over_time_of_ways("overview", charted[:LINES], measure, since, now, PERIODS, marks)
