"""What an arrival curve tells: silences, and the rate of any part of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import attrs

Points = Sequence[tuple[float, float]]
"""Seconds and the bytes that had come by then, by their time: a step function."""


@attrs.frozen
class Silence:
    """A time in which nothing came, and the bytes that had come before it."""

    begin: float
    end: float
    count: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def silences(points: Points, at_least: float) -> list[Silence]:
    """The times of at least so many seconds between two points, in their order.

    Where points were left out, what is between two of them is no silence but a flow; of a thinned curve only
    those are silences that are far longer than the others.
    """
    pairs = pairwise(points)
    return [Silence(begin, end, count) for (begin, count), (end, _) in pairs if end - begin >= at_least]


def longest_silence(points: Points) -> Silence | None:
    """The longest time between two points; None if there is only one."""
    times = [at for at, _ in points]
    lengths = [end - begin for begin, end in pairwise(times)]
    if not lengths:
        return None
    place = lengths.index(max(lengths))
    return Silence(times[place], times[place + 1], points[place][1])


def come_by(points: Points, at: float) -> float:
    """How many bytes had come at ``at``."""
    place = bisect_right(points, at, key=lambda point: point[0])
    return points[place - 1][1] if place else 0.0


def rate(points: Points, since: float, until: float) -> float | None:
    """Bytes per second that came after ``since``, up to ``until``; None if that is no time."""
    return (come_by(points, until) - come_by(points, since)) / (until - since) if until > since else None
