"""The database: its schema and upgrades, records as rows, reading."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import get_ident
from unittest import mock

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from perfd.record import FIELDS, Circuit, Event, Measurement, Outcome, Stream
from perfd.store.database import (
    DatabaseURLError,
    NoDatabaseError,
    NotADatabaseError,
    SchemaVersionError,
    StoreError,
    database_path,
    prepare_for_bulk,
    transaction,
)
from perfd.store.reader import AsyncReader, Filter, StoreReader, TorFilter
from perfd.store.rows import CIRCUITS, MEASUREMENTS, STREAMS, TABLES, Table
from perfd.store.schema import check_database, load_upgrades, open_database, open_readonly
from perfd.store.worker import ThreadWorker
from perfd.store.writer import insert_many
from tests.strategies import circuits, measurements, streams, typical


def dump(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    """The schema as SQLite has it, and its version."""
    schema = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    ).fetchall()
    return [*schema, connection.execute("PRAGMA user_version").fetchone()]


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


class DatabasePathTests(SynchronousTestCase):
    """The option ``database``."""

    def test_paths(self) -> None:
        """Three slashes are relative to the instance's directory, four are absolute."""
        here = Path("/srv/perfd")
        self.assertEqual(database_path("sqlite:///perfd.sqlite", here), here / "perfd.sqlite")
        self.assertEqual(database_path("sqlite:///data/a b%20.db", here), here / "data/a b%20.db")
        self.assertEqual(database_path("sqlite:////var/lib/x.db", here), Path("/var/lib/x.db"))
        self.assertTrue(database_path("sqlite:///x", Path("relative")).is_absolute())

    def test_errors(self) -> None:
        """What is not understood is refused with an example of what is."""
        for url in (
            "",
            "perfd.sqlite",
            "postgresql://localhost/perfd",
            "sqlite://x",
            "sqlite:///",
            "sqlite:///:memory:",
        ):
            self.assertRaisesRegex(DatabaseURLError, "sqlite:///perfd.sqlite", database_path, url, Path())
        for url in ("sqlite:///x/", "sqlite:///x?mode=ro", "sqlite:///x\0"):
            self.assertRaises(DatabaseURLError, database_path, url, Path())


class SchemaTests(StoreCase):
    """The tables."""

    def columns(self, table: Table[object]) -> list[str]:
        return [row[1] for row in self.open().execute(f"PRAGMA table_info({table.name})")]

    def test_columns_are_the_fields(self) -> None:
        """There is a column for each field of a record, in the same order, and no other but the derived ones."""
        self.assertEqual(self.columns(MEASUREMENTS), [field.name for field in FIELDS])
        self.assertEqual(self.columns(CIRCUITS), ["first_seen", *(a.name for a in attrs.fields(Circuit))])
        self.assertEqual(self.columns(STREAMS), ["first_seen", *(a.name for a in attrs.fields(Stream))])
        for table in TABLES:
            self.assertEqual(sorted(self.columns(table)), sorted(table.columns))

    def test_required_columns(self) -> None:
        """What a measurement must have must be in the row."""
        info = self.open().execute("PRAGMA table_info(measurements)")
        required = {field.name for field in FIELDS if field.required} | {"type"}
        self.assertEqual({row[1] for row in info if row[3]}, required)

    def test_comments(self) -> None:
        """The schema in the database itself has a comment for each column."""
        for (sql,) in self.open().execute("SELECT sql FROM sqlite_master WHERE type = 'table'"):
            lines = [line for line in sql.splitlines()[1:-1] if line.strip() and not line.strip().startswith("--")]
            for line in lines:
                self.assertRegex(line, r'^    "?\w+"? [A-Z][A-Z ]+,? -- \S.*$')

    def test_types(self) -> None:
        """The types are those that PostgreSQL has too."""
        for table in TABLES:
            types = {row[2] for row in self.open().execute(f"PRAGMA table_info({table.name})")}
            self.assertLessEqual(types, {"TEXT", "BIGINT", "DOUBLE PRECISION", "BOOLEAN"})

    def test_pragmas(self) -> None:
        """A write-ahead log that is safe against crashes of the process; other processes are waited for."""
        connection = self.open()
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        values = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
        self.assertEqual(values, ["wal", 1, 1, 5000])


