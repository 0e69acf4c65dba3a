"""Charts of numbers, in the ways that several reports need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from perfd.analysis.distribution import distribution
from perfd.analysis.quantiles import of_sorted
from perfd.charts.axes import Axis, Scale, covering, number, shares
from perfd.charts.model import Line, LineChart, Mark, Point, tone

POINTS = 160
"""Of a distribution function, at most."""


def cdf(
    name: str,
    title: str,
    samples: Mapping[str, Sequence[float]],
    *,
    label: str,
    unit: str,
    window: tuple[float, float] = (0.0, 1.0),
    band: bool = True,
) -> LineChart:
    """The distribution function of each sample that has values, with the band of Dvoretzky, Kiefer and Wolfowitz.

    Infinite values are failures: they count, so that the function ends below 1. ``window`` is the part of the
    shares to show, such as (0.9, 1) for the tail. The axis goes to the 99th percentile of what is finite, unless
    the tail is asked for: one value far away must not make all others a vertical line.
    """
    low, high = window
    lines, reach = [], []
    for place, (sample_name, sample) in enumerate((n, s) for n, s in samples.items() if s):
        found = distribution(sample)
        finite = [value for value in found.values if math.isfinite(value)]
        if not finite:
            continue
        reach += [of_sorted(finite, low), of_sorted(finite, 0.99 if high == 1 and low == 0 else high)]
        points = [
            Point(x, share, *(found.band(x) if band else (None, None)))
            for x, share in found.steps(POINTS if low == 0 else 20 * POINTS)
            if low <= share <= high
        ]
        median = of_sorted(found.values, 0.5)
        told = f"median {number(median)} {unit}" if math.isfinite(median) else "most failed"
        # From the ground on.
        ground = [Point(points[0].x, low)] if points and points[0].y and low == 0 else []
        lines.append(
            Line(
                name=f"{sample_name} ({told}, n = {len(sample):,})",
                points=(*ground, *points),
                tone=tone(place),
                stepped=True,
            )
        )
    x = covering(reach, label, unit, zero=low == 0)
    lines = [_clipped(line, x) for line in lines]
    y = shares("runs") if low == 0 else Axis(label="runs", low=low, high=high, scale=Scale.SHARE)
    note = (
        "Share of the runs that took at most so long." if unit == "s" else "Share of the runs with at most so much."
    )
    note += " The band holds the whole true curve with 95 % confidence." if band else ""
    return LineChart(name=name, title=title, x=x, y=y, lines=tuple(lines), note=note, band="95 % band")


def _clipped(line: Line, x: Axis) -> Line:
    kept = tuple(point for point in line.points if x.low <= point.x <= x.high)
    return Line(name=line.name, points=kept, tone=line.tone, stepped=line.stepped)


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
