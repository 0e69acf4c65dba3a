"""Exact intervals of shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from perfd.analysis.proportion import exact_interval


@given(st.integers(1, 400).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_exact_interval(counts: tuple[int, int]) -> None:
    """The same as scipy's."""
    expected = stats.binomtest(*counts).proportion_ci(0.95, method="exact")
    assert exact_interval(*counts) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_no_share() -> None:
    """More successes than trials cannot be."""
    with pytest.raises(ValueError, match="11 of 10"):
        exact_interval(11, 10)
