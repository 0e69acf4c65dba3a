"""Values over time: periods of equal length, each with its quartiles, and gaps where there is nothing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

import attrs

from perfd.analysis.quantiles import of_sorted, quartiles

T = TypeVar("T", bound=Hashable)

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

WIDTHS = (
    5 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    7 * DAY,
    28 * DAY,
)
"""Lengths of periods, in seconds."""

MOST = 120
"""Periods that a chart can show."""

ENOUGH = 5
"""Values of a period whose quartiles say something."""


@attrs.frozen
class Period:
    """The quartiles of what happened from ``start`` to ``end`` (UTC); None where nothing did."""

    start: float
    end: float
    count: int
    quartiles: tuple[float, float, float] | None


def width(times: Sequence[float], most: int = MOST) -> float:
    """The shortest of ``WIDTHS`` with at most so many periods, and with ``ENOUGH`` values in most of them."""
    if len(times) < 2:
        return WIDTHS[0]
    ordered = sorted(times)
    gaps = sorted(after - before for before, after in pairwise(ordered))
    least = max((ordered[-1] - ordered[0]) / most, ENOUGH * of_sorted(gaps, 0.5))
    return next((each for each in WIDTHS if each >= least), WIDTHS[-1])


def common_width(series: Sequence[Sequence[float]], most: int = MOST) -> float:
    """The width for several series of times in one chart: enough for those with half of all values.

    The others may have too few in a period, or what most are like could not be seen. Raises ValueError without any.
    """
    known = [times for times in series if times]
    span = max(map(max, known)) - min(map(min, known))
    least = next((each for each in WIDTHS if each >= span / most), WIDTHS[-1])
    left = sum(map(len, known)) / 2
    for length, count in sorted((width(times, most), len(times)) for times in known):
        left -= count
        if left <= 0:
            return max(least, length)
    raise AssertionError(left)


def divided(pairs: Iterable[tuple[float, T]], length: float) -> dict[float, list[T]]:
    """The second of each pair by the beginning of the period that the first, a time, falls into."""
    found: dict[float, list[T]] = {}
    for time, value in pairs:
        found.setdefault(time // length * length, []).append(value)
    return found


def periods(pairs: Sequence[tuple[float, float]], length: float) -> list[Period]:
    """Quartiles of (time, value) pairs by period, from the first to the last; infinite values are failures."""
    found = divided(pairs, length)
    if not found:
        return []
    first, last = min(found), max(found)
    starts = (first + n * length for n in range(round((last - first) / length) + 1))
    return [
        Period(start, start + length, len(values), quartiles(values) if values else None)
        for start in starts
        for values in (found.get(start, []),)
    ]
