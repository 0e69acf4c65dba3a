"""Is B slower than A, and by how much? The stratified rank test, and the shift that it does not reject.

The test is van Elteren's: the ranks of B within each block, summed with weights. Blocks bear whatever the time
of day does to both arms, ranks bear the heavy tail of Tor's times, and failures are simply the highest ranks.
The estimate and the interval come from the same statistic (as Hodges and Lehmann's): all shifts that the test
would not reject.

Where the runs of an arm in a block have more in common than the arm, such as the data directories that were its own
for that block, with their guards, the unit is the block and not the run: the test's variance within blocks would be
too small, by a factor of two to four where guards differ as on the public network. ``by_block`` takes the spread of
the blocks' sums then.

van Elteren, "On the combination of independent two-sample tests of Wilcoxon", Bulletin of the International
Statistical Institute 37 (1960); Hodges and Lehmann, "Estimates of location based on rank tests", Annals of
Mathematical Statistics 34 (1963).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import NormalDist

import attrs

from perfd.analysis import student
from perfd.analysis.blocks import Block

CRITICAL = NormalDist().inv_cdf(0.975)
"""What |Z| exceeds in 5 % of all cases where nothing differs: 1.96."""

_AtGoals = Callable[[Sequence[float]], list[float]]
"""Gives the shifts at which the weighted wins of B come down to each goal."""

_MOST_PAIRS = 1_000_000

_CONFIDENCE = 0.75
"""Of the limit of a design effect."""


@attrs.frozen
class RankTest:
    """``z`` is positive where B has the larger values; ``p`` is two-sided; 1 where nothing can be said."""

    z: float
    p: float


@attrs.frozen
class Shift:
    """By how much B is above A, and the interval of all shifts that are not rejected; infinite where failures
    decide.
    """

    estimate: float
    low: float
    high: float

    @property
    def ratio(self) -> Shift:
        """Of a shift of logarithms: the relative change, 0.03 for 3 % more; infinite where the shift is."""
        return Shift(*map(_relative, (self.estimate, self.low, self.high)))


def _relative(shift: float) -> float:
    if shift == -math.inf:
        return shift
    return math.expm1(shift) if shift < 700 else math.inf


def rank_test(blocks: Sequence[Block], shift: float = 0.0, *, by_block: bool = False) -> RankTest:
    """Whether B - ``shift`` differs from A.

    In block b with m_a + m_b = N runs W_b is the sum of the ranks of B less its expectation, Var_b = m_a m_b /
    12 (N + 1 - sum (t^3 - t) / (N (N - 1))) over groups of t equal values, and w_b = 1 / (N + 1): Z = sum w_b
    W_b / sqrt(sum w_b^2 Var_b). Values are compared as they are: give logarithms for ratios.

    ``by_block``: p is at least that of Student's t with n - 1 degrees of freedom, of the n blocks' w_b W_b.
    """
    total = variance = 0.0
    sums: list[float] = []
    for block in blocks:
        below, above = len(block.a), len(block.b)
        count = below + above
        if not below or not above:
            continue
        shifted = [value - shift for value in block.b]
        ordered = sorted(block.a)
        wins = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in shifted) / 2
        ties = sum(t**3 - t for t in Counter((*ordered, *shifted)).values())
        sums.append((wins - below * above / 2) / (count + 1))
        total += sums[-1]
        variance += below * above / 12 * (count + 1 - ties / (count * (count - 1))) / (count + 1) ** 2
    if variance <= 0:
        return RankTest(0.0, 1.0)
    z = total / math.sqrt(variance)
    p = math.erfc(abs(z) / math.sqrt(2))
    if not by_block or total == 0:
        return RankTest(z, p)
    if len(sums) < 2:
        return RankTest(z, 1.0)
    between = _between(sums)
    if between > 0:
        return RankTest(z, max(p, student.two_sided(total / between, len(sums) - 1)))
    # All blocks say the same, such as that each B is slower than each A: each could have said the opposite.
    return RankTest(z, max(p, 2.0 ** (1 - len(sums))))


def _between(sums: Sequence[float]) -> float:
    """The standard error of the total of the blocks' sums, as they differ from each other; 0 of fewer than two."""
    count = len(sums)
    if count < 2:
        return 0.0
    mean = math.fsum(sums) / count
    return math.sqrt(count / (count - 1) * math.fsum((each - mean) ** 2 for each in sums))


