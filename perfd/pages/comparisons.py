"""``/compare/NAME``: what a comparison of the daemon says by now."""

from __future__ import annotations

from perfd.charts.document import part
from perfd.charts.html import Sheet
from perfd.comparison import words
from perfd.comparison.conclusion import TooLittleError
from perfd.comparison.made import MADE_FIELDS, conclude_made
from perfd.comparison.page import sections
from perfd.pages import elements
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
            elements.section(section.heading, [part(content, sheet) for content in section.contents])
            for section in sections(conclusion)
        ),
        elements.paragraph(
            elements.link(request.view.link("/results", {"comparison": name}), "All its measurements")
        ),
    ]
    sentence = words.sentence(conclusion)
    return Page(clipped(name), sentence[:1].upper() + sentence[1:] + ".", parts, sheet, REFRESH)
