"""Retention: what is deleted, what stays, and that others can write meanwhile."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from perfd.daemon.upkeep import retention, work
from perfd.daemon.upkeep.retention import delete_old, give_back
from perfd.daemon.upkeep.work import Work
from perfd.record import Circuit, Stream, TorEvent
from perfd.store.reader import StoreReader
from perfd.store.schema import open_database
from tests.support.curves import arrival
from tests.support.places import DATA
from tests.support.stored import CONFIG, Stored
from tests.support.strategies import typical

DAY = 86400.0
VALUES: dict[str, Any] = {"source": "example", "tor": "default", "status": "CLOSED"}


def circuit(at: float, **changes: Any) -> Circuit:
    return Circuit(**{**VALUES, "id": f"1-c{at}", "circ_id": 1, "launch": at, **changes})


def stream(at: float, **changes: Any) -> Stream:
    return Stream(**{**VALUES, "id": f"1-s{at}", "stream_id": 1, "new": at, **changes})


def event(at: float) -> TorEvent:
    return TorEvent(id=f"e{at}", at=at, source="example", tor="default", keyword="GUARD", text="ENTRY X UP")


class RetentionTests(SynchronousTestCase):
    """On real databases."""

    def setUp(self) -> None:
        self.instance = Stored(Path(self.mktemp()))
        self.pauses: list[float] = []

    def delete(
        self, measurements_before: float | None, events_before: float, curves_before: float = 0.0
    ) -> dict[str, int]:
        with closing(open_database(self.instance.database)) as connection:
            return delete_old(
                connection, "example", measurements_before, events_before, curves_before, self.pauses.append
            )

    def test_each_kind_by_its_own_time(self) -> None:
        """Measurements go by one limit, circuits, streams and events by another."""
        times = [typical(n).start for n in range(4)]
        self.instance.add(map(typical, range(4)), map(circuit, times), map(stream, times), map(event, times))
        deleted = self.delete(times[1], times[3])
        self.assertEqual(deleted, {"measurements": 1, "circuits": 3, "streams": 3, "events": 3, "curves": 0})
        self.assertEqual([m.id for m in self.instance.measurements()], [typical(n).id for n in (1, 2, 3)])
        self.assertEqual([c.launch for c in self.instance.circuits()], [times[3]])
        self.assertEqual([s.new for s in self.instance.streams()], [times[3]])

    def test_curves_have_a_time_of_their_own(self) -> None:
        """Whatever becomes of their measurements."""
        places = ((10.0, "example"), (30.0, "example"), (10.0, "other"))
        self.instance.add(curves=[arrival(f"m{source}{at}", at, source) for at, source in places])
        self.assertEqual(self.delete(None, 0.0, 20.0)["curves"], 1)
        with StoreReader(self.instance.database) as reader:
            found = reader.curves_of("mexample10.0", "mexample30.0", "mother10.0")
        self.assertEqual(found, [arrival("mother10.0", 10.0, "other"), arrival("mexample30.0", 30.0)])

    def test_measurements_are_kept_for_ever(self) -> None:
        """Unless perfd.conf says otherwise."""
        self.instance.add(map(typical, range(4)))
        self.assertEqual(self.delete(None, 2e9)["measurements"], 0)
        self.assertEqual(len(self.instance.measurements()), 4)

    def test_other_sources_stay(self) -> None:
        """What somebody imported is not ours to delete."""
        self.instance.add(
            [typical(0), typical(1, source="other"), typical(2)],
            [circuit(1.0), circuit(2.0, source="other")],
            [stream(1.0, source="other")],
        )
        self.delete(2e9, 2e9)
        self.assertEqual([m.source for m in self.instance.measurements()], ["other"])
        self.assertEqual([c.source for c in self.instance.circuits()], ["other"])
        self.assertEqual(len(self.instance.streams()), 1)

    def test_what_was_imported_stays(self) -> None:
        """Also results, circuits and streams of our own source, as after a move from OnionPerf to Perfd."""
        self.instance.configure("[perfd]\nsource = op-nl2\nnetwork = socks\nkeep = 1 d\nkeep-events = 1 d\n")
        code, _, err = self.instance.perfd("import", DATA / "op-nl2.onionperf-2.0.analysis.json")
        self.assertEqual(code, 0, err)
        before = self.instance.measurements(), self.instance.circuits(), self.instance.streams()
        self.assertTrue(all(before))
        ours = {"source": "op-nl2", "tor": "unknown"}
        self.instance.add(
            [typical(source="op-nl2")], [circuit(5.0, id="a-c1", **ours)], [stream(5.0, id="a-s1", **ours)]
        )
        self.assertTrue(work.run(Work.from_config(self.instance.config), 2e9, lambda _: None))
        after = self.instance.measurements(), self.instance.circuits(), self.instance.streams()
        self.assertEqual(after, before)

    def test_small_steps(self) -> None:
        """No transaction deletes more than a batch, and after each the writer has its turn."""
        self.instance.add(typical(n, start=5.0) for n in range(25))  # equal times, too
        with mock.patch.object(retention, "BATCH", 10):
            self.assertEqual(self.delete(2e9, 2e9)["measurements"], 25)
        self.assertEqual(self.pauses, [retention.PAUSE] * 3)

    def test_others_write_between_the_steps(self) -> None:
        """The daemon's writer gets the lock in every pause."""
        self.instance.add(map(typical, range(30)))
        written = 0
        with (
            closing(open_database(self.instance.database)) as ours,
            closing(sqlite3.connect(self.instance.database, timeout=0, isolation_level=None)) as daemon,
        ):

            def write(_: float) -> None:
                nonlocal written
                daemon.execute("BEGIN IMMEDIATE")
                daemon.execute("COMMIT")
                written += 1

            with mock.patch.object(retention, "BATCH", 10):
                delete_old(ours, "example", 2e9, 2e9, 2e9, write)
                give_back(ours, write)
        self.assertGreaterEqual(written, 3)

    def size(self) -> int:
        with closing(sqlite3.connect(self.instance.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.instance.database.stat().st_size

    def test_space_is_given_back(self) -> None:
        """The file gets smaller; the first time by rewriting it, later a few pages at a time."""
        self.instance.add(map(typical, range(2000)))
        full = self.size()
        self.delete(typical(1000).start, 0.0)
        with closing(open_database(self.instance.database)) as connection:
            freed = give_back(connection, self.pauses.append)
        half = self.size()
        self.assertLess(half, 0.6 * full)
        self.assertAlmostEqual(freed / (full - half), 1.0, delta=0.1)
        self.delete(typical(1900).start, 0.0)
        self.pauses.clear()
        with (
            closing(open_database(self.instance.database)) as connection,
            mock.patch.object(retention, "PAGES", 50),
        ):
            statements: list[str] = []
            connection.set_trace_callback(statements.append)
            self.assertGreater(give_back(connection, self.pauses.append), 0)
            self.assertLess(sum("incremental_vacuum" in each for each in statements), 1 + freed / 4096 / 50)
        self.assertGreater(len(self.pauses), 2)
        self.assertNotIn("VACUUM", statements)
        self.assertLess(self.size(), 0.2 * full)
        self.assertEqual(len(self.instance.measurements()), 100)

    def test_a_large_database_is_not_rewritten(self) -> None:
        """That would hold up the writer; its free pages are used again instead."""
        self.instance.add(map(typical, range(500)))
        with closing(open_database(self.instance.database)) as connection, mock.patch.object(retention, "SMALL", 1):
            self.assertEqual(give_back(connection, self.pauses.append), 0)
        before = self.size()
        self.delete(2e9, 0.0)
        self.instance.add(map(typical, range(500)))
        self.assertLessEqual(self.size(), 1.05 * before)

    def test_the_days_work(self) -> None:
        """keep and keep-events count in whole UTC days before today."""
        self.instance.configure(CONFIG + "keep = 2 d\nkeep-events = 1 d\narchive = no\n")
        today = 20_000 * DAY
        times = [today - 2 * DAY - 1.0, today - 2 * DAY, today - DAY - 1.0, today - DAY, today + 5.0]
        self.instance.add(
            [typical(n, start=at) for n, at in enumerate(times)], map(circuit, times), map(stream, times)
        )
        said: list[str] = []
        self.assertTrue(work.run(Work.from_config(self.instance.config), today + 80_000.0, said.append))
        self.assertEqual([m.start for m in self.instance.measurements()], times[1:])
        self.assertEqual(sorted(c.launch or 0.0 for c in self.instance.circuits()), times[3:])
        self.assertEqual(len(self.instance.streams()), 2)
        self.assertIn("deleted 1 measurements, 3 circuits, 3 streams", said[0])

    def test_published_files_stay(self) -> None:
        """The archive outlives the database's rows, and is not written again."""
        self.instance.configure(CONFIG + "keep = 1 d\n")
        self.instance.add([typical(0)])
        work.run(Work.from_config(self.instance.config), typical(0).start + 9 * DAY, lambda _: None)
        archive = self.instance.directory / "archive"
        before = {path.name: path.stat().st_mtime_ns for path in archive.iterdir()}
        self.assertEqual(len(before), 4)
        self.assertEqual(self.instance.measurements(), [])
        work.run(Work.from_config(self.instance.config), typical(0).start + 19 * DAY, lambda _: None)
        self.assertEqual({path.name: path.stat().st_mtime_ns for path in archive.iterdir()}, before)

    def test_options(self) -> None:
        """Measurements are kept for ever and events for 30 days by default; both are whole days."""
        config = self.instance.config
        self.assertEqual((config.keep, config.keep_events, config.archive), (None, 30, True))
        self.instance.configure(CONFIG + "keep = 90 d\nkeep-events = 7 d\narchive = no\n")
        config = self.instance.config
        self.assertEqual((config.keep, config.keep_events, config.archive), (90, 7, False))
        self.instance.configure(CONFIG + "keep = 90 s\n")
        code, _, err = self.instance.perfd("results")
        self.assertEqual(code, 1)
        self.assertIn("keep: ", err)
