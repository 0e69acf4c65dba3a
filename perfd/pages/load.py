"""What a page load left: its requests as a waterfall, and its pictures."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from markupsafe import Markup

from perfd.charts.axes import Axis
from perfd.charts.html import Sheet, figure
from perfd.charts.model import Mark, Row, Stretch, Tone, Waterfall
from perfd.pages import elements
from perfd.pages.elements import Heading, Text
from perfd.pages.film import film
from perfd.pages.records import View
from perfd.pages.words import clipped
from perfd.record import Measurement
from perfd.store.page_files import FILMSTRIP, HAR, SCREENSHOT, file_of, is_id

MOST_BYTES = 20 * 2**20
"""Of a HAR document, unpacked; a longer one can be downloaded, but is not drawn."""

MOST_REQUESTS = 60

LONGEST = 86400.0
"""Seconds of a load."""

PHASES = (
    *(("blocked", Tone.SKIPPED), ("connect", Tone.B), ("send", Tone.C), ("wait", Tone.E), ("receive", Tone.A)),
)
"""HAR's timings that there are, in their order; ``dns`` is -1 behind a proxy, ``ssl`` is within connect."""

MARKS = (("_firstContentfulPaint", "paint"), ("onLoad", "load"))

REQUESTS = (
    *(Heading("Request"), Heading("Status", number=True), Heading("Began (s)", number=True)),
    *(Heading("Took (s)", number=True), Heading("Bytes", number=True, minor=True), Heading("Circuit")),
)


def load_parts(m: Measurement, files: Path | None, view: View, sheet: Sheet) -> list[Markup]:
    """The parts of the page of a page load; nothing if it left nothing."""
    if files is None or not is_id(m.id):
        return []
    parts = []
    document = _har(file_of(files, m.start, m.id, HAR))
    if document is not None:
        parts += _requests(document, view, sheet)
    parts += _pictures(m, files)
    return parts


def _har(path: Path) -> Mapping[str, Any] | None:
    """The ``log`` of a HAR document; None where it cannot be had."""
    try:
        with gzip.open(path) as packed:
            text = packed.read(MOST_BYTES + 1)
        found = json.loads(text) if len(text) <= MOST_BYTES else None
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return None
    log = found.get("log") if isinstance(found, dict) else None
    return log if isinstance(log, dict) else None


@attrs.frozen
class _Request:
    """A request; times are in seconds from the begin of the page."""

    entry: Mapping[str, Any]
    begin: float
    took: float

    @property
    def name(self) -> str:
        url = urlsplit(str(self.entry["request"]["url"]))
        return clipped(url.path.rpartition("/")[2] or url.netloc or "?", 40)

    @property
    def circuit(self) -> str:
        found = (self.entry.get("_tor") or {}).get("circuit")
        return "" if found is None else str(found)

    def spans(self) -> Iterator[Stretch]:
        at = self.begin
        for phase, tone in PHASES:
            took = _seconds(max(0.0, float(self.entry["timings"].get(phase, -1))))
            if took:
                yield Stretch(at, at + took, tone, phase)
            at += took


def _requests(log: Mapping[str, Any], view: View, sheet: Sheet) -> list[Markup]:
    try:
        page = log["pages"][0]
        origin = datetime.fromisoformat(page["startedDateTime"]).timestamp()
        found = [
            _Request(
                entry,
                _seconds(1000 * max(0.0, datetime.fromisoformat(entry["startedDateTime"]).timestamp() - origin)),
                _seconds(entry["time"]),
            )
            for entry in log["entries"]
        ]
        marks = [
            Mark(_seconds(at), words)
            for key, words in MARKS
            if (at := page["pageTimings"].get(key)) not in (None, -1)
        ]
        shown = [(request, tuple(request.spans())) for request in found[:MOST_REQUESTS]]
        rows = [_row(request) for request, _ in shown]
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
    ):  # a document of somebody else's
        return []
    if not found:
        return []
    reach = max(*(request.begin + request.took for request in found), *(mark.at for mark in marks), 0.001)
    chart = Waterfall(
        name="requests",
        title="Requests of the page",
        note="Grey: waiting for a connection; then connecting, waiting for the answer, receiving it.",
        x=Axis(label="since navigation", low=0.0, high=reach * 1.02, unit="s"),
        rows=tuple(Row(request.name, spans) for request, spans in shown),
        marks=tuple(marks),
    )
    more = len(found) - len(shown)
    rest = [elements.paragraph(f"and {more} more; the HAR document has all")] if more else []
    table = elements.table("Each request and the circuit that carried it", REQUESTS, rows)
    return [figure(chart, sheet), elements.section("Requests", [table, *rest])]


def _seconds(milliseconds: Any) -> float:
    """Raises ValueError and TypeError for what no load can take."""
    found = float(milliseconds) / 1000
    if not 0 <= found < LONGEST:
        raise ValueError(f"{milliseconds} ms")
    return found


def _row(request: _Request) -> tuple[Text, ...]:
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
