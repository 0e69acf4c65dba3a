"""Designs: looks, sample sizes, the confidence sequence, the shift function."""

from __future__ import annotations

import math
import random
from statistics import NormalDist, fmean, stdev

import pytest
from scipy import stats

from perfd.analysis.blocks import Block
from perfd.analysis.proportion import exact_interval
from perfd.analysis.rank import rank_test, shift
from perfd.analysis.sample_size import density_integral, sample_size
from perfd.analysis.sequential import confidence_sequence_margin, group_sequential
from perfd.analysis.shift_function import shift_function


@pytest.mark.parametrize(
    ("looks", "constant"), [(1, 1.960), (2, 1.977), (3, 2.004), (4, 2.024), (5, 2.040), (10, 2.087)]
)
def test_bounds(looks: int, constant: float) -> None:
    """The constants of the published tables (Jennison and Turnbull, table 2.3)."""
    design = group_sequential(looks)
    assert design.constant == pytest.approx(constant, abs=6e-4)
    assert design.critical(looks) == design.constant
    assert design.critical(1) == pytest.approx(design.constant * math.sqrt(looks))


def test_no_such_look() -> None:
    """There are as many looks as were planned."""
    with pytest.raises(ValueError, match="none is number 6"):
        group_sequential(5).critical(6)
    with pytest.raises(ValueError, match="no design"):
        group_sequential(0)


def test_looking_costs_nothing() -> None:
    """Five looks at nothing: a false alarm in 5 % of 2,000 walks, give or take; at 1.96 it would be 14 %."""
    chance = random.Random(1)
    design = group_sequential(5)
    alarms = naive = 0
    for _ in range(2000):
        walk, zs = 0.0, []
        for look in range(1, 6):
            walk += chance.gauss(0, 1)
            zs.append(abs(walk) / math.sqrt(look))
        alarms += any(z > design.critical(look) for look, z in enumerate(zs, start=1))
        naive += any(z > 1.96 for z in zs)
    assert stats.binomtest(alarms, 2000, 0.05).pvalue > 0.001
    assert naive > 220


def test_confidence_sequence() -> None:
    """It misses the mean at any time between 20 and 400 blocks in at most 5 % of 300 cases, give or take."""
    chance = random.Random(2)
    missed = 0
    for _ in range(300):
        values = [chance.gauss(0.1, 0.3) for _ in range(400)]
        missed += any(
            abs(fmean(values[:n]) - 0.1) > confidence_sequence_margin(stdev(values[:n]), n, tuned_for=200)
            for n in range(20, 401, 20)
        )
    assert missed <= 26
    assert confidence_sequence_margin(1.0, 0, tuned_for=10) == math.inf


@pytest.mark.parametrize("sigma", [0.05, 0.47])
def test_density_integral(sigma: float) -> None:
    """Of normal noise it is 1 / (2 sigma sqrt pi)."""
    chance = random.Random(3)
    blocks = [
        Block(*([math.exp(chance.gauss(0, sigma)) for _ in range(6)] for _ in range(2))).logarithms
        for _ in range(200)
    ]
    assert density_integral(blocks) == pytest.approx(1 / (2 * sigma * math.sqrt(math.pi)), rel=0.06)


def test_sample_size() -> None:
    """Normal noise needs about 27 sigma^2 / delta^2 runs, and those for five looks and a short pilot.

    Few pairs or no noise are refused.
    """
    chance = random.Random(4)
    pilot = [
        Block(*([math.exp(chance.gauss(0, 0.1)) for _ in range(12)] for _ in range(2))).logarithms
        for _ in range(60)
    ]
    needed = sample_size(pilot, 0.03, block_size=12)
    expected = (NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.95)) ** 2 / 6 * 4 * math.pi * 0.01 / 0.0009
    assert needed.runs == pytest.approx(expected * 25 / 24 * 1.03 * 1.13, rel=0.15)
    assert needed.runs % 12 == 0
    with pytest.raises(ValueError, match="too little"):
        sample_size(pilot[:0], 0.03)
    with pytest.raises(ValueError, match="no noise"):
        sample_size([Block([1] * 9, [1] * 9)], 0.03)


def test_promised_power() -> None:
    """A shift of 5 % is found in at least 90 % of 60 comparisons of the size that the pilot asked for."""
    chance = random.Random(5)

    def blocks(count: int, delta: float = 0.0) -> list[Block]:
        def run() -> float:
            return chance.gauss(0, 0.1) + (chance.expovariate(2) if chance.random() < 0.08 else 0.0)

        return [
            Block([math.exp(run()) for _ in range(6)], [math.exp(run() + delta) for _ in range(6)]).logarithms
            for _ in range(count)
        ]

    needed = sample_size(blocks(60), math.log(1.05))
    found = sum(rank_test(blocks(needed.blocks, math.log(1.05))).p < 0.05 for _ in range(60))
    assert found >= 52


def test_promised_power_by_block() -> None:
    """Data directories differ, and a pilot has six blocks: 3 % are found as often as it promises."""
    chance = random.Random(16)

    def blocks(levels: list[float], count: int, delta: float = 0.0) -> list[Block]:
        made = []
        for _ in range(count):
            chance.shuffle(levels)
            made.append(
                Block(
                    [level + chance.gauss(0, 0.03) for level in levels[:2] for _ in range(3)],
                    [level + chance.gauss(delta, 0.03) for level in levels[2:] for _ in range(3)],
                )
            )
        return made

    found = 0
    for _ in range(200):
        levels = [chance.gauss(0, 0.02) for _ in range(4)]
        needed = sample_size(blocks(levels, 6), math.log(1.03), by_block=True)
        comparison = blocks(levels, needed.blocks, math.log(1.03))
        found += rank_test(comparison, by_block=True).p < 0.05
    low, high = exact_interval(found, 200)
    assert low <= 0.95 <= high or low > 0.95


def test_shift_function() -> None:
    """B is slower in its tail only: the band excludes 0 there, and not at the first decile."""
    chance = random.Random(6)

    def value(slow: bool) -> float:
        time = chance.lognormvariate(0, 0.1)
        return time * 1.5 if slow and time > 1.05 else time

    blocks = [Block([value(False) for _ in range(6)], [value(True) for _ in range(6)]) for _ in range(80)]
    found = shift_function(blocks, seed=1, replicates=300)
    assert [round(each.p, 1) for each in found] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert found[0].low < 0 < found[0].high
    assert found[-1].low > 0.3
    assert shift_function(blocks, seed=1, replicates=300) == found
    with pytest.raises(ValueError, match="two blocks"):
        shift_function(blocks[:1], seed=1)


def test_shift_function_leaves_out_failures() -> None:
    """Deciles that reach into the failures are not shown."""
    blocks = [Block([1.0, 2.0, 3.0, 4.0, math.inf] * 4, [1.0, 2.0, 3.0, 4.0, 5.0] * 4)] * 20
    assert max(each.p for each in shift_function(blocks, seed=2, replicates=200)) < 0.8


def test_many_runs() -> None:
    """Large strata, as days of stored records, take the other way to the same answer."""
    chance = random.Random(7)
    days = [
        Block(
            [chance.lognormvariate(0, 0.3) for _ in range(900)],
            [chance.lognormvariate(0.03, 0.3) for _ in range(900)],
        ).logarithms
        for _ in range(2)
    ]
    found = shift(days)
    assert found.low < 0.03 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.3 * math.sqrt(2 / 1800 * math.pi / 3), rel=0.1)
