"""Charts of numbers, in the ways that several reports need."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from perfd.analysis.distribution import distribution
from perfd.analysis.ellipse import ellipse
from perfd.analysis.quantiles import of_sorted
from perfd.charts.axes import Axis, Scale, covering, number, shares
from perfd.charts.model import Bar, Bars, Cloud, Line, LineChart, Mark, Point, Scatter, Tone, tone

POINTS = 160
"""Of a distribution function, at most."""


def cdf(
    name: str,
    title: str,
    samples: Mapping[str, Sequence[float]],
    *,
    label: str,
    unit: str,
    tail: bool = False,
    falling: bool = False,
    banded: bool = True,
    points: int = POINTS,
    note: str = "",
) -> LineChart:
    """The distribution function of each sample that has values, with the band of Dvoretzky, Kiefer and Wolfowitz
    unless there are too many for it to be seen (``banded``).

    Infinite values are failures: they count, so that the function ends below 1. The axis goes to the 99th
    percentile of what is finite: one value far away must not make all others a vertical line. With ``tail`` the
    slowest runs have most of the chart (from 0 to 90 % it is as far as on to 99 %), no band, and all values.
    ``falling``: it is the share of the runs with at least so much, since the lowest values are those of slow runs.
    ``note`` is said besides.
    """
    has_band = banded and not tail
    sign = -1.0 if falling else 1.0
    lines, reach, most = [], [], 2
    for place, (sample_name, sample) in enumerate((n, s) for n, s in samples.items() if s):
        found = distribution([sign * value for value in sample])
        finite = found.values[: bisect_left(found.values, math.inf)]
        if not finite:
            continue
        most = max(most, len(sample))
        reach += [sign * finite[0], sign * of_sorted(finite, 1 if tail else 0.99)]
        steps = {*found.steps(points), *(_last(found.values, points) if tail else ())}
        shown = [
            Point(sign * x, share, *(found.band(x) if has_band else (None, None))) for x, share in sorted(steps)
        ]
        median = sign * of_sorted(found.values, 0.5)
        told = f"median {number(median)} {unit}" if math.isfinite(median) else "most failed"
        line = f"{sample_name} ({told}, n = {len(sample):,})"
        first = Point(sign * finite[0], 0.0)
        lines.append(Line(name=line, points=(first, *shown), tone=tone(place), stepped=True))
    logarithmic = tail and reach and min(reach) > 0
    x = covering(reach, label, unit, Scale.LOGARITHMIC if logarithmic else Scale.LINEAR, zero=not logarithmic)
    what = "runs with at least so much" if falling else "runs"
    y = Axis(label=what, low=0.0, high=_tail_end(most), scale=Scale.TAIL) if tail else shares(what)
    notes = [
        f"Share of the runs {'with at least so much' if falling else _AT_MOST[unit == 's']}.",
        "The band holds the whole true curve with 95 % confidence." if has_band else "",
        note,
    ]
    kept = tuple(_clipped(line, x, y) for line in lines)
    told = " ".join(filter(None, notes))
    return LineChart(name=name, title=title, x=x, y=y, lines=kept, note=told, band="95 % band")


_AT_MOST = ("with at most so much", "that took at most so long")


def _last(values: Sequence[float], count: int) -> list[tuple[float, float]]:
    """The last finite steps of a distribution function."""
    end = bisect_left(values, math.inf)
    first = max(0, end - count)
    return [(v, (first + n + 1) / len(values)) for n, v in enumerate(values[first:end])]


def _tail_end(count: int) -> float:
    """The share at which a tail of so many runs ends: about the last but one."""
    return float(min(0.9999, max(0.9, 1 - 1 / count)))


def _clipped(line: Line, x: Axis, y: Axis) -> Line:
    kept = tuple(point for point in line.points if point.x <= x.high and (point.y or 0.0) <= y.high)
    return Line(name=line.name, points=kept, tone=line.tone, stepped=line.stepped)


def parts_of(
    name: str,
    title: str,
    variants: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    label: str,
    unit: str,
    points: int = POINTS,
) -> LineChart | Bars | None:
    """What the parts of each variant took, by variant and part; None without values.

    Of one variant these are the distribution functions of its parts. Those of several would be too many lines, and
    it is the same part of all that is to be compared: bars in its order, of the median and quartiles.
    """
    measured = {variant: parts for variant, parts in variants.items() if any(parts.values())}
    if not measured:
        return None
    if len(measured) == 1:
        ((variant, parts),) = measured.items()
        title = title if len(variants) == 1 else f"{title}: {variant}"
        return cdf(name, title, parts, label=label, unit=unit, points=points)
    tones = {variant: tone(place) for place, variant in enumerate(variants)}
    bars = [
        _quartiles(variant, parts[part], tones[variant], part)
        for part in dict.fromkeys(part for parts in measured.values() for part in parts)
        for variant, parts in measured.items()
        if parts.get(part)
    ]
    return Bars(
        name=name,
        title=title,
        note="Median and quartiles.",
        x=covering([0, *(bar.high for bar in bars)], label, unit, zero=True),
        bars=tuple(bars),
    )


def _quartiles(variant: str, values: Sequence[float], colour: Tone, part: str) -> Bar:
    ordered = sorted(values)
    low, middle, high = (of_sorted(ordered, p) for p in (0.25, 0.5, 0.75))
    return Bar(variant, middle, low, high, colour, f"n = {len(ordered):,}", part)


def over_time(
    name: str,
    title: str,
    lines: Sequence[Line],
    *,
    label: str,
    unit: str,
    period: tuple[float, float],
    marks: Sequence[Mark] = (),
    note: str = "",
) -> LineChart:
    """Lines with their bands over a period, from 0 on; as high as the bands' 98th percentile needs."""
    heights = sorted(
        value
        for line in lines
        for point in line.points
        for value in (point.y, point.high)
        if value is not None and math.isfinite(value)
    )
    top = [of_sorted(heights, 0.98)] if heights else []
    return LineChart(
        name=name,
        title=title,
        x=Axis(label="", low=period[0], high=max(period[1], period[0] + 1), scale=Scale.TIME),
        y=covering(top, label, unit, zero=True),
        lines=tuple(lines),
        marks=tuple(mark for mark in marks if period[0] <= mark.at <= period[1]),
        note=note,
    )


