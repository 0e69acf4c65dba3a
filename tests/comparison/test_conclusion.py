"""What is concluded from blocks, and how it is said."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from random import Random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from perfd.analysis.blocks import Block
from perfd.analysis.rank import CRITICAL
from perfd.analysis.sequential import group_sequential
from perfd.comparison import words
from perfd.comparison.conclusion import (
    NOT_SLOWER,
    SLOWER,
    UNDECIDED,
    Conclusion,
    Design,
    TooLittleError,
    conclude,
)
from perfd.comparison.figures import figures
from perfd.comparison.metrics import Samples
from perfd.comparison.page import page

DESIGN = Design(a="plain", b="noconflux", primary="complete", margin=0.03, seed=7, text="blocks of 6 + 6")


def blocks(count: int, change: float, deviation: float = 0.05, failing: float = 0.0, seed: int = 1) -> list[Block]:
    """Of runs of a second or so, those of B longer by ``change``."""
    chance = Random(seed)

    def run(factor: float) -> float:
        return math.inf if chance.random() < failing else factor * chance.lognormvariate(0, deviation)

    return [Block([run(1.0) for _ in range(6)], [run(1 + change) for _ in range(6)]) for _ in range(count)]


def of(metrics: Mapping[str, Sequence[Block]]) -> Samples:
    """Of runs that ended well if the first of these metrics is finite."""
    first = next(iter(metrics.values()))
    return Samples(
        metrics,
        [
            Block(*([math.inf if math.isinf(value) else 1.0 for value in side] for side in (each.a, each.b)))
            for each in first
        ],
    )


def concluded(change: float, **changes: object) -> Conclusion:
    return conclude(attrs.evolve(DESIGN, **changes), of({"complete": blocks(60, change)}))


@pytest.mark.parametrize(("change", "verdict"), [(0.0, NOT_SLOWER), (0.1, SLOWER), (0.03, UNDECIDED)])
def test_verdict(change: float, verdict: str) -> None:
    """Below the margin, above it, or neither."""
    found = concluded(change)
    assert found.verdict == verdict
    assert found.primary.ratio == pytest.approx(change, abs=0.02)
    assert found.primary.low < change < found.primary.high
    assert found.primary.excludes_zero == (change > 0)


def test_sentence() -> None:
    """It has the change, the interval, how far it is, and both questions answered."""
    found = concluded(0.1, blocks=80, look=3, looks=5, critical=group_sequential(5).critical(3))
    text = words.sentence(found)
    estimate, low, high = (
        f"{value * 100:.1f}" for value in (found.primary.ratio, found.primary.low, found.primary.high)
    )
    assert text == (
        f"noconflux is {estimate} % slower than plain (complete), 95 % interval {low} to {high}, 60 of 80 blocks, "
        "look 3; 0 is excluded; it is slower by more than the margin of 3 %"
    )
    assert "faster than plain" in words.sentence(concluded(-0.1))


def test_interval_of_a_look() -> None:
    """An early look is held to more, so its interval is wider than that of the last one."""
    widths = []
    for look in (1, 5):
        found = concluded(0.0, looks=5, look=look, critical=group_sequential(5).critical(look)).primary
        widths.append(found.high - found.low)
    assert widths[0] == pytest.approx(widths[1] * math.sqrt(5), rel=0.15)


def test_block_as_the_unit() -> None:
    """Where arms had tors of their own in each block, the interval is that of blocks; the design says so."""
    alone, shared = concluded(0.1), concluded(0.1, by_block=True)
    assert shared.primary.low < alone.primary.low < alone.primary.high < shared.primary.high
    assert "the unit is the block" in words.design_text(shared)
    assert "the unit" not in words.design_text(alone)


def test_failures() -> None:
    """They are counted, and rank as the longest."""
    metrics = {
        "complete": [Block(a.a, b.b) for a, b in zip(blocks(60, 0), blocks(60, 0, failing=0.2), strict=True)]
    }
    found = conclude(DESIGN, of(metrics))
    assert found.failures.failures[0] == 0
    assert found.failures.low > 0.1
    assert found.primary.ratio > 0
    assert f"noconflux {found.failures.failures[1]} of 360" in words.failure_text(found)


def test_mostly_failing() -> None:
    """A B that fails in most of its runs is slower by more than any margin."""
    a, b = blocks(20, 0), blocks(20, 0, failing=0.8)
    found = conclude(DESIGN, of({"complete": [Block(x.a, y.b) for x, y in zip(a, b, strict=True)]}))
    assert found.verdict == SLOWER
    assert words.sentence(found).startswith(
        "noconflux is without bound slower than plain (complete), 95 % interval "
    )
    assert words.metric_rows(found)[0][3] == "failed"
    json.dumps(words.as_dict(found), allow_nan=False)
    assert "without bound" in page(found)


@pytest.mark.parametrize("by_block", [False, True])
def test_always_failing(by_block: bool) -> None:
    """A B that never works is slower as well, and all that is shown of it can be shown."""
    found = conclude(
        attrs.evolve(DESIGN, by_block=by_block),
        of({"complete": [Block(each.a, [math.inf] * 6) for each in blocks(20, 0)]}),
    )
    assert found.verdict == SLOWER
    assert "95 % interval unbounded, 20 blocks" in words.sentence(found)
    assert words.as_dict(found)["primary"]["low"] is None  # type: ignore[index]
    assert "unbounded" in page(found)
    assert found.failures.difference == 1


def test_interval_without_ends() -> None:
    """Of one block as the unit it has none: neither end is a number, in text, JSON and the page."""
    found = conclude(attrs.evolve(DESIGN, by_block=True), of({"complete": [Block(range(1, 21), range(1, 21))]}))
    assert "95 % interval unbounded to unbounded, 1 block" in words.sentence(found)
    assert words.metric_rows(found)[0][5:7] == ("unbounded to unbounded %", "0.0 (unbounded to unbounded)")
    primary = words.as_dict(found)["primary"]
    assert (primary["low"], primary["high"]) == (None, None)  # type: ignore[index]
    assert "-100.0" not in page(found)


OFTEN = (1.0, 1.1, *[math.inf] * 4)
"""Runs of which most fail."""


@pytest.mark.parametrize(
    ("block", "count", "interval"),
    [
        (Block(OFTEN, [0.7, 0.8, 0.7, 0.8, math.inf, math.inf]), 2, "unbounded to -20.0, 2 blocks"),
        (Block(OFTEN, [1.0] * 6), 20, "unbounded, 20 blocks"),
        (Block([math.inf] * 6, [1.0] * 6), 20, "unbounded, 20 blocks"),
    ],
)
def test_failing_a(block: Block, count: int, interval: str) -> None:
    """A B that works where A fails in most of its runs, or in all, is faster without bound."""
    found = conclude(DESIGN, of({"complete": [block] * count}))
    assert found.verdict == NOT_SLOWER
    text = words.sentence(found)
    assert text.startswith(f"noconflux is without bound faster than plain (complete), 95 % interval {interval};")
    assert text.endswith("0 is excluded; it is not slower by the margin of 3 %")
    assert words.metric_rows(found)[0][2] == "failed"
    assert words.as_dict(found)["primary"]["low"] is None  # type: ignore[index]
    json.dumps(words.as_dict(found), allow_nan=False)
    assert "without bound" in page(found)
    assert "nan" not in page(found).partition("</style>")[2]


def test_failing_a_that_does_not_decide() -> None:
    """Nothing is said of arms of which one has no median if the interval has the margin in it."""
    with pytest.raises(TooLittleError, match="half of the runs"):
        conclude(DESIGN, of({"complete": [Block(OFTEN, [1.0, 1.05, 1.2, 1.1, math.inf, math.inf])] * 2}))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("failing", [0.9, 1.0])
def test_pairs_that_fail(failing: float, side: int) -> None:
    """So is it where runs are pairs."""
    chance = Random(2)
    fails = [[math.inf if chance.random() < failing else 1.0] for _ in range(60)]
    pairs = [
        Block(*((each.a[:1], other)[:: 1 if side else -1]))
        for each, other in zip(blocks(60, 0), fails, strict=True)
    ]
    found = conclude(attrs.evolve(DESIGN, paired=True), of({"complete": pairs}))
    assert found.verdict == (NOT_SLOWER, SLOWER)[side]
    assert found.primary.ratio == (-math.inf, math.inf)[side]


def test_failures_behind_the_primary_metric() -> None:
    """A run that failed after what decides has failed all the same."""
    same = blocks(60, 0)
    failing = [Block([1.0] * 6, [1.0] * 5 + [math.inf]) for _ in same]
    found = conclude(attrs.evolve(DESIGN, primary="first-byte"), Samples({"first-byte": same}, failing))
    assert found.failures.failures == (0, 60)
    assert found.failures.difference == pytest.approx(1 / 6)


def test_p_at_a_look() -> None:
    """Where it is looked at more than once p does not decide, and is not told; bands are as wide as the bound asks
    for.
    """
    single, third = concluded(0.1), concluded(0.1, looks=5, look=3, critical=group_sequential(5).critical(3))
    endless = concluded(0.1, critical=4.0)
    assert words.metric_rows(single)[0][-1]
    assert words.as_dict(single)["primary"]["p"] is not None  # type: ignore[index]
    for found in (third, endless):
        assert words.metric_rows(found)[0][-1] == ""
        assert words.as_dict(found)["primary"]["p"] is None  # type: ignore[index]
        assert words.as_dict(found)["failures"]["p"] is None  # type: ignore[index]
        wider = found.design.critical / CRITICAL
        for narrow, wide in zip(single.deciles, found.deciles, strict=True):
            assert wide.high - wide.difference == pytest.approx(wider * (narrow.high - narrow.difference))
        assert found.failures.high > single.failures.high > 0


def test_failures_of_all_runs_behind_the_primary_metric() -> None:
    """What decides was there before all of them failed, and can be compared."""
    failing = [Block([math.inf] * 6, [math.inf] * 6)] * 60
    found = conclude(attrs.evolve(DESIGN, primary="first-byte"), Samples({"first-byte": blocks(60, 0.1)}, failing))
    assert found.verdict == SLOWER


def test_further_metrics() -> None:
    """All metrics that both arms have are shown; of those that are not the primary one, p is adjusted."""
    same = blocks(60, 0.02)
    found = conclude(DESIGN, of({"complete": same, "first-byte": same, "circuit": same, "load": [Block([], [])]}))
    assert [each.metric for each in found.others] == ["first-byte", "circuit"]
    assert found.others[0].p == pytest.approx(2 * found.primary.p)
    assert [row[0] for row in words.metric_rows(found)] == ["complete", "first-byte", "circuit"]


def test_too_little() -> None:
    """Few runs, or a metric that is not there, or mostly failures, are told as such."""
    with pytest.raises(TooLittleError, match="6 runs of plain"):
        conclude(DESIGN, of({"complete": blocks(1, 0)}))
    with pytest.raises(TooLittleError, match="no run of both arms has the metric load"):
        conclude(attrs.evolve(DESIGN, primary="load"), of({"complete": blocks(9, 0), "load": [Block([], [])] * 9}))
    with pytest.raises(TooLittleError, match="half of the runs"):
        conclude(DESIGN, of({"complete": blocks(60, 0, failing=0.7)}))


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(0.01, 0.5), st.floats(0, 0.3), st.integers(0, 100))
def test_all_that_is_shown(change: float, deviation: float, failing: float, seed: int) -> None:
    """Whatever comes out is in JSON without nan, and in the page."""
    found = conclude(DESIGN, of({"complete": blocks(12, change, deviation, failing, seed)}))
    text = json.dumps(words.as_dict(found), allow_nan=False)
    assert json.loads(text)["sentence"] == words.sentence(found)
    assert found.primary.low <= found.primary.ratio <= found.primary.high
    document = page(found)
    assert escape(words.sentence(found)) in document
    assert "<script" not in document
    assert " style=" not in document  # which the page's own policy would not let through


def test_figures() -> None:
    """The interval of each metric, the deciles with their band in ms, and both distributions; of a throughput the
    first alone, since its deciles are no times.
    """
    same = blocks(60, 0.1)
    found = conclude(DESIGN, of({"complete": same, "first-byte": same}))
    differences, deciles, distributions = figures(found)
    assert [row[0] for row in differences.table.rows] == ["complete", "first-byte"]
    assert [row[1] for row in deciles.table.rows] == pytest.approx([100 * each.p for each in found.deciles])
    assert deciles.table.rows[4][2] == pytest.approx(1e3 * found.deciles[4].difference)
    assert {str(row[0]).partition(" (")[0] for row in distributions.table.rows} == {"plain", "noconflux"}
    throughput = conclude(attrs.evolve(DESIGN, primary="throughput"), of({"throughput": same}))
    assert [each.name for each in figures(throughput)] == ["differences"]


def test_page_escapes() -> None:
    """Names are text, not markup."""
    document = page(conclude(attrs.evolve(DESIGN, a="<b>", text="a & b"), of({"complete": blocks(20, 0)})))
    assert "<b>" not in document.partition("</style>")[2]
    assert "a &amp; b" in document