class UpgradeTests(StoreCase):
    """From each version to this one."""

    def test_upgraded_is_fresh(self) -> None:
        """A database of any older version becomes what a new one is, and keeps what is in it."""
        fresh = dump(self.open())
        upgrades = load_upgrades()
        self.assertGreater(len(upgrades), 1)
        for version in range(1, len(upgrades)):
            self.path = self.path.with_name(f"old-{version}.sqlite")
            with closing(open_database(self.path, upgrades[:version])) as old:
                self.assertEqual(old.execute("PRAGMA user_version").fetchone(), (version,))
                insert_many(old, [typical()])
                before = dump(old)
            self.assertEqual(dump(self.open()), fresh)
            with StoreReader(self.path) as reader:
                self.assertEqual(reader.measurements(), [typical()])
            copy = self.path.with_name(f"{self.path.name}.version-{version}")
            with closing(open_readonly(copy, version)) as backup:
                self.assertEqual(dump(backup), before)
                self.assertEqual(backup.execute("SELECT COUNT(*) FROM measurements").fetchone(), (1,))

    def test_no_backup_of_nothing(self) -> None:
        """A new database is not backed up, nor one that is up to date."""
        self.open()
        self.open()
        self.assertEqual(list(self.path.parent.glob("*version*")), [])

    def test_failed_upgrade(self) -> None:
        """An upgrade happens as a whole or not at all."""
        with closing(open_database(self.path, ["CREATE TABLE a (x TEXT);"])) as old:
            before = dump(old)
        upgrades = ["CREATE TABLE a (x TEXT);", "CREATE TABLE b (x TEXT);\nCREATE TABLE a (x TEXT);\n"]
        self.assertRaises(sqlite3.OperationalError, open_database, self.path, upgrades)
        with closing(open_database(self.path, upgrades[:1])) as still_old:
            self.assertEqual(dump(still_old), before)

    def test_failed_creation(self) -> None:
        """A creation that failed (a full disk) leaves nothing that a later one would stumble over."""
        self.assertRaises(
            sqlite3.OperationalError, open_database, self.path, ["CREATE TABLE a (x TEXT);\nnonsense;"]
        )
        self.assertEqual(len(dump(self.open())), len(dump(self.open())))
        self.assertIn("measurements", {row[1] for row in dump(self.open())[:-1]})

    def test_two_at_once(self) -> None:
        """When another process has done the upgrade between the look and the lock, it is not done twice."""
        upgrades = load_upgrades()
        open_database(self.path, upgrades[:1]).close()
        seen = []

        class Racing(list[str]):
            def __getitem__(self, index: object) -> object:
                seen.append(index)
                return super().__getitem__(index)  # type: ignore[call-overload]

        with closing(open_database(self.path, Racing(upgrades))) as connection:
            self.assertEqual(connection.execute("PRAGMA user_version").fetchone(), (len(upgrades),))
        self.assertEqual(seen, [slice(1, None)])


