"""The results over HTTP: measurements, and tor's circuits, streams and events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.web.resource import IResource

from perfd.formats import outputs
from perfd.formats.errors import FormatError
from perfd.record import Circuit, Measurement, Stream, TorEvent
from perfd.store.reader import Filter, StoreReader, StreamFilter, TorFilter
from perfd.store.rows import CIRCUITS, EVENTS, MEASUREMENTS, STREAMS
from perfd.web.request import Node, Request
from perfd.web.results import parameters
from perfd.web.results.answers import Access as Access  # noqa: PLC0414 - perfd.web.results.archive has it from here
from perfd.web.results.answers import Library
from perfd.web.results.listing import Format, Json, Lines, Listing, Records
from perfd.web.results.load_files import KINDS, LoadFile


def results_filter(**arguments: Any) -> Filter:
    """The filter of a list of results. Requests of series are left out, unless a type or a series is asked for."""
    return Filter(**arguments, requests="type" in arguments or "series" in arguments)


DECIMALS = 2
"""Decimals of times in .tpf: what all writers of the format have."""

_JSON = Json(Measurement.as_dict)

RESULTS: Records[Measurement] = Records(
    "results", MEASUREMENTS, results_filter, StoreReader.measurements, StoreReader.measurement
)
CIRCUIT_RECORDS: Records[Circuit] = Records(
    "circuits", CIRCUITS, TorFilter, StoreReader.circuits, StoreReader.circuit
)
STREAM_RECORDS: Records[Stream] = Records("streams", STREAMS, StreamFilter, StoreReader.streams)
EVENT_RECORDS: Records[TorEvent] = Records("events", EVENTS, TorFilter, StoreReader.events)


def result_resources(library: Library, load_files: Path | None = None) -> dict[str, IResource]:
    """The children of a site that serve what is in the database, and the files of page loads in ``load_files``."""
    return {
        "results": Results(library, load_files),
        **{f"results{suffix}": _listing(library, form) for suffix, form in by_suffix().items()},
        "circuits": Listing(library, CIRCUIT_RECORDS, parameters.OF_TOR, as_json),
        "streams": Listing(library, STREAM_RECORDS, parameters.STREAMS, as_json),
        "events": Listing(library, EVENT_RECORDS, parameters.OF_TOR, as_json),
    }


class Results(Listing[Measurement]):
    """``/results``: the measurements that the query asks for, the newest first; and below it each of them."""

    def __init__(self, library: Library, load_files: Path | None) -> None:
        super().__init__(library, RESULTS, parameters.RESULTS, lines_or_json)
        self._load_files = load_files

    def one(self, record_id: str) -> Node:
        measurement = super().one(record_id)
        fixed = {"measurement": record_id}
        measurement.putChild(b"streams", Listing(self.library, STREAM_RECORDS, parameters.WINDOW, as_json, fixed))
        if self._load_files is not None:
            for name in KINDS:
                measurement.putChild(name.encode(), LoadFile(self.library, self._load_files, record_id, name))
        return measurement


def by_suffix() -> dict[str, Format]:
    """The formats that have an address of their own, ``/results.tpf``; that of JSON is the one without a suffix."""
    return {row.suffix: lines for row, lines in _line_formats()} | {".json": _JSON}


def by_media_type() -> dict[str, Format]:
    """The formats that ``Accept`` can ask for. ``text/plain`` are the lines of perfd.log."""
    found = {row.media_type: lines for row, lines in _line_formats()}
    return {"application/json": _JSON, **found, "text/plain": by_suffix()[".log"]}


def _line_formats() -> list[tuple[outputs.Output, Format]]:
    rows = [(row, row.writer) for row in outputs.OUTPUTS]
    return [(row, _lines(row, form)) for row, form in rows if isinstance(form, outputs.Lines)]


def _lines(row: outputs.Output, form: outputs.Lines) -> Lines:
    def render(measurement: Measurement) -> str:
        """Nothing for what the format has no place for, or cannot hold."""
        try:
            return form.line(measurement, DECIMALS) if row.carries(measurement) else ""
        except FormatError:
            return ""

    return Lines(render, row.media_type, form.header)


def lines_or_json(request: Request) -> Format:
    """The format that ``Accept`` names, JSON if it names that or none of them."""
    accepted = (request.getHeader("accept") or "").lower()
    return next((form for kind, form in by_media_type().items() if kind in accepted), _JSON)


def _listing(library: Library, form: Format) -> Listing[Measurement]:
    return Listing(library, RESULTS, parameters.RESULTS, lambda _: form)


def as_json(_: Request) -> Format:
    """JSON, whatever is asked for."""
    return Json(attrs.asdict)