def design_effect_limit(blocks: Sequence[Block]) -> float:
    """How many times as large, at most, the variance between blocks is as that within them says; at least 1.

    Runs that have nothing in common but their block and arm have 1. What the few blocks of a pilot say is rough,
    and a comparison that is planned with it finds too little as often as it is too low; so this is the upper limit
    of 75 % confidence: the estimate times d / chi^2_0.25(d) of the d = n - 1 degrees of freedom of n blocks
    (Browne, "On the use of a pilot sample for sample size determination", Statistics in Medicine 14, 1995; the
    quantile as Wilson and Hilferty approximate it, "The distribution of chi-square", PNAS 17, 1931).
    """
    used = [block for block in blocks if block.a and block.b]
    variance = sum(map(_variance, used))
    freedom = len(used) - 1
    if freedom < 1 or not variance:
        return 1.0
    third = 2 / (9 * freedom)
    quantile = freedom * (1 - third + NormalDist().inv_cdf(1 - _CONFIDENCE) * math.sqrt(third)) ** 3
    return max(1.0, _between(_sums(used, shift(used).estimate)) ** 2 / variance * freedom / quantile)


def shift(blocks: Sequence[Block], critical: float = CRITICAL, *, by_block: bool = False) -> Shift:
    """By how much B is above A: the shift with Z = 0, and all with |Z| <= ``critical`` (c_k at look k of a
    design).

    For relative changes give logarithms and take ``ratio`` of the answer. Of 100,000 runs it takes about a
    second.

    ``by_block``: the spread is at least that of the blocks' sums at the estimate, times what Student's t exceeds as
    rarely as a normal variable exceeds ``critical``. Of fewer than two blocks the interval is unbounded.
    """
    used = [block for block in blocks if block.a and block.b]
    if not any(min(block.a) < math.inf and min(block.b) < math.inf for block in used) and not rank_test(used).z:
        return Shift(0.0, -math.inf, math.inf)  # no two values can be compared, and both fail alike
    # Z falls with the shift. Its spread is that of the test without ties between the arms but those of
    # failures.
    spread = critical * math.sqrt(sum(map(_variance, used)))
    centre, at_goals = _centre(used), _finder(used)
    if by_block:
        rarely = student.as_rare_as(critical, len(used) - 1)
        between = _between(_sums(used, at_goals([centre])[0]))
        spread = max(spread, rarely * between) if math.isfinite(rarely) else math.inf
    return Shift(*at_goals((centre, centre + spread, centre - spread)))


def _centre(blocks: Sequence[Block]) -> float:
    """The weighted wins of B that are expected where nothing differs."""
    return sum(len(each.a) * len(each.b) * _weight(each) / 2 for each in blocks)


def _finder(blocks: Sequence[Block]) -> _AtGoals:
    pairs = sum((len(each.a) - each.a.count(math.inf)) * (len(each.b) - each.b.count(math.inf)) for each in blocks)
    return (_from_pairs if pairs <= _MOST_PAIRS else _by_search)(blocks)


def _sums(blocks: Sequence[Block], shift: float) -> list[float]:
    """Of each block the weighted wins of B - ``shift`` less those that are expected."""
    found = []
    for block in blocks:
        ordered = sorted(block.a)
        wins = sum(bisect_left(ordered, b - shift) + bisect_right(ordered, b - shift) for b in block.b) / 2
        found.append((wins - len(block.a) * len(block.b) / 2) * _weight(block))
    return found


