"""The database's sink: its queue, its life, records that cannot be stored."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import get_ident
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from perfd.record import Measurement, TorEvent
from perfd.store import writer
from perfd.store.database import NotADatabaseError, StoreError
from perfd.store.reader import StoreReader
from perfd.store.schema import open_database
from perfd.store.worker import ThreadWorker
from perfd.store.writer import BATCH, StoreSink
from tests.support.store import CIRCUIT, STREAM, SinkCase
from tests.support.strategies import typical


class LifeTests(SinkCase):
    """Start, record, stop."""

    def test_nothing_before_start(self) -> None:
        """No file is made and no thread used before the start (twistd forks between); records wait."""
        self.record(0, 1)
        self.assertFalse(self.path.exists())
        self.assertFalse(self.worker.running)
        self.assertEqual(self.sink.status.pending, 2)
        self.start()
        self.assertEqual(self.stored(), [0, 1])

    def test_record(self) -> None:
        """All four kinds of records are stored."""
        self.start()
        self.record(0)
        self.sink.record_circuit(CIRCUIT)
        self.sink.record_stream(STREAM)
        event = TorEvent(5.0, "example", "default", "GUARD", "ENTRY $AB UP")
        self.sink.record_event(event)
        self.assertEqual((self.sink.status.trouble, self.sink.status.pending), (None, 0))
        with StoreReader(self.path) as reader:
            self.assertEqual(reader.measurements(), [typical(0)])
            self.assertEqual(reader.circuits(), [CIRCUIT])
            self.assertEqual(reader.streams(), [STREAM])
            self.assertEqual(reader.events(), [event])

    def test_batches(self) -> None:
        """What came while the worker was busy is written in one transaction."""
        self.start()
        self.worker.held = True
        self.record(0)
        self.record(*range(1, 10))
        self.assertEqual((len(self.worker._jobs), self.sink.status.pending), (1, 10))
        batches: list[int] = []
        store = self.sink._store
        self.patch(self.sink, "_store", lambda batch: (batches.append(len(batch)), store(batch))[1])
        self.worker.release()
        self.assertEqual(self.stored(), list(range(10)))
        self.assertEqual(batches, [9])

    def test_many(self) -> None:
        """A long queue is written in several transactions, so that none is endless."""
        count = 2 * BATCH + 1
        self.record(*range(count))
        self.start()
        self.assertEqual(len(self.stored()), count)

    def test_stop(self) -> None:
        """Stopping waits for what is being written, closes the database and says nothing."""
        self.start()
        self.worker.held = True
        self.record(0)
        stopping = Deferred.fromCoroutine(self.sink.stop())
        self.record(1)
        self.assertNoResult(stopping)
        self.worker.release()
        self.successResultOf(stopping)
        self.assertFalse(self.worker.running)
        self.assertFalse(self.path.with_name("perfd.sqlite-wal").exists())
        self.assertEqual(self.stored(), [0, 1])
        self.assertEqual(self.texts(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_without_start(self) -> None:
        """Stopping what never started does nothing, nor does stopping twice."""
        self.stop()
        self.start()
        self.stop()
        self.stop()

    def test_stop_while_opening(self) -> None:
        """A stop in the middle of an upgrade waits for it, and for what has come meanwhile."""
        self.worker.held = True
        starting = Deferred.fromCoroutine(self.sink.start())
        self.record(0)
        stopping = Deferred.fromCoroutine(self.sink.stop())
        self.assertNoResult(stopping)
        self.worker.release()
        self.successResultOf(starting)
        self.successResultOf(stopping)
        self.assertFalse(self.worker.running)
        self.assertEqual((self.stored(), self.texts()), ([0], []))

    def test_stop_while_opening_fails(self) -> None:
        """When the database turns out to be unusable, a stop does not wait, and says what is missing."""
        self.path.write_text("something else\n" * 100, encoding="utf-8")
        self.worker.held = True
        starting = Deferred.fromCoroutine(self.sink.start())
        self.record(0)
        stopping = Deferred.fromCoroutine(self.sink.stop())
        self.worker.release()
        self.failureResultOf(starting, NotADatabaseError)
        self.successResultOf(stopping)
        self.assertFalse(self.worker.running)
        self.assertRegex(self.texts()[-1], "1 measurements could not be written .*is not a database")

    def test_too_late(self) -> None:
        """A record after the end is said to be missing."""
        self.start()
        self.stop()
        self.record(0, 1)
        (text,) = self.texts()
        self.assertIn(f"is closed: {typical(0).id} and what follows", text)

    def test_unusable(self) -> None:
        """A file that is no database stops the start, with the clear error, and is not harmed."""
        self.path.write_text("something else\n" * 100, encoding="utf-8")
        self.failureResultOf(Deferred.fromCoroutine(self.sink.start()), NotADatabaseError)
        self.assertFalse(self.worker.running)
        self.stop()
        self.assertEqual(self.path.read_text(encoding="utf-8"), "something else\n" * 100)


class BadRecordTests(SinkCase):
    """Records that can never be stored."""

    def setUp(self) -> None:
        super().setUp()
        self.worker.held = True

    def run_batch(self, *records: Measurement) -> None:
        """Store ``records`` in one batch."""
        for record in records:
            self.sink.record(record)
        starting = Deferred.fromCoroutine(self.sink.start())
        self.worker.release()
        self.successResultOf(starting)

    def test_dropped_alone(self) -> None:
        """A bad record is reported and dropped; those before and after it in the batch are stored."""
        bad: dict[str, Any] = {
            "a duplicate": typical(0),
            "no text": attrs.evolve(typical(2), reason="a\udcff"),
            "too large": attrs.evolve(typical(3), status=2**64),
            "a wrong type": attrs.evolve(typical(4), status=[200]),  # type: ignore[arg-type]
            "nothing": attrs.evolve(typical(5), source=None),  # type: ignore[arg-type]
            "no JSON": attrs.evolve(typical(6), extra={"X": object()}),  # type: ignore[dict-item]
            "no outcome": attrs.evolve(typical(7), outcome="ok"),  # type: ignore[arg-type]
        }
        self.run_batch(typical(0), *bad.values(), typical(1))
        self.assertEqual(self.stored(), [0, 1])
        self.assertEqual((self.sink.status.trouble, self.sink.status.pending), (None, 0))
        texts = self.texts()
        self.assertEqual(len(texts), len(bad))
        for record, text in zip(bad.values(), texts, strict=True):
            self.assertIn(f"{record.id} cannot be stored in the table measurements and is dropped", text)

    def test_duplicate_keeps_the_first(self) -> None:
        """Of two records with one id the first stays."""
        self.run_batch(typical(0), typical(0, source="second"))
        with StoreReader(self.path) as reader:
            self.assertEqual(reader.measurements(), [typical(0)])


class ThreadTests(TestCase):
    """With a real thread."""

    async def test_thread(self) -> None:
        """All work on the database is done in one thread, which is not the reactor's."""
        path = Path(self.mktemp())
        threads: list[int] = []

        def connect(path: Path) -> sqlite3.Connection:
            threads.append(get_ident())
            return open_database(path)

        sink = StoreSink(reactor, ThreadWorker(reactor, "store"), path, connect)
        await sink.start()
        for n in range(1000):
            sink.record(typical(n))
        self.assertGreater(sink.status.pending, 0)
        await sink.stop()
        self.assertEqual(sink.status, writer.StoreStatus(None, 0))
        with StoreReader(path) as reader:
            self.assertEqual(reader.count(), 1000)
        self.assertEqual(len(threads), 1)
        self.assertNotEqual(threads[0], get_ident())

    async def test_start_fails(self) -> None:
        """The error of a start comes to the reactor's thread."""
        path = Path(self.mktemp()) / "nowhere" / "perfd.sqlite"
        sink = StoreSink(reactor, ThreadWorker(reactor, "store"), path)
        with self.assertRaises(StoreError):
            await sink.start()
