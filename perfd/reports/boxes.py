"""Figures of each variant side by side: box plots of its times, and how many of its runs ended in which way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import fsum

from perfd.analysis.proportion import exact_interval
from perfd.analysis.quantiles import of_sorted
from perfd.charts.axes import Scale, covering, number
from perfd.charts.model import Bar, Bars, Chart, tone
from perfd.reports.figures import slug
from perfd.reports.groups import MEASURES, Group, Measure

MOST = 40
"""Bars of a chart."""


def boxes_of(groups: Sequence[Group]) -> Iterator[Chart]:
    """The charts of the variants of one experiment."""
    prefix = slug(groups[0].experiment)
    for measure in MEASURES:
        bars = [_box(group, measure, n) for n, group in enumerate(groups) if group.values(measure)]
        if bars:
            note = "Of the successes; beside it their mean, and what nine of ten lie between."
            yield Bars(
                name=f"{prefix}.{measure.name}.box",
                title=f"{measure.label.capitalize()}: median and quartiles",
                note=_with_cut(note, bars),
                x=covering([0, *(bar.high for bar in bars)], measure.label, measure.unit, zero=True),
                bars=tuple(bars[:MOST]),
            )
    shares = [bar for n, group in enumerate(groups) for bar in _ends(group, n)]
    if shares:
        note = "Of the runs of each variant, with exact intervals of 95 %; what was skipped was not run."
        yield Bars(
            name=f"{prefix}.counts",
            title="How runs ended",
            note=_with_cut(note, shares),
            x=covering([0, *(bar.high for bar in shares)], "runs", "", Scale.SHARE, zero=True),
            bars=tuple(shares[:MOST]),
        )


def _with_cut(note: str, bars: Sequence[Bar]) -> str:
    """``note``, and that bars are left out."""
    return f"{note} These are the first {MOST} of {len(bars):,}." if len(bars) > MOST else note


def _box(group: Group, measure: Measure, place: int) -> Bar:
    values = group.values(measure)
    low, middle, high, least, most = (of_sorted(values, p) for p in (0.25, 0.5, 0.75, 0.05, 0.95))
    unit = measure.unit
    text = (
        f"mean {number(fsum(values) / len(values))} {unit}, 5 to 95 %: {number(least)} to {number(most)} {unit}, "
        f"n = {len(values):,}"
    )
    return Bar(group.name, middle, low, high, tone(place), text)


def _ends(group: Group, place: int) -> Iterator[Bar]:
    """One for the successes, and one for each error code, the most frequent first."""
    total = len(group.done) + len(group.failed)
    if not total:
        return
    codes = Counter(run.errorcode or run.outcome for run in group.failed)
    for name, count in (("ok", len(group.done)), *codes.most_common()):
        low, high = exact_interval(count, total)
        yield Bar(f"{group.name}: {name}", count / total, low, high, tone(place), f"{count:,} of {total:,} runs")