class UnusableTests(StoreCase):
    """Databases that cannot be used, each with a clear error that names the file and the remedy."""

    def check(self, error: type[StoreError], *words: str) -> None:
        """``error`` with these words, to write, to read and to check."""
        for use in (open_database, StoreReader, check_database):
            raised = self.assertRaises(error, use, self.path)
            for word in (str(self.path), *words):
                self.assertIn(word, str(raised))

    def test_newer(self) -> None:
        """A database of a newer Perfd is not touched."""
        connection = self.open()
        connection.execute("PRAGMA user_version = 77")
        connection.close()
        before = self.path.read_bytes()
        self.check(SchemaVersionError, "newer version 77", "update Perfd")
        self.assertEqual(self.path.read_bytes(), before)

    def test_older(self) -> None:
        """A reader does not upgrade, but says what will."""
        open_database(self.path, load_upgrades()[:1]).close()
        raised = self.assertRaises(SchemaVersionError, StoreReader, self.path)
        self.assertIn("it is upgraded when Perfd is started", str(raised))
        check_database(self.path)

    def test_not_a_database(self) -> None:
        """A file of something else is not overwritten."""
        self.path.write_text("[perfd]\nsource = example\n" * 100, encoding="utf-8")
        before = self.path.read_bytes()
        self.check(NotADatabaseError, "is not a database", "perfd.conf")
        self.assertEqual(self.path.read_bytes(), before)

    def test_of_another_program(self) -> None:
        """Another program's database is refused, with or without a version of its own."""
        for version in (0, 1, 50):
            with closing(sqlite3.connect(self.path)) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS bookmarks (url TEXT)")
                connection.execute(f"PRAGMA user_version = {version}")
            self.check(NotADatabaseError, "another program")

    def test_damaged(self) -> None:
        """A database of which a part is overwritten is said to be damaged."""
        insert_many(self.open(), [typical(n) for n in range(200)])
        self.open().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = bytearray(self.path.read_bytes())
        content[8192:-4096] = b"\xa5" * (len(content) - 8192 - 4096)
        damaged = self.path.with_name("damaged.sqlite")
        damaged.write_bytes(content)
        with self.assertRaises(NotADatabaseError) as raised, StoreReader(damaged) as reader:
            reader.measurements()
        self.assertIn("is damaged", str(raised.exception))

    def test_places(self) -> None:
        """A missing directory, and a directory in the file's place."""
        self.path.mkdir()
        self.check(StoreError, "it is a directory")
        self.path = self.path.parent / "nowhere" / "perfd.sqlite"
        for use in (open_database, check_database):
            self.assertIn("there is no directory", str(self.assertRaises(StoreError, use, self.path)))
        self.path = self.path.parent.parent / ("x" * 300)
        self.check(StoreError, "File name too long")

    def test_not_ours(self) -> None:
        """A directory or a file that this user may not write is named before the start."""
        for denied, words in (
            (self.path.parent, f"its directory {self.path.parent} is not writable"),
            (self.path, "it is not readable and writable for this user"),
        ):
            with mock.patch("os.access", lambda path, mode, denied=denied: path != denied):
                self.path.touch()
                self.assertIn(words, str(self.assertRaises(StoreError, check_database, self.path)))

    def test_may_not_enter(self) -> None:
        """A place that this user may not even look at is a clear error, also for a reader."""
        with mock.patch.object(Path, "exists", side_effect=PermissionError(13, "Permission denied")):
            for use in (StoreReader, check_database):
                self.assertIn("Permission denied", str(self.assertRaises(StoreError, use, self.path)))

    def test_none_yet(self) -> None:
        """Reading before there is a database is an error of its own, and makes no file; checking is none."""
        self.assertRaises(NoDatabaseError, StoreReader, self.path)
        check_database(self.path)
        self.assertFalse(self.path.exists())


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


