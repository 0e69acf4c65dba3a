"""The simulations of comparisons, in short."""

from __future__ import annotations

from random import Random

import pytest
from scipy import stats

from bench.analysis import NOISES, NOTHING, Noise, made, rejects, rejects_at_a_look


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
def test_nothing_differs(noise: Noise) -> None:
    """A/A: 5 % of 300 comparisons reject, with one look and with five, give or take."""
    chance = Random(1)
    empty = [noise.blocks(chance, NOTHING, noise.levels(chance)) for _ in range(300)]
    for test in (rejects, rejects_at_a_look):
        assert stats.binomtest(sum(test(each, by_block=noise.by_block) for each in empty), 300, 0.05).pvalue > 0.001


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
def test_three_per_cent_are_found(noise: Noise) -> None:
    """In as many blocks as a pilot asks for; that at least 90 % find it is not contradicted by 40 of them."""
    chance = Random(2)
    found = sum(rejects_at_a_look(made(noise, chance), by_block=noise.by_block) for _ in range(40))
    assert stats.binomtest(found, 40, 0.9, alternative="less").pvalue > 0.01
