"""A conclusion as one file of HTML, without script, that can be sent to others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from perfd.comparison import words
from perfd.comparison.conclusion import Conclusion

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #8886; }
td { font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
.warning { border-left: .3rem solid #c60; padding-left: .8rem; }
.scale { position: relative; height: 2.2rem; margin: 1.5rem 0; border-bottom: 1px solid; }
.scale span { position: absolute; top: .6rem; height: .8rem; background: #0072b2; }
.scale i { position: absolute; top: 0; height: 2.2rem; border-left: 1px dashed; }
.scale b { position: absolute; top: .3rem; height: 1.4rem; border-left: .2rem solid #d55e00; }
"""


def page(conclusion: Conclusion) -> str:
    """The whole document."""
    title = words.sentence(conclusion)
    parts = [
        f"<h1>{escape(title)}</h1>",
        _scale(conclusion),
        *(f'<p class="warning">{escape(each)}</p>' for each in conclusion.warnings),
        _table(words.HEADINGS, words.metric_rows(conclusion)),
        f"<p>A is {escape(conclusion.design.a)}, B is {escape(conclusion.design.b)}.</p>",
        f"<p>{escape(words.failure_text(conclusion))}</p>",
        _table(words.DECILES, words.decile_rows(conclusion)),
        f"<p>{escape(words.design_text(conclusion))}</p>",
    ]
    body = "\n".join(filter(None, parts))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(conclusion.design.a)} and {escape(conclusion.design.b)}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _scale(conclusion: Conclusion) -> str:
    """The interval of the primary metric, with lines at 0 and at the margin."""
    effect, margin = conclusion.primary, conclusion.design.margin
    if not (abs(effect.low) < 10 and abs(effect.high) < 10):
        return ""
    low, high = min(effect.low, 0.0, margin), max(effect.high, 0.0, margin)
    room = (high - low) * 0.05 or 0.01

    def place(value: float) -> float:
        return 100 * (value - low + room) / (high - low + 2 * room)

    bar = f"left: {place(effect.low):.2f}%; width: {place(effect.high) - place(effect.low):.2f}%"
    lines = f'<i style="left: {place(0.0):.2f}%" title="0"></i>'
    if margin:
        lines += f'<i style="left: {place(margin):.2f}%" title="margin"></i>'
    label = escape(f"95 % interval; dashed lines at 0{f' and at the margin of {margin:.1%}' if margin else ''}")
    return (
        f'<div class="scale" role="img" aria-label="{label}"><span style="{bar}"></span>{lines}'
        f'<b style="left: {place(effect.ratio):.2f}%"></b></div>\n<p>{label}</p>'
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>" if body else ""
