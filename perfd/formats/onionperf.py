"""OnionPerf's analysis documents, versions 1.0 to 5.0: read into measurements, circuits and streams.

A run is ``tgen.transfers[id]`` until 2.0 and ``tgen.streams[id]`` since 3.0. It is joined to the Tor stream that
came from its local port and ended less than 150 s from its end (the nearest, if there are several), and by that to
the circuit. Unknown members are ignored. Runs that Perfd did not write get what they lack from ``imported``; their
experiment is ``onionperf-FILESIZE``.

``onionperf_writer`` writes version 3.1. What the format has no place for it puts into a member ``perfd`` of the
run, which this reader knows and all others ignore.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import attrs

from perfd.formats import imported
from perfd.formats.errors import Damage, FormatError, damage_of, shown
from perfd.formats.json_object import JsonObject
from perfd.formats.onionperf_runs import STEPS, needed, tgen_stream, transfer
from perfd.formats.values import utc_date
from perfd.record import (
    EMPTY,
    FIELDS,
    Attach,
    Circuit,
    Document,
    Event,
    Field,
    Guard,
    Hop,
    Measurement,
    Outcome,
    Stream,
)

JOIN_WITHIN = 150.0
"""Seconds between the end of a run and that of the Tor stream which carried it."""

_PLACED = frozenset(
    (
        *("start", *STEPS, "datacomplete", "end", "dataperc", "partial", "source", "sourceaddress", "filesize"),
        *("writebytes", "readbytes", "payloadbytes", "hostnamelocal", "hostnameremote"),
        *("endpointlocal", "endpointproxy", "endpointremote"),
    )
)

OWN: tuple[Field, ...] = tuple(field for field in FIELDS if field.name not in _PLACED)
"""The fields that the format has no place for: the members of ``perfd``."""

PROGRESS: tuple[Field, ...] = tuple(field for field in FIELDS if field.name in ("dataperc", "partial"))
"""The fields that it has a place for in successes only."""

CIRC_STATUS = frozenset(("LAUNCHED", "BUILT", "GUARD_WAIT", "EXTENDED", "FAILED", "CLOSED"))
"""CircStatus (control-spec 4.1.1): events of a circuit have it behind the purpose, ``GENERAL:BUILT``."""

_CIRC_EVENT = frozenset(("PURPOSE_CHANGED", "CANNIBALIZED"))
_HS_STATE = re.compile(r"HS[CS][IR]_[A-Z_]+")
_HOP = re.compile(r"(\$?[0-9A-Fa-f]{40})(?:[~=](.*))?", re.DOTALL)
_VERSION = re.compile(r"[1-5](\.[0-9]+)?")

DAY = 86400.0

Record = Measurement | Circuit | Stream | Document


def read(document: bytes | str, file: str = "") -> Iterator[Record | Damage]:
    """The records of an analysis document: for each source its circuits, its measurements, its Tor streams, and for
    each UTC day with measurements what is said of it as a whole.

    A member that is damaged is reported and left out. A document that is none gives one report.
    """
    try:
        top = _load(document)
        sources = top.object("data")
        try:
            filters = _filters(top)
        except FormatError as error:
            yield error.damage(file)
            filters = EMPTY
        for nickname in sources.members:
            try:
                source = _Source(nickname, sources.object(nickname), filters, file)
                yield from source.records()
            except ValueError as error:
                yield damage_of(error, file)
    except ValueError as error:
        yield damage_of(error, file)


def _load(document: bytes | str) -> JsonObject:
    try:
        top = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the file is not JSON: {error}") from None
    if not isinstance(top, dict) or top.get("type") != "onionperf":
        raise FormatError("the file is not an OnionPerf analysis", remedy='its "type" is to be "onionperf"')
    version = str(top.get("version"))
    if not _VERSION.fullmatch(version):
        raise FormatError(f"version {shown(version)} cannot be read", remedy="versions 1.0 to 5.0 can")
    return JsonObject(top)


def _filters(top: JsonObject) -> Mapping[str, Any]:
    """The filters that OnionPerf has applied, as they stand there."""
    filters = top.object("filters").members
    try:
        json.dumps(filters, allow_nan=False)
    except ValueError:
        raise top.wrong("filters", "a number is out of range") from None
    return filters


class _Source:
    """The results of one source (``data[nickname]``)."""

    def __init__(self, nickname: str, data: JsonObject, filters: Mapping[str, Any], file: str) -> None:
        self._nickname = self._valid(nickname, data)
        self._filters = filters
        self._file = file
        self._days: set[float] = set()
        self._address = imported.known_address(data.text("measurement_ip"))
        self._tgen = data.object("tgen")
        self._tor = data.object("tor")
        self._circuits: dict[str, Circuit] = {}  # by the key that streams have for them
        self._circuits_by_id: dict[str, Circuit] = {}
        self._streams: dict[str, Stream] = {}
        self._by_port: dict[str, list[str]] = {}

    @staticmethod
    def _valid(nickname: str, data: JsonObject) -> str:
        try:
            nickname.encode()
        except UnicodeEncodeError:
            raise FormatError("the nickname is not valid Unicode", key=data.way) from None
        return nickname

    def records(self) -> Iterator[Record | Damage]:
        # Streams name their circuits and runs are joined to streams, so each is read before what looks for it.
        for key, circuit in self._each(self._tor, "circuits", self._circuit):
            if isinstance(circuit, Circuit):
                self._circuits[key] = self._circuits_by_id[circuit.id] = circuit
            yield circuit
        for key, stream in self._each(self._tor, "streams", self._stream):
            if isinstance(stream, Damage):
                yield stream
                continue
            self._streams[key] = stream
            if stream.source_addr:
                self._by_port.setdefault(_port(stream.source_addr), []).append(key)
        for name, run in (("transfers", transfer), ("streams", tgen_stream)):
            for _, measurement in self._each(self._tgen, name, partial(self._measurement, run)):
                yield measurement
        yield from self._streams.values()
        yield from self._documents()

    def _documents(self) -> Iterator[Document | Damage]:
        try:
            guards = _guards(self._tor, "guards")
        except FormatError as error:
            yield error.damage(self._file)
            guards = ()
        for day in sorted(self._days) if guards or self._filters else ():
            identity = imported.imported_id("document", self._nickname, utc_date(day))
            yield Document(id=identity, source=self._nickname, day=day, filters=self._filters, guards=guards)

    def _each(self, parent: JsonObject, name: str, read: Callable[[JsonObject], Any]) -> Iterator[tuple[str, Any]]:
        """What ``read`` makes of each member of ``parent[name]``, or the report of why it cannot."""
        try:
            items = parent.object(name)
        except FormatError as error:
            yield "", error.damage(self._file)
            return
        for key in items.members:
            try:
                yield key, read(items.object(key))
            except ValueError as error:
                yield key, damage_of(error, self._file)

    def _circuit(self, item: JsonObject) -> Circuit:
        circ_id = needed(item, "circuit_id", item.integer)
        launch = needed(item, "unix_ts_start", item.time)
        events = _events(item, launch)
        purpose, status, hs_state, rend_query = _circuit_state(events)
        # A circuit that never failed was closed: its last event may be a change of its purpose.
        buildtime = item.number("buildtime_seconds")
        local = item.text("failure_reason_local")
        return Circuit(
            id=imported.imported_id("circuit", self._nickname, circ_id, f"{launch:.2f}"),
            source=self._nickname,
            tor=imported.UNKNOWN_TOR,
            circ_id=circ_id,
            launch=launch,
            built=None if buildtime is None else round(launch + buildtime, 6),
            end=item.time("unix_ts_end"),
            status=status or ("FAILED" if local else "CLOSED"),
            purpose=purpose,
            hs_state=hs_state,
            rend_query=rend_query,
            path=tuple(_hop(item, relay, launch + seconds) for relay, seconds in item.pairs("path")),
            failure_local=local,
            failure_remote=item.text("failure_reason_remote"),
            timeout=item.integer("build_timeout"),
            quantile=item.number("build_quantile"),
            cbt_set=item.flag("cbt_set"),
            events=events,
            filtered_out=item.flag("filtered_out"),
            current_guards=_guards(item, "current_guards"),
        )

    def _stream(self, item: JsonObject) -> Stream:
        stream_id = needed(item, "stream_id", item.integer)
        new = needed(item, "unix_ts_start", item.time)
        events = _events(item, new)
        words = [event.name.partition(":") for event in events]
        circ_id = item.integer("circuit_id")
        circuit = self._circuits.get(str(circ_id))
        # A stream may be detached and sent again; the circuit that the document names is that of the last time.
        sent = [event.at for event, word in zip(events, words, strict=True) if word[2].startswith("SENT")]
        local = item.text("failure_reason_local")
        return Stream(
            id=imported.imported_id("stream", self._nickname, stream_id, f"{new:.2f}"),
            source=self._nickname,
            tor=imported.UNKNOWN_TOR,
            stream_id=stream_id,
            new=new,
            end=needed(item, "unix_ts_end", item.time),
            status=words[-1][2] if words else ("FAILED" if local else "CLOSED"),
            purpose=words[-1][0] if words and words[-1][0] != "None" else None,
            target=item.text("target"),
            source_addr=item.text("source"),
            circuit=circuit.id if circuit else None,
            attaches=(Attach(circ_id, sent[-1]),) if circ_id is not None and sent else (),
            failure_local=local,
            failure_remote=item.text("failure_reason_remote"),
            events=events,
        )

    def _measurement(self, run: Callable[[JsonObject], dict[str, Any]], item: JsonObject) -> Measurement:
        fields = run(item)
        error = fields.pop("error")
        if not fields["start"]:
            raise item.wrong("unix_ts_start", "the time is missing")
        fields |= {"source": self._nickname, "sourceaddress": self._address}
        key = self._joined(fields)
        stream = None if key is None else self._streams[key]
        circuit = self._circuits_by_id.get(stream.circuit or "") if stream else None
        own = item.object("perfd")
        # What Perfd wrote says itself what the run was, better than the rest of the document can.
        if own.members:
            del fields["extra"]
            fields |= _own_fields(own)
            imported.not_complete(fields)
        else:
            if error:
                reasons = (stream.failure_local, stream.failure_remote) if stream else ()
                fields["errorcode"] = "/".join((error, *(reason for reason in reasons if reason)))
            self._complete(fields, stream, circuit)
        # A run without a circuit is left out too where a filter is used.
        if circuit.filtered_out if circuit else self._filters:
            fields["extra"] = {**fields.get("extra", {}), imported.FILTERED_OUT: 1}
        measurement = Measurement(**fields)
        self._days.add(measurement.start // DAY * DAY)
        if key is not None:
            self._streams[key] = attrs.evolve(self._streams[key], measurement=measurement.id)
        return measurement

    def _joined(self, fields: Mapping[str, Any]) -> str | None:
        """The key of the Tor stream that carried the run."""
        local, end = fields["endpointlocal"], fields["end"]
        if local is None or end is None:
            return None
        gaps = {key: abs(end - (self._streams[key].end or 0.0)) for key in self._by_port.get(_port(local), ())}
        near = [key for key, gap in gaps.items() if gap < JOIN_WITHIN]
        return min(near, key=lambda key: gaps[key], default=None)

    def _complete(self, fields: dict[str, Any], stream: Stream | None, circuit: Circuit | None) -> None:
        """Add to a run of OnionPerf's what Tor tells of it, and what it lacks."""
        start = f"{fields['start']:.2f}"
        fields["id"] = imported.measurement_id(self._nickname, fields["filesize"], start, fields["endpointlocal"])
        fields["experiment"] = f"onionperf-{fields['filesize']}"
        imported.conclude(fields, didtimeout="errorcode" in fields)  # as metrics-lib makes it of is_error
        if stream is None:
            return
        fields |= {"used_by": stream.stream_id, "used_at": stream.end}
        fields["circ_id"] = stream.attaches[-1].circ_id if stream.attaches else None
        if circuit is None:
            return
        launch = circuit.launch or 0.0
        fields |= {
            "launch": circuit.launch,
            "path": tuple(hop.fingerprint for hop in circuit.path) or None,
            "guard": circuit.path[0].fingerprint if circuit.path else None,
            "buildtimes": tuple(round((hop.built or launch) - launch, 6) for hop in circuit.path) or None,
            "timeout": circuit.timeout,
            "quantile": circuit.quantile,
            "cbt_set": circuit.cbt_set,
        }


