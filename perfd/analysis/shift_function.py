"""Where in the distribution do two arms differ? The shift function at the deciles, with a band for all of them
at once.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from statistics import fmean, stdev

import attrs

from perfd.analysis.blocks import Block
from perfd.analysis.quantiles import harrell_davis_weights, of_sorted, weighted
from perfd.analysis.rank import CRITICAL

DECILES = tuple(n / 10 for n in range(1, 10))

_MOST_WORK = 6_000_000


@attrs.frozen
class DecileShift:
    """At the p-quantile: the value of A, the difference B - A, and the band, which holds for all deciles at
    once.
    """

    p: float
    of_a: float
    difference: float
    low: float
    high: float


def shift_function(
    blocks: Sequence[Block], *, seed: int, replicates: int = 1000, critical: float = CRITICAL
) -> list[DecileShift]:
    """The differences of Harrell and Davis's quantiles of both arms at the deciles.

    The band is difference +- c s, with s the standard deviation over samples of whole blocks, drawn with
    replacement by ``random.Random(seed)``, and c the 95 % quantile of the largest |t| of all deciles (a max-|t|
    band). Doksum, "Empirical probability plots and statistical inference for nonlinear models", Annals of
    Statistics 2 (1974); Rousselet, Pernet and Wilcox, European Journal of Neuroscience 46 (2017). Fewer
    replicates are drawn of many runs: 60 of 100,000. At a look whose bound is ``critical`` instead of 1.96 the band
    is as many times as wide, which is more than needed: what is so rare cannot be read off so few samples. Deciles
    that reach into the failures are left out. Raises ValueError for fewer than two blocks.
    """
    used = [block for block in blocks if block.a and block.b]
    if len(used) < 2:
        raise ValueError("a band needs at least two blocks")
    a, b = (_Arm([(value, i) for i, block in enumerate(used) for value in arm(block)]) for arm in (_a, _b))
    shown = [p for p in DECILES if math.isfinite(a.quantile(p)) and math.isfinite(b.quantile(p))]
    runs = len(a.values) + len(b.values)
    draws = max(60, min(replicates, _MOST_WORK // runs))
    chance = random.Random(seed)
    drawn: list[list[float]] = []
    for _ in range(draws):
        times = [0] * len(used)
        for place in chance.choices(range(len(used)), k=len(used)):
            times[place] += 1
        drawn.append([y - x for x, y in zip(a.resampled(times, shown), b.resampled(times, shown), strict=True)])
    differences = [b.quantile(p) - a.quantile(p) for p in shown]
    return _band(shown, [a.quantile(p) for p in shown], differences, drawn, max(1.0, critical / CRITICAL))


def _band(
    shown: Sequence[float],
    of_a: Sequence[float],
    differences: Sequence[float],
    drawn: Sequence[Sequence[float]],
    wider: float,
) -> list[DecileShift]:
    finite = [row for row in drawn if all(map(math.isfinite, row))]
    spread = [stdev(column) for column in zip(*finite, strict=True)]
    middle = [fmean(column) for column in zip(*finite, strict=True)]
    largest = sorted(
        max((abs(value - m) / s for value, m, s in zip(row, middle, spread, strict=True) if s), default=0.0)
        for row in finite
    )
    critical = of_sorted(largest, 0.95) * wider
    return [
        DecileShift(p, value, difference, difference - critical * s, difference + critical * s)
        for p, value, difference, s in zip(shown, of_a, differences, spread, strict=True)
    ]


def _a(block: Block) -> tuple[float, ...]:
    return block.a


def _b(block: Block) -> tuple[float, ...]:
    return block.b


class _Arm:
    """The values of one arm, sorted once, and the block of each."""

    def __init__(self, pairs: list[tuple[float, int]]) -> None:
        pairs.sort()
        self.values = [value for value, _ in pairs]
        self._blocks = [place for _, place in pairs]

    def quantile(self, p: float) -> float:
        return weighted(self.values, harrell_davis_weights(len(self.values), p))

    def resampled(self, times: Sequence[int], shown: Sequence[float]) -> list[float]:
        """The quantiles where block i occurs times[i] times; of plain order statistics, which differ in no way
        that counts.
        """
        reached = list(accumulate(map(times.__getitem__, self._blocks)))
        count = reached[-1]
        found = []
        for p in shown:
            rank = (count - 1) * p
            below = self.values[bisect_left(reached, math.floor(rank) + 1)]
            above = self.values[bisect_left(reached, math.ceil(rank) + 1)]
            share = rank - math.floor(rank)
            found.append(below if below == above else below * (1 - share) + above * share)
        return found
