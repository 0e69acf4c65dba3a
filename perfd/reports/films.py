"""Which page loads stand for the others of their variant, and their pictures on one time axis."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import attrs

from perfd.charts.axes import Axis, number, round_step
from perfd.charts.model import Film, Reel, Shot
from perfd.reports.groups import Group
from perfd.reports.runs import Run

MOST_LOOKED_AT = 20
"""Loads next to the median, of which one must have its pictures still."""

MOST_REELS = 4
"""Variants of a chart."""

COLUMNS = 10
"""Pictures of a load, at most one more."""

LEAST_STEP = 0.1
"""Seconds between two columns: so often a page is looked at."""


@attrs.frozen
class Load:
    """A page load that has pictures; ``times`` are those of the pictures, in seconds since the navigation began."""

    name: str
    times: tuple[float, ...]


def near_median(group: Group) -> list[Run]:
    """The successes of a group that are next to the median of LOAD, the nearest first; none of other kinds."""
    loads = sorted((run for run in group.done if "LOAD" in run.times), key=lambda run: run.times["LOAD"])
    if group.type != "pageload" or not loads:
        return []
    middle = loads[len(loads) // 2].times["LOAD"]
    return sorted(loads, key=lambda run: abs(run.times["LOAD"] - middle))[:MOST_LOOKED_AT]


def name_of(group: Group, run: Run) -> str:
    """What to call a load that stands for those of its group."""
    count = sum("LOAD" in each.times for each in group.done)
    return f"{group.name}: loaded after {number(run.times['LOAD'])} s, nearest to the median of {count:,}"


def columns_of(loads: Sequence[Load]) -> tuple[float, int]:
    """The seconds from one column to the next, and how many there are: from 0 until nothing changes any more."""
    reach = max(load.times[-1] for load in loads)
    step = round_step(max(reach / COLUMNS, LEAST_STEP))
    return step, math.ceil(reach / step - 1e-9) + 1


def seen(load: Load, step: float, columns: int) -> list[int]:
    """For each column the place of the picture that was seen at its time.

    The first picture is of what was there before the page, so it was seen from the beginning on.
    """
    return [max(0, bisect_right(load.times, step * column + 1e-9) - 1) for column in range(columns)]


def film(name: str, reels: Sequence[tuple[Load, Sequence[Shot | None]]], step: float, aspect: float) -> Film:
    """The chart of loads with their pictures, one for each column."""
    columns = len(reels[0][1])
    return Film(
        name=name,
        title="Page load in pictures",
        note="In a column is what was seen at that time; framed where it is another picture than before.",
        x=Axis(label="since the navigation began", low=0.0, high=step * columns, unit="s"),
        reels=tuple(Reel(load.name, tuple(shots)) for load, shots in reels),
        aspect=aspect,
    )
