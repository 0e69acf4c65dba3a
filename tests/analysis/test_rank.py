"""The stratified rank test, its shift, and the other tests of two arms."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from perfd.analysis.blocks import Block, arms
from perfd.analysis.failures import failure_difference
from perfd.analysis.multiplicity import benjamini_hochberg, holm
from perfd.analysis.pairs import paired_shift, signed_rank_test
from perfd.analysis.proportion import exact_interval
from perfd.analysis.rank import (
    CRITICAL,
    Shift,
    _by_search,
    _from_pairs,
    _variance,
    design_effect_limit,
    rank_test,
    shift,
)
from perfd.comparison.design import Plan

VALUES = st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0, 7.0, math.inf]), min_size=2, max_size=9)
BLOCKS = st.lists(st.builds(Block, VALUES, VALUES), min_size=1, max_size=6)


def noisy(
    chance: random.Random, blocks: int, size: int, shift: float = 0.0, failing: float = 0.0, daily: float = 0.0
) -> list[Block]:
    """Blocks of Tor's kind of noise: a sharp centre, a heavy tail, a wave over the day, and failures."""

    def value(mean: float) -> float:
        if chance.random() < failing:
            return math.inf
        tail = chance.expovariate(1.0) if chance.random() < 0.08 else 0.0
        return math.exp(mean + chance.gauss(0, 0.2) + tail)

    made = []
    for i in range(blocks):
        level = daily * math.sin(2 * math.pi * i / 24)
        made.append(Block([value(level) for _ in range(size)], [value(level + shift) for _ in range(size)]))
    return made


@pytest.mark.parametrize("ties", [False, True])
def test_one_block(ties: bool) -> None:
    """In a single block it is Mann and Whitney's test."""
    chance = random.Random(5)
    for _ in range(20):
        block = noisy(chance, 1, 15, 0.2)[0]
        if ties:
            block = Block([round(v, 1) + 0.1 for v in block.a], [round(v, 1) + 0.1 for v in block.b])
        expected = stats.mannwhitneyu(block.b, block.a, method="asymptotic", use_continuity=False)
        assert rank_test([block]).p == pytest.approx(float(expected.pvalue), rel=1e-9)


def test_blocks() -> None:
    """Over several blocks it is the formula, computed by hand with scipy's ranks."""
    blocks = noisy(random.Random(6), 12, 6, 0.1, failing=0.1)
    total = variance = 0.0
    for block in blocks:
        ranks = stats.rankdata([*block.a, *block.b])
        weight = 1 / (len(ranks) + 1)
        total += weight * (sum(ranks[6:]) - 6 * 13 / 2)
        variance += weight**2 * 36 / (12 * 11) * (sum(ranks**2) - 12 * 13**2 / 4)
    assert rank_test(blocks).z == pytest.approx(total / math.sqrt(variance))


@given(BLOCKS)
def test_exchanged_arms(blocks: list[Block]) -> None:
    """What is B against A is minus A against B."""
    exchanged = [Block(block.b, block.a) for block in blocks]
    assert rank_test(blocks).z == pytest.approx(-rank_test(exchanged).z)
    there, back = shift(blocks), shift(exchanged)
    assert there.low <= there.high
    if math.isfinite(there.low) and math.isfinite(back.high):
        assert there.low == pytest.approx(-back.high, abs=0.51)


@given(st.lists(st.builds(Block, VALUES, VALUES), min_size=3, max_size=12))
def test_interval_is_what_is_not_rejected(blocks: list[Block]) -> None:
    """A little inside of the interval the test does not reject, a little outside it does."""
    found = shift(blocks)
    spread = math.sqrt(sum(map(_variance, blocks)))
    for theta in (found.low - 1e-6, found.low + 1e-6, found.high - 1e-6, found.high + 1e-6):
        if not math.isfinite(theta) or spread == 0:
            continue
        z = sum(
            (sum((b - theta > a) + 0.5 * (b == a == math.inf) for b in block.b for a in block.a)
             - len(block.a) * len(block.b) / 2) / (len(block.a) + len(block.b) + 1)
            for block in blocks
        ) / spread  # fmt: skip
        inside = found.low < theta < found.high
        assert abs(z) <= CRITICAL + 1e-9 if inside else abs(z) >= CRITICAL - 1e-9


def test_both_ways_to_the_shift() -> None:
    """By listing the pairs and by searching one comes to the same shift."""
    blocks = [block.logarithms for block in noisy(random.Random(7), 40, 6, 0.05, failing=0.05)]
    centre = sum(36 / 26 for _ in blocks)
    spread = CRITICAL * math.sqrt(sum(map(_variance, blocks)))
    goals = (centre, centre + spread, centre - spread)
    for first, second in zip(_from_pairs(blocks)(goals), _by_search(blocks)(goals), strict=True):
        assert first == pytest.approx(second, abs=1e-3)


