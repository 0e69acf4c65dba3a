"""What a page load left: its requests as a waterfall, and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from perfd.charts.html import Sheet, figure
from perfd.pages import elements
from perfd.pages.elements import Heading, Text
from perfd.pages.film import film
from perfd.pages.records import View
from perfd.pages.words import clipped
from perfd.record import Measurement
from perfd.reports.requests import WRONG, Request, requests_of, waterfall
from perfd.store.har import read_har
from perfd.store.page_files import FILMSTRIP, HAR, SCREENSHOT, file_of, is_id

MOST_REQUESTS = 60

REQUESTS = (
    *(Heading("Request"), Heading("Status", number=True), Heading("Began (s)", number=True)),
    *(Heading("Took (s)", number=True), Heading("Bytes", number=True, minor=True), Heading("Circuit")),
)


def load_parts(m: Measurement, files: Path | None, view: View, sheet: Sheet) -> list[Markup]:
    """The parts of the page of a page load; nothing if it left nothing."""
    if files is None or not is_id(m.id):
        return []
    parts = []
    document = read_har(file_of(files, m.start, m.id, HAR))
    if document is not None:
        parts += _requests(document, view, sheet)
    parts += _pictures(m, files)
    return parts


def _requests(log: Mapping[str, Any], view: View, sheet: Sheet) -> list[Markup]:
    try:
        found = requests_of(log)
        chart = waterfall(log, MOST_REQUESTS)
        rows = [_row(request) for request in found[:MOST_REQUESTS]]
    except WRONG:
        return []
    if chart is None:
        return []
    more = len(found) - len(rows)
    rest = [elements.paragraph(f"and {more} more; the HAR document has all")] if more else []
    table = elements.table("Each request and the circuit that carried it", REQUESTS, rows)
    return [figure(chart, sheet), elements.section("Requests", [table, *rest])]


def _row(request: Request) -> tuple[Text, ...]:
    response = request.entry["response"]
    error = request.entry.get("_error")
    status: Text = Markup("<strong>{}</strong>").format(clipped(str(error))) if error else str(response["status"])
    size = int(response["bodySize"])
    begin, took = f"{request.begin:.3f}", f"{request.took:.3f}"
    return (request.name, status, begin, took, f"{size:,}" if size >= 0 else "", request.circuit)


def _pictures(m: Measurement, files: Path) -> list[Markup]:
    address = f"/results/{m.id}"
    links = [
        elements.link(f"{address}/{name}", words)
        for name, suffix, words in (("har", HAR, "HAR"), ("filmstrip", FILMSTRIP, "filmstrip"))
        if file_of(files, m.start, m.id, suffix).is_file()
    ]
    found = [elements.paragraph(Markup("Files: {}").format(Markup(", ").join(links)))] if links else []
    if pictures := film(file_of(files, m.start, m.id, FILMSTRIP), m.id):
        found.append(elements.section("While it was loaded", [pictures]))
    if file_of(files, m.start, m.id, SCREENSHOT).is_file():
        picture = Markup('<img src="{}/screenshot" alt="The page at the end of its load" loading="lazy">').format(
            address
        )
        found.append(elements.section("What it looked like", [picture]))
    return found
