"""``/compare/NAME``: what a comparison of the daemon says by now."""

from __future__ import annotations

from markupsafe import Markup

from perfd.charts.document import Numbers, part
from perfd.charts.html import Sheet
from perfd.charts.model import Chart
from perfd.comparison import words
from perfd.comparison.conclusion import TooLittleError
from perfd.comparison.made import MADE_FIELDS, conclude_made
from perfd.comparison.page import sections
from perfd.pages import elements
from perfd.pages.elements import Heading
from perfd.pages.layout import Page
from perfd.pages.records import PageError, PageRequest
from perfd.pages.words import clipped
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader

REFRESH = 300


def comparison(reader: StoreReader, request: PageRequest) -> Page:
    """The page. Raises PageError if there is no such comparison."""
    name = request.arguments["name"]
    stored = reader.comparison(name)
    if stored is None:
        if name in request.state.comparisons:
            return Page(clipped(name), "This comparison has not begun yet.", [], refresh=REFRESH)
        raise PageError(404, f"There is no comparison {name[:100]!r}.")
    runs = reader.values(MADE_FIELDS, Filter(comparison=name, requests=False, oldest_first=True))
    try:
        conclusion = conclude_made(stored, runs)
    except TooLittleError as error:
        return Page(clipped(name), f"Nothing can be said yet: {error}.", [], refresh=REFRESH)
    sheet = Sheet()
    parts = [
        *([elements.listed(conclusion.warnings)] if conclusion.warnings else []),
        *(
            elements.section(section.heading, [_part(content, sheet) for content in section.contents])
            for section in sections(conclusion)
        ),
        elements.paragraph(
            elements.link(request.view.link("/results", {"comparison": name}), "All its measurements")
        ),
    ]
    return Page(clipped(name), f"{words.sentence(conclusion)}.", parts, sheet, REFRESH)


def _part(content: Chart | Numbers | str, sheet: Sheet) -> Markup:
    if not isinstance(content, Numbers):
        return part(content, sheet)
    first, *others = content.table.headings
    headings = [Heading(first), *(Heading(other, number=True) for other in others)]
    rows = [["" if cell is None else str(cell) for cell in row] for row in content.table.rows]
    return elements.titled(content.title, headings, rows)