def _weight(block: Block) -> float:
    return 1 / (len(block.a) + len(block.b) + 1)


def _variance(block: Block) -> float:
    """Of the weighted sum of wins, where only failures are equal to each other, and values within an arm."""
    below, above = len(block.a), len(block.b)
    count = below + above
    failures = block.a.count(math.inf) + block.b.count(math.inf)
    ties = failures**3 - failures
    for arm in (block.a, block.b):
        ties += sum(t**3 - t for value, t in Counter(arm).items() if value != math.inf)
    return below * above / 12 * (count + 1 - ties / (count * (count - 1))) * _weight(block) ** 2


def _constant(block: Block) -> float:
    """The wins of B that no shift changes: a failure against a value, and half a win of a failure against
    another.
    """
    failed_a, failed_b = block.a.count(math.inf), block.b.count(math.inf)
    return _weight(block) * (failed_b * (len(block.a) - failed_a) + failed_a * failed_b / 2)


def _from_pairs(blocks: Sequence[Block]) -> _AtGoals:
    """The shifts at which the wins of B come down to each goal, exactly: they change at differences of pairs
    only.
    """
    by_weight: dict[float, list[float]] = {}
    for block in blocks:
        values = [a for a in block.a if a != math.inf]
        by_weight.setdefault(_weight(block), []).extend(b - a for b in block.b if b != math.inf for a in values)
    # Numbers are sorted faster than pairs of them, and what is in order already is merged.
    pairs = sorted((difference, weight) for weight, those in by_weight.items() for difference in sorted(those))
    all_wins = sum(map(_constant, blocks)) + math.fsum(weight * len(those) for weight, those in by_weight.items())

    def at_goals(goals: Sequence[float]) -> list[float]:
        wins = all_wins
        found: dict[float, float] = {}
        place = 0
        for goal in sorted(goals, reverse=True):
            if wins < goal:
                found[goal] = -math.inf if place == 0 else pairs[place - 1][0]
                continue
            while place < len(pairs) and wins - pairs[place][1] > goal:
                wins -= pairs[place][1]
                place += 1
            found[goal] = pairs[place][0] if place < len(pairs) else math.inf
        return [found[goal] for goal in goals]

    return at_goals


def _by_search(blocks: Sequence[Block]) -> _AtGoals:
    """The same to a millionth of the range, for large blocks, whose pairs are too many to list."""
    finite = [
        (sorted(a for a in block.a if a != math.inf), [b for b in block.b if b != math.inf], _weight(block))
        for block in blocks
    ]
    finite = [each for each in finite if each[0] and each[1]]
    constant = sum(map(_constant, blocks))

    def wins(theta: float) -> float:
        return constant + sum(
            weight * sum(bisect_left(ordered, b - theta) for b in values) for ordered, values, weight in finite
        )

    low = min(min(values) - ordered[-1] for ordered, values, _ in finite)
    high = max(max(values) - ordered[0] for ordered, values, _ in finite)
    return lambda goals: [_crossing(wins, goal, low, high) for goal in goals]


def _crossing(falling: Callable[[float], float], goal: float, low: float, high: float) -> float:
    """Where a falling function passes ``goal``: false position with halved weights (the Illinois method)."""
    at_low, at_high = falling(low) - goal, falling(high) - goal
    if at_low < 0:
        return -math.inf
    if at_high > 0:
        return math.inf
    precision = (high - low) * 1e-7
    side = 0
    while high - low > precision and at_low > at_high:
        middle = (low * -at_high + high * at_low) / (at_low - at_high)
        middle = min(max(middle, low + precision / 2), high - precision / 2)
        value = falling(middle) - goal
        if value == 0:
            return middle
        if value > 0:
            low, at_low = middle, value
            at_high *= 0.5 if side > 0 else 1.0
            side = 1
        else:
            high, at_high = middle, value
            at_low *= 0.5 if side < 0 else 1.0
            side = -1
    return (low + high) / 2
