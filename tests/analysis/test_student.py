"""Student's t."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from perfd.analysis import student


@pytest.mark.parametrize("freedom", [1, 2, 5, 30, 400])
def test_as_scipy(freedom: int) -> None:
    """Both ways as scipy has them."""
    for t in (0.1, 1.0, 2.5, 8.0):
        assert student.two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-9)
    for alpha in (0.5, 0.05, 1e-4):
        assert student.critical(alpha, freedom) == pytest.approx(float(stats.t.isf(alpha / 2, freedom)), rel=1e-7)


def test_as_rare_as() -> None:
    """With few values more is needed for the same certainty, with many as much as with all."""
    assert student.as_rare_as(1.959964, 1) == pytest.approx(12.706, abs=0.001)
    assert student.as_rare_as(-1.959964, 5) == pytest.approx(2.571, abs=0.001)
    assert student.as_rare_as(2.04, 100_000) == pytest.approx(2.04, abs=0.001)


def test_no_freedom() -> None:
    """One value says nothing of its own spread, and two nothing for what is rarer than a float can tell."""
    assert student.as_rare_as(1.96, 0) == math.inf
    assert student.as_rare_as(8.0, 1) == math.inf
