"""The results over HTTP: measurements, and tor's circuits, streams and events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.web.resource import IResource

from perfd.formats import torperf
from perfd.formats.errors import FormatError
from perfd.logfile.line import render
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
        "results.tpf": Listing(library, RESULTS, parameters.RESULTS, lambda _: Lines(tpf)),
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


def lines_or_json(request: Request) -> Format:
    """key=value lines if they are asked for (``Accept: text/plain``, and JSON is not), else JSON."""
    accepted = request.getHeader("accept") or ""
    text = "text/plain" in accepted and "application/json" not in accepted
    return Lines(line) if text else Json(Measurement.as_dict)


def as_json(_: Request) -> Format:
    """JSON, whatever is asked for."""
    return Json(attrs.asdict)


def line(measurement: Measurement) -> str:
    """A measurement as in perfd.log."""
    return f"{render(measurement)}\n"


def tpf(measurement: Measurement) -> str:
    """A measurement as in a .tpf file; empty if it is a skipped slot, or the format cannot hold it."""
    try:
        return "".join(torperf.write([measurement]))
    except FormatError:
        return ""
