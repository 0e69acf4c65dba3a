"""The results over HTTP: measurements, and tor's circuits, streams and events."""

from __future__ import annotations

import io
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import attrs

from perfd.formats import outputs
from perfd.formats.errors import FormatError
from perfd.formats.table import MissingLibraryError
from perfd.record import Circuit, Curve, Measurement, Note, Stream, TorEvent
from perfd.store import parameters
from perfd.store.filters import CircuitFilter, CurveFilter, EventFilter, NoteFilter, StreamFilter
from perfd.store.reader import StoreReader
from perfd.store.rows import CIRCUITS, CURVES, EVENTS, MEASUREMENTS, NOTES, STREAMS
from perfd.web.description import Schema
from perfd.web.errors import WebError
from perfd.web.request import Described
from perfd.web.results.answers import PublicDatabase
from perfd.web.results.forms import Format, Json, Lines, Pages
from perfd.web.results.listing import Listing, Records
from perfd.web.results.load_files import KINDS, Frames, LoadFile

DECIMALS = 2
"""Decimals of times in .tpf: what all writers of the format have."""

AS_JSON = Json(attrs.asdict)
RESULT_AS_JSON = Json(Measurement.as_dict)


RESULTS: Records[Measurement] = Records(
    "results",
    "measurement",
    Measurement,
    MEASUREMENTS,
    lambda **arguments: parameters.results_filter(arguments),
    StoreReader.measurements,
    StoreReader.measurement,
)
CIRCUIT_RECORDS: Records[Circuit] = Records(
    "circuits", "circuit", Circuit, CIRCUITS, CircuitFilter, StoreReader.circuits, StoreReader.circuit
)
STREAM_RECORDS: Records[Stream] = Records("streams", "stream", Stream, STREAMS, StreamFilter, StoreReader.streams)
NOTE_RECORDS: Records[Note] = Records("notes", "note", Note, NOTES, NoteFilter, StoreReader.notes)
CURVE_RECORDS: Records[Curve] = Records("curves", "curve", Curve, CURVES, CurveFilter, StoreReader.curves)
EVENT_RECORDS: Records[TorEvent] = Records("events", "event", TorEvent, EVENTS, EventFilter, StoreReader.events)


def result_resources(database: PublicDatabase, load_files: Path | None = None) -> dict[str, Described]:
    """The children of a site that serve what is in the database, and the files of page loads in ``load_files``."""
    return {
        "results": Results(database, load_files),
        **{f"results{suffix}": _in_one_format(database, form) for suffix, form in by_suffix().items()},
        "circuits": Listing(
            database,
            "Tor's circuits, the newest first",
            CIRCUIT_RECORDS,
            parameters.CIRCUITS,
            (AS_JSON,),
            is_for_people=True,
        ),
        "streams": Listing(
            database,
            "Tor's streams, the newest first",
            STREAM_RECORDS,
            parameters.STREAMS,
            (AS_JSON,),
            is_for_people=True,
        ),
        "notes": Listing(
            database,
            "Notes of the operator and of changes, the newest first",
            NOTE_RECORDS,
            parameters.NOTES,
            (AS_JSON,),
        ),
        "curves": Listing(
            database,
            "The curves of measurements over their time, the newest first",
            CURVE_RECORDS,
            parameters.CURVES,
            (AS_JSON,),
        ),
        "events": Listing(
            database,
            "Other events of tor, the newest first",
            EVENT_RECORDS,
            parameters.EVENTS,
            (AS_JSON,),
            is_for_people=True,
        ),
    }