class ReaderTests(StoreCase):
    """Queries."""

    def ids(self, found: Iterable[Measurement]) -> list[int]:
        return [int(measurement.id, 16) for measurement in found]

    def test_filters(self) -> None:
        """Each part of a filter restricts, and all of them together."""
        reader = self.fill(
            typical(0),
            typical(1, source="other"),
            typical(2, experiment="upload"),
            typical(3, type="upload"),
            typical(4, filesize=1048576),
            typical(5, outcome=Outcome.TIMEOUT),
        )
        for wanted, expected in (
            (Filter(), [5, 4, 3, 2, 1, 0]),
            (Filter(oldest_first=True), [0, 1, 2, 3, 4, 5]),
            (Filter(source="other"), [1]),
            (Filter(experiment="upload"), [2]),
            (Filter(type="upload"), [3]),
            (Filter(size=1048576), [4]),
            (Filter(outcome=Outcome.TIMEOUT), [5]),
            (Filter(since=typical(2).start), [5, 4, 3, 2]),
            (Filter(until=typical(2).start), [1, 0]),
            (Filter(limit=2), [5, 4]),
            (Filter(limit=0), []),
            (Filter(source="example", type="download", since=typical(1).start, limit=2, oldest_first=True), [2, 4]),
            (Filter(source="'; DROP TABLE measurements; --"), []),
        ):
            found = reader.measurements(wanted)
            self.assertEqual(self.ids(found), expected, wanted)
            if wanted.limit is None:
                self.assertEqual(reader.count(wanted), len(expected))
        self.assertEqual(reader.measurements(Filter(source="other")), [typical(1, source="other")])

    def test_impossible_numbers(self) -> None:
        """Numbers that no database has are refused before they get there."""
        for values in ({"limit": -1}, {"size": -1}, {"size": 2**63}, {"limit": 2**63}):
            self.assertRaises(ValueError, Filter, **values)

    def test_one(self) -> None:
        """A measurement by its id."""
        reader = self.fill(typical(0), typical(1))
        self.assertEqual(reader.measurement(typical(1).id), typical(1))
        self.assertIsNone(reader.measurement("x"))

    @given(
        st.lists(st.sampled_from([1.0, 2.0, 3.5]), max_size=12),
        st.integers(1, 4),
        st.booleans(),
        st.none() | st.integers(0, 9),
    )
    def test_pages(self, starts: list[float], size: int, oldest_first: bool, limit: int | None) -> None:
        """Pages give what the whole query gives, however many measurements start at the same time."""
        self.setUp()
        reader = self.fill(*[typical(n, start=start) for n, start in enumerate(starts)])
        wanted = Filter(oldest_first=oldest_first, limit=limit)
        pages = list(reader.pages(wanted, size))
        self.assertTrue(all(0 < len(page) <= size for page in pages))
        self.assertEqual([m for page in pages for m in page], reader.measurements(wanted))
        self.doCleanups()

    def test_pages_are_stable(self) -> None:
        """What is added between two pages neither repeats nor hides what was there."""
        reader = self.fill(*[typical(2 * n) for n in range(10)])
        for oldest_first in (False, True):
            before = self.ids(reader.measurements(Filter(oldest_first=oldest_first)))
            pages = reader.pages(Filter(oldest_first=oldest_first), 3)
            seen = self.ids(next(pages))
            insert_many(self.open(), [typical(100 + n + 50 * oldest_first) for n in range(3)])
            insert_many(self.open(), [typical(2 * n + 1, source=str(oldest_first)) for n in range(2)])
            for page in pages:
                seen += self.ids(page)
            self.assertEqual([n for n in seen if n in before], before)
            self.assertEqual(len(seen), len(set(seen)))

    def test_last_successes(self) -> None:
        """For each experiment that ever succeeded, when its last success began."""
        failed = {"outcome": Outcome.FAILED}
        reader = self.fill(
            typical(0, experiment="a"),
            typical(1, experiment="a"),
            typical(2, experiment="a", **failed),
            typical(3, experiment="b", **failed),
            typical(4, experiment="c"),
        )
        self.assertEqual(reader.last_successes(), {"a": typical(1).start, "c": typical(4).start})

    def test_nothing(self) -> None:
        """An empty database has empty answers."""
        reader = self.fill()
        self.assertEqual(
            (reader.measurements(), list(reader.pages()), reader.count(), reader.last_successes()), ([], [], 0, {})
        )

    def test_reads_while_written(self) -> None:
        """A reader sees what is committed, and neither waits for a writer nor keeps one waiting."""
        reader = self.fill(typical(0))
        writer = self.open()
        with transaction(writer):
            insert_many(writer, [typical(1)])
            self.assertEqual(self.ids(reader.measurements()), [0])
        self.assertEqual(self.ids(reader.measurements()), [1, 0])

    def test_cannot_write(self) -> None:
        """A reader's connection cannot change anything."""
        self.open()
        with closing(open_readonly(self.path)) as connection:
            self.assertRaisesRegex(
                sqlite3.OperationalError, "readonly", connection.execute, "DELETE FROM measurements"
            )

    def test_circuits_and_streams(self) -> None:
        """Tor's records by time and tor, and the streams of a measurement."""
        connection = self.open()
        circuit = Circuit(id="a", source="s", tor="t", circ_id=1, status="BUILT", launch=5.0)
        stream = Stream(id="x", source="s", tor="t", stream_id=7, status="CLOSED", new=6.0, measurement="m")
        for n in range(3):
            c = attrs.evolve(circuit, id=f"a{n}", launch=5.0 + n, tor=f"t{n}")
            s = attrs.evolve(stream, id=f"x{n}", new=6.0 + n, measurement="m" if n else None)
            connection.execute(CIRCUITS.insert, CIRCUITS.row(c))
            connection.execute(STREAMS.insert, STREAMS.row(s))
        with StoreReader(self.path) as reader:
            self.assertEqual([c.id for c in reader.circuits()], ["a2", "a1", "a0"])
            self.assertEqual([c.id for c in reader.circuits(TorFilter(tor="t1"))], ["a1"])
            self.assertEqual(reader.circuits(TorFilter(source="other")), [])
            self.assertEqual([c.id for c in reader.circuits(TorFilter(source="s", until=6.0))], ["a0"])
            self.assertEqual([s.id for s in reader.streams(TorFilter(since=7.0, oldest_first=True))], ["x1", "x2"])
            self.assertEqual([s.id for s in reader.streams(TorFilter(after=(8.0, "x2"), limit=1))], ["x1"])
            self.assertEqual([s.id for s in reader.streams_of("m")], ["x1", "x2"])
            self.assertEqual(reader.circuit("a0"), attrs.evolve(circuit, id="a0", tor="t0"))
            self.assertIsNone(reader.circuit("b"))