def scatter(
    name: str,
    title: str,
    samples: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x: tuple[str, str],
    y: tuple[str, str],
    what: str,
) -> Scatter:
    """Each sample as points with the ellipse of one standard deviation; ``x`` and ``y`` are labels and units.

    ``what`` says what a point is, such as ``a run``.
    """
    clouds, reached = [], list[tuple[float, float]]()
    for place, (sample_name, points) in enumerate((n, s) for n, s in samples.items() if s):
        found = ellipse(points)
        # No time and no rate is below 0, as far as an ellipse may reach.
        outline = () if found is None else tuple((max(0.0, a), max(0.0, b)) for a, b in found.outline())
        label = f"{sample_name} (n = {len(points):,})"
        clouds.append(Cloud(name=label, points=tuple(points), outline=outline, tone=tone(place)))
        reached += [*points, *outline]
    return Scatter(
        name=name,
        title=title,
        x=covering([each for each, _ in reached], *x, zero=True),
        y=covering([each for _, each in reached], *y, zero=True),
        clouds=tuple(clouds),
        note=f"Each point is {what}. Ellipses are of one standard deviation around the mean.",
    )


def single_runs(
    name: str,
    title: str,
    samples: Mapping[str, Sequence[tuple[float, float]]],
    *,
    label: str,
    unit: str,
    marks: Sequence[Mark] = (),
) -> Scatter:
    """Each sample as points over time: starts of runs and a duration that is above 0, whose axis is logarithmic."""
    clouds = [
        Cloud(name=f"{sample_name} (n = {len(points):,})", points=tuple(points), tone=tone(place))
        for place, (sample_name, points) in enumerate((n, s) for n, s in samples.items() if s)
    ]
    starts = [start for cloud in clouds for start, _ in cloud.points]
    low, high = min(starts), max(starts)
    margin = max(1.0, (high - low) / 100)
    return Scatter(
        name=name,
        title=title,
        x=Axis(label="", low=low - margin, high=high + margin, scale=Scale.TIME),
        y=covering([value for cloud in clouds for _, value in cloud.points], label, unit, Scale.LOGARITHMIC),
        clouds=tuple(clouds),
        marks=tuple(mark for mark in marks if low <= mark.at <= high),
        note="Each point is a run that ended well.",
    )
