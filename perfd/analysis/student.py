"""Student's t: how far an estimate may be off whose spread is itself estimated, from few values.

"The probable error of a mean", Biometrika 6 (1908).
"""

from __future__ import annotations

import math
from statistics import NormalDist

from perfd.analysis.quantiles import beta_distribution

_FARTHEST = 1e12


def two_sided(t: float, freedom: int) -> float:
    """How often |t| is exceeded with so many degrees of freedom, at least 1.

    I_x(f / 2, 1 / 2) with x = f / (f + t^2): Abramowitz and Stegun 26.7.1.
    """
    return beta_distribution(freedom / 2, 0.5, freedom / (freedom + t * t))


def critical(alpha: float, freedom: int) -> float:
    """What |t| exceeds with the probability ``alpha``; infinite beyond 1e12, and without any freedom."""
    if freedom < 1:
        return math.inf
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > alpha:
        low, high = high, high * 4
        if high > _FARTHEST:
            return math.inf
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if two_sided(middle, freedom) > alpha:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def as_rare_as(z: float, freedom: int) -> float:
    """What |t| exceeds as often as a standard normal variable exceeds ``z`` (1.96: 12.7 with one degree)."""
    return critical(2 * NormalDist().cdf(-abs(z)), freedom)
