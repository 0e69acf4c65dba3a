"""Which parts have more than their share."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from perfd.analysis.enrichment import SMALLEST, Draw, enrichments, hypergeometric_tail, sum_tail


@given(st.data())
def test_the_tail_is_that_of_the_hypergeometric_distribution(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 400))
    hits, drawn = data.draw(st.integers(0, count)), data.draw(st.integers(0, count))
    least = data.draw(st.integers(0, min(hits, drawn)))
    expected = float(hypergeom.sf(least - 1, count, hits, drawn))
    assert hypergeometric_tail(least, drawn, hits, count) == pytest.approx(expected, rel=1e-8, abs=1e-12)


@st.composite
def draws(draw: st.DrawFn) -> Draw:
    count = draw(st.integers(1, 200))
    return Draw(draw(st.integers(0, count)), draw(st.integers(0, count)), count)


@given(st.data(), st.lists(draws(), min_size=1, max_size=4))
def test_the_tail_of_a_sum_is_that_of_scipys_distributions(data: st.DataObject, some: list[Draw]) -> None:
    whole = np.ones(1)
    for each in some:
        chances = hypergeom.pmf(np.arange(each.drawn + 1), each.count, each.hits, each.drawn)
        whole = np.convolve(whole, chances)
    least = data.draw(st.integers(0, len(whole) - 1))
    assert sum_tail(least, some) == pytest.approx(max(SMALLEST, float(whole[least:].sum())), rel=1e-6, abs=1e-13)


def test_a_bad_relay_is_found() -> None:
    """One of twenty relays fails in a third of its runs, the others in a twentieth."""
    parts = {f"relay{n}": {0: (5, 100)} for n in range(19)} | {"bad": {0: (33, 100)}}
    found = enrichments(parts, [(19 * 5 + 33, 2000)])
    assert found[0].name == "bad"
    assert found[0].q < 1e-9
    assert found[0].p == pytest.approx(hypergeom.sf(32, 2000, 19 * 5 + 33, 100), rel=1e-9)
    assert found[0].low < 0.33 < found[0].high
    assert found[0].expected == pytest.approx(6.4)
    assert all(each.q > 0.5 for each in found[1:])


def test_strata_that_differ_accuse_nobody() -> None:
    """Onion runs fail in a quarter of all cases, others in a fiftieth; a bad relay of the latter is found still."""
    onion = {f"onion{n}": {0: (25, 100)} for n in range(10)}
    public = {f"public{n}": {1: (2, 100)} for n in range(9)} | {"both": {0: (25, 100), 1: (2, 100)}}
    assert min(each.q for each in enrichments(onion | public, [(275, 1100), (20, 1000)])) > 0.5
    bad, *others = enrichments(onion | public | {"bad": {1: (20, 100)}}, [(275, 1100), (40, 1100)])
    assert (bad.name, bad.q < 1e-6, bad.expected) == ("bad", True, pytest.approx(100 * 40 / 1100))
    assert min(each.q for each in others) > 0.5


def test_many_runs_of_many_strata_take_little() -> None:
    """A guard that half of the runs of ten variants use."""
    begun = time.process_time()
    assert 0 < sum_tail(10_000, [Draw(5_000, 1_000 + n, 10_000) for n in range(20)]) < 1
    assert time.process_time() - begun < 10


def test_impossible_numbers() -> None:
    with pytest.raises(ValueError, match="cannot be"):
        hypergeometric_tail(3, 2, 5, 10)
    assert enrichments({}, []) == []
