"""Comparisons of ways to do the same: in which order they are run, and what may be said of the outcome.

Blocks have some runs of each way in fully random order, so that whatever the machine does meanwhile meets all of
them. Estimates and intervals are those of the stratified rank test (`perfd.analysis.rank`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from random import Random

import attrs

from perfd.analysis.blocks import Block
from perfd.analysis.pairs import paired_shift
from perfd.analysis.quantiles import of_sorted
from perfd.analysis.rank import Shift, shift

SEED = 20260101
"""Of the random orders, so that two benches meet the same."""


@attrs.frozen
class Interval:
    """An estimate, and the 95 % interval around it."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3g} (95 % interval {self.low:.3g} to {self.high:.3g})"

    def scaled(self, factor: float) -> Interval:
        """The same in another unit; ``factor`` is positive."""
        return Interval(self.estimate * factor, self.low * factor, self.high * factor)


class Comparison:
    """What several ``ways`` gave, block by block: of each run some values by their names, all positive."""

    def __init__(self, *ways: str) -> None:
        self._ways = ways
        self._random = Random(SEED)
        self._blocks: list[dict[str, list[dict[str, float]]]] = []

    def block(self, each: int) -> Iterator[str]:
        """Begin a block: which way is to be run next, ``each`` of them so often."""
        self._blocks.append({way: [] for way in self._ways})
        order = [way for way in self._ways for _ in range(each)]
        self._random.shuffle(order)
        yield from order

    def add(self, way: str, **values: float) -> None:
        """What a run of the present block gave."""
        self._blocks[-1][way].append(values)

    def median(self, name: str, way: str) -> float:
        """The median of all values ``name`` of ``way``."""
        return of_sorted(sorted(run[name] for block in self._blocks for run in block[way]), 0.5)

    def ratio(self, name: str, way: str, to: str) -> Interval:
        """How many times as large as those of ``to`` the values ``name`` of ``way`` are."""
        found = shift([block.logarithms for block in self._arms(name, way, to)]).ratio
        return Interval(*(1 + max(-1.0, each) for each in (found.estimate, found.low, found.high)))

    def difference(self, name: str, way: str, to: str) -> Interval:
        """By how much the values ``name`` of ``way`` are above those of ``to``."""
        return _interval(shift(self._arms(name, way, to)))

    def _arms(self, name: str, way: str, to: str) -> list[Block]:
        return [
            Block([run[name] for run in block[to]], [run[name] for run in block[way]]) for block in self._blocks
        ]


def paired_difference(differences: Sequence[float]) -> Interval:
    """What is typical of the differences within pairs."""
    return _interval(paired_shift(differences))


def median_interval(values: Iterable[float]) -> Interval:
    """The median of a sample, between the order statistics that enclose it in 95 % of all samples (binomial)."""
    ordered = sorted(values)
    count = len(ordered)
    below, rank = 0.0, 0
    while rank < count // 2:
        below += math.comb(count, rank) / 2**count
        if below > 0.025:
            break
        rank += 1
    low = max(0, rank - 1)  # with less than six values not even all of them enclose it so often
    return Interval(of_sorted(ordered, 0.5), ordered[low], ordered[-1 - low])


def _interval(found: Shift) -> Interval:
    return Interval(found.estimate, found.low, found.high)
