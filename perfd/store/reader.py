"""Reading the database, in this process or another, while the daemon writes or not."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import attrs
from twisted.internet.defer import Deferred

from perfd.record import (
    REQUEST,
    Circuit,
    Curve,
    Document,
    Guard,
    Hop,
    Measurement,
    Note,
    StoredComparison,
    Stream,
    TorEvent,
)
from perfd.store.database import QueryTooLongError, clear_errors
from perfd.store.filters import COMPARISON as _COMPARISON
from perfd.store.filters import CurveFilter, Filter, NoteFilter, TorFilter, Window, key_in_extra
from perfd.store.hours import SELECT as SELECT_HOURS
from perfd.store.hours import stale_hours
from perfd.store.known import KnownState
from perfd.store.queries import HISTORY, LAST_SLOT, PATHS
from perfd.store.rows import (
    CIRCUITS,
    COMPARISONS,
    CURVES,
    DOCUMENTS,
    EVENTS,
    GUARDS,
    HOPS,
    KNOWN_STATES,
    MEASUREMENTS,
    NOTES,
    STREAMS,
    Table,
    quoted,
)
from perfd.store.schema import load_upgrades, open_readonly
from perfd.store.worker import Worker
from perfd.variant import Variant

R = TypeVar("R")
T = TypeVar("T")

PAGE = 500
"""Records of one page."""

STEPS = 10_000
"""Steps of SQLite's machine between two looks at the clock; a tenth of a millisecond."""


@attrs.frozen
class History:
    """How a variant of an experiment went on; the times are those of ``start``."""

    first: float  # its first measurement
    last_success: float | None
    failures: int  # since then; neither successes nor cancelled by the operator


ALL = Filter()
ALL_OF_TOR = TorFilter()
ALL_NOTES = NoteFilter()


