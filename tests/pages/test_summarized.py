"""Hours put together."""

from __future__ import annotations

import math

from perfd.pages.summarized import ways
from perfd.summaries.hour import MOST_VALUES, Hour
from perfd.variant import Variant


def hour(number: int, ok: int, failed: int, tor: str = "default", arm: str | None = None) -> Hour:
    """One whose successes took 1 s; of very many it has MOST_VALUES values."""
    return Hour(
        hour=number,
        source="example",
        experiment="download-50k",
        type="download",
        filesize=51200,
        variant=Variant(tor=tor, server="public"),
        arm=arm,
        outcomes={"ok": ok, "failed": failed},
        errors={"TOR/TIMEOUT": failed} if failed else {},
        last_success=None,
        samples={"complete": [1.0] * min(ok, MOST_VALUES)} if ok else {},
    )


def test_sample() -> None:
    """Failures have the share that they have among the runs, also where not all values are kept."""
    (way,) = ways([hour(1, 8, 2), hour(2, 5, 0), hour(3, 0, 1)])
    assert way.sample("complete") == [1.0] * 13 + [math.inf] * 3
    (way,) = ways([hour(1, 4 * MOST_VALUES, MOST_VALUES)])
    assert way.sample("complete") == [1.0] * MOST_VALUES + [math.inf] * (MOST_VALUES // 4)
    assert (way.done, way.failed) == (5 * MOST_VALUES, MOST_VALUES)


def test_nothing_succeeded() -> None:
    """Then there is no measure to have a sample of."""
    (way,) = ways([hour(1, 0, 3)])
    assert way.sample("complete") == []


def test_arms() -> None:
    """They are kept apart, and put together over the tors that both arms have in turn, as in reports."""
    arms = ("noconflux", "plain")
    hours = [hour(n, 1 + n % 2, 0, f"conflux-{1 + n // 2 % 2}", arms[n % 2]) for n in range(8)]
    found = [(way.name, way.variant.tor, way.done) for way in ways(hours)]
    assert found == [("download-50k noconflux", None, 4), ("download-50k plain", None, 8)]
