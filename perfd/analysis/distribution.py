"""Empirical distribution functions with a band of confidence."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import attrs


@attrs.frozen
class Distribution:
    """The share of a sample that is at most x, for every x, with a band that holds for all x at once.

    ``values`` are the sorted values, infinite ones (failures) at the end, so that the function may end below 1.
    ``margin`` is half the band's height: with probability ``confidence`` the true function is nowhere further
    away.
    """

    values: tuple[float, ...]
    confidence: float
    margin: float

    def share(self, x: float) -> float:
        """The share of the sample that is at most ``x``."""
        return bisect_right(self.values, x) / len(self.values)

    def band(self, x: float) -> tuple[float, float]:
        """Below and above what the true share is, at ``x``."""
        share = self.share(x)
        return max(0.0, share - self.margin), min(1.0, share + self.margin)

    def steps(self, most: int = 200) -> list[tuple[float, float]]:
        """Points (value, share) of the finite part, at most so many, for drawing: each is on the function."""
        finite = bisect_right(self.values, math.nextafter(math.inf, 0))
        count = len(self.values)
        places = range(finite) if finite <= most else (round(i * (finite - 1) / (most - 1)) for i in range(most))
        return [(self.values[place], (place + 1) / count) for place in places]


def distribution(sample: Sequence[float], confidence: float = 0.95) -> Distribution:
    """The empirical distribution function of ``sample``.

    The band's half height is sqrt(ln(2 / (1 - confidence)) / 2n): Dvoretzky, Kiefer and Wolfowitz (1956) with
    the constant of Massart, "The tight constant in the DKW inequality", Annals of Probability 18 (1990). Raises
    ValueError if empty.
    """
    if not sample:
        raise ValueError("an empty sample has no distribution")
    margin = math.sqrt(math.log(2 / (1 - confidence)) / (2 * len(sample)))
    return Distribution(tuple(sorted(sample)), confidence, margin)