class StoreReader:
    """Reads the database at ``path``. A context manager; to be used in the thread that made it.

    Its methods raise StoreError if there is no database or it cannot be used as it is, and sqlite3.Error for
    what may pass. With ``most`` they raise QueryTooLongError when all queries together took so many seconds.
    """

    def __init__(self, path: Path, version: int | None = None, most: float | None = None) -> None:
        self._path = path
        self._connection = open_readonly(path, version)
        if most is not None:
            end = time.monotonic() + most
            self._connection.set_progress_handler(lambda: time.monotonic() > end, STEPS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def measurements(self, wanted: Filter = ALL) -> list[Measurement]:
        """All of them at once; there is ``pages`` for many."""
        return self.select(MEASUREMENTS, wanted)

    def pages(self, wanted: Filter = ALL, size: int = PAGE) -> Iterator[list[Measurement]]:
        """The same in pages of at most ``size``, each from a query of its own at the time it is asked for."""
        left = wanted.limit
        while left is None or left > 0:
            page = self.measurements(attrs.evolve(wanted, limit=size if left is None else min(size, left)))
            if not page:
                return
            yield page
            left = None if left is None else left - len(page)
            wanted = attrs.evolve(wanted, after=MEASUREMENTS.cursor(page[-1]))

    def measurement(self, measurement_id: str) -> Measurement | None:
        return self._one(MEASUREMENTS, measurement_id)

    def requests_of(self, series: str) -> list[Measurement]:
        """The requests of a series, in their order."""
        wanted = Filter(series=series)
        where, values = wanted.where(MEASUREMENTS.time)
        return [
            MEASUREMENTS.record(row) for row in self._query(f"{MEASUREMENTS.select}{where} ORDER BY id", values)
        ]

    def values(self, fields: Sequence[str], wanted: Filter = ALL) -> list[dict[str, Any]]:
        """Only these fields of all measurements, which is faster; in capitals they are keys of ``extra``.

        What is kept as JSON is not read.
        """
        places = ", ".join(map(_field, fields))
        where, values = wanted.where(MEASUREMENTS.time)
        rows = self._query(f"SELECT {places} FROM {MEASUREMENTS.name}{where} ORDER BY start, id", values)
        return [dict(zip(fields, row, strict=True)) for row in rows]

    def rows(self, fields: Sequence[str], wanted: Filter = ALL) -> Iterator[tuple[Any, ...]]:
        """As ``values``, the bare values of one after the other; never all of them at once in memory.

        Of a filter with a limit these are the newest so many, the oldest of them first.
        """
        with clear_errors(self._path), _clear_interrupt():
            yield from rows_of(self._connection, fields, wanted)

    def hours(self, first: int, last: int, experiment: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of the summaries of the hours from ``first`` to ``last``, stale ones too."""
        if experiment is None:
            return self._query(f"{SELECT_HOURS} ORDER BY hour", (first, last))
        return self._query(f"{SELECT_HOURS} AND experiment = ? ORDER BY hour", (first, last, experiment))

    def stale_hours(self, first: int, last: int) -> list[int]:
        """Those of them that do not tell what is in the measurements, and hours that have no summary yet."""
        with clear_errors(self._path), _clear_interrupt():
            return stale_hours(self._connection, first, last)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read in the block is the database at one time, whatever others write meanwhile."""
        with clear_errors(self._path):
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.rollback()

    def count(self, wanted: Filter = ALL) -> int:
        """How many measurements there are; ``after`` and ``limit`` do not matter."""
        where, values = attrs.evolve(wanted, after=None).where(MEASUREMENTS.time)
        return int(self._query(f"SELECT COUNT(*) FROM {MEASUREMENTS.name}{where}", values)[0][0])

    def filtered_out(self, wanted: Filter) -> tuple[int, int]:
        """How many measurements the filters of ``wanted`` leave out, and of how many."""
        if wanted.everything == attrs.evolve(wanted, after=None, limit=None, oldest_first=False):
            return 0, 0
        total = self.count(wanted.everything)
        return total - self.count(wanted), total

    def history(self, experiment: str, variant: Variant, before: float) -> History | None:
        """How ``variant`` of ``experiment`` went on until ``before``; None if there is nothing of it."""
        rows = self._query(HISTORY, (experiment, before, *attrs.astuple(variant)) * 3)
        return History(*rows[0]) if rows and rows[0][0] is not None else None

    def last_slot(self, source: str, experiment: str, variant: Variant, before: float) -> float | None:
        """The last slot before ``before`` that a record of ``variant`` of ``experiment`` covers; None if there
        is none.
        """
        ((last,),) = self._query(LAST_SLOT, (experiment, before, *attrs.astuple(variant), source) * 2)
        return None if last is None else float(last)

    def last_row(self, table: Table[Any]) -> int:
        """The place of the record that was added last, for ``appended``."""
        return int(self._query(f"SELECT COALESCE(MAX(rowid), 0) FROM {table.name}", ())[0][0])

    def appended(self, table: Table[R], after: int, wanted: Window) -> tuple[list[R], int]:
        """The records that were added behind the place ``after``, in that order, and the new last place."""
        last = self.last_row(table)
        where, values = wanted.where(table.time)
        sql = f"{table.select}{where}{' AND' if where else ' WHERE'} rowid > ? AND rowid <= ? ORDER BY rowid"
        return [table.record(row) for row in self._query(sql, [*values, after, last])], last

    def circuits(self, wanted: TorFilter = ALL_OF_TOR) -> list[Circuit]:
        return self.select(CIRCUITS, wanted)

    def circuit(self, circuit_id: str) -> Circuit | None:
        return self._one(CIRCUITS, circuit_id)

    def streams(self, wanted: TorFilter = ALL_OF_TOR) -> list[Stream]:
        return self.select(STREAMS, wanted)

    def events(self, wanted: TorFilter = ALL_OF_TOR) -> list[TorEvent]:
        return self.select(EVENTS, wanted)

    def notes(self, wanted: NoteFilter = ALL_NOTES) -> list[Note]:
        return self.select(NOTES, wanted)

    def known_states(self, source: str) -> list[KnownState]:
        """All states of an instance that were known, the oldest first."""
        rows = self._query(f"{KNOWN_STATES.select} WHERE source = ? ORDER BY at, id", (source,))
        return [KNOWN_STATES.record(row) for row in rows]

    def noted(self, wanted: Filter) -> list[Note]:
        """The notes of the time of ``wanted`` that concern its tors and experiments, the oldest first.

        With changes of tors' versions that no note tells of: of imports, and from before there were such notes.
        """
        concerned = {name: getattr(wanted, name) for name in ("since", "until", "tor", "experiment")}
        found = self.notes(NoteFilter(**concerned))
        told = {(note.subject, note.at) for note in found}
        found += [
            Note(source="", at=at, text=f"{tor} is {version}", kind="tor", subject=f"tor:{tor}")
            for at, tor, version in self.versions(wanted)
            if (f"tor:{tor}", at) not in told
        ]
        return sorted(found, key=lambda note: note.at)

    def versions(self, wanted: Filter = ALL) -> list[tuple[float, str, str]]:
        """When a tor was first measured in a version that it had not before: time, tor and version."""
        where, values = wanted.where(MEASUREMENTS.time)
        sql = f"SELECT MIN(start), tor, torversion FROM {MEASUREMENTS.name}{where} GROUP BY tor, torversion"
        return _without_first(
            sorted(row for row in self._query(sql, values) if row[1] is not None and row[2] is not None)
        )

    def new_versions(self, since: float, until: float) -> list[tuple[float, str, str]]:
        """As ``versions`` of a time, of all measurements that there ever were, without reading them."""
        sql = "SELECT MIN(first), tor, torversion FROM versions GROUP BY tor, torversion ORDER BY 1, 2, 3"
        return [row for row in _without_first(self._query(sql, ())) if since <= row[0] < until]

    def changes(self, experiment: str | None = None) -> int:
        """How often measurements, or those of an experiment, were added, changed or deleted, by whomever.

        While that is the same they are the same.
        """
        where, values = ("", ()) if experiment is None else (" WHERE experiment = ?", (experiment,))
        return int(self._query(f"SELECT COALESCE(SUM(number), 0) FROM changes{where}", values)[0][0])

    def streams_of(self, measurement_id: str) -> list[Stream]:
        """The streams that carried a measurement, the oldest first."""
        rows = self._query(f"{STREAMS.select} WHERE measurement = ? ORDER BY first_seen, id", (measurement_id,))
        return [STREAMS.record(row) for row in rows]

    def paths_of(self, ids: Sequence[str]) -> dict[str, tuple[tuple[Hop, ...], tuple[Guard, ...]]]:
        """Of the measurements ``ids`` whose circuit is known its relays, and, if it tells them, tor's guards."""
        return {name: (HOPS(p), GUARDS(guards)) for name, p, guards in self._query(PATHS, (json.dumps(ids),))}

    def curves(self, wanted: CurveFilter) -> list[Curve]:
        return self.select(CURVES, wanted)

    def curves_of(self, *measurement_ids: str) -> list[Curve]:
        """The curves of measurements, by name."""
        marks = ", ".join("?" * len(measurement_ids))
        sql = f"{CURVES.select} WHERE measurement IN ({marks}) ORDER BY at, measurement, name"
        return [CURVES.record(row) for row in self._query(sql, measurement_ids)]

    def curves_with_parts(self, *measurement_ids: str) -> list[Curve]:
        """Those, and the curves of parts without records, of parallel streams and loads, whose ids are ``ID-N``."""
        # "." follows "-", so this is an id and whatever begins with it and a hyphen.
        of_one = "curves.measurement >= wanted.value AND curves.measurement < wanted.value || '.'"
        sql = f"SELECT curves.* FROM json_each(?) AS wanted JOIN ({CURVES.select}) AS curves ON {of_one}"
        sql += " ORDER BY at, measurement, name"
        return [CURVES.record(row) for row in self._query(sql, (json.dumps(measurement_ids),))]

    def arrivals(self, experiment: str, since: float, limit: int) -> list[tuple[str | None, Curve]]:
        """The arrival curves of the newest successes of an experiment since a time, each with the tor's name."""
        sql = f"""
            SELECT runs.tor, found.* FROM (
                SELECT id, tor FROM measurements WHERE experiment = ? AND start >= ? AND outcome = 'ok'
                ORDER BY start DESC LIMIT ?
            ) AS runs
            CROSS JOIN ({CURVES.select}) AS found ON found.measurement = runs.id AND found.name = 'arrival'
        """  # CROSS, so that SQLite looks for the curves of the few runs, and not the other way about
        rows = self._query(sql, (experiment, since, limit))
        return [(tor, CURVES.record(row)) for tor, *row in rows]

    def comparison(self, name: str) -> StoredComparison | None:
        """The design of a comparison that was begun."""
        return self._one(COMPARISONS, name)

    def blocks(self, comparison: str) -> list[tuple[int, int, int]]:
        """The blocks of a comparison: number, how many measurements it has, and how many of them were cancelled."""
        sql = f"""
            SELECT {key_in_extra("BLOCK")}, COUNT(*), SUM(outcome = 'cancelled') FROM {MEASUREMENTS.name}
            WHERE {_COMPARISON} AND type <> ? GROUP BY 1 ORDER BY 1
        """
        return self._query(sql, (comparison, REQUEST))

    def document(self, source: str, day: float) -> Document | None:
        """What imported documents say of the UTC day of ``source`` that begins at ``day``."""
        rows = self._query(f"{DOCUMENTS.select} WHERE day = ? AND source = ?", (day, source))
        return DOCUMENTS.record(rows[0]) if rows else None

    def select(self, table: Table[R], wanted: Window) -> list[R]:
        """The records of any table."""
        where, values = wanted.where(table.time)
        direction = "ASC" if wanted.oldest_first else "DESC"
        sql = f"{table.select}{where} ORDER BY {table.time} {direction}, id {direction}"
        if wanted.limit is not None:
            sql += " LIMIT ?"
            values.append(wanted.limit)
        return [table.record(row) for row in self._query(sql, values)]

    def _one(self, table: Table[R], record_id: str) -> R | None:
        rows = self._query(f"{table.select} WHERE id = ?", (record_id,))
        return table.record(rows[0]) if rows else None

    def _query(self, sql: str, values: Any) -> list[Any]:
        with clear_errors(self._path), _clear_interrupt():
            return self._connection.execute(sql, values).fetchall()


def rows_of(connection: sqlite3.Connection, fields: Sequence[str], wanted: Filter) -> Iterator[tuple[Any, ...]]:
    """As ``StoreReader.rows``, on a connection that may be in a transaction. Raises sqlite3.Error."""
    where, values = wanted.where(MEASUREMENTS.time)
    places = ", ".join(map(_field, fields))
    sql = f"SELECT {places} FROM {MEASUREMENTS.name}{where} ORDER BY start, id"
    if wanted.limit is not None:
        newest = f"SELECT id FROM {MEASUREMENTS.name}{where} ORDER BY start DESC, id DESC LIMIT ?"
        sql = f"SELECT {places} FROM {MEASUREMENTS.name} WHERE id IN ({newest}) ORDER BY start, id"
        values.append(wanted.limit)
    yield from connection.execute(sql, values)


def _without_first(rows: Iterable[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Times, tors and versions without the first of each tor: it had none before."""
    known: set[str] = set()
    return [row for row in rows if row[1] in known or known.add(row[1])]  # type: ignore[func-returns-value]


@contextmanager
def _clear_interrupt() -> Iterator[None]:
    """Raise QueryTooLongError when the progress handler has ended a query."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise QueryTooLongError("the query takes too long; narrow it with since and until") from None
        raise


def _field(name: str) -> str:
    """A field of the record, or in capitals a key of its ``extra``, in SQL."""
    return key_in_extra(name) if name.isupper() else quoted(name)


class AsyncReader:
    """Runs queries for the reactor's thread in those of ``worker``, each on a connection of its own.

    Opening one takes a tenth of a millisecond, and nothing has to be remembered, closed or repaired.
    ``most``: see StoreReader.
    """

    def __init__(self, worker: Worker, path: Path, most: float | None = None) -> None:
        self._worker = worker
        self._path = path
        self._most = most
        self._version = len(load_upgrades())

    def start(self) -> None:
        self._worker.start()

    def stop(self) -> None:
        self._worker.stop()

    def run(self, query: Callable[[StoreReader], T]) -> Deferred[T]:
        """Fires with what ``query`` makes of a reader, for example ``lambda reader: reader.count()``.

        Fails with StoreError and sqlite3.Error like StoreReader.
        """

        def work() -> T:
            with StoreReader(self._path, self._version, self._most) as reader:
                return query(reader)

        return self._worker.run(work)

    def call(self, function: Callable[[], T]) -> Deferred[T]:
        """Run ``function``, which waits for the disk, in the same threads."""
        return self._worker.run(function)
