"""Measurements that are pairs by their nature, as with and without optimistic data on the same circuit.

Wilcoxon's signed-rank test and its Hodges-Lehmann shift: Wilcoxon, "Individual comparisons by ranking methods",
Biometrics Bulletin 1 (1945).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from perfd.analysis.rank import CRITICAL, RankTest, Shift

_MOST_EXACT = 50
_MOST_AVERAGES = 2_000


def signed_rank_test(differences: Sequence[float]) -> RankTest:
    """Whether the differences B - A are symmetric about 0.

    Differences of 0 say nothing and are left out. Up to 50 different ones the p-value is exact, beyond it is
    the normal approximation with Var = sum of the squares of the ranks / 4, which takes ties into account.
    Infinite differences (one of the pair failed) have the highest ranks; a pair of failures is to be left out
    by the caller.
    """
    used = sorted((d for d in differences if d), key=abs)
    if not used:
        return RankTest(0.0, 1.0)
    counts = Counter(map(abs, used))
    ranks: dict[float, float] = {}
    before = 0
    for size, count in counts.items():
        ranks[size] = before + (count + 1) / 2
        before += count
    positive = math.fsum(ranks[abs(d)] for d in used if d > 0)
    total = len(used) * (len(used) + 1) / 2
    variance = math.fsum(count * ranks[size] ** 2 for size, count in counts.items()) / 4
    z = (positive - total / 2) / math.sqrt(variance)
    if len(used) <= _MOST_EXACT and len(counts) == len(used):
        return RankTest(z, _exact(len(used), min(positive, total - positive)))
    return RankTest(z, math.erfc(abs(z) / math.sqrt(2)))


def _exact(count: int, statistic: float) -> float:
    """Twice the chance that the sum of the ranks with positive sign is at most ``statistic``."""
    ways = [1] + [0] * int(statistic)
    for rank in range(1, count + 1):
        for total in range(len(ways) - 1, rank - 1, -1):
            ways[total] += ways[total - rank]
    return min(1.0, 2.0 * sum(ways) / float(2**count))


def paired_shift(differences: Sequence[float], critical: float = CRITICAL) -> Shift:
    """By how much B is above A: the median of all averages of two differences, and the shifts that are not
    rejected.

    Of more than 2,000 pairs every k-th in the order of size is taken, so that the averages stay below two
    millions.
    """
    ordered = sorted(differences)
    if not ordered:
        return Shift(0.0, -math.inf, math.inf)
    count = len(ordered)
    step = math.ceil(count / _MOST_AVERAGES)
    thinned = ordered[step // 2 :: step]
    averages = sorted(
        (first + second) / 2
        for place, first in enumerate(thinned)
        for second in thinned[place:]
        if first + second == first + second
    )
    most = len(averages)
    # On the scale of all pairs the statistic has mean n(n+1)/4 and variance n(n+1)(2n+1)/24.
    reach = critical * math.sqrt(count * (count + 1) * (2 * count + 1) / 24) / (count * (count + 1) / 2) * most
    low, high = math.floor(most / 2 - reach), math.ceil(most / 2 + reach) - 1
    middle = (averages[(most - 1) // 2] + averages[most // 2]) / 2
    return Shift(middle, averages[low] if low >= 0 else -math.inf, averages[high] if high < most else math.inf)
