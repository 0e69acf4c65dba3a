"""Which parts have more than their share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from perfd.analysis.enrichment import enrichments, hypergeometric_tail


@given(st.data())
def test_the_tail_is_that_of_the_hypergeometric_distribution(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 400))
    hits, drawn = data.draw(st.integers(0, count)), data.draw(st.integers(0, count))
    least = data.draw(st.integers(0, min(hits, drawn)))
    expected = float(hypergeom.sf(least - 1, count, hits, drawn))
    assert hypergeometric_tail(least, drawn, hits, count) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_a_bad_relay_is_found() -> None:
    """One of twenty relays fails in a third of its runs, the others in a twentieth."""
    parts = {f"relay{n}": (5, 100) for n in range(19)} | {"bad": (33, 100)}
    found = enrichments(parts, 19 * 5 + 33, 2000)
    assert found[0].name == "bad"
    assert found[0].q < 1e-9
    assert found[0].low < 0.33 < found[0].high
    assert all(each.q > 0.5 for each in found[1:])


def test_impossible_numbers() -> None:
    with pytest.raises(ValueError, match="cannot be"):
        hypergeometric_tail(3, 2, 5, 10)
    assert enrichments({}, 0, 0) == []
