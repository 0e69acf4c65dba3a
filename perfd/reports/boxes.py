"""Figures of each variant side by side: box plots of its times, and how many of its runs ended in which way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import attrs

from perfd.analysis.proportion import exact_interval
from perfd.charts.axes import Scale, covering
from perfd.charts.build import box
from perfd.charts.model import Bar, Bars, Chart, tone
from perfd.reports.figures import slug
from perfd.reports.groups import MEASURES, Group

MOST = 40
"""Bars of a chart."""


def boxes_of(groups: Sequence[Group]) -> Iterator[Chart]:
    """The charts of the variants of one experiment."""
    prefix = slug(groups[0].experiment)
    for measure in MEASURES:
        bars = [
            attrs.evolve(box(group.name, values, measure.unit), tone=tone(n))
            for n, group in enumerate(groups)
            if (values := group.values(measure))
        ]
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


def _ends(group: Group, place: int) -> Iterator[Bar]:
    """One for the successes, and one for each error code, the most frequent first."""
    total = len(group.done) + len(group.failed)
    if not total:
        return
    codes = Counter(run.errorcode or run.outcome for run in group.failed)
    for name, count in (("ok", len(group.done)), *codes.most_common()):
        low, high = exact_interval(count, total)
        yield Bar(f"{group.name}: {name}", count / total, low, high, tone(place), f"{count:,} of {total:,} runs")
