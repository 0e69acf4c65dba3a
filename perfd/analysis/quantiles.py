"""Quantiles of samples, in the two definitions that are used here.

``percentile_cont`` is what SQL, Torperf and Tor Metrics compute. ``harrell_davis`` is smoother, so it is taken
where quantiles of two samples are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise


def percentile_cont(sample: Sequence[float], p: float) -> float:
    """The p-quantile by linear interpolation between order statistics, 0 <= p <= 1.

    At rank (n - 1) p of the sorted sample, as SQL:2003's PERCENTILE_CONT and definition 7 of Hyndman and Fan,
    "Sample Quantiles in Statistical Packages" (1996). Infinite values (failures) are larger than all others.
    Raises ValueError for an empty sample and for p outside of [0, 1].
    """
    _check(sample, p)
    return of_sorted(sorted(sample), p)


def of_sorted(ordered: Sequence[float], p: float) -> float:
    """``percentile_cont`` of a sample that is sorted already."""
    rank = (len(ordered) - 1) * p
    low = math.floor(rank)
    below = ordered[low]
    share = rank - low
    if share == 0 or below == ordered[low + 1]:
        return below
    # Not above + (above - below) * share: that is nan where one of them is infinite.
    return below * (1 - share) + ordered[low + 1] * share


def quartiles(sample: Sequence[float]) -> tuple[float, float, float]:
    """The first quartile, the median and the third quartile, by ``percentile_cont``. Raises ValueError if
    empty.
    """
    _check(sample, 0.5)
    ordered = sorted(sample)
    return of_sorted(ordered, 0.25), of_sorted(ordered, 0.5), of_sorted(ordered, 0.75)


def harrell_davis(sample: Sequence[float], p: float) -> float:
    """The p-quantile as a weighted mean of all order statistics, 0 < p < 1.

    The weight of the i-th of n is I(i/n) - I((i-1)/n), where I is the distribution function of Beta((n+1)p,
    (n+1)(1-p)): Harrell and Davis, "A new distribution-free quantile estimator", Biometrika 69 (1982). Infinite
    values count where their weight is more than 1e-9. Raises ValueError for an empty sample and for p outside
    of (0, 1).
    """
    _check(sample, p)
    if not 0 < p < 1:
        raise ValueError(f"the Harrell-Davis estimator has no quantile {p}")
    return weighted(sorted(sample), harrell_davis_weights(len(sample), p))


def weighted(ordered: Sequence[float], weights: Sequence[float]) -> float:
    """The sum of the products; a value of weight nearly 0 has no say even if it is infinite."""
    return math.fsum(
        weight * value for weight, value in zip(weights, ordered, strict=True) if weight > _NEGLIGIBLE
    ) / math.fsum(weight for weight in weights if weight > _NEGLIGIBLE)


@lru_cache(maxsize=256)
def harrell_davis_weights(count: int, p: float) -> tuple[float, ...]:
    """The weights of the order statistics of a sample of ``count``; their sum is 1."""
    a, b = (count + 1) * p, (count + 1) * (1 - p)
    # The weights are those of a narrow bell around p: what is ten deviations away has none that a float could
    # hold.
    deviation = math.sqrt(a * b / (a + b) ** 2 / (a + b + 1))
    reach = deviation * (10 if count > 500 else 40)
    low, high = p - reach, p + reach
    steps = [
        0.0 if i / count < low else 1.0 if i / count > high else beta_distribution(a, b, i / count)
        for i in range(count + 1)
    ]
    return tuple(above - below for below, above in pairwise(steps))


def beta_distribution(a: float, b: float, x: float) -> float:
    """The distribution function of Beta(a, b) at x: the regularized incomplete beta function.

    By its continued fraction (Abramowitz and Stegun 26.5.8), evaluated with Lentz's method.
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast only below the mean
        return 1.0 - beta_distribution(b, a, 1 - x)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x))
    c, d = 1.0, 1.0 / _not_zero(1.0 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 10_000):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _not_zero(1.0 + factor * d)
            c = _not_zero(1.0 + factor / c)
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return front * fraction / a


_NEGLIGIBLE = 1e-9


def _not_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300


def _check(sample: Sequence[float], p: float) -> None:
    if not sample:
        raise ValueError("an empty sample has no quantiles")
    if not 0 <= p <= 1:
        raise ValueError(f"{p} is not between 0 and 1")