def _own_fields(own: JsonObject) -> dict[str, Any]:
    """The fields in a member ``perfd``."""
    fields = {f.name: own.of_kind(f.name, f.kind) for f in (*OWN, *PROGRESS) if own.members.get(f.name) is not None}
    for field in OWN:
        if field.required and field.name not in fields:
            raise own.wrong(field.name, "the member is missing")
    try:
        return fields | {"outcome": Outcome(fields["outcome"])}
    except ValueError:
        raise own.wrong("outcome", "the outcome is unknown") from None


def _port(endpoint: str) -> str:
    return endpoint.rpartition(":")[2]


def _events(item: JsonObject, start: float) -> tuple[Event, ...]:
    return tuple(Event(round(start + seconds, 6), name) for name, seconds in item.pairs("elapsed_seconds"))


def _circuit_state(events: tuple[Event, ...]) -> tuple[str | None, str | None, str | None, str | None]:
    """The last purpose, status, HS_STATE and REND_QUERY of a circuit's events."""
    purpose = status = hs_state = rend_query = None
    for event in events:
        first, _, second = event.name.partition(":")
        if second in CIRC_STATUS:
            purpose, status = first, second
        elif first in _CIRC_EVENT:
            purpose = second or purpose
        elif _HS_STATE.fullmatch(first):
            hs_state, rend_query = first, second or rend_query
    return purpose, status, hs_state, rend_query


def _hop(item: JsonObject, relay: str, built: float) -> Hop:
    match = _HOP.fullmatch(relay)
    if match is None:
        raise item.wrong("path", f"{shown(relay)} is not $fingerprint~nickname")
    return Hop(f"${match[1].removeprefix('$').upper()}", match[2] or None, round(built, 6))


def _guards(item: JsonObject, key: str) -> tuple[Guard, ...]:
    return tuple(
        Guard(
            fingerprint=needed(guard, "fingerprint", guard.text),
            nickname=guard.text("nickname"),
            country=guard.text("country"),
            new=guard.time("new_ts"),
            up=guard.time("up_ts"),
            down=guard.time("down_ts"),
            dropped=guard.time("dropped_ts"),
        )
        for guard in item.objects(key)
    )
