"""Reading the database: filters, pages, indexes, threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from queue import SimpleQueue
from threading import get_ident
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from perfd.record import Circuit, Error, Measurement, Outcome, Stream, TorEvent
from perfd.store.database import NoDatabaseError, transaction
from perfd.store.filters import Filter, StreamFilter, TorFilter
from perfd.store.inserts import insert_many
from perfd.store.reader import AsyncReader, History, StoreReader
from perfd.store.rows import CIRCUITS, EVENTS, STREAMS
from perfd.store.schema import open_readonly
from perfd.store.worker import ThreadWorker
from perfd.variant import Variant
from tests.support.store import StoreCase
from tests.support.strategies import typical

WAY = Variant("default", "public")


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
            typical(4, filesize=1048576, extra={"URL": "http://a/"}),
            typical(5, outcome=Outcome.TIMEOUT),
        )
        for wanted, expected in (
            (Filter(), [5, 4, 3, 2, 1, 0]),
            (Filter(oldest_first=True), [0, 1, 2, 3, 4, 5]),
            (Filter(source="other"), [1]),
            (Filter(experiment="upload"), [2]),
            (Filter(type="upload"), [3]),
            (Filter(size=1048576), [4]),
            (Filter(url="http://a/"), [4]),
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

    def test_newest_rows(self) -> None:
        """With a limit the newest are read, the oldest of them first."""
        reader = self.fill(*(typical(n) for n in range(9)))
        found = list(reader.rows(("id",), Filter(limit=3)))
        self.assertEqual(found, [(typical(n).id,) for n in (6, 7, 8)])

    def test_new_versions(self) -> None:
        """A version is new when its tor had another one before; the time is that of its first measurement."""
        reader = self.fill(
            *(typical(n, tor="a", torversion="1" if n < 4 else "2") for n in (0, 5, 4, 1)),
            *(typical(n, tor="b", torversion="1") for n in (10, 11)),
            *(typical(n, tor=None, torversion="3") for n in (20, 21)),
        )
        at = typical(4).start
        self.assertEqual(reader.new_versions(0, at + 1), [(at, "a", "2")])
        self.assertEqual(reader.new_versions(0, at), [])
        self.assertEqual(reader.versions(), [(at, "a", "2")])

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

    def test_history(self) -> None:
        """Of a variant: its first measurement, its last success, and the failures since then."""
        failed, cancelled = ({"outcome": outcome} for outcome in (Outcome.FAILED, Outcome.CANCELLED))
        reader = self.fill(
            typical(0, experiment="a", **failed),
            typical(1, experiment="a"),
            typical(2, experiment="a", **failed),
            typical(3, experiment="a", **cancelled),
            typical(4, experiment="b", **failed),
            typical(5, experiment="b", outcome=Outcome.SKIPPED),
            typical(6, experiment="a"),
        )
        start = [typical(n).start for n in range(8)]
        self.assertEqual(reader.history("a", WAY, start[7]), History(start[0], start[6], 0))
        self.assertEqual(reader.history("a", WAY, start[6]), History(start[0], start[1], 1))
        self.assertEqual(reader.history("b", WAY, start[7]), History(start[4], None, 2))
        self.assertIsNone(reader.history("a", WAY, start[0]))
        self.assertIsNone(reader.history("c", WAY, start[7]))

    def test_history_of_variants(self) -> None:
        """None of them counts what another one did."""
        variants: list[dict[str, Any]] = [
            {},
            {"tor": "none"},
            {"server": "onion"},
            {"tor": None, "server": None},
            {"extra": {"OPTIMISTIC": 0}},
            {"extra": {"OPTIMISTIC": 1}},
            {"extra": {"BROWSER": "cold"}},
            {"extra": {"BROWSER": "cold", "OPTIMISTIC": 1, "REQUESTS": 70}},
        ]
        failures = [typical(10 + n, **each, outcome=Outcome.FAILED) for n, each in enumerate(variants)]
        successes = [typical(n, **each) for n, each in enumerate(variants)]
        reader = self.fill(*successes, *failures)
        for success in successes:
            history = reader.history(success.experiment, Variant.of(success), typical(99).start)
            self.assertEqual(history, History(success.start, success.start, 1))
        self.assertIsNone(reader.history("download-50k", Variant("none", "onion"), typical(99).start))

    def test_last_slot(self) -> None:
        """Of one variant of this instance, before a time; what covers many slots counts with its last one."""
        slots = [typical(n).slot for n in range(6)]
        assert all(slot is not None for slot in slots)
        down = {"COUNT": 2, "FROM": slots[3], "UNTIL": slots[4]}
        covering = typical(3, start=slots[3], outcome=Outcome.SKIPPED, errorcode="PERFD/DOWN", extra=down)
        reader = self.fill(typical(0), typical(1, tor="alpha"), typical(2, source="other"), covering)
        self.assertEqual(reader.last_slot("example", "download-50k", WAY, 1e12), slots[4])
        self.assertEqual(reader.last_slot("example", "download-50k", WAY, slots[3] or 0.0), slots[0])
        self.assertEqual(reader.last_slot("example", "download-50k", Variant("alpha", "public"), 1e12), slots[1])
        self.assertIsNone(reader.last_slot("example", "download-5m", WAY, 1e12))

    def test_last_slot_of_a_run_that_waited(self) -> None:
        """A run that waited for its turn starts after slots that were skipped; the last of those counts."""
        slots = [typical(n).slot or 0.0 for n in range(4)]
        busy = [typical(n, start=slots[n], outcome=Outcome.SKIPPED, errorcode=Error.BUSY) for n in (2, 3)]
        waited = typical(1, start=slots[3] + 1.0)
        reader = self.fill(typical(0), *busy, waited)
        self.assertEqual(reader.last_slot("example", "download-50k", WAY, 1e12), slots[3])
        early = typical(5, start=slots[3] + 2.0)  # the clock was set back between its slot and its start
        self.assertEqual(self.fill(early).last_slot("example", "download-50k", WAY, 1e12), early.slot)

    def test_requests(self) -> None:
        """Those of a series, by their ids; a history is of runs, so they are not in it."""
        other, late = (
            typical(4, id="s0-0000", type="request"),
            typical(3, id="s-0001", type="request", experiment="a"),
        )
        early, series = typical(2, id="s-0000", type="request", experiment="a"), typical(1, id="s", type="series")
        reader = self.fill(late, other, early, series)
        self.assertEqual(reader.requests_of("s"), [early, late])
        self.assertEqual(reader.measurements(Filter(series="s")), [late, early])
        self.assertEqual(reader.measurements(Filter(requests=False)), [series])
        self.assertEqual((reader.count(Filter(series="s")), reader.requests_of("nothing")), (2, []))
        self.assertEqual(reader.history("a", WAY, typical(9).start), History(early.start, None, 0))

    def test_nothing(self) -> None:
        """An empty database has empty answers."""
        reader = self.fill()
        self.assertEqual(
            (reader.measurements(), list(reader.pages()), reader.count(), reader.events()), ([], [], 0, [])
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
            self.assertEqual([s.id for s in reader.streams(StreamFilter(measurement="m"))], ["x2", "x1"])
            self.assertEqual(reader.circuit("a0"), attrs.evolve(circuit, id="a0", tor="t0"))
            self.assertIsNone(reader.circuit("b"))

    def test_events(self) -> None:
        """Other events by time and tor; paging by time and id, so that no two of the same moment are lost."""
        events = [TorEvent(5.0 + n // 2, "s", f"t{n % 2}", "GUARD", str(n), f"e{n}") for n in range(4)]
        connection = self.open()
        for event in events:
            connection.execute(EVENTS.insert, EVENTS.row(event))
        with StoreReader(self.path) as reader:
            self.assertEqual(reader.events(), events[::-1])
            self.assertEqual(reader.events(TorFilter(tor="t1", until=6.0)), [events[1]])
            self.assertEqual(reader.events(TorFilter(after=EVENTS.cursor(events[1]))), [events[0]])


class PlanTests(StoreCase):
    """Queries do not get slower with the number of measurements."""

    def plan(self, act: str, *arguments: object) -> list[str]:
        """How SQLite goes about the queries that a reader's method makes."""
        reader = self.fill()
        queries: list[tuple[str, tuple[object, ...]]] = []
        reader._query = lambda sql, values: queries.append((sql, tuple(values))) or []  # type: ignore[assignment, func-returns-value, method-assign]
        getattr(reader, act)(*arguments)
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
        for plan in (self.plan("requests_of", "s"), self.plan("measurements", Filter(series="s", limit=100))):
            self.assertRegex(plan[0], r"SEARCH measurements USING INDEX \w*autoindex\w* \(id>\? AND id<\?\)")
        self.assertEqual(len(self.plan("requests_of", "s")), 1)
        for line in self.plan("history", "a", WAY, 1.7e9):
            if "measurements" in line:
                self.assertRegex(
                    line, r"SEARCH .* INDEX measurements_(successes|by_experiment) \(experiment=\? AND start"
                )
        for wanted in (TorFilter(limit=100), TorFilter(tor="t", **day), StreamFilter(after=(1.7e9, "x"), limit=9)):
            for table in ("circuits", "streams", "events"):
                if table == "streams" or not isinstance(wanted, StreamFilter):
                    self.assertRegex(" ".join(self.plan(table, wanted)), f"USING INDEX {table}_by_time")
        self.assertRegex(
            " ".join(self.plan("streams", StreamFilter(measurement="m", limit=100))), "INDEX streams_by_measurement"
        )


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
