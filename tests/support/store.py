"""What tests of the database start from: a place for one, and a sink whose worker and clock are the test's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from perfd.record import Circuit, Measurement, Stream
from perfd.store.database import transaction
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.rows import MEASUREMENTS
from perfd.store.schema import open_database
from perfd.store.writer import StoreSink
from tests.support.strategies import typical

CIRCUIT = Circuit(id="c", source="example", tor="default", circ_id=1, status="BUILT")
STREAM = Stream(id="s", source="example", tor="default", stream_id=1, status="CLOSED")


class StoreCase(SynchronousTestCase):
    """A place for a database."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.path = directory / "perfd.sqlite"

    def open(self) -> sqlite3.Connection:
        connection = open_database(self.path)
        self.addCleanup(connection.close)
        return connection

    def fill(self, *records: Measurement) -> StoreReader:
        """A reader of a database of ``records``."""
        insert_many(self.open(), records)
        reader = StoreReader(self.path)
        self.addCleanup(reader.close)
        return reader


def insert_old(old: sqlite3.Connection, measurements: Iterable[Measurement]) -> None:
    """Insert measurements into a database that may lack columns of this version, with what it has."""
    there = {row[1] for row in old.execute("PRAGMA table_info(measurements)")}
    kept = [n for n, name in enumerate(MEASUREMENTS.columns) if name in there]
    rows = [MEASUREMENTS.row(measurement) for measurement in measurements]
    assert all(value is None for row in rows for n, value in enumerate(row) if n not in kept)
    names = ", ".join(f'"{MEASUREMENTS.columns[n]}"' for n in kept)
    with transaction(old):
        old.executemany(
            f"INSERT INTO measurements ({names}) VALUES ({', '.join('?' * len(kept))})",
            ([row[n] for n in kept] for row in rows),
        )


def checkpoint(path: Path) -> None:
    """Bring all of the database into its main file."""
    with closing(open_database(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class InlineWorker:
    """Runs everything at once; or later, while it is ``held``."""

    def __init__(self) -> None:
        self.held = False
        self.running = False
        self._jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def start(self) -> None:
        self.running = True

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        assert self.running, "a stopped worker was given work"
        if not self.held:
            return execute(function)
        self._jobs.append((function, Deferred()))
        return self._jobs[-1][1]

    def stop(self) -> None:
        self.running = False

    def release(self) -> None:
        self.held = False
        while self._jobs:
            function, done = self._jobs.pop(0)
            execute(function).chainDeferred(done)


class SinkCase(SynchronousTestCase):
    """A sink whose worker and clock are the test's."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.path = directory / "perfd.sqlite"
        self.clock = Clock()
        self.worker = InlineWorker()
        self.full = False  # True: new connections cannot make the file larger
        self.sink = StoreSink(self.clock, self.worker, self.path, self.connect)
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def connect(self, path: Path) -> sqlite3.Connection:
        connection = open_database(path)
        if self.full:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    def run_now(self, coroutine: Any) -> None:
        self.successResultOf(Deferred.fromCoroutine(coroutine))

    def start(self) -> None:
        self.run_now(self.sink.start())

    def stop(self) -> None:
        self.run_now(self.sink.stop())

    def fill_disk(self) -> None:
        """From now on nothing fits into the database."""
        self.full = True
        self.sink._close()

    def free_disk(self) -> None:
        """There is room again."""
        self.full = False
        connection = self.sink._connection
        if connection is not None:
            connection.execute("PRAGMA max_page_count = 1000000")

    def record(self, *numbers: int) -> None:
        for n in numbers:
            self.sink.record(typical(n))

    def stored(self) -> list[int]:
        with StoreReader(self.path) as reader:
            return sorted(int(measurement.id, 16) for measurement in reader.measurements())

    def texts(self) -> list[str]:
        """What was logged."""
        return [event["log_format"].format(**event) for event in self.events]
