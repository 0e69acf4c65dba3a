"""Sizes and durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("51200", 51200),
        ("50 KiB", 51200),
        ("50KiB", 51200),
        ("1 MiB", 1048576),
        ("1.5 kib", 1536),
        ("1 GiB", 2**30),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Sizes are bytes, with or without a unit."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "-1", "1 kB", "1e3", "0.1 B", "1 MiB 2", "9" * 41, "\u0661"])
def test_bad_sizes(text: str) -> None:
    """What is no size is refused."""
    with pytest.raises(ValueError, match=r"size|whole"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("5 min", 300.0), ("0 s", 0.0), ("250ms", 0.25), ("1 h", 3600.0), ("90 d", 7776000.0)],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations are seconds, with or without a unit."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5 m", "5 minutes", "-5 s", "s", "1:30"])
def test_bad_durations(text: str) -> None:
    """What is no duration is refused with the units that there are."""
    with pytest.raises(ValueError, match="a duration is a number with ms, s, min, h or d"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=2**40))
def test_size_round_trip(size: int) -> None:
    """What is written can be read back."""
    assert parse_size(format_size(size)) == size


@given(st.integers(min_value=0, max_value=10**6))
def test_duration_round_trip(seconds: int) -> None:
    """What is written can be read back."""
    assert parse_duration(format_duration(float(seconds))) == seconds
