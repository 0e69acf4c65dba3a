"""Quantiles and distribution functions."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import mstats

from perfd.analysis.distribution import distribution
from perfd.analysis.quantiles import (
    beta_distribution,
    harrell_davis,
    harrell_davis_weights,
    percentile_cont,
    quartiles,
)

TIMES = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60)


def test_percentile_cont() -> None:
    """As SQL has it: by linear interpolation."""
    assert percentile_cont([1, 2, 3, 4], 0.25) == 1.75
    assert quartiles([4, 1, 3, 2, 5]) == (2, 3, 4)
    assert percentile_cont([7], 0.9) == 7


@given(TIMES, st.floats(0, 1))
def test_percentile_cont_is_between(sample: list[float], p: float) -> None:
    """Between the least and the greatest, and larger for a larger p."""
    value = percentile_cont(sample, p)
    assert min(sample) <= value * (1 + 1e-12)
    assert value <= max(sample) * (1 + 1e-12)
    assert percentile_cont(sample, min(1.0, p + 0.1)) >= value * (1 - 1e-12)


def test_failures_are_the_greatest() -> None:
    """A quantile is infinite once failures have a share in it, and never nan."""
    assert percentile_cont([1, 2, math.inf], 0.5) == 2
    assert percentile_cont([1, 2, math.inf], 0.75) == math.inf
    assert percentile_cont([1, math.inf, math.inf], 1) == math.inf
    assert harrell_davis([1.0] * 200 + [math.inf], 0.5) == pytest.approx(1)
    assert harrell_davis([1.0, math.inf], 0.5) == math.inf


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_refused(p: float) -> None:
    """No such quantile; and none of nothing."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        percentile_cont([1], p)
    with pytest.raises(ValueError, match="empty"):
        percentile_cont([], 0.5)
    with pytest.raises(ValueError, match="no quantile 0"):
        harrell_davis([1], 0)


@pytest.mark.parametrize("count", [2, 5, 30, 301])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.99])
def test_harrell_davis(count: int, p: float) -> None:
    """The same as scipy's."""
    chance = random.Random(count)
    sample = [chance.lognormvariate(0, 0.5) for _ in range(count)]
    assert harrell_davis(sample, p) == pytest.approx(float(mstats.hdquantiles(sample, [p])[0]), rel=1e-9)
    assert math.fsum(harrell_davis_weights(count, p)) == pytest.approx(1)


@given(st.floats(0.01, 5000), st.floats(0.01, 5000), st.floats(0, 1, allow_subnormal=False))
def test_beta_distribution(a: float, b: float, x: float) -> None:
    """The same as scipy's, which is off by half a per cent at 5e-324."""
    assert beta_distribution(a, b, x) == pytest.approx(float(stats.beta.cdf(x, a, b)), rel=1e-7, abs=1e-10)


def test_beta_distribution_of_the_smallest_number() -> None:
    """With b = 2 it is (a + 1) x^a, less what no float holds."""
    a, x = 1 / 64, 5e-324
    assert beta_distribution(a, 2.0, x) == pytest.approx((a + 1) * math.exp(a * math.log(x)), rel=1e-12)


@given(TIMES)
def test_distribution(sample: list[float]) -> None:
    """It steps up at each value; the band has the same height everywhere, and stays between 0 and 1."""
    found = distribution(sample)
    assert found.share(max(sample)) == 1
    assert found.share(min(sample) / 2) == 0
    for value, share in found.steps():
        assert found.share(value) >= share
        low, high = found.band(value)
        assert 0 <= low <= found.share(value) <= high <= 1
    assert found.margin == pytest.approx(1.3581 / math.sqrt(len(sample)), rel=1e-4)


def test_distribution_with_failures() -> None:
    """It ends below 1, and has no more points than wanted."""
    found = distribution([*map(float, range(1, 1000)), math.inf])
    points = found.steps(most=50)
    assert (len(points), points[0], points[-1]) == (50, (1.0, 0.001), (999.0, 0.999))


def test_band_holds() -> None:
    """In 400 samples of a uniform distribution the band misses the truth somewhere in at most 5 %, give or take."""
    chance = random.Random(3)
    missed = 0
    for _ in range(400):
        found = distribution([chance.random() for _ in range(100)])
        missed += any(
            abs(found.share(value) - value) > found.margin or abs(found.share(value) - 0.01 - value) > found.margin
            for value in found.values
        )
    assert missed <= 33  # beyond it the chance is below 0.1 % if the truth is 5 %