def test_shift_of_logarithms() -> None:
    """A change of 10 % is found as such."""
    found = shift([block.logarithms for block in noisy(random.Random(8), 800, 6, math.log(1.1))]).ratio
    assert found.estimate == pytest.approx(0.1, abs=0.02)
    assert 0.08 < found.low < 0.1 < found.high < 0.12


def test_nothing_to_say() -> None:
    """No blocks, one arm only, or all the same: no verdict and no interval."""
    for blocks in ([], [Block([1], [])], [Block([math.inf] * 3, [math.inf] * 3)]):
        assert rank_test(blocks).p == 1
        assert shift(blocks) == Shift(0, -math.inf, math.inf)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_refused_values(value: float) -> None:
    """Times are positive, and numbers."""
    with pytest.raises(ValueError, match="positive"):
        _ = Block([1], [value]).logarithms
    with pytest.raises(ValueError, match="nan"):
        Block([1], [math.nan])


def rejected(make: Callable[[], list[Block]], times: int) -> int:
    """How often the test rejects at 5 %."""
    return sum(rank_test([block.logarithms for block in make()]).p < 0.05 for _ in range(times))


def test_nothing_differs() -> None:
    """With a heavy tail, a daily wave and 2 % failures it rejects in 5 % of 400 cases, give or take."""
    chance = random.Random(9)
    count = rejected(lambda: noisy(chance, 24, 6, failing=0.02, daily=0.4), 400)
    assert stats.binomtest(count, 400, 0.05).pvalue > 0.001


def test_something_differs() -> None:
    """10 % more is found nearly always in 40 blocks of that noise."""
    chance = random.Random(10)
    assert rejected(lambda: noisy(chance, 40, 6, 0.1, failing=0.02, daily=0.4), 100) >= 95


def over_directories(chance: random.Random, blocks: int, deviation: float, shift: float = 0.0) -> list[Block]:
    """Blocks of logarithms over four data directories with guards of their own, two for each arm in each block."""
    levels = [chance.gauss(0, deviation) for _ in range(4)]
    plan = Plan(chance.getrandbits(32), 4, shared=False)
    made = []
    for number in range(blocks):
        values: tuple[list[float], list[float]] = ([], [])
        for arm, place in plan.block(number, 6).runs:
            tail = chance.expovariate(1.0) if chance.random() < 0.08 else 0.0
            values[arm].append(levels[place] + arm * shift + chance.gauss(0, 0.15) + tail)
        made.append(Block(*values))
    return made


def test_directories_differ() -> None:
    """Where directories differ, the variance within blocks says far too often that arms do, that between blocks
    does not.
    """
    chance = random.Random(11)
    cases = [over_directories(chance, 20, 0.3) for _ in range(300)]
    alarms = sum(rank_test(blocks, by_block=True).p < 0.05 for blocks in cases)
    assert stats.binomtest(alarms, 300, 0.05).pvalue > 0.01
    assert sum(rank_test(blocks).p < 0.05 for blocks in cases) > 2 * 15
    outside = sum(not (found := shift(blocks, by_block=True)).low <= 0 <= found.high for blocks in cases)
    assert stats.binomtest(outside, 300, 0.05).pvalue > 0.01


def test_directories_and_a_shift() -> None:
    """What differs is found all the same, and the interval holds it."""
    found = shift(over_directories(random.Random(12), 120, 0.1, 0.1), by_block=True)
    assert 0 < found.low < 0.1 < found.high < 0.2


def test_by_block_is_never_narrower() -> None:
    """Runs that have nothing in common have no narrower interval for it; and with one block it is unbounded."""
    chance = random.Random(13)
    for _ in range(20):
        blocks = noisy(chance, 10, 6)
        narrow, wide = shift(blocks), shift(blocks, by_block=True)
        assert wide.low <= narrow.low <= wide.estimate == narrow.estimate <= narrow.high <= wide.high
        assert rank_test(blocks, by_block=True).p >= rank_test(blocks).p
    one = shift(noisy(chance, 1, 6), by_block=True)
    assert (one.low, one.high) == (-math.inf, math.inf)


def test_design_effect() -> None:
    """It is 1 where directories are alike, and tells how many more runs are needed where they are not."""
    chance = random.Random(14)
    assert design_effect_limit(over_directories(chance, 400, 0.0)) == pytest.approx(1.0, abs=0.25)
    assert design_effect_limit(over_directories(chance, 400, 0.3)) > 1.7
    assert design_effect_limit([]) == 1.0


