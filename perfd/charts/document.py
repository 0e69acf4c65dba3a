"""A report: one HTML file that needs nothing else, runs nothing and loads nothing."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from markupsafe import Markup

from perfd.charts.html import STYLE, Sheet, digest, figure, join
from perfd.charts.model import Chart, Film, Table

PAGE_STYLE = """
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 48rem; background: var(--paper); color: var(--ink);
  font: .9375rem/1.5 system-ui, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .8rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
.lead { font-size: 1.0625rem; margin: 0 0 1rem; }
.notes { color: var(--soft); padding-left: 1.1rem; }
.scroll { overflow-x: auto; margin: 0 0 1.5rem; }
.scroll table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
.scroll caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
.scroll th, .scroll td { text-align: right; padding: .25rem 1rem .25rem 0; white-space: nowrap; font-weight: 400; }
.scroll tr { vertical-align: top; }
.scroll th { color: var(--soft); border-bottom: 1px solid var(--edge); }
.scroll th:first-child, .scroll td:first-child { text-align: left; white-space: normal; min-width: 7rem; }
"""


@attrs.frozen
class Numbers:
    """A table of a report; its cells are text already."""

    title: str
    table: Table


@attrs.frozen
class Section:
    """A part of a report."""

    heading: str
    contents: tuple[Chart | Numbers | str, ...]


def document(title: str, lead: str, notes: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole file. All texts are escaped."""
    sheet = Sheet()
    body = join(
        Markup("<section><h2>{}</h2>\n{}</section>\n").format(
            section.heading, join(part(content, sheet) for content in section.contents)
        )
        for section in sections
    )
    style = f"{STYLE}{PAGE_STYLE}{sheet.text}"
    has_pictures = any(isinstance(content, Film) for section in sections for content in section.contents)
    images = "img-src data:; " if has_pictures else ""
    policy = f"default-src 'none'; style-src '{digest(style)}'; {images}base-uri 'none'; form-action 'none'"
    items = join(Markup("<li>{}</li>").format(note) for note in notes)
    listed = Markup('<ul class="notes">{}</ul>\n').format(items) if notes else ""
    return str(
        Markup(
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
            '<meta http-equiv="Content-Security-Policy" content="{}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{}</title>\n'
            '<style>{}</style></head>\n<body><main><h1>{}</h1>\n<p class="lead">{}</p>\n{}{}</main></body></html>\n'
        ).format(policy, title, Markup(style), title, lead, listed, body)
    )


def part(content: Chart | Numbers | str, sheet: Sheet) -> Markup:
    """A part of a section; the shapes of charts are added to ``sheet``."""
    if isinstance(content, str):
        return Markup("<p>{}</p>\n").format(content)
    if isinstance(content, Numbers):
        return _numbers(content)
    return figure(content, sheet)


def _numbers(numbers: Numbers) -> Markup:
    head = join(Markup('<th scope="col">{}</th>').format(heading) for heading in numbers.table.headings)
    rows = join(
        Markup("<tr>{}</tr>").format(join(Markup("<td>{}</td>").format("" if c is None else c) for c in row))
        for row in numbers.table.rows
    )
    return Markup(
        '<section class="scroll" tabindex="0" aria-label="{}"><table><caption>{}</caption>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></section>\n"
    ).format(numbers.title, numbers.title, head, rows)
