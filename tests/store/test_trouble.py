"""The database's sink in trouble: full disks, locks, kill -9; and what it costs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from perfd.record import Attach, Event, Hop
from perfd.store import writer
from perfd.store.database import StoreError
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.schema import open_database
from perfd.store.writer import STOP_TIMEOUT
from tests.support.places import CHECKOUT
from tests.support.store import CIRCUIT, STREAM, SinkCase, checkpoint
from tests.support.strategies import typical


class TroubleTests(SinkCase):
    """While the database cannot be written."""

    def test_disk_full(self) -> None:
        """On a full disk (SQLITE_FULL) records wait, are tried again, and none is lost or doubled."""
        self.start()
        self.record(*range(5))
        self.fill_disk()
        self.record(*range(5, 50))
        self.assertIn("full", self.sink.status.trouble or "")
        for _ in range(10):
            self.clock.advance(60)
        pending = self.sink.status.pending
        self.assertGreater(pending, 0)
        self.assertEqual(self.stored(), list(range(50 - pending)))
        self.free_disk()
        self.clock.advance(60)
        self.assertEqual(self.stored(), list(range(50)))
        self.assertEqual((self.sink.status.trouble, self.sink.status.pending), (None, 0))

    def test_one_line_per_streak(self) -> None:
        """Trouble is logged once, and its end."""
        self.start()
        for n in range(2):
            self.fill_disk()
            self.record(*range(1000 * n, 1000 * n + 100))
            for _ in range(20):
                self.clock.advance(60)
            self.free_disk()
            self.clock.advance(60)
        texts = self.texts()
        self.assertEqual(len(texts), 4)
        for text in texts[::2]:
            self.assertIn(f"{self.path} cannot be written: database or disk is full", text)
        for text in texts[1::2]:
            self.assertIn("is written again; 0 records", text)

    def test_growing_pauses(self) -> None:
        """The pauses double from a second to a minute, and further records do not shorten them."""
        tries: list[float] = []

        def locked(path: Path) -> sqlite3.Connection:
            tries.append(self.clock.seconds())
            raise sqlite3.OperationalError("database is locked")

        self.patch(self.sink, "_connect", locked)
        self.start()
        self.assertEqual(self.sink.status.trouble, "database is locked")
        for n in range(200):
            self.record(n)
            self.clock.advance(1)
        self.assertEqual([b - a for a, b in pairwise(tries)], [1, 1, 2, 4, 8, 16, 32, 60, 60])

    def test_start_with_full_disk(self) -> None:
        """A disk on which not even the file can be made does not keep Perfd from measuring."""
        connect = self.connect

        def tiny(path: Path) -> sqlite3.Connection:
            raise sqlite3.OperationalError("database or disk is full")

        self.patch(self.sink, "_connect", tiny)
        self.start()
        self.record(0)
        self.assertEqual(self.sink.status, writer.StoreStatus("database or disk is full", 1))
        self.patch(self.sink, "_connect", connect)
        self.clock.advance(1)
        self.assertEqual(self.stored(), [0])

    def test_locked_by_another_process(self) -> None:
        """While another process (an import) holds the lock, records wait."""

        def impatient(path: Path) -> sqlite3.Connection:
            connection = open_database(path)
            connection.execute("PRAGMA busy_timeout = 0")
            return connection

        self.patch(self.sink, "_connect", impatient)
        self.start()
        with closing(open_database(self.path)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.record(0)
            self.assertIn("locked", self.sink.status.trouble or "")
            other.execute("ROLLBACK")
            self.clock.advance(1)
        self.assertEqual(self.stored(), [0])

    def test_file_replaced(self) -> None:
        """When the file was damaged or taken away, it is made anew as soon as that is possible."""
        self.start()
        self.record(0)
        self.sink._close()
        self.path.write_bytes(b"damaged" * 1000)
        self.record(1)
        self.assertIn("is not a database", self.sink.status.trouble or "")
        self.path.unlink()
        self.clock.advance(1)
        self.assertEqual(self.stored(), [1])

    def test_queue_is_bounded(self) -> None:
        """Only so many records wait; those that come then are refused, counted and said once."""
        self.patch(writer, "MAX_PENDING", 10)
        self.start()
        self.fill_disk()
        self.record(*range(100, 150))
        self.assertEqual(self.sink.status.pending, 10)
        self.free_disk()
        self.clock.advance(1)
        self.assertEqual(self.sink.status.pending, 0)
        stored = self.stored()
        self.assertEqual(stored, list(range(100, 100 + len(stored))))
        self.assertEqual(len([text for text in self.texts() if "records waiting" in text]), 1)
        self.assertIn(f"; {50 - len(stored)} records could not wait", self.texts()[-1])

    def test_stop_in_trouble(self) -> None:
        """Stopping tries once more at once, and then says how many records are not in the database."""
        self.start()
        self.fill_disk()
        self.record(*range(50))
        self.sink.record_circuit(CIRCUIT)
        pending = self.sink.status.pending
        self.stop()
        self.assertIn(f"1 circuits, {pending - 1} measurements could not be written", self.texts()[-1])
        self.assertIn("(database or disk is full)", self.texts()[-1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_last_try_succeeds(self) -> None:
        """When there is space again at the end, nothing is missing."""
        self.start()
        self.fill_disk()
        self.record(*range(50))
        self.free_disk()
        self.stop()
        self.assertEqual(self.stored(), list(range(50)))

    def test_stop_has_a_limit(self) -> None:
        """A disk that hangs does not hang the stop."""
        self.start()
        self.worker.held = True
        self.record(0)
        stopping = Deferred.fromCoroutine(self.sink.stop())
        self.clock.advance(STOP_TIMEOUT)
        self.assertNoResult(stopping)
        self.clock.advance(STOP_TIMEOUT)
        self.successResultOf(stopping)
        self.assertIn("1 measurements could not be written", self.texts()[-1])
        self.assertIn("took longer", self.texts()[-1])


MOVES = {
    "the file": [""],
    "the file and its log": ["", "-wal"],
    "all": ["", "-wal", "-shm"],
    "the log": ["-wal"],
    "the index": ["-shm"],
    "for another": [""],
    "with its log for another": ["", "-wal"],
}
"""Files of an open database that may be moved; another one may take the place."""


class ReplacedTests(SinkCase):
    """Files that somebody deletes, moves or replaces under the open database."""

    def setUp(self) -> None:
        super().setUp()
        self.elsewhere = self.path.with_name("elsewhere")
        self.elsewhere.mkdir()
        self.start()
        self.record(*range(5))

    def move(self, *names: str) -> None:
        for name in names:
            (self.path.parent / name).rename(self.elsewhere / name)

    def moved(self) -> list[int]:
        """The records of the database that was moved."""
        return self.whole(self.elsewhere / "perfd.sqlite")

    def whole(self, path: Path) -> list[int]:
        """The records of a database, which must be whole; none if there is none."""
        if not path.exists():
            return []
        with closing(open_database(path)) as connection:
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        with StoreReader(path) as reader:
            return sorted(int(measurement.id, 16) for measurement in reader.measurements())

    def told(self) -> list[str]:
        return [text.partition(" while Perfd ran")[0] for text in self.texts() if "while Perfd ran" in text]

    def test_moved(self) -> None:
        """What was stored before is in the moved file, alone or with its log; what comes then in the new one."""
        for names in (("perfd.sqlite",), ("perfd.sqlite", "perfd.sqlite-wal", "perfd.sqlite-shm")):
            with self.subTest(names):
                self.move(*names)
                self.record(*range(5, 10))
                self.assertEqual((self.moved(), self.stored()), (list(range(5)), list(range(5, 10))))
                for path in (*self.elsewhere.iterdir(), self.path):
                    path.unlink()
                self.record(*range(5))
                self.record(*range(100, 100))
        self.assertEqual(self.told()[0], f"the database {self.path} was deleted or moved")
        self.assertIsNotNone(self.sink.status.replaced)

    def test_log_or_index_moved(self) -> None:
        """What is in the write-ahead log is not lost with its name."""
        for n, name in enumerate(("perfd.sqlite-wal", "perfd.sqlite-shm")):
            self.move(name)
            self.record(10 + n)
            self.assertEqual(self.told()[n], f"the database {self.path} was deleted or moved ({name})")
        self.assertEqual(self.stored(), [*range(5), 10, 11])
        with closing(open_database(self.path)) as connection:
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])

    def test_replaced_by_another(self) -> None:
        """The old write-ahead log is not taken for that of a database that takes the place."""
        other = self.elsewhere / "other.sqlite"
        with closing(open_database(other)) as connection:
            insert_many(connection, [typical(n) for n in range(50, 60)])
        other.rename(self.path)
        self.record(5)
        self.assertEqual(self.stored(), [5, *range(50, 60)])
        with closing(open_database(self.path)) as connection:
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        self.assertEqual(self.told(), [f"the database {self.path} was replaced"])

    def test_replaced_by_rubbish(self) -> None:
        """What is no database is told, by name or in place; records are held until it goes."""
        for n, replace in enumerate((self.put_beside, self.path.write_bytes)):
            with self.subTest(replace):
                checkpoint(self.path)
                replace(b"rubbish" * 1000)
                self.record(100 + n)
                self.clock.advance(60)
                self.assertIn("not a database", self.sink.status.trouble or "")
                self.assertEqual(self.sink.status.pending, 1)
                self.path.unlink()
                self.clock.advance(60)
                self.assertEqual((self.stored(), self.sink.status.pending), ([100 + n], 0))

    def put_beside(self, content: bytes) -> None:
        other = self.elsewhere / "other"
        other.write_bytes(content)
        other.rename(self.path)

    def test_overwritten(self) -> None:
        """A file of which all is still in the write-ahead log is whole again."""
        for n, content in enumerate((b"rubbish" * 1000, b"")):
            self.path.write_bytes(content)
            self.sink.look()
            self.record(*range(5 * n + 5, 5 * n + 10))
            self.assertEqual(self.stored(), list(range(5 * n + 10)))
        self.assertEqual(self.told()[-1], f"the database {self.path} was overwritten")

    def test_emptied(self) -> None:
        """One of which nothing is left is begun anew."""
        checkpoint(self.path)
        self.path.write_bytes(b"")
        self.record(5)
        self.assertEqual(self.stored(), [5])

    def test_directory_vanished(self) -> None:
        """Records are held until there is a directory again."""
        directory = self.path.parent
        shutil.rmtree(directory)
        self.record(5)
        self.assertIn(f"there is no directory {directory}", self.sink.status.trouble or "")
        directory.mkdir()
        self.clock.advance(1)
        self.assertEqual((self.stored(), self.sink.status.pending), ([5], 0))

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.sampled_from(("record", "look", "read", *MOVES)), max_size=25))
    def test_whatever_is_done(self, steps: list[str]) -> None:
        """Each record is in one of the databases, and each of them is whole, in whatever order files are moved."""
        self.setUp()
        places = [self.path.parent]
        count = 5
        for step in steps:
            if step == "record":
                self.record(count)
                count += 1
            elif step == "look":
                self.sink.look()
            elif step == "read":
                with contextlib.suppress(StoreError, sqlite3.Error), StoreReader(self.path) as reader:
                    reader.count()
            elif all(self.path.with_name(self.path.name + name).exists() for name in MOVES[step]):
                places.append(self.path.parent / f"place-{len(places)}")
                self.move_for(step, places[-1])
                if step == "for another":
                    # Until Perfd has looked, which it does every five seconds, the log of the old one lies beside
                    # the other: whoever moves these two away together has two halves.
                    self.sink.look()
        self.stop()
        found = [number for place in places for number in self.whole(place / self.path.name)]
        self.assertEqual(sorted(found), list(range(count)))

    def move_for(self, step: str, place: Path) -> None:
        place.mkdir()
        for name in MOVES[step]:
            self.path.with_name(self.path.name + name).rename(place / (self.path.name + name))
        if step.endswith("another"):
            with closing(open_database(self.elsewhere / "other")):
                pass
            (self.elsewhere / "other").rename(self.path)
        if "" not in MOVES[step]:  # a log that is parted from its file for longer is the mover's to bring back
            self.sink.look()

    def test_in_the_moment_of_a_write(self) -> None:
        """A batch that went into a file that was just deleted is written again."""
        insert = writer.insert_all

        def delete_too(connection: sqlite3.Connection, batch: Any) -> None:
            insert(connection, batch)
            self.path.unlink()
            self.patch(writer, "insert_all", insert)

        self.patch(writer, "insert_all", delete_too)
        self.record(5)
        self.clock.advance(1)
        self.assertEqual(self.stored(), [5])

    def test_look(self) -> None:
        """It is noticed without a record, and its end too; what comes during a look is not forgotten."""
        self.put_beside(b"rubbish" * 1000)
        self.sink.look()
        self.assertIsNotNone(self.sink.status.trouble)
        self.clock.advance(1)
        self.path.unlink()
        self.sink.look()
        self.assertIsNone(self.sink.status.trouble)
        self.worker.held = True
        self.sink.look()
        self.record(5)
        self.worker.release()
        self.assertEqual(self.stored(), [5])

    def test_moved_before_the_end(self) -> None:
        """A file that is moved before the stop is whole."""
        self.move("perfd.sqlite")
        self.stop()
        self.assertEqual(self.moved(), list(range(5)))

    def test_others_may_write(self) -> None:
        """Another process that writes to the database, and a checkpoint of it, are no replacement."""
        with closing(open_database(self.path)) as other:
            insert_many(other, [typical(7)])
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.record(8)
        self.assertEqual((self.told(), self.stored()), ([], [*range(5), 7, 8]))


class SizeTests(SinkCase):
    """What it costs."""

    def test_a_day(self) -> None:
        """24 hours of the default set, with 4,000 circuits and their streams, add less than 20 MiB."""
        self.start()
        for n in range(288 + 48 + 24):
            self.record(n)
        hops = tuple(Hop(f"${letter * 40}", f"nickname{letter}", 1700000000.123456) for letter in "ABC")
        events = tuple(Event(1700000000.123456 + n, f"CIRC_BW GENERAL {n}") for n in range(10))
        for n in range(4000):
            self.sink.record_circuit(
                attrs.evolve(
                    CIRCUIT,
                    id=f"{n:032x}",
                    launch=1700000000.123456,
                    built=1700000001.123456,
                    end=1700000601.123456,
                    status="CLOSED",
                    purpose="CONFLUX_LINKED",
                    build_flags=("NEED_CAPACITY", "IS_INTERNAL"),
                    path=hops,
                    failure_local="FINISHED",
                    timeout=1500,
                    quantile=0.8,
                    cbt_set=True,
                    conflux_id="D" * 64,
                    cc_cwnd=124,
                    cc_rtt=0.123456,
                    events=events,
                )
            )
            self.sink.record_stream(
                attrs.evolve(
                    STREAM,
                    id=f"{n:032x}",
                    new=1700000000.123456,
                    end=1700000010.123456,
                    target="192.0.2.1:8080",
                    source_addr="127.0.0.1:54321",
                    measurement=typical(n).id,
                    circuit=f"{n:032x}",
                    attaches=(Attach(n, 1700000000.123456),),
                    failure_local="DONE",
                    events=events[:5],
                )
            )
        self.stop()
        size = sum(path.stat().st_size for path in self.path.parent.iterdir())
        self.assertLess(size, 20 << 20)

    def test_memory(self) -> None:
        """Memory does not grow with the number of measurements."""
        self.start()
        self.record(*range(500))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.record(*range(500, 1000))
        before, _ = tracemalloc.get_traced_memory()
        self.record(*range(1000, 3000))
        after, _ = tracemalloc.get_traced_memory()
        self.assertLess(after - before, 200 * 1024)


class ProcessTests(SynchronousTestCase):
    """Real limits and real kills, in processes of their own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "perfd.sqlite"

    def spawn(self, script: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        command = [sys.executable, "-c", dedent(script)]
        process = subprocess.Popen(command, cwd=self.directory, env=environment, stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def test_kill(self) -> None:
        """After kill -9 of a writing process the database opens, and nothing that was committed is missing."""
        process = self.spawn(
            """
            from pathlib import Path
            from perfd.store.schema import open_database
            from perfd.store.inserts import insert_many
            from tests.support.strategies import typical
            connection = open_database(Path("perfd.sqlite"))
            n = 0
            while True:
                insert_many(connection, [typical(n + i) for i in range(7)])
                n += 7
                print(n, flush=True)
            """
        )
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 700:
                break
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        committed = int(rest.splitlines()[-1]) if rest.endswith("\n") else int(line)
        process.wait(timeout=60)
        with closing(open_database(self.path)) as connection:
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchone(), ("ok",))
        with StoreReader(self.path) as reader:
            numbers = sorted(int(measurement.id, 16) for measurement in reader.measurements())
        self.assertEqual(numbers, list(range(len(numbers))))
        self.assertGreaterEqual(len(numbers), committed)
        self.assertEqual(len(numbers) % 7, 0)

    def test_file_size_limit(self) -> None:
        """Where the file cannot grow (here a limit of the process) nothing is lost, and it goes on afterwards."""
        process = self.spawn(
            """
            import resource
            from pathlib import Path
            from twisted.internet.defer import ensureDeferred
            from twisted.internet.task import Clock
            from perfd.store.writer import StoreSink
            from tests.support.strategies import typical
            from tests.support.store import InlineWorker
            clock = Clock()
            sink = StoreSink(clock, InlineWorker(), Path("perfd.sqlite"))
            ensureDeferred(sink.start())
            sink.record(typical(0))
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
            for n in range(1, 400):
                sink.record(typical(n))
            print(sink.status.trouble, sink.status.pending > 100)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            clock.advance(1)
            print(sink.status)
            """
        )
        output, _ = process.communicate(timeout=120)
        first, second = output.splitlines()
        self.assertIn(first, ("disk I/O error True", "database or disk is full True"))
        self.assertEqual(second, "StoreStatus(trouble=None, pending=0, replaced=None)")
        with StoreReader(self.path) as reader:
            self.assertEqual(reader.count(), 400)
