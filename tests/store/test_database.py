"""The database: its place, its schema and upgrades, and files that cannot be used."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from unittest import mock

import attrs
from twisted.trial.unittest import SynchronousTestCase

from perfd.record import FIELDS, Circuit, Stream
from perfd.store.database import (
    DatabaseURLError,
    NoDatabaseError,
    NotADatabaseError,
    SchemaVersionError,
    StoreError,
    database_path,
)
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.rows import CIRCUITS, MEASUREMENTS, STREAMS, TABLES, Table
from perfd.store.schema import check_database, load_upgrades, open_database, open_readonly
from tests.support.store import StoreCase, insert_old
from tests.support.strategies import typical


def dump(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    """The schema as SQLite has it, and its version."""
    schema = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    ).fetchall()
    return [*schema, connection.execute("PRAGMA user_version").fetchone()]


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
        """There is a column for each field of a record, and no other but the derived ones.

        Those of the first version are in the same order; what was added to a table later stands at its end.
        """
        self.assertEqual(sorted(self.columns(MEASUREMENTS)), sorted(field.name for field in FIELDS))
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
                # A column that was added later stands behind the last one, in the same line.
                self.assertRegex(line, r'^    ("?\w+"? [A-Z][A-Z ]+,? )+-- \S.*$')

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
                insert_old(old, [typical()])
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
        self.check(StoreError, "too long")

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
