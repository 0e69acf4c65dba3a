"""Comparisons over several networks, which are the units."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from random import Random

import attrs
import pytest
from scipy import stats

from perfd.analysis.blocks import Block
from perfd.comparison import words
from perfd.comparison.conclusion import NOT_SLOWER, SLOWER, Conclusion, Design, TooLittleError, conclude
from perfd.comparison.figures import figures
from perfd.comparison.metrics import Samples
from perfd.comparison.networks import over_networks
from perfd.comparison.page import page

DESIGN = Design(a="plain", b="noconflux", primary="complete", margin=0.03, seed=7, text="blocks of 6 + 6")


def one(change: float, seed: int, failing: float = 0.0) -> Conclusion:
    """That of one network, in which B takes ``change`` longer."""
    chance = Random(seed)

    def run(factor: float) -> float:
        return math.inf if chance.random() < failing else factor * chance.lognormvariate(0, 0.02)

    blocks = [Block([run(1.0) for _ in range(6)], [run(1 + change) for _ in range(6)]) for _ in range(20)]
    outcomes = [
        Block(*([math.inf if value == math.inf else 1.0 for value in side] for side in (each.a, each.b)))
        for each in blocks
    ]
    return conclude(DESIGN, Samples({"complete": blocks, "first-byte": blocks}, outcomes))


def several(changes: Sequence[float]) -> Conclusion:
    names = [f"seed {n}" for n in range(1, len(changes) + 1)]
    return over_networks([one(change, n) for n, change in enumerate(changes)], names)


def test_interval() -> None:
    """It is Student's, of the logarithms: as scipy has it."""
    found = several([0.02, 0.06, 0.1, 0.05])
    logarithms = [math.log1p(each.effect.ratio) for each in found.networks]
    expected = stats.ttest_1samp(logarithms, 0.0)
    low, high = (math.expm1(end) for end in expected.confidence_interval(0.95))
    assert (found.primary.low, found.primary.high) == pytest.approx((low, high))
    assert found.primary.p == pytest.approx(expected.pvalue)
    assert found.primary.ratio == pytest.approx(math.expm1(sum(logarithms) / 4))
    assert found.primary.runs == (480, 480)


def test_networks_that_differ() -> None:
    """What single networks are sure of in both directions is nothing that holds of networks."""
    found = several([-0.08, 0.09, -0.1, 0.1, 0.03])
    assert sum(each.effect.excludes_zero for each in found.networks) == 5
    assert not found.primary.excludes_zero


@pytest.mark.parametrize(("change", "verdict"), [(0.08, SLOWER), (0.0, NOT_SLOWER)])
def test_verdict(change: float, verdict: str) -> None:
    """Networks that agree decide."""
    assert several([change] * 5).verdict == verdict


def test_false_alarms() -> None:
    """Networks whose effects are drawn about 0 make an alarm in 5 % of the cases, give or take."""
    chance, base = Random(3), [one(0.0, n) for n in range(5)]
    alarms = 0
    for _ in range(400):
        moved = [
            attrs.evolve(each, primary=attrs.evolve(each.primary, ratio=math.expm1(chance.gauss(0, 0.05))))
            for each in base
        ]
        alarms += over_networks(moved, "abcde").primary.excludes_zero
    assert stats.binomtest(alarms, 400, 0.05).pvalue > 0.01


def test_failures() -> None:
    """They are compared between networks too."""
    found = over_networks([one(0.0, n, failing) for n, failing in enumerate((0.0, 0.1, 0.3))], "abc")
    assert found.failures.runs == (360, 360)
    assert found.failures.low < 0 < found.failures.high
    assert found.failures.high - found.failures.low > one(0.0, 3, 0.13).failures.high


def test_networks_in_which_nothing_works() -> None:
    """A B that works in no network is slower in networks; one that works in some of them has no mean."""
    broken = attrs.evolve(one(0.5, 1).primary, ratio=math.inf, low=math.inf, high=math.inf, medians=(1.0, math.inf))
    networks = [attrs.evolve(one(0.5, n), primary=broken) for n in range(3)]
    found = over_networks(networks, "abc")
    assert found.verdict == SLOWER
    assert "without bound slower" in words.sentence(found)
    assert "unbounded" in page(found)
    assert over_networks([*networks, one(0.5, 4)], "abcd").verdict == SLOWER
    with pytest.raises(TooLittleError, match="no median of complete"):
        over_networks([*networks, one(0.0, 4)], "abcd")


def test_networks_in_which_only_b_works() -> None:
    """It is faster in networks if it is in each of them."""
    broken = attrs.evolve(
        one(-0.5, 1).primary, ratio=-math.inf, low=-math.inf, high=-math.inf, medians=(math.inf, 1.0)
    )
    networks = [attrs.evolve(one(-0.5, n), primary=broken) for n in range(3)]
    for found in (over_networks(networks, "abc"), over_networks([*networks, one(-0.5, 4)], "abcd")):
        assert found.verdict == NOT_SLOWER
        assert "without bound faster" in words.sentence(found)
        assert "unbounded" in page(found)
    with pytest.raises(TooLittleError, match="no median of complete"):
        over_networks([*networks, one(0.0, 4)], "abcd")


def test_too_few() -> None:
    """One network is no sample of networks."""
    with pytest.raises(TooLittleError, match="1 networks were measured; at least 2"):
        several([0.1])


def test_what_is_shown() -> None:
    """The sentence counts networks, and table, page, chart and JSON have each of them."""
    found = several([0.02, 0.06, 0.1])
    assert ", 3 networks; " in words.sentence(found)
    assert [row[0] for row in words.network_rows(found)] == ["seed 1", "seed 2", "seed 3"]
    assert "the unit is the network" in words.design_text(found)
    assert "seed 2" in page(found)
    chart = next(each for each in figures(found) if each.name == "networks")
    assert [row[0] for row in chart.table.rows] == ["seed 1", "seed 2", "seed 3", "all networks"]
    listed = json.loads(json.dumps(words.as_dict(found)))["networks"]
    assert [each["name"] for each in listed] == ["seed 1", "seed 2", "seed 3"]
