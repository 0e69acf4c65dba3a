"""Ellipses of clouds of points."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.analysis.ellipse import ellipse

COORDINATE = st.integers(-1000, 1000).map(float)


def test_known() -> None:
    """Along the diagonal: the half axes are the standard deviations along it and across it."""
    found = ellipse([(0, 0), (2, 2), (4, 4), (1, 3), (3, 1)])
    assert found is not None
    assert found.centre == (2, 2)
    assert found.angle == pytest.approx(math.pi / 4)
    assert found.axes == pytest.approx((2.0, 1.0))


def test_none() -> None:
    """Of two points there is none, nor of one place."""
    assert ellipse([(0, 0), (1, 1)]) is None
    assert ellipse([(1, 1)] * 5) is None


@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=30))
def test_outline(points: list[tuple[float, float]]) -> None:
    """It is closed, and its extent along each axis is the standard deviation there."""
    found = ellipse(points)
    if found is None:
        assert len(set(points)) == 1
        return
    outline = found.outline(360)
    assert outline[0] == outline[-1]
    for axis in (0, 1):
        mean = sum(point[axis] for point in points) / len(points)
        deviation = math.sqrt(sum((point[axis] - mean) ** 2 for point in points) / (len(points) - 1))
        reach = max(place[axis] for place in outline) - found.centre[axis]
        assert reach == pytest.approx(deviation, rel=1e-3, abs=1e-6)
