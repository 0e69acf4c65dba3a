"""A conclusion as one file of HTML, without script, that can be sent to others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perfd.charts.document import Numbers, Section, document
from perfd.charts.model import Chart, Table
from perfd.comparison import words
from perfd.comparison.conclusion import Conclusion
from perfd.comparison.figures import figures


def page(conclusion: Conclusion) -> str:
    """The whole document."""
    a, b = conclusion.design.a, conclusion.design.b
    return document(f"{a} and {b}", words.sentence(conclusion), conclusion.warnings, sections(conclusion))


def sections(conclusion: Conclusion) -> tuple[Section, ...]:
    """What it says, apart from its sentence and its warnings."""
    a, b = conclusion.design.a, conclusion.design.b
    answer: list[Chart | Numbers | str] = [*figures(conclusion)]
    answer += _numbers("Metrics", words.HEADINGS, words.metric_rows(conclusion))
    answer += _numbers("Networks", words.NETWORKS, words.network_rows(conclusion))
    answer.append(words.failure_text(conclusion))
    answer += _numbers("Deciles of the primary metric", words.DECILES, words.decile_rows(conclusion))
    design = Section("How it was compared", (f"A is {a}, B is {b}.", words.CHANGE, words.design_text(conclusion)))
    return Section("Differences", tuple(answer)), design


def _numbers(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[Numbers]:
    found = tuple(map(tuple, rows))
    return [Numbers(title, Table(tuple(headings), found))] if found else []