def test_limit_of_few_blocks() -> None:
    """Of the six blocks of a pilot it is below the truth in a quarter of all cases, and not in half of them."""
    chance = random.Random(15)

    def limit(count: int) -> float:
        levels = [(chance.gauss(0, 0.05), chance.gauss(0, 0.05)) for _ in range(count)]
        return design_effect_limit(
            [Block(*([level + chance.gauss(0, 0.15) for _ in range(6)] for level in pair)) for pair in levels]
        )

    truth = limit(5000)
    low, high = exact_interval(sum(limit(6) < truth for _ in range(400)), 400)
    assert low <= 0.25 <= high


def test_failures_by_block() -> None:
    """A directory that fails does not make its arm fail: the interval knows that runs share it."""
    bad = [math.inf, math.inf, math.inf, 1.0, 1.0, 1.0]
    good = [1.0] * 6
    blocks = [Block(bad, good) if number in (0, 2, 3, 5, 7) else Block(good, bad) for number in range(12)]
    alone, shared = failure_difference(blocks), failure_difference(blocks, by_block=True)
    assert shared.difference == alone.difference
    assert shared.low < alone.low < alone.high < shared.high
    assert shared.p > alone.p


@pytest.mark.parametrize("count", [5, 30, 200])
def test_signed_rank(count: int) -> None:
    """Pairs: the same as scipy's, exact for few of them."""
    chance = random.Random(count)
    differences = [chance.gauss(0.1, 1) for _ in range(count)]
    expected = stats.wilcoxon(differences, method="exact" if count <= 50 else "asymptotic", correction=False)
    assert signed_rank_test(differences).p == pytest.approx(float(expected.pvalue), rel=1e-9)


def test_signed_rank_with_ties_and_zeros() -> None:
    """Ties share their ranks, zeros are left out."""
    differences = [1.0, 1.0, -1.0, 2.0, 2.0, 3.0, 0.0, 0.0, -2.0, 5.0] * 8
    expected = stats.wilcoxon(differences, method="asymptotic", correction=False)
    assert signed_rank_test(differences).p == pytest.approx(float(expected.pvalue), rel=1e-9)
    assert signed_rank_test([0.0, 0.0]).p == 1


def test_paired_shift() -> None:
    """The median of the averages of two, with an interval that holds in 95 % of 300 cases."""
    assert paired_shift([1.0, 2.0, 6.0]).estimate == 2.75
    chance = random.Random(11)
    held = 0
    for _ in range(300):
        found = paired_shift([chance.gauss(0.3, 1) for _ in range(40)])
        held += found.low <= 0.3 <= found.high
    assert stats.binomtest(held, 300, 0.95).pvalue > 0.001


def test_many_pairs() -> None:
    """Of many pairs some are taken, and the interval is that of all of them."""
    chance = random.Random(12)
    found = paired_shift([chance.gauss(1.0, 2) for _ in range(5000)])
    width = 2 * CRITICAL * 2 / math.sqrt(5000) * math.sqrt(math.pi / 3)
    assert found.estimate == pytest.approx(1.0, abs=0.12)
    assert found.high - found.low == pytest.approx(width, rel=0.1)


def test_failure_difference() -> None:
    """Rates are compared within blocks: the rate of both doubles at night, and nothing differs."""
    day = [Block([1.0] * 19 + [math.inf], [1.0] * 19 + [math.inf])] * 10
    night = [Block([1.0] * 36 + [math.inf] * 4, [1.0] * 18 + [math.inf] * 2)] * 10
    found = failure_difference(day + night)
    assert found.difference == pytest.approx(0)
    assert (found.failures, found.runs, found.p) == ((50, 30), (600, 400), 1.0)
    assert found.low < 0 < found.high


def test_failure_test() -> None:
    """In one stratum it is the test of a table of four fields."""
    found = failure_difference([Block([1.0] * 90 + [math.inf] * 10, [1.0] * 75 + [math.inf] * 25)])
    chi2 = stats.chi2_contingency(numpy.array([[90, 10], [75, 25]]), correction=False).statistic
    assert found.difference == pytest.approx(0.15)
    # Mantel and Haenszel's variance has N - 1 where Pearson's has N.
    assert found.p == pytest.approx(float(stats.chi2.sf(chi2 * 199 / 200, 1)))