class PlanTests(StoreCase):
    """Queries do not get slower with the number of measurements."""

    def plan(self, act: str, wanted: Filter | None = None) -> list[str]:
        """How SQLite goes about the queries that a reader's method makes."""
        reader = self.fill()
        queries: list[tuple[str, tuple[object, ...]]] = []
        reader._query = lambda sql, values: queries.append((sql, tuple(values))) or []  # type: ignore[assignment, func-returns-value, method-assign]
        getattr(reader, act)(*([wanted] if wanted else []))
        connection = self.open()
        return [row[3] for sql, v in queries for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", v)]

    def test_indexed(self) -> None:
        """Everything that is asked often goes by an index, without sorting."""
        day = {"since": 1.7e9, "until": 1.7e9 + 86400}
        for wanted in (
            Filter(limit=100),
            Filter(experiment="a", **day),
            Filter(experiment="a", **day, oldest_first=True),
            Filter(source="s", type="download", size=51200, **day),
            Filter(experiment="a", outcome=Outcome.OK, **day),
            Filter(experiment="a", after=(1.7e9, "x"), limit=100),
            Filter(after=(1.7e9, "x"), limit=100),
        ):
            plan = self.plan("measurements", wanted)
            self.assertEqual(len(plan), 1, plan)
            self.assertRegex(plan[0], r"USING INDEX measurements_by_(start|experiment)", str(wanted))
            if wanted.experiment:
                self.assertRegex(plan[0], r"\(experiment=\? AND \(?start")
        for line in self.plan("last_successes"):
            if re.search(r"\bm\b|measurements", line):
                self.assertRegex(line, "SEARCH .*USING (COVERING )?INDEX measurements_successes|^SCAN names")


class Calls:
    """A reactor whose calls from threads are made by the test that waits for them."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        self._calls.put(lambda: function(*args))

    def wait_for(self, deferred: Deferred[object]) -> object:
        """What ``deferred`` fires with."""
        results: list[object] = []
        deferred.addBoth(results.append)
        while not results:
            self._calls.get(timeout=60)()
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]


class AsyncReaderTests(StoreCase):
    """Queries for the reactor's thread."""

    def setUp(self) -> None:
        super().setUp()
        self.calls = Calls()
        self.worker = ThreadWorker(self.calls, "reader", 2)

    def test_results_and_errors(self) -> None:
        """A query runs in another thread; its result and its errors come back into the reactor's."""
        reader = AsyncReader(self.worker, self.path)
        reader.start()
        self.addCleanup(reader.stop)
        self.assertRaises(NoDatabaseError, self.calls.wait_for, reader.run(lambda r: r.count()))
        self.fill(typical(0))
        self.assertEqual(self.calls.wait_for(reader.run(lambda r: r.measurements())), [typical(0)])
        self.assertNotEqual(self.calls.wait_for(reader.run(lambda _: get_ident())), get_ident())

    def test_cancelled(self) -> None:
        """Nobody is told the result of a query that was cancelled."""
        self.worker.start()
        self.addCleanup(self.worker.stop)
        cancelled = self.worker.run(lambda: 1)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        for n in range(4):
            self.assertEqual(self.calls.wait_for(self.worker.run(partial(int, n))), n)
