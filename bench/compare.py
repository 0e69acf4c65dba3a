"""Comparisons of two ways to do the same: in which order they are run, and what may be said of the outcome.

Blocks have some runs of each way in fully random order, so that whatever the machine does meanwhile meets both. The
estimate and its interval are those of the stratified rank test (`perfd.analysis.rank`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random

import attrs

from perfd.analysis.blocks import Block
from perfd.analysis.quantiles import of_sorted
from perfd.analysis.rank import shift

SEED = 20260101
"""Of the random orders, so that two benches meet the same."""


@attrs.frozen
class Interval:
    """An estimate, and the 95 % interval around it."""

    estimate: float
    low: float
    high: float


def orders(blocks: int, each: int, ways: Sequence[str]) -> Iterator[Sequence[str]]:
    """For each of ``blocks`` the order of its runs, ``each`` of every way."""
    random = Random(SEED)
    for _ in range(blocks):
        order = [way for way in ways for _ in range(each)]
        random.shuffle(order)
        yield order


class Comparison:
    """The values that ways ``a`` and ``b`` gave, block by block; all positive, and less is better."""

    def __init__(self, a: str, b: str) -> None:
        self.ways = (a, b)
        self._blocks: list[Mapping[str, list[float]]] = []

    def begin_block(self) -> None:
        """What is added from now on belongs to a new block."""
        self._blocks.append({way: [] for way in self.ways})

    def add(self, way: str, value: float) -> None:
        self._blocks[-1][way].append(value)

    def median(self, way: str) -> float:
        """The median of all values of ``way``."""
        return of_sorted(sorted(value for block in self._blocks for value in block[way]), 0.5)

    @property
    def ratio(self) -> Interval:
        """How many times as large as those of ``a`` the values of ``b`` are."""
        found = shift([block.logarithms for block in self._arms()]).ratio
        return Interval(1 + found.estimate, 1 + found.low, 1 + found.high)

    @property
    def difference(self) -> Interval:
        """By how much the values of ``b`` are above those of ``a``."""
        found = shift(self._arms())
        return Interval(found.estimate, found.low, found.high)

    def _arms(self) -> list[Block]:
        a, b = self.ways
        return [Block(block[a], block[b]) for block in self._blocks]


def median_interval(values: Iterable[float]) -> Interval:
    """The median of a sample, between the order statistics that enclose it in 95 % of all samples (binomial)."""
    ordered = sorted(values)
    count = len(ordered)
    below = 0.0
    rank = 0
    while rank < count // 2:
        below += math.comb(count, rank) / 2**count
        if below > 0.025:
            break
        rank += 1
    # With so few values that no two of them enclose it so often, all of them.
    low = max(0, rank - 1)
    return Interval(of_sorted(ordered, 0.5), ordered[low], ordered[-1 - low])
