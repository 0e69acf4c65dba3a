"""The charts of a conclusion: by how much, where in the distribution, and the distributions themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator

from perfd.charts.axes import Axis, Scale, covering
from perfd.charts.build import cdf
from perfd.charts.model import Bar, Bars, Chart, Line, LineChart, Mark, Point, tone
from perfd.comparison.conclusion import Conclusion, Effect
from perfd.comparison.metrics import METRICS

FARTHEST = 10.0
"""Ten times as long: an interval that reaches farther says no more in a chart."""


def figures(conclusion: Conclusion) -> Iterator[Chart]:
    """All of them, for as much as there is to be shown."""
    yield from _differences(conclusion)
    yield from _networks(conclusion)
    if METRICS[conclusion.design.primary].per_byte:
        return
    yield from _deciles(conclusion)
    design = conclusion.design
    samples = dict(zip((design.a, design.b), conclusion.values, strict=False))
    if samples:
        title = f"Distribution of {design.primary}"
        yield cdf("distributions", title, samples, label=design.primary, unit="s")


def _differences(conclusion: Conclusion) -> Iterator[Bars]:
    """The interval of each metric, beside no difference and the margin."""
    effects = [each for each in (conclusion.primary, *conclusion.others) if _is_shown(each)]
    margin = conclusion.design.margin
    per_cent = [(100 * each.ratio, 100 * each.low, 100 * each.high) for each in effects]
    marks = (Mark(0.0, "no difference"), *((Mark(100 * margin, "margin"),) if margin else ()))
    if effects:
        yield Bars(
            name="differences",
            title=f"By how much {conclusion.design.b} takes longer",
            note="The first one is the primary metric, which decides; intervals are of 95 %.",
            x=covering([*(end for ends in per_cent for end in ends), *(mark.at for mark in marks)], "change", "%"),
            bars=tuple(
                Bar(effect.metric, value, low, high, tone(0 if effect is conclusion.primary else 1))
                for effect, (value, low, high) in zip(effects, per_cent, strict=True)
            ),
            marks=marks,
        )


def _networks(conclusion: Conclusion) -> Iterator[Bars]:
    """The interval of each network, and that of all of them, which is as wide as they differ."""
    effects = [(each.name, each.effect) for each in conclusion.networks]
    shown = [(name, each) for name, each in (*effects, ("all networks", conclusion.primary)) if _is_shown(each)]
    per_cent = [(100 * each.ratio, 100 * each.low, 100 * each.high) for _, each in shown]
    if len(shown) > 2:
        yield Bars(
            name="networks",
            title=f"By how much {conclusion.design.b} takes longer in each network",
            note=f"{conclusion.design.primary}; the last one is their mean, whose interval is by how they differ.",
            x=covering([0.0, *(end for ends in per_cent for end in ends)], "change", "%"),
            bars=tuple(
                Bar(name, value, low, high, tone(0 if each is conclusion.primary else 1))
                for (name, each), (value, low, high) in zip(shown, per_cent, strict=True)
            ),
            marks=(Mark(0.0, "no difference"),),
        )


def _is_shown(effect: Effect) -> bool:
    return all(math.isfinite(each) and abs(each) < FARTHEST for each in (effect.low, effect.ratio, effect.high))


def _deciles(conclusion: Conclusion) -> Iterator[LineChart]:
    """The shift function: by how much the deciles differ."""
    shown = [each for each in conclusion.deciles if math.isfinite(each.low) and math.isfinite(each.high)]
    if len(shown) < 2:
        return
    design = conclusion.design
    points = tuple(
        Point(each.p, *(1e3 * value for value in (each.difference, each.low, each.high))) for each in shown
    )
    ends = [end for point in points for end in (point.low, point.high) if end is not None]
    yield LineChart(
        name="deciles",
        title=f"Where in the distribution of {design.primary} the difference is",
        note="Harrell and Davis's deciles; the band holds for all of them at once, with 95 % confidence.",
        x=Axis(label="share of the runs", low=0.0, high=1.0, scale=Scale.SHARE),
        y=covering(ends, f"{design.b} takes longer by", "ms", zero=True),
        lines=(Line(name=f"{design.b} - {design.a}", points=points),),
        band="95 % band",
    )
