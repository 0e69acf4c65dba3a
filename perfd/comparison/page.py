"""A conclusion as one file of HTML, without script, that can be sent to others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from perfd.charts.axes import covering
from perfd.charts.document import Numbers, Section, document
from perfd.charts.model import Bar, Bars, Mark, Table, tone
from perfd.comparison import words
from perfd.comparison.conclusion import Conclusion, Effect

FARTHEST = 10.0
"""Ten times as long: an interval that reaches farther says no more in a chart."""


def page(conclusion: Conclusion) -> str:
    """The whole document."""
    a, b = conclusion.design.a, conclusion.design.b
    return document(f"{a} and {b}", words.sentence(conclusion), conclusion.warnings, sections(conclusion))


def sections(conclusion: Conclusion) -> tuple[Section, ...]:
    """What it says, apart from its sentence and its warnings."""
    a, b = conclusion.design.a, conclusion.design.b
    effects = [each for each in (conclusion.primary, *conclusion.others) if _is_shown(each)]
    answer: list[Bars | Numbers | str] = [_chart(conclusion, effects)] if effects else []
    answer += _numbers("Metrics", words.HEADINGS, words.metric_rows(conclusion))
    answer.append(words.failure_text(conclusion))
    answer += _numbers("Deciles of the primary metric", words.DECILES, words.decile_rows(conclusion))
    design = Section("How it was compared", (f"A is {a}, B is {b}.", words.design_text(conclusion)))
    return Section("Differences", tuple(answer)), design


def _is_shown(effect: Effect) -> bool:
    return all(math.isfinite(each) and abs(each) < FARTHEST for each in (effect.low, effect.ratio, effect.high))


def _chart(conclusion: Conclusion, effects: Sequence[Effect]) -> Bars:
    """The interval of each metric, beside no difference and the margin."""
    margin = conclusion.design.margin
    per_cent = [(100 * each.ratio, 100 * each.low, 100 * each.high) for each in effects]
    marks = (Mark(0.0, "no difference"), *((Mark(100 * margin, "margin"),) if margin else ()))
    return Bars(
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


def _numbers(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[Numbers]:
    found = tuple(map(tuple, rows))
    return [Numbers(title, Table(tuple(headings), found))] if found else []
