"""``perfd circuits``, ``perfd streams`` and ``perfd events``: what tor told, the latest last."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import attrs

from perfd.cli.csv_output import CSV
from perfd.cli.tables import Column, Display, Table
from perfd.config import Config
from perfd.record import Circuit, Stream, TorEvent
from perfd.store import rows
from perfd.store.database import database_path
from perfd.store.filters import Window
from perfd.store.reader import StoreReader

R = TypeVar("R", Circuit, Stream, TorEvent)

PAUSE = 1.0
"""Seconds between two looks for new records."""


@attrs.frozen
class Listing(Generic[R]):
    """How records of one kind are shown."""

    title: str
    table: rows.Table[R]
    columns: Sequence[Column]
    row: Callable[[R, Display], Sequence[str]]
    record: type[R]


def _circuit_row(circuit: Circuit, display: Display) -> tuple[str, ...]:
    last = max((hop.built or 0.0 for hop in circuit.path), default=0.0) or circuit.built
    return (
        display.time(circuit.launch or circuit.end),
        circuit.tor,
        str(circuit.circ_id),
        circuit.status,
        circuit.purpose or "",
        _seconds(circuit.launch, circuit.built or last),
        _seconds(circuit.launch, circuit.end),
        "yes" if circuit.conflux_id else "",
        "/".join(filter(None, (circuit.failure_local, circuit.failure_remote))),
        " ".join(hop.nickname or hop.fingerprint for hop in circuit.path),
    )


def _stream_row(stream: Stream, display: Display) -> tuple[str, ...]:
    return (
        display.time(stream.new or stream.end),
        stream.tor,
        str(stream.stream_id),
        stream.status,
        stream.purpose or "",
        stream.target or "",
        ", ".join(str(attach.circ_id) for attach in stream.attaches),
        _seconds(stream.new, stream.end),
        stream.measurement or "",
        "/".join(filter(None, (stream.failure_local, stream.failure_remote))),
    )


def _event_row(event: TorEvent, display: Display) -> tuple[str, ...]:
    return (display.time(event.at), event.tor, event.keyword, event.text.replace("\n", " "))


CIRCUITS = Listing(
    "Circuits",
    rows.CIRCUITS,
    (
        *(Column("launched (UTC)"), Column("tor", rank=3), Column("circuit", number=True)),
        *(Column("status", rank=1), Column("purpose", rank=4)),
        *(Column("built", number=True), Column("lived", number=True, rank=2), Column("conflux", rank=5)),
        *(Column("why it ended"), Column("path", prose=True)),
    ),
    _circuit_row,
    Circuit,
)
STREAMS = Listing(
    "Streams",
    rows.STREAMS,
    (
        *(Column("new (UTC)"), Column("tor", rank=4), Column("stream", number=True), Column("status", rank=2)),
        *(Column("purpose", rank=5), Column("target", rank=1), Column("circuits"), Column("lived", number=True)),
        *(Column("measurement", rank=3), Column("why it ended")),
    ),
    _stream_row,
    Stream,
)
EVENTS = Listing(
    "Events",
    rows.EVENTS,
    (Column("time (UTC)"), Column("tor", rank=1), Column("event"), Column("what tor said", prose=True)),
    _event_row,
    TorEvent,
)


def show(
    config: Config,
    listing: Listing[R],
    wanted: Window,
    display: Display | CSV | None,
    *,
    follow: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Print the latest, as JSON lines without a ``display``; with ``follow`` what comes then too, until Ctrl-C.

    Records of circuits and streams come when they have ended. Raises StoreError and sqlite3.Error.
    """
    with StoreReader(database_path(config.database, config.directory)) as reader:
        last = reader.last_row(listing.table)
        found = reader.select(listing.table, wanted)[::-1]
        _show(listing, found, display)
        while follow:
            sleep(PAUSE)
            found, last = reader.appended(listing.table, last, wanted)
            unpaged = attrs.evolve(display, paged=False) if isinstance(display, Display) else display
            _show(listing, found, unpaged, heading=False)
    return 0


def _show(listing: Listing[R], found: Sequence[R], display: Display | CSV | None, *, heading: bool = True) -> None:
    if display is None:
        for record in found:
            sys.stdout.write(json.dumps(attrs.asdict(record), default=_plain) + "\n")
    elif isinstance(display, CSV):
        display.records(
            [attrs.asdict(record) for record in found], [field.name for field in attrs.fields(listing.record)]
        )
    elif found:
        table = Table(listing.title, listing.columns, [listing.row(each, display) for each in found])
        display.show([table]) if heading else display.show_rows(table)
    elif heading:
        sys.stdout.write(f"there are no such {listing.title.lower()}\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    return list(value)


def _seconds(earlier: float | None, later: float | None) -> str:
    return "" if earlier is None or later is None else f"{later - earlier:.3f} s"
