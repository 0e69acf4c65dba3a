"""``perfd results --series ID``: which circuits tor used for the requests of a series (Tor's ticket #5830)."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import attrs

from perfd.cli.csv_output import CSV
from perfd.cli.output import complain
from perfd.cli.results import date, seconds
from perfd.cli.tables import Column, Display, Table
from perfd.config import Config
from perfd.config.kinds import SERIES, kind_of
from perfd.record import Attach, Circuit, Measurement, Stream
from perfd.store.database import database_path
from perfd.store.reader import StoreReader

REQUEST_COLUMNS = (
    *(Column("#", number=True), Column("group", number=True, rank=2), Column("outcome")),
    *(Column("waited", number=True), Column("circuits"), Column("reused", rank=3)),
    *(Column("first byte", number=True, rank=1), Column("complete", number=True)),
    Column("what happened", prose=True),
)
CIRCUIT_COLUMNS = (
    *(Column("circuit", number=True), Column("requests"), Column("launched"), Column("conflux set", rank=1)),
    Column("path", prose=True),
)
TOTAL_COLUMNS = (Column("what"), Column("value"))

TOTALS = (
    ("REQUESTS", "requests"),
    ("REQUESTSOK", "successes"),
    ("GROUPS", "isolation groups"),
    ("CIRCUITS", "circuits used"),
    ("REUSED", "requests on a circuit that was used before"),
    ("ATTACHES", "times that a stream was attached to a circuit"),
    ("DETACHES", "times that one was detached"),
    ("CIRCUITWAITMEDIAN", "median of the waits for a circuit"),
    ("CIRCUITWAITMAX", "longest wait for one"),
    ("FAILURES", "failures"),
)
"""The keys of a series' record, and what they mean."""


@attrs.frozen
class SeriesRequest:
    """One request: its record, the streams that carried it, and whether another one had used its circuit before.

    The legs of a Conflux set count as one circuit: a stream is attached to one of them, and uses all.
    """

    record: Measurement
    streams: tuple[Stream, ...]
    reused: bool | None  # None: it is not known to have used a circuit

    @property
    def attaches(self) -> list[Attach]:
        return [attach for stream in self.streams for attach in stream.attaches]

    @property
    def circuits(self) -> list[int]:
        """The circuits that it was attached to, in their order; the last one carried it."""
        if self.streams:
            return [attach.circ_id for attach in self.attaches]
        told = str(self.record.extra.get("ATTACHEDTO", ""))
        return [int(circuit) for circuit in told.split(",") if circuit.isdigit()]

    def as_dict(self) -> dict[str, Any]:
        streams = [attrs.asdict(stream) for stream in self.streams]
        return self.record.as_dict() | {"reused": self.reused, "streams": streams}


@attrs.frozen
class UsedCircuit:
    """A circuit that requests of the series were attached to."""

    circ_id: int
    requests: tuple[Measurement, ...]
    circuit: Circuit | None  # None: it has not ended yet, or its record is not there any more

    @property
    def user(self) -> Measurement | None:
        """A request that it carried, whose record knows it too."""
        return next((m for m in self.requests if m.circ_id == self.circ_id), None)

    @property
    def launch(self) -> float | None:
        known = self.circuit or self.user
        return None if known is None else known.launch

    @property
    def conflux_id(self) -> str | None:
        known = self.circuit or self.user
        return None if known is None else known.conflux_id

    @property
    def path(self) -> tuple[str, ...]:
        """Its relays, with their nicknames if they are known."""
        if self.circuit is not None:
            return tuple(
                f"{hop.fingerprint}~{hop.nickname}" if hop.nickname else hop.fingerprint
                for hop in self.circuit.path
            )
        return () if self.user is None else self.user.path or ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "circ_id": self.circ_id,
            "requests": [_number(request) for request in self.requests],
            "launch": self.launch,
            "conflux_id": self.conflux_id,
            "path": self.path,
        }


@attrs.frozen
class Series:
    """All that is known of a series. ``record`` is None if Perfd was killed before it was over."""

    record: Measurement | None
    requests: tuple[SeriesRequest, ...]
    circuits: tuple[UsedCircuit, ...]


