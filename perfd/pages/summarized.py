"""Charts of hours: of a long time, without reading each measurement."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from statistics import median

import attrs

from perfd.analysis.periods import WIDTHS
from perfd.analysis.quantiles import quartiles
from perfd.charts.axes import Axis, Scale, covering
from perfd.charts.build import cdf, over_time
from perfd.charts.model import Chart, Column, HeatMap, Line, LineChart, Mark, Point, Stacks, tone
from perfd.reports.figures import LINES, MOST_CODES, WEEKDAYS, slug, words_of
from perfd.reports.groups import MEASURES, Measure, give_names, over_all_tors
from perfd.summaries.hour import HOUR, MOST_VALUES, Hour
from perfd.variant import Variant

MOST_BY_DAY = 3
"""Ways of measuring whose days are shown."""


@attrs.define
class Way:
    """The hours of one way of measuring, or of an arm of a comparison. ``name`` tells it from the others."""

    experiment: str
    source: str
    variant: Variant
    filesize: int
    arm: str | None
    type: str
    name: str = ""
    hours: list[Hour] = attrs.field(factory=list)
    _values: dict[str, list[float]] = attrs.field(factory=dict, init=False)
    _periods: dict[int, dict[int, list[Hour]]] = attrs.field(factory=dict, init=False)

    def values(self, measure: str) -> list[float]:
        """All values of successes, sorted."""
        if measure not in self._values:
            self._values[measure] = sorted(together(self.hours, measure))
        return self._values[measure]

    def sample(self, measure: str) -> list[float]:
        """The same with infinity for each run that failed; for fewer where not all values of an hour are kept."""
        values = self.values(measure)
        failed = sum(
            hour.failed * MOST_VALUES / max(MOST_VALUES, hour.outcomes.get("ok", 0))
            for hour in self.hours
            if hour.errors
        )
        return [*values, *[math.inf] * round(failed)] if values else values

    def periods(self, count: int) -> Mapping[int, Sequence[Hour]]:
        """The hours by periods of so many; the n-th begins n * ``count`` hours after the epoch."""
        if count not in self._periods:
            found = self._periods[count] = {}
            for hour in self.hours:
                found.setdefault(hour.hour // count, []).append(hour)
        return self._periods[count]

    @property
    def done(self) -> int:
        """Runs that were made."""
        return sum(hour.done for hour in self.hours)

    @property
    def failed(self) -> int:
        """Those of them that did not end well."""
        return self.errors.total()

    @property
    def errors(self) -> Counter[str]:
        """The same by error code."""
        found: Counter[str] = Counter()
        for hour in self.hours:
            if hour.errors:
                found.update(hour.errors)
        return found


def together(hours: Iterable[Hour], measure: str) -> array[float]:
    """The values of all hours, one behind the other."""
    found = array("d")
    for hour in hours:
        found.extend(hour.samples.get(measure, ()))
    return found


def ways(hours: Iterable[Hour]) -> list[Way]:
    """The hours by way of measuring, in the order of names."""
    found: dict[tuple[str, str, Variant, int, str | None, str], Way] = {}
    for hour in hours:
        variant = hour.variant if hour.arm is None else over_all_tors(hour.variant)
        key = hour.experiment, hour.source, variant, hour.filesize, hour.arm, hour.type
        way = found.get(key)
        if way is None:
            way = found[key] = Way(*key)
        way.hours.append(hour)
    give_names(found.values())
    return sorted(found.values(), key=lambda way: (way.experiment, way.name))


def charts_of_ways(
    all_ways: Sequence[Way], since: float, until: float, points: int, most: int, marks: Sequence[Mark] = ()
) -> Iterator[Chart]:
    """The charts of one experiment: distributions, lines over time, failures, and hour by weekday."""
    shown = all_ways[:LINES]
    prefix = slug(shown[0].experiment)
    for measure in MEASURES:
        yield from _distribution(prefix, shown, measure, points)
        yield from over_time_of_ways(prefix, shown, measure, since, until, most, marks)
    yield from _failures(prefix, shown, since, until, most, marks)
    yield from _by_hour(prefix, max(shown, key=lambda way: way.done))


def charts_by_day(all_ways: Sequence[Way], points: int) -> Iterator[Chart]:
    """The distributions of the last days, of each of the ways that were measured most."""
    for way in sorted(all_ways, key=lambda way: -way.done)[:MOST_BY_DAY]:
        days: dict[int, list[Hour]] = {}
        for hour in way.hours:
            days.setdefault(hour.hour // 24, []).append(hour)
        last = [attrs.evolve(way, hours=days[day], name=_date(day)) for day in sorted(days)[-LINES:]]
        for measure in MEASURES:
            for chart in _distribution(f"{slug(way.name)}.days", last, measure, points, banded=False):
                yield attrs.evolve(chart, title=f"{measure.label.capitalize()}: {way.name}")


def _date(day: int) -> str:
    """A day since the epoch."""
    return datetime.fromtimestamp(day * 24 * HOUR, UTC).strftime("%m-%d")


def over_time_of_ways(
    prefix: str,
    shown: Sequence[Way],
    measure: Measure,
    since: float,
    until: float,
    most: int,
    marks: Sequence[Mark] = (),
) -> Iterator[Chart]:
    """Medians and quartiles over time, in at most so many periods of whole hours."""
    length = _length(since, until, most)
    lines = []
    for n, way in enumerate(shown):
        points = list(_points(way, measure, since, until, length))
        if any(point.y is not None for point in points):
            lines.append(Line(name=way.name, points=tuple(points), tone=tone(n)))
    if lines:
        yield over_time(
            f"{prefix}.{measure.name}.time",
            f"{measure.label.capitalize()} over time",
            lines,
            label=measure.label,
            unit=measure.unit,
            period=(since, until),
            marks=marks,
            note=f"Median and quartiles of each {words_of(length)}; interrupted where nothing was measured.",
        )


def _points(way: Way, measure: Measure, since: float, until: float, length: float) -> Iterator[Point]:
    count = round(length / HOUR)
    found = way.periods(count)
    for number in range(int(since / HOUR) // count, int(until / HOUR) // count + 1):
        values = together(found.get(number, ()), measure.name)
        low, middle, high = quartiles(values) if values else (None, None, None)
        yield Point(min(max((number + 0.5) * length, since), until), middle, low, high)


def _distribution(
    prefix: str, shown: Sequence[Way], measure: Measure, points: int, *, banded: bool = True
) -> Iterator[LineChart]:
    samples = {
        way.name: way.sample(measure.name) if measure.counts_failures else way.values(measure.name) for way in shown
    }
    if any(samples.values()):
        yield cdf(
            f"{prefix}.{measure.name}.cdf",
            measure.label.capitalize(),
            samples,
            label=measure.label,
            unit=measure.unit,
            banded=banded,
            points=points,
        )


def _failures(
    prefix: str, shown: Sequence[Way], since: float, until: float, most: int, marks: Sequence[Mark]
) -> Iterator[Chart]:
    counts: Counter[str] = Counter()
    for way in shown:
        counts.update(way.errors)
    if not counts:
        return
    codes = [code for code, _ in counts.most_common(MOST_CODES)]
    has_others = len(counts) > len(codes)
    length = _length(since, until, most)
    columns = []
    count = round(length / HOUR)
    periods = [way.periods(count) for way in shown]
    for number in sorted({number for each in periods for number in each}):
        start = number * length
        hours = [hour for each in periods for hour in each.get(number, ())]
        done = sum(hour.done for hour in hours)
        failed = [sum(hour.errors.get(code, 0) for hour in hours) for code in codes]
        others = [sum(hour.failed for hour in hours) - sum(failed)] if has_others else []
        if done:
            columns.append(Column(start, start + length, tuple(count / done for count in (*failed, *others))))
    yield Stacks(
        name=f"{prefix}.failures",
        title="Failures over time, by error code",
        note=f"Share of the runs of each {words_of(length)} that failed; hatched where nothing was run.",
        x=Axis(label="", low=since // length * length, high=(until // length + 1) * length, scale=Scale.TIME),
        y=covering([sum(column.values) for column in columns], "failed", "", Scale.SHARE, zero=True),
        names=(*(f"{code} ({counts[code]:,})" for code in codes), *(["others"] if has_others else [])),
        columns=tuple(columns),
        marks=tuple(mark for mark in marks if since <= mark.at <= until),
    )


def _by_hour(prefix: str, way: Way) -> Iterator[Chart]:
    cells: dict[tuple[int, int], list[float]] = {}
    for hour in way.hours:
        # The epoch began on a Thursday.
        cell = ((hour.hour // 24 + 3) % 7, hour.hour % 24)
        cells.setdefault(cell, []).extend(hour.samples.get("first-byte", ()))
    medians = {cell: median(values) for cell, values in cells.items() if values}
    if len(medians) >= len(WEEKDAYS) * 24 // 2:
        yield HeatMap(
            name=f"{prefix}.hours",
            title=f"By hour and weekday: {way.name}",
            note="In UTC.",
            columns=tuple(f"{hour:02}" for hour in range(24)),
            rows=WEEKDAYS,
            values=tuple(tuple(medians.get((day, hour)) for hour in range(24)) for day in range(len(WEEKDAYS))),
            label="median time to first byte",
            unit="s",
        )


def _length(since: float, until: float, most: int) -> float:
    """Of a period: the shortest with at most so many, of whole hours."""
    least = max(HOUR, (until - since) / most)
    return next((each for each in WIDTHS if each >= least), WIDTHS[-1])
