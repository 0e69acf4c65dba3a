"""``perfd show ID``: one measurement as a person reads it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TypeGuard

import attrs

from perfd.cli.csv_output import CSV
from perfd.cli.output import complain
from perfd.cli.results import seconds
from perfd.cli.tables import Column, Display, Table
from perfd.config import Config
from perfd.record import FIELDS, Circuit, Kind, Measurement, Outcome, Stream
from perfd.reports.hops import hops_of
from perfd.store.database import database_path
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader
from perfd.units import format_size
from perfd.variant import Variant

LAST, FAILED = "last", "failed"
"""Words in the place of an id: the latest measurement, and the latest that failed."""

A_RUN = 86400.0
"""Seconds; a number of a record that is so near to its start is a time."""

BAR = 30
"""Characters of the longest bar."""

STEP_COLUMNS = (
    *(Column("at", number=True), Column("after", number=True, rank=2), Column("step"), Column("", rank=1)),
    Column("what", rank=3),
)
HOP_COLUMNS = (
    *(Column("hop", number=True), Column("nickname"), Column("reached", number=True)),
    *(Column("weight", number=True, rank=1), Column("flags", rank=3), Column("version", rank=3)),
    *(Column("country", rank=3), Column("CGO", rank=3), Column("fingerprint", rank=2)),
)
STREAM_COLUMNS = (Column("at", number=True), Column("stream", number=True), Column("what tor told"))
OTHER_COLUMNS = (Column("key"), Column("value", prose=True))


@attrs.frozen
class Step:
    """Something that happened at a time."""

    at: float
    name: str
    doc: str = ""


def show_measurement(config: Config, measurement_id: str, display: Display | CSV | None) -> int:
    """Print it, as JSON without a ``display``; 1 if there is none. Raises StoreError and sqlite3.Error."""
    with StoreReader(database_path(config.database, config.directory)) as reader:
        m = _find(reader, measurement_id)
        if m is None:
            complain(f"there is no measurement {measurement_id!r}; `perfd results --json` has all ids")
            return 1
        streams = reader.streams_of(m.id)
        circuits = [c for c in map(reader.circuit, {s.circuit for s in streams if s.circuit}) if c is not None]
    if display is None:
        document = {
            "measurement": m.as_dict(),
            "streams": [attrs.asdict(stream) for stream in streams],
            "circuits": [attrs.asdict(circuit) for circuit in circuits],
        }
        sys.stdout.write(json.dumps(document) + "\n")
        return 0
    if isinstance(display, CSV):
        display.measurements([m])
        return 0
    display.show(_tables(m, streams, circuits, display), _words(m))
    return 0


def _find(reader: StoreReader, measurement_id: str) -> Measurement | None:
    if measurement_id == LAST:
        found = reader.measurements(Filter(limit=1, requests=False))
    elif measurement_id == FAILED:
        worst = [Filter(limit=1, requests=False, outcome=each) for each in (Outcome.FAILED, Outcome.TIMEOUT)]
        found = sorted((m for each in worst for m in reader.measurements(each)), key=lambda m: -m.start)
    else:
        return reader.measurement(measurement_id)
    return found[0] if found else None


def _tables(
    m: Measurement, streams: Sequence[Stream], circuits: Sequence[Circuit], display: Display
) -> Iterator[Table]:
    variant = Variant.of(m)
    size = f"{format_size(m.filesize)} " if m.filesize else ""
    way = f"{size}over {variant.tor or 'no tor'}, network {m.network or 'unknown'}, server {m.server or 'unknown'}"
    yield Table(
        f"{m.experiment} {display.time(m.start)} UTC {m.outcome.value}: {way}", STEP_COLUMNS, list(_step_rows(m))
    )
    if m.path:
        circuit = next((circuit for circuit in circuits if circuit.circ_id == m.circ_id), None)
        yield Table(_circuit_title(m, circuit), HOP_COLUMNS, list(_hop_rows(m, circuit)))
    told = sorted((event.at, stream.stream_id, event.name) for stream in streams for event in stream.events)
    if told:
        rows = [(seconds(at - m.start), str(number), name) for at, number, name in told]
        yield Table("What tor told of its streams", STREAM_COLUMNS, rows)
    others = list(_other_rows(m))
    if others:
        yield Table("What else the record says", OTHER_COLUMNS, others)


def _words(m: Measurement) -> list[str]:
    """What went wrong."""
    return [f"{m.errorcode}: {m.reason or 'no reason was told'}"] if m.errorcode else []


def steps(m: Measurement) -> list[Step]:
    """All that happened from the start on, in the order of time: of the client, the server, and its kind."""
    found = []
    for field in FIELDS:
        value = getattr(m, field.name)
        if field.kind is Kind.TIME and value is not None and value >= m.start and field.name != "slot":
            found.append(Step(value, field.key, field.doc))
    found += [Step(at, f"DATAPERC{n}") for n, at in m.dataperc.items() if n % 50 == 0]
    found += [Step(at, key) for key, at in m.extra.items() if _is_time(at, m) and at >= m.start]
    return sorted(found, key=lambda step: step.at)


def _step_rows(m: Measurement) -> Iterator[tuple[str, ...]]:
    found = steps(m)
    whole = max(found[-1].at - m.start, 1e-9)
    before = m.start
    for step in found:
        begin, end = (round(BAR * max(0.0, at - m.start) / whole) for at in (before, step.at))
        bar = " " * min(begin, BAR - 1) + "=" * (end - begin) if end > begin else " " * min(begin, BAR - 1) + "|"
        yield (seconds(step.at - m.start), f"+{step.at - before:.3f}", step.name, bar, step.doc)
        before = max(before, step.at)


def _circuit_title(m: Measurement, circuit: Circuit | None) -> str:
    words = [f"Circuit {m.circ_id}" if m.circ_id is not None else "The circuit"]
    if m.launch is not None and m.launch < m.start:
        words.append(f"launched {m.start - m.launch:.1f} s before the run")
    if m.conflux_circ_ids:
        words.append(f"a leg of a Conflux set with {', '.join(m.conflux_circ_ids)}")
    if circuit is not None and circuit.purpose:
        words.append(f"purpose {circuit.purpose}")
    return ", ".join(words)


def _hop_rows(m: Measurement, circuit: Circuit | None) -> Iterator[tuple[str, ...]]:
    for hop in hops_of(m, circuit):
        reached = "" if hop.reached is None else seconds(hop.reached)
        told = (hop.weight, hop.flags, hop.version, hop.country, hop.cgo)
        yield (str(hop.number), hop.nickname, reached, *told, hop.fingerprint)


def _other_rows(m: Measurement) -> Iterator[tuple[str, str]]:
    shown = {"path", "buildtimes", "dataperc", "partial", "extra", "start", "outcome", "errorcode", "reason"}
    for field in FIELDS:
        value = getattr(m, field.name)
        if value is not None and field.kind is not Kind.TIME and field.name not in shown:
            yield field.key, ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    for key, value in m.extra.items():
        if _is_time(value, m) and value < m.start:
            yield key, f"{seconds(m.start - value)} before START"
        elif not _is_time(value, m) and not key.startswith("PATH"):
            yield key, str(value)


def _is_time(value: object, m: Measurement) -> TypeGuard[float]:
    return isinstance(value, float) and abs(value - m.start) < A_RUN and value > A_RUN
