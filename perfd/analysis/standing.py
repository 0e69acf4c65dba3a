"""Is one of many slower than the others, by more than a margin?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import groupby
from statistics import median

import attrs

from perfd.analysis.blocks import Block
from perfd.analysis.rank import CRITICAL, Shift, rank_test, shift

Value = tuple[Hashable, str, float]
"""The block of a value, whose it is, and the value, which is positive."""


@attrs.frozen
class Standing:
    """How the values of one stand to those of all others.

    ``ratio`` is the estimate and the 95 % interval of its relative change, 0.5 for half as much again. ``p`` is
    one-sided: the chance of ranks as high as its own, were it slower than the others by no more than the margin.
    """

    count: int
    median: float
    ratio: Shift
    p: float


def standings(values: Iterable[Value], margin: float, least: int) -> Mapping[str, Standing]:
    """That of each one with at least so many values that can be compared with those of others.

    The test is that of `rank_test`, on logarithms, which compares within blocks only; the interval is not adjusted.
    """
    blocks = [
        _by_owner(those)
        for _, those in groupby(sorted(values, key=lambda each: str(each[0])), lambda each: each[0])
    ]
    found = {}
    for owner in sorted({owner for block in blocks for owner in block}):
        own = [value for block in blocks for value in block.get(owner, ())]
        pairs = [_against(block, owner) for block in blocks if owner in block and len(block) > 1]
        if sum(len(pair.b) for pair in pairs) >= least:
            z = rank_test(pairs, math.log1p(margin)).z
            p = 0.5 * math.erfc(z / math.sqrt(2))
            found[owner] = Standing(len(own), median(own), shift(pairs, CRITICAL).ratio, p)
    return found


def _by_owner(values: Iterable[Value]) -> Mapping[str, Sequence[float]]:
    found: dict[str, list[float]] = {}
    for _, owner, value in values:
        found.setdefault(owner, []).append(value)
    return found


def _against(block: Mapping[str, Sequence[float]], owner: str) -> Block:
    others = [value for each, those in block.items() if each != owner for value in those]
    return Block(others, block[owner]).logarithms