def show_series(config: Config, series_id: str, display: Display | CSV | None) -> int:
    """Print the series, as JSON without a ``display``; 1 if there is none with this id.

    Raises StoreError and sqlite3.Error.
    """
    with StoreReader(database_path(config.database, config.directory)) as reader:
        series = read_series(reader, series_id)
    if series is None:
        complain(f"no series has the id {series_id!r}; `perfd results --type series` names them")
        return 1
    if display is None:
        document = {
            "series": series.record and series.record.as_dict(),
            "requests": [request.as_dict() for request in series.requests],
            "circuits": [used.as_dict() for used in series.circuits],
        }
        sys.stdout.write(json.dumps(document) + "\n")
        return 0
    if isinstance(display, CSV):
        display.records([request.as_dict() for request in series.requests])
        return 0
    tables = [
        Table(_title(series_id, series), REQUEST_COLUMNS, [_request_row(each) for each in series.requests]),
        Table("The circuits", CIRCUIT_COLUMNS, [_circuit_row(each, display) for each in series.circuits]),
    ]
    if series.record is not None:
        known = series.record.extra
        totals = [(text, _value(known[key])) for key, text in TOTALS if key in known]
        tables.append(Table("The whole series", TOTAL_COLUMNS, totals))
    display.show(tables)
    return 0


def read_series(reader: StoreReader, series_id: str) -> Series | None:
    """The series ``series_id``; None if there is nothing of it."""
    record = reader.measurement(series_id)
    if record is not None and kind_of(record.type) is not SERIES:
        return None
    requests: list[SeriesRequest] = []
    used: set[str] = set()
    for part in reader.requests_of(series_id):
        circuit = None if part.circ_id is None else part.conflux_id or str(part.circ_id)
        reused = None if circuit is None else circuit in used
        requests.append(SeriesRequest(part, tuple(reader.streams_of(part.id)), reused))
        if circuit is not None:
            used.add(circuit)
    if record is None and not requests:
        return None
    return Series(record, tuple(requests), tuple(_used_circuits(reader, requests)))


def _used_circuits(reader: StoreReader, requests: Sequence[SeriesRequest]) -> list[UsedCircuit]:
    """The circuits, in the order in which they were first used."""
    users: dict[int, list[Measurement]] = {}
    ids: dict[int, str] = {}  # of their records
    for request in requests:
        for circ_id in dict.fromkeys(request.circuits):
            users.setdefault(circ_id, []).append(request.record)
        for stream in request.streams:
            session = stream.id.rpartition("-s")[0]  # streams and circuits of one run of tor share it
            ids |= {attach.circ_id: f"{session}-c{attach.circ_id}" for attach in stream.attaches}
    return [
        UsedCircuit(circ_id, tuple(each), reader.circuit(ids[circ_id]) if circ_id in ids else None)
        for circ_id, each in users.items()
    ]


def _number(request: Measurement) -> int:
    return int(request.extra.get("REQUESTNUMBER", 0))


def _value(value: str | float) -> str:
    return f"{value:.6f} s" if isinstance(value, float) else str(value)


def _title(series_id: str, series: Series) -> str:
    record = series.record or series.requests[0].record
    ways = ", ".join(filter(None, (record.tor and f"tor {record.tor}", record.server)))
    return f"Series {series_id} of {record.experiment}, {date(record.start)} UTC, {ways}"


def _request_row(request: SeriesRequest) -> tuple[str, ...]:
    m = request.record
    wait = m.extra.get("CIRCUITWAIT")
    return (
        str(_number(m)),
        str(m.extra.get("GROUP", "")),
        m.outcome.value,
        seconds(None if wait is None else float(wait)),
        _attached(request),
        "" if request.reused is None else "yes" if request.reused else "no",
        seconds(None if m.dataresponse is None else m.dataresponse - m.start),
        seconds(None if m.datacomplete is None else m.datacomplete - m.start),
        " ".join(filter(None, (m.errorcode, m.reason))),
    )


def _attached(request: SeriesRequest) -> str:
    """The circuits, each with the reason for which the stream was detached from it, if it was."""
    if not request.streams:
        return ", ".join(map(str, request.circuits))
    texts = []
    for attach in request.attaches:
        reason = "/".join(filter(None, (attach.reason, attach.remote_reason)))
        texts.append(f"{attach.circ_id} ({reason or 'detached'})" if attach.detached else str(attach.circ_id))
    return ", ".join(texts)


def _circuit_row(used: UsedCircuit, display: Display) -> tuple[str, ...]:
    return (
        str(used.circ_id),
        ", ".join(str(_number(request)) for request in used.requests),
        display.time(used.launch),
        used.conflux_id or "",
        " ".join(used.path),
    )
