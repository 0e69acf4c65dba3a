"""What is computed of arrival curves."""

from __future__ import annotations

import pytest

from perfd.analysis.curve import Silence, come_by, longest_silence, rate, silences

POINTS = ((1.0, 0.0), (1.5, 100.0), (2.0, 200.0), (4.0, 300.0))


def test_silences() -> None:
    """Those that are long enough, and the longest of all."""
    assert silences(POINTS, 0.6) == [Silence(2.0, 4.0, 200.0)]
    assert len(silences(POINTS, 0.5)) == 3
    assert longest_silence(POINTS) == Silence(2.0, 4.0, 200.0)
    assert longest_silence(POINTS[:1]) is None


@pytest.mark.parametrize(("at", "count"), [(0.5, 0.0), (1.5, 100.0), (1.9, 100.0), (9.0, 300.0)])
def test_come_by(at: float, count: float) -> None:
    """A step counts from its time on."""
    assert come_by(POINTS, at) == count


def test_rate() -> None:
    """Of any part; of none there is none."""
    assert rate(POINTS, 1.0, 2.0) == 200.0
    assert rate(POINTS, 2.0, 3.0) == 0.0
    assert rate(POINTS, 2.0, 2.0) is None
