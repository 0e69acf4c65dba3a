"""Records as rows of the database, and many of them at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing

import attrs
from hypothesis import given
from hypothesis import strategies as st

from perfd.record import MAX_EVENT_TEXT, Circuit, Document, Event, Guard, Measurement, Outcome, Stream, TorEvent
from perfd.store.database import prepare_for_bulk, transaction
from perfd.store.filters import Filter
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.rows import CIRCUITS, DOCUMENTS, EVENTS, MEASUREMENTS, STREAMS, Table
from perfd.store.schema import load_upgrades
from tests.support.store import StoreCase
from tests.support.strategies import TEXTS, TIMES, circuits, measurements, streams, typical


class RowTests(StoreCase):
    """Records come back as they were."""

    def round_trip(self, table: Table[object], records: Iterable[object]) -> None:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            for upgrade in load_upgrades():
                connection.executescript(upgrade)
            unique = {record.id: record for record in records}  # type: ignore[attr-defined]
            connection.executemany(table.insert, map(table.row, unique.values()))
            read = [table.record(row) for row in connection.execute(f"{table.select} ORDER BY rowid")]
            self.assertEqual(read, list(unique.values()))

    @given(st.lists(measurements(), max_size=3))
    def test_measurements(self, records: list[Measurement]) -> None:
        """Any measurement."""
        self.round_trip(MEASUREMENTS, records)

    @given(st.lists(circuits(), max_size=3))
    def test_circuits(self, records: list[Circuit]) -> None:
        """Any circuit."""
        self.round_trip(CIRCUITS, records)

    @given(st.lists(streams(), max_size=3))
    def test_streams(self, records: list[Stream]) -> None:
        """Any stream."""
        self.round_trip(STREAMS, records)

    @given(st.lists(st.builds(TorEvent, TIMES, TEXTS, TEXTS, TEXTS, st.text(max_size=3000)), max_size=3))
    def test_events(self, records: list[TorEvent]) -> None:
        """Any event; a long text is cut, ids are unique and do not matter for equality."""
        self.round_trip(EVENTS, records)
        for record in records:
            self.assertLessEqual(len(record.text), MAX_EVENT_TEXT)
            self.assertEqual(record, attrs.evolve(record, id="other"))

    def test_documents(self) -> None:
        """What documents say, with and without all of it; the reader finds it by source and day."""
        guards = (Guard("A" * 40, "first", "nl", 1.5, None, 3.0, None), Guard("B" * 40))
        whole = Document(id="a", source="op", day=86400.0, filters={"tor/circuits": [{"name": "x"}]}, guards=guards)
        self.round_trip(DOCUMENTS, [whole, Document(id="b", source="op", day=0.0)])

    def test_exact_types(self) -> None:
        """The values have the record's own types: booleans, the outcome, tuples, the types of extra values."""
        self.fill(typical(extra={"A": "5", "B": 5, "C": 5.0}))
        with StoreReader(self.path) as reader:
            (read,) = reader.measurements()
        self.assertIs(read.cbt_set, True)
        self.assertIs(read.cc_ss, False)
        self.assertIs(read.outcome, Outcome.OK)
        self.assertIsInstance(read.path, tuple)
        self.assertIsInstance(read.filesize, int)
        self.assertEqual([type(value) for value in read.extra.values()], [str, int, float])

    def test_missing_is_null(self) -> None:
        """What is missing is NULL, never 0 or an empty text."""
        skipped = Measurement(
            start=1.5,
            id="a",
            source="s",
            experiment="e",
            filesize=1,
            outcome=Outcome.SKIPPED,
            errorcode="PERFD/BUSY",
        )
        connection = self.open()
        insert_many(connection, [skipped])
        connection.row_factory = sqlite3.Row
        row = connection.execute("SELECT * FROM measurements").fetchone()
        present = {name for name in row.keys() if row[name] is not None}  # noqa: SIM118 - a Row is no mapping
        self.assertEqual(
            present, {"start", "id", "source", "experiment", "type", "filesize", "outcome", "errorcode"}
        )

    def test_not_finite(self) -> None:
        """Even times that are no numbers, from an error inside Perfd, do not make a row unreadable."""
        reader = self.fill(typical(0, dataperc={50: float("inf")}, buildtimes=(float("nan"),)))
        (read,) = reader.measurements()
        self.assertEqual(read.dataperc, {50: float("inf")})
        self.assertNotEqual(read.buildtimes, (0.0,))

    def test_first_seen(self) -> None:
        """Circuits and streams are ordered by the first time that they know."""
        circuit = Circuit(id="a", source="s", tor="t", circ_id=1, status="BUILT")
        late = attrs.evolve(circuit, end=9.0, events=(Event(8.0, "BUILT"),))
        self.assertEqual([CIRCUITS.cursor(c) for c in (circuit, late)], [(0.0, "a"), (8.0, "a")])


class InsertTests(StoreCase):
    """insert_many, for imports."""

    def test_duplicates(self) -> None:
        """Measurements that are there are passed over, and those that are new are counted."""
        connection = self.open()
        self.assertEqual(insert_many(connection, [typical(n) for n in range(5)]), 5)
        self.assertEqual(insert_many(connection, [typical(n, source="x") for n in range(3, 8)]), 3)
        with StoreReader(self.path) as reader:
            self.assertEqual(reader.count(Filter(source="example")), 5)
            self.assertEqual(reader.count(), 8)

    def test_all_or_nothing(self) -> None:
        """An error leaves none of them, and the connection usable."""
        connection = self.open()
        bad = typical(1, status=2**70)
        self.assertRaises(OverflowError, insert_many, connection, [typical(0), bad])
        self.assertEqual(insert_many(connection, [typical(0)]), 1)

    def test_part_of_a_transaction(self) -> None:
        """Within a transaction it is a part of that."""
        connection = self.open()
        with self.assertRaises(KeyError), transaction(connection):
            insert_many(connection, [typical()])
            raise KeyError
        with StoreReader(self.path) as reader:
            self.assertEqual(reader.count(), 0)

    def test_bulk(self) -> None:
        """A prepared connection takes any iterable, and others read what it has written."""
        connection = self.open()
        prepare_for_bulk(connection)
        self.assertEqual(insert_many(connection, (typical(n) for n in range(1000))), 1000)
        with StoreReader(self.path) as reader:
            self.assertEqual(reader.count(), 1000)
