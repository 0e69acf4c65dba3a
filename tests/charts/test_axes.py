"""Axes: places and round numbers."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perfd.charts.axes import DAY, Axis, Scale, covering, moment, number

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()


def times(seconds: float) -> Axis:
    return Axis(label="", low=NOON, high=NOON + seconds, scale=Scale.TIME)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (60, ["12:00:00", "12:00:10", "12:00:20", "12:00:30", "12:00:40", "12:00:50", "12:01:00"]),
        (6 * 3600, ["12:00", "13:00", "14:00", "15:00", "16:00", "17:00", "18:00"]),
        (86400, ["12:00", "18:00", "Nov 27", "06:00", "12:00"]),
        (7 * 86400, ["Nov 27", "Nov 28", "Nov 29", "Nov 30", "Dec 1", "Dec 2", "Dec 3"]),
        (28 * 86400, ["Dec 1", "Dec 6", "Dec 11", "Dec 16", "Dec 21"]),
        (365 * 86400, ["2027", "Mar", "May", "Jul", "Sep", "Nov"]),
        (20 * 365 * 86400, ["2030", "2035", "2040", "2045"]),
    ],
)
def test_times_have_round_ticks(seconds: float, expected: list[str]) -> None:
    """Whatever the period, there are a handful of ticks that a person would choose."""
    found = [tick.text for tick in times(seconds).ticks()]
    assert found == expected


def test_linear_ticks() -> None:
    """1, 2 or 5 times a power of ten, with as many decimals as they need."""
    assert [t.text for t in covering([0, 1.93], "time", "s", zero=True).ticks(5)] == [
        "0.0",
        "0.5",
        "1.0",
        "1.5",
        "2.0",
    ]
    assert [t.text for t in Axis(label="runs", low=0, high=1, scale=Scale.SHARE).ticks(5)] == [
        *("0", "20", "40", "60", "80", "100")
    ]
    assert [t.text for t in Axis(label="runs", low=0.99, high=1, scale=Scale.SHARE).ticks(5)] == [
        *("99.0", "99.2", "99.4", "99.6", "99.8", "100.0")
    ]


def test_two_weeks_have_enough_ticks() -> None:
    """What is a little more than two weeks has a tick for every third day."""
    low = NOON - 1.1 * DAY
    axis = Axis(label="", low=low, high=low + 14.2 * DAY, scale=Scale.TIME)
    assert [tick.text for tick in axis.ticks()] == ["Nov 28", "Dec 1", "Dec 4", "Dec 7"]


def test_logarithmic_ticks() -> None:
    """Equal factors are equal distances."""
    axis = Axis(label="time", low=0.1, high=10, scale=Scale.LOGARITHMIC)
    assert axis.place(1.0) == pytest.approx(0.5)
    assert [tick.text for tick in axis.ticks()] == ["0.1", "0.2", "0.5", "1", "2", "5", "10"]


@example([0.0, 5e-324], True)
@example([0.0, 5e-324], False)
@example([1.0, 1.0 + 2.3e-16], False)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.booleans())
def test_an_axis_covers_its_values(values: list[float], zero: bool) -> None:
    """Each value has a place on it, and there is something to read beside it."""
    axis = covering([*values, math.inf], "x", zero=zero)
    margin = (axis.high - axis.low) * 1e-6
    assert axis.low - margin <= min(values) <= max(values) <= axis.high + margin
    assert 2 <= len(axis.ticks()) <= 9
    assert all(0 <= axis.place(value) <= 1 for value in values)


@given(st.floats(1e-4, 1e8))
def test_numbers_have_three_digits(value: float) -> None:
    """They are near what they stand for, and people can read them."""
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.006)
    assert "e" not in number(value)


@pytest.mark.parametrize(
    ("low", "high", "scale"), [(1, 1, Scale.LINEAR), (0, 1, Scale.LOGARITHMIC), (0, math.inf, Scale.LINEAR)]
)
def test_no_range(low: float, high: float, scale: Scale) -> None:
    with pytest.raises(ValueError, match="axis"):
        Axis(label="x", low=low, high=high, scale=scale)


def test_words() -> None:
    assert moment(NOON) == "2026-11-26 12:00:00"
    assert Axis(label="time", low=0, high=1, unit="s").text(0.51234) == "0.512 s"
    assert times(60).title == "UTC"
