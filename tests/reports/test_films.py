"""Which page loads stand for the others, and their pictures on one time axis."""

from __future__ import annotations

import pytest

from perfd.charts.model import Shot
from perfd.reports.films import Load, columns_of, film, seen

FAST, SLOW = Load("fast", (0.02, 0.4, 1.1)), Load("slow", (0.03, 2.0, 4.04))


def test_one_time_axis() -> None:
    """Columns go on until nothing changes in any load, and what is seen is the last picture by then."""
    step, columns = columns_of([FAST, SLOW])
    assert (step, columns) == (pytest.approx(0.5), 10)
    assert seen(FAST, step, columns) == [0, 1, 1, 2, 2, 2, 2, 2, 2, 2]
    assert seen(SLOW, step, columns) == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]


def test_never_more_columns_than_are_told() -> None:
    for reach in (0.0, 0.05, 0.99, 1.01, 2.5, 10.0, 33.3, 59.9):
        assert columns_of([Load("x", (0.0, reach))])[1] <= 11


def test_pictures_that_are_new() -> None:
    shots = [Shot(0.0, b"a"), Shot(0.0, b"a"), Shot(1.5, b"b"), None]
    chart = film("x.film", [(FAST, shots)], 1.0, 0.75)
    assert [(column, is_new) for column, _, is_new in chart.changed(chart.reels[0])] == [
        (0, True),
        (1, False),
        (2, True),
    ]
    assert chart.table.rows == (("fast", 0.0, 0.0), ("fast", 1.0, 0.0), ("fast", 2.0, 1.5), ("fast", 3.0, None))