class Results(Listing[Measurement]):
    """``/results``: the measurements that the query asks for, the newest first; and below it each of them."""

    def __init__(self, database: PublicDatabase, load_files: Path | None) -> None:
        super().__init__(
            database,
            "Measurements, the newest first, as JSON, or as what Accept asks for",
            RESULTS,
            parameters.RESULTS,
            tuple(by_media_type().values()),
            is_for_people=True,
        )
        self._load_files = load_files

    def one(self, record_id: str) -> Described:
        measurement = super().one(record_id)
        summary, fixed = "The streams that carried a measurement", {"measurement": record_id}
        streams = Listing(self.database, summary, STREAM_RECORDS, parameters.WINDOW, (AS_JSON,), fixed)
        measurement.putChild(b"streams", streams)
        summary = "How a measurement went over its time: its payload, both sockets, its circuits"
        curves = Listing(self.database, summary, CURVE_RECORDS, parameters.WINDOW, (AS_JSON,), fixed)
        measurement.putChild(b"curves", curves)
        if self._load_files is not None:
            for name in KINDS:
                measurement.putChild(name.encode(), LoadFile(self.database, self._load_files, record_id, name))
            measurement.putChild(b"frames", Frames(self.database, self._load_files, record_id))
        return measurement


def by_suffix() -> dict[str, Format]:
    """The formats that have an address of their own, ``/results.tpf``; that of JSON is the one without a suffix."""
    rows = [(row, row.writer) for row in outputs.OUTPUTS]
    tables = {row.suffix: _Binary(row, table) for row, table in rows if isinstance(table, outputs.Table)}
    return {**{row.suffix: lines for row, lines in _line_formats()}, ".json": RESULT_AS_JSON, **tables}


def by_media_type() -> dict[str, Format]:
    """The formats that ``Accept`` can ask for. ``text/plain`` are the lines of perfd.log."""
    found = {row.media_type: lines for row, lines in _line_formats()}
    return {"application/json": RESULT_AS_JSON, **found, "text/plain": by_suffix()[".log"]}


def _in_one_format(database: PublicDatabase, form: Format) -> Listing[Measurement]:
    summary = "The same in one format, as far as that has a place for them"
    return Listing(database, summary, RESULTS, parameters.RESULTS, (form,))


def _line_formats() -> list[tuple[outputs.Output, Format]]:
    rows = [(row, row.writer) for row in outputs.OUTPUTS]
    return [(row, _OutputLines(row, form)) for row, form in rows if isinstance(form, outputs.Lines)]


class _OutputLines(Lines):
    """The lines of a row of the table of outputs. ``asked``: a type was asked for, or a certain result."""

    def __init__(self, row: outputs.Output, form: outputs.Lines, *, asked: bool = False) -> None:
        super().__init__(self._line, row.media_type, form.header)
        self.leaves_out = row.leaves_out(asked=asked)
        self._row = row
        self._form = form
        self._asked = asked

    def for_query(self, arguments: Container[str]) -> Format:
        asked = any(name in arguments for name in ("type", "series", "id"))
        return _OutputLines(self._row, self._form, asked=asked)

    def _line(self, measurement: Measurement) -> str:
        """Nothing for what the format has no place for, or cannot hold."""
        try:
            left_out = self._row.left_out(measurement, asked=self._asked)
            return "" if left_out else self._form.line(measurement, DECIMALS)
        except FormatError:
            return ""


class _Binary(Format):
    """A row of the table of outputs that is no text."""

    is_compressed = True

    def __init__(self, row: outputs.Output, table: outputs.Table) -> None:
        self.content_type = row.media_type.encode()
        self._table = table

    def list_schema(self, name: str, record: type[Any]) -> Schema:
        return {}

    def one_schema(self, record: type[Any]) -> Schema:
        return {}

    def pages(self, name: str) -> Pages:
        return _BinaryPages(self._table)

    def one(self, record: Measurement) -> bytes:
        pages = self.pages("results")
        pages.add([record])
        return pages.end(None)


class _BinaryPages(Pages):
    def __init__(self, table: outputs.Table) -> None:
        self._table = table
        self._written = io.BytesIO()
        self._writer: outputs.GroupWriter | None = None

    def _begun(self) -> outputs.GroupWriter:
        # Here, in the reader thread: it loads a large library.
        if self._writer is None:
            try:
                self._writer = self._table.open(self._written)
            except MissingLibraryError as error:
                raise WebError(503, str(error)) from None
        return self._writer

    def add(self, records: Iterable[Measurement]) -> None:
        self._begun().write(records)

    def taken(self) -> bytes:
        taken = self._written.getvalue()
        self._written.seek(0)
        self._written.truncate()
        return taken

    def end(self, cursor: str | None) -> bytes:
        self._begun().close()
        return self.taken()
