"""Charts of the probes of one measurement."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfd.charts.html import Sheet, figure
from perfd.charts.model import LineChart, Scatter
from perfd.reports.probes import probes


def test_phases_and_ways() -> None:
    """A distribution of each phase that there was, and each probe as a point."""
    extra = {
        "RTTIDLEMS": "5.0,7.0,6.0",
        "RTTBOTHMS": "50.0",
        "OWDUPIDLEMS": "2.0,3.0,1.0",
        "OWDDOWNIDLEMS": "3.0,4.0,5.0",
    }
    times, ways = probes(extra)
    assert isinstance(times, LineChart)
    assert [line.name.partition(" (")[0] for line in times.lines] == ["idle", "under both"]
    assert isinstance(ways, Scatter)
    (cloud,) = ways.clouds
    assert cloud.points == ((2.0, 3.0), (3.0, 4.0), (1.0, 5.0))
    assert cloud.outline
    for chart in (times, ways):
        assert chart.title in figure(chart, Sheet())


@pytest.mark.parametrize("text", ["", "a,b", "nan,1", "1e308,inf", ",", "1e9,1"])
def test_of_others(text: str) -> None:
    """What is no list of times is none."""
    assert list(probes({"RTTIDLEMS": text, "OWDUPIDLEMS": text, "OWDDOWNIDLEMS": text})) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 10**6), st.integers(-9, 10**6)), min_size=1, max_size=20))
def test_any(values: list[tuple[int, int]]) -> None:
    """Whatever the times are, there are charts of them."""
    extra = {"OWDUPIDLEMS": ",".join(str(a / 1e3) for a, _ in values)}
    extra["OWDDOWNIDLEMS"] = ",".join(str(b / 1e3) for _, b in values)
    extra["RTTIDLEMS"] = ",".join(str((a + b) / 1e3) for a, b in values)
    assert [figure(chart, Sheet()) is not None for chart in probes(extra)] == [True, True]