def test_no_failures() -> None:
    """Nothing failed: the interval is what so few runs can say."""
    found = failure_difference([Block([1.0] * 300, [1.0] * 150)])
    assert (found.difference, found.low, found.high) == pytest.approx((0, -0.01, 0.02), rel=0.002)
    early = failure_difference([Block([1.0] * 300, [1.0] * 150)], 4.56)
    assert early.high == pytest.approx(-math.log(2 * stats.norm.sf(4.56)) / 150)


def test_failures_of_pairs() -> None:
    """Each block a pair: the interval is that of paired proportions, (discordant / n - D^2) / n."""
    pairs = [(math.inf, math.inf)] * 8 + [(math.inf, 1.0)] * 12 + [(1.0, math.inf)] * 32 + [(1.0, 1.0)] * 148
    found = failure_difference([Block([a], [b]) for a, b in pairs])
    width = CRITICAL * math.sqrt((44 / 200 - 0.1**2) / 200)
    assert found.difference == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((0.1 - width, 0.1 + width))
    assert found.p == pytest.approx(2 * stats.norm.sf(20 / math.sqrt(44)))  # McNemar's


@pytest.mark.parametrize("by_block", [False, True])
@pytest.mark.parametrize(
    "blocks",
    [
        [Block([math.inf] * 6, [math.inf] * 6)] + [Block([1.0] * 6, [1.0] * 6)] * 19,
        [Block([math.inf] * 6, [math.inf] * 6)] * 20,
        [Block([math.inf], [math.inf])] * 5 + [Block([1.0], [1.0])] * 200,
    ],
)
def test_failures_without_spread(blocks: list[Block], by_block: bool) -> None:
    """Where both arms fail together there is no spread, and the interval is that of no failures."""
    found = failure_difference(blocks, by_block=by_block)
    n = sum(len(block.a) for block in blocks)
    assert found.low <= -2.9 / n
    assert found.high >= 2.9 / n


@pytest.mark.parametrize(("size", "rate"), [(1, 0.1), (6, 0.05), (40, 0.02)])
def test_interval_of_failures(size: int, rate: float) -> None:
    """It holds what differs in 95 % of the cases, give or take, whatever the size of blocks."""
    chance = random.Random(15)

    def arm(failing: float) -> list[float]:
        return [math.inf if chance.random() < failing else 1.0 for _ in range(size)]

    held = 0
    for _ in range(400):
        found = failure_difference([Block(arm(rate), arm(rate + 0.04)) for _ in range(600 // size)])
        held += found.low <= 0.04 <= found.high
    assert stats.binomtest(held, 400, 0.95).pvalue > 0.01


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_adjusted_p_values(p_values: list[float]) -> None:
    """As scipy has them; in the order that was given."""
    expected = stats.false_discovery_control(p_values, method="bh")
    assert benjamini_hochberg(p_values) == pytest.approx(list(map(float, expected)))
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    assert min(adjusted) == pytest.approx(min(1, min(p_values) * len(p_values)))


def test_holm() -> None:
    """The example of a textbook."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_arms() -> None:
    """All values of both."""
    assert arms([Block([1], [2, 3]), Block([4], [])]) == ([1, 4], [2, 3])


@pytest.mark.parametrize("by_block", [False, True])
def test_arm_that_always_fails(by_block: bool) -> None:
    """It is slower by more than any number, or faster if it is A, where there are enough runs to say so."""
    blocks = [Block([1.0, 2.0, 3.0, 4.0], [math.inf] * 4)] * 5
    assert shift(blocks, by_block=by_block) == Shift(math.inf, math.inf, math.inf)
    exchanged = [Block(block.b, block.a) for block in blocks]
    assert shift(exchanged, by_block=by_block) == Shift(-math.inf, -math.inf, -math.inf)
    assert shift([Block([1.0], [math.inf])], by_block=by_block).low == -math.inf
    long = [Block([float(n) for n in range(1, 1200)], [math.inf] * 1200)]
    assert shift(long).low == math.inf


def test_blocks_that_say_the_same() -> None:
    """Where each run of B takes longer than each of A the blocks do not differ: p is that of as many signs."""
    blocks = [Block([1.0 + n / 100, 1.1, 1.2], [2.0, 2.1, 2.2 + n / 100]) for n in range(10)]
    assert rank_test(blocks, by_block=True).p == stats.binomtest(10, 10).pvalue > rank_test(blocks).p
    assert rank_test(blocks[:2], by_block=True).p == 0.5
    assert rank_test(blocks[:1], by_block=True).p == 1


def test_ratio() -> None:
    """A shift of logarithms as a relative change; what has no bound has none then."""
    found = Shift(math.log(1.5), -math.inf, math.inf).ratio
    assert (found.estimate, found.low, found.high) == (pytest.approx(0.5), -math.inf, math.inf)
