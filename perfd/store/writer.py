"""The sink that keeps records in the database."""

from __future__ import annotations

import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from perfd.clock import Clock
from perfd.record import Circuit, Curve, Measurement, Note, StoredComparison, Stream, TorEvent
from perfd.store.database import StoreError, passes
from perfd.store.files import OpenFiles, identity
from perfd.store.inserts import UNSTORABLE, Entry, insert_all, insert_each
from perfd.store.known import KnownState
from perfd.store.rows import (
    CIRCUITS,
    COMPARISONS,
    CURVES,
    EVENTS,
    KNOWN_STATES,
    MEASUREMENTS,
    NOTES,
    STREAMS,
    Table,
)
from perfd.store.schema import open_database
from perfd.store.worker import Worker

MAX_PENDING = 10_000
"""Records that wait in memory while the database cannot be written."""

BATCH = 500
"""Records in one transaction."""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds between two tries; each pause is twice the one before."""

STOP_TIMEOUT = 10.0
"""Seconds for the last writes at the end."""

TOO_SLOW = f"it took longer than {STOP_TIMEOUT:.0f} s"


@attrs.frozen
class StoreStatus:
    """How the database does: its ``trouble`` in words, None if it is well, and the number of waiting records."""

    trouble: str | None
    pending: int
    replaced: float | None = None
    """When its files were last found deleted, moved or replaced, in seconds since the epoch; None: never."""


class _Stage(Enum):
    NEW = auto()
    OPENING = auto()
    OPEN = auto()
    STOPPING = auto()
    CLOSED = auto()


class StoreSink:
    """Writes measurements, circuits, streams and events to the database, in a thread of its own.

    ``record`` and its siblings put a record into a queue and return at once. What waits is written in one
    transaction. While the database cannot be written (disk full, locked, I/O errors) the records
    wait, up to ``MAX_PENDING``, and are tried again after growing pauses. A record that itself cannot be stored
    is logged and dropped, so that it cannot hold up the others. Files that somebody deletes, moves or replaces
    are noticed before each transaction, and opened anew.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        worker: Worker,
        path: Path,
        connect: Callable[[Path], sqlite3.Connection] = open_database,
        clock: Clock | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock = clock or Clock()
        self._worker = worker  # must have one thread
        self._path = path
        self._connect = connect
        self._connection: sqlite3.Connection | None = None  # only the worker touches it,
        self._files = OpenFiles(path)  # and these
        self._changes: deque[str] = deque()  # what it found out about the files, for the reactor's thread to tell
        self._pending: deque[Entry] = deque()
        self._trouble: str | None = None
        self._replaced: float | None = None
        self._refused = 0  # since the trouble began
        self._stage = _Stage.NEW
        self._writing: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None

    @property
    def status(self) -> StoreStatus:
        return StoreStatus(self._trouble, len(self._pending), self._replaced)

    def record(self, measurement: Measurement) -> None:
        self._enqueue(MEASUREMENTS, measurement)

    def record_circuit(self, circuit: Circuit) -> None:
        self._enqueue(CIRCUITS, circuit)

    def record_stream(self, stream: Stream) -> None:
        self._enqueue(STREAMS, stream)

    def record_event(self, event: TorEvent) -> None:
        self._enqueue(EVENTS, event)

    def record_curve(self, curve: Curve) -> None:
        self._enqueue(CURVES, curve)

    def record_comparison(self, comparison: StoredComparison) -> None:
        self._enqueue(COMPARISONS, comparison)

    def record_note(self, note: Note) -> None:
        self._enqueue(NOTES, note)

    def record_state(self, known: KnownState) -> None:
        self._enqueue(KNOWN_STATES, known)

    async def start(self) -> None:
        """Open the database, made or upgraded if need be; records given before wait for it.

        Raises StoreError when it cannot be used as it is. What passes by itself (a full disk, a lock) is logged,
        and tried again.
        """
        self._worker.start()
        self._stage = _Stage.OPENING
        try:
            await self._worker.run(self._open)
        except StoreError:
            self._give_up()
            raise
        except sqlite3.Error as error:
            if not passes(error):
                self._give_up()
                raise StoreError(f"the database {self._path} cannot be opened: {error}") from error
            self._failed(error)
        if self._stage is _Stage.OPENING:
            self._stage = _Stage.OPEN
            self._write()

    def _give_up(self) -> None:
        if self._stage is _Stage.OPENING:
            self._stage = _Stage.CLOSED
            self._worker.stop()

    def look(self) -> None:
        """See whether the files are still there. To be called now and then, since records may be rare."""
        if self._stage is _Stage.OPEN and self._writing is None:
            self._writing = Deferred.fromCoroutine(self._look())
            self._writing.addBoth(self._written)

    async def stop(self) -> None:
        """Write what waits, in ``STOP_TIMEOUT`` seconds, and close. Says in the log what could not be written."""
        if self._stage not in (_Stage.OPENING, _Stage.OPEN):
            return
        self._stage = _Stage.OPEN  # or soon: the worker opens it before it writes
        self._write()
        self._stage = _Stage.STOPPING
        if self._pause is not None:
            self._pause.cancel()
        if self._writing is not None:
            await self._writing.addTimeout(STOP_TIMEOUT, self._reactor)
        try:
            await self._worker.run(self._finish).addTimeout(STOP_TIMEOUT, self._reactor)
        except TookTooLong:
            self._trouble = self._trouble or TOO_SLOW
        self._worker.stop()
        self._stage = _Stage.CLOSED
        if self._pending:
            self._log.error(
                "{records} could not be written to the database {path} ({trouble}); measurements are in the log",
                records=_counted(self._pending),
                path=self._path,
                trouble=self._trouble,
            )

    # In the reactor's thread.

    def _enqueue(self, table: Table[Any], record: Any) -> None:
        if len(self._pending) < MAX_PENDING and self._stage is not _Stage.CLOSED:
            self._pending.append((table, record))
            self._write()
            return
        self._refused += 1
        if self._refused == 1:
            self._log.error(
                "the database {path} {reason}: {id} and what follows is not in it; measurements are in the log",
                path=self._path,
                reason="is closed" if self._stage is _Stage.CLOSED else f"has {MAX_PENDING} records waiting",
                id=record.id,
            )

    def _write(self) -> None:
        if self._stage is _Stage.OPEN and self._writing is None and self._pending:
            self._writing = Deferred.fromCoroutine(self._write_pending())
            self._writing.addBoth(self._written)

    def _written(self, result: object) -> None:
        self._writing = None
        if isinstance(result, Failure):
            self._log.failure("an error inside Perfd stopped the writing to the database", result)

    async def _look(self) -> None:
        try:
            await self._worker.run(self._open)
        except CancelledError:
            self._trouble = self._trouble or TOO_SLOW
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the records are kept
            self._failed(error)
        else:
            self._succeeded()
        await self._write_pending()  # what came meanwhile

    async def _write_pending(self) -> None:
        """Write until nothing waits; while that fails, try again after a pause, but not when stopping."""
        pause = FIRST_PAUSE
        if self._trouble is not None:  # it could not even be opened
            await self._sleep(pause)
        while self._pending:
            batch = list(islice(self._pending, BATCH))
            try:
                rejected = await self._worker.run(partial(self._store, batch))
            except CancelledError:
                self._trouble = self._trouble or TOO_SLOW
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the records are kept
                self._failed(error)
                if self._stage is _Stage.STOPPING:
                    return
                await self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                for _ in batch:
                    self._pending.popleft()
                self._report(rejected)
                self._succeeded()
                pause = FIRST_PAUSE

    async def _sleep(self, seconds: float) -> None:
        """Return after ``seconds``, or at once when stopping."""
        self._pause = deferLater(self._reactor, seconds)
        with suppress(CancelledError):
            await self._pause
        self._pause = None

    def _failed(self, error: Exception) -> None:
        self._tell_changes()
        if self._trouble is None:
            self._log.error(
                "the database {path} cannot be written: {error}; records wait in memory and are tried again",
                path=self._path,
                error=error,
            )
        self._trouble = str(error)

    def _succeeded(self) -> None:
        self._tell_changes()
        if self._trouble is not None:
            self._log.info(
                "the database {path} is written again; {refused} records could not wait and are not in it",
                path=self._path,
                refused=self._refused,
            )
        self._trouble = None
        self._refused = 0

    def _tell_changes(self) -> None:
        while self._changes:
            self._replaced = self._clock.wall()
            self._log.error(
                "the database {path} {change} while Perfd ran; it is opened anew, and what waits is written to it",
                path=self._path,
                change=self._changes.popleft(),
            )

    def _report(self, rejected: Sequence[tuple[Entry, str]]) -> None:
        for (table, record), reason in rejected:
            self._log.error(
                "{id} cannot be stored in the table {table} and is dropped: {reason}",
                id=getattr(record, "id", record),
                table=table.name,
                reason=reason,
            )

    # In the worker's thread.

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and (change := self._files.change()) is not None:
            self._files.finish(self._connection)
            self._connection = None
            self._changes.append(change)
        if self._connection is None:
            before = identity(self._path)
            connection = self._connect(self._path)
            if before not in (None, identity(self._path)):
                connection.close()
                raise sqlite3.OperationalError("the file was replaced while it was opened")
            self._files = OpenFiles.at(self._path)
            self._connection = connection
        return self._connection

    def _finish(self) -> None:
        if self._connection is not None and self._files.change() is not None:
            with suppress(sqlite3.OperationalError):
                self._files.finish(self._connection)
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _store(self, batch: Sequence[Entry]) -> list[tuple[Entry, str]]:
        """Write ``batch``; returns the records that can never be stored, and why.

        After an error the database is opened anew, since its disk may have been repaired; while that is full it
        could not be.
        """
        connection = self._open()
        rejected: list[tuple[Entry, str]] = []
        try:
            try:
                insert_all(connection, batch)
            except UNSTORABLE:
                rejected = insert_each(connection, batch)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
                self._close()
            raise
        if self._files.is_moved:  # who deletes it in this moment does not delete these
            raise sqlite3.OperationalError("the file was taken away while it was written to")
        self._files.written()
        return rejected


def _counted(pending: Iterable[Entry]) -> str:
    """ "2 circuits, 3 measurements"."""
    return ", ".join(f"{n} {name}" for name, n in sorted(Counter(table.name for table, _ in pending).items()))
