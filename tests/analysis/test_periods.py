"""Values over time."""

from __future__ import annotations

import math

from perfd.analysis.periods import common_width, periods, width


def test_quartiles_and_gaps() -> None:
    """A period in which nothing was measured is there, without quartiles; failures are larger than all."""
    pairs = [(0.0, 1.0), (10.0, 2.0), (20.0, 3.0), (200.0, 5.0), (210.0, math.inf)]
    found = periods(pairs, 60.0)
    assert [(each.start, each.end, each.count, each.quartiles) for each in found] == [
        (0.0, 60.0, 3, (1.5, 2.0, 2.5)),
        (60.0, 120.0, 0, None),
        (120.0, 180.0, 0, None),
        (180.0, 240.0, 2, (math.inf, math.inf, math.inf)),
    ]
    assert periods([], 60.0) == []


def test_widths() -> None:
    """Few enough periods to be seen, with enough in each."""
    every_five_minutes = [300.0 * n for n in range(12 * 24 * 28)]
    assert width(every_five_minutes) == 6 * 3600.0
    assert width(every_five_minutes[:48]) == 1800.0
    assert width([5.0]) == 300.0


def test_one_width_for_several() -> None:
    """A few values far apart do not make the periods of the others long; of the whole time, all can be seen."""
    often = [300.0 * n for n in range(12 * 24 * 14)]
    assert width(often) == 3 * 3600.0
    assert common_width([often, [often[0], often[-1]], []]) == 3 * 3600.0
    assert common_width([[often[0], often[-1]], [often[5]]]) == 28 * 86400.0
    later = [time + 150 * 86400.0 for time in often]
    assert common_width([often, later]) == 7 * 86400.0
    assert common_width([[5.0]]) == 300.0
