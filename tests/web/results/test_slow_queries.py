"""Strangers whose queries read the whole database."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from perfd.record import Outcome
from perfd.store.database import QueryTooLongError
from perfd.store.filters import Filter
from perfd.store.inserts import insert_many
from perfd.store.reader import AsyncReader, StoreReader
from perfd.store.rows import MEASUREMENTS
from perfd.store.schema import open_database
from perfd.store.worker import ThreadWorker
from perfd.web.results.answers import Access, PublicDatabase
from perfd.web.results.records import result_resources
from perfd.web.site import make_site
from perfd.web.stamps import ServerStamps
from tests.support.strategies import typical

ROWS = 100_000
RELAY = "$" + "A" * 40
STRANGERS = 40


def fill(path: Path) -> None:
    """Many measurements, made by SQLite itself out of one."""
    with closing(open_database(path)) as connection:
        insert_many(connection, [typical(0, path=("$" + "B" * 40,) * 3)])
        names = ", ".join(f'"{name}"' for name in MEASUREMENTS.columns if name not in ("id", "start"))
        numbers = f"WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {ROWS})"
        rows = f"SELECT printf('%032x', n), start + n, {names} FROM measurements, numbers"
        connection.execute(f"INSERT INTO measurements (id, start, {names}) {numbers} {rows}")


class SlowQueryTests(TestCase):
    """Over real connections, with the database's threads."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        fill(self.path)
        self.threads = ThreadPool(1, STRANGERS + 5)
        self.threads.start()
        self.addCleanup(self.threads.stop)

    def serve(self, most: float) -> tuple[int, int]:
        """The ports for strangers and for this machine."""
        workers = [ThreadWorker(reactor, f"reader-{n}", 2) for n in range(2)]
        readers = [AsyncReader(workers[0], self.path), AsyncReader(workers[1], self.path, most)]
        for each in readers:
            each.start()
            self.addCleanup(each.stop)
        database = PublicDatabase(readers[1], Access("all"), local=readers[0])
        ports = []
        for is_far in (True, False):
            stamps = ServerStamps(time.monotonic)
            site = make_site(result_resources(database), reactor=reactor, stamps=stamps, is_far=is_far)
            listening = reactor.listenTCP(0, site, interface="127.0.0.1")
            self.addCleanup(listening.stopListening)
            ports.append(listening.getHost().port)
        return ports[0], ports[1]

    def get(self, port: int, query: str) -> Deferred[tuple[int, Any]]:
        def fetch() -> tuple[int, Any]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/results?{query}", timeout=60) as response:
                    return response.status, json.load(response)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)

        return deferToThreadPool(reactor, self.threads, fetch)

    @pytest.mark.long
    async def test_local_readers_have_their_place(self) -> None:
        """However many strangers read the whole database, this machine is answered."""
        far, near = self.serve(60.0)
        strangers = [self.get(far, f"relay={RELAY}") for _ in range(STRANGERS)]
        found = await gatherResults([self.get(near, "limit=1") for _ in range(4)])
        waiting = sum(not each.called for each in strangers)
        self.assertEqual([status for status, _ in found], [200] * 4)
        self.assertGreater(waiting, STRANGERS // 2)
        answers = await gatherResults(strangers)
        self.assertLessEqual({status for status, _ in answers}, {200, 503})

    @pytest.mark.long
    async def test_bound(self) -> None:
        """A stranger's query that takes too long is ended, and says what is quicker; this machine's is not."""
        far, near = self.serve(0.001)
        status, answer = await self.get(far, f"relay={RELAY}")
        self.assertEqual(status, 503)
        self.assertIn("narrow it with since and until", answer["error"]["message"])
        status, answer = await self.get(near, f"relay={RELAY}")
        self.assertEqual((status, answer["results"]), (200, []))

    def test_rare_things_have_an_index(self) -> None:
        """What is rare is found without reading all rows."""
        with StoreReader(self.path, most=None) as reader:
            steps = 0

            def step() -> int:
                nonlocal steps
                steps += 1
                return 0

            reader._connection.set_progress_handler(step, 1000)
            for wanted in (Filter(errorcode="TOR/X"), Filter(outcome=Outcome.FAILED), Filter(guard="$" + "C" * 40)):
                steps = 0
                self.assertEqual(reader.measurements(wanted), [])
                self.assertLess(steps, 3, wanted)
            steps = 0
            self.assertEqual(reader.measurements(Filter(relay=RELAY)), [])
            self.assertGreater(steps, 100)
        with StoreReader(self.path, most=0.0) as reader:
            self.assertRaises(QueryTooLongError, reader.measurements, Filter(relay=RELAY))
