"""Results over HTTP, read from a database in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from perfd.record import Measurement
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.schema import open_database
from perfd.web.results.answers import Access, AnswerLimit, PublicDatabase
from perfd.web.results.records import result_resources
from tests.support.web_client import SiteTestCase, get

T = TypeVar("T")


class DirectReader:
    """Runs queries at once, or, when ``held``, as the test says; in the test's own thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.held = False
        self.waiting: list[Callable[[], None]] = []
        self.queries = 0
        self.failure: Exception | None = None

    def run(self, query: Callable[[StoreReader], T]) -> Deferred[T]:
        done: Deferred[T] = Deferred()

        def work() -> None:
            self.queries += 1
            try:
                if self.failure is not None:
                    raise self.failure
                with StoreReader(self._path) as reader:
                    result: T | Failure = query(reader)
            except Exception:  # noqa: BLE001 - it is the caller's
                result = Failure()
            if not done.called:
                done.callback(result)

        self.waiting.append(work)
        if not self.held:
            self.release()
        return done

    def call(self, function: Callable[[], T]) -> Deferred[T]:
        """Run it at once."""
        done: Deferred[T] = Deferred()
        try:
            done.callback(function())
        except Exception:  # noqa: BLE001 - it is the caller's
            done.errback()
        return done

    def release(self) -> None:
        """Run what waits, and what comes of that."""
        self.held, held = False, self.held
        while self.waiting:
            self.waiting.pop(0)()
        self.held = held

    def step(self) -> None:
        """Run one query."""
        self.waiting.pop(0)()


def no_tor(look: Callable[[], bool]) -> Deferred[bool]:
    """In the place of a look at whose a connection is, since those in memory are nobody's."""
    assert callable(look)
    return succeed(False)


class ResultsCase(SiteTestCase):
    """A site of results."""

    allowed = "all"

    def children(self) -> dict[str, IResource]:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.path = directory / "perfd.sqlite"
        self.reader = DirectReader(self.path)
        self.database = PublicDatabase(self.reader, Access(self.allowed, no_tor), AnswerLimit(3))
        return result_resources(self.database)

    def fill(self, *measurements: Measurement) -> None:
        with closing(open_database(self.path)) as connection:
            insert_many(connection, measurements)

    def body(self, path: str, *headers: str) -> bytes:
        """The whole body of a response that is well, chunks put together."""
        status, fields, body = self.ask(get(path, *headers))
        self.assertEqual(status, 200, body)
        return dechunked(body) if fields.get("Transfer-Encoding") == "chunked" else body

    def document(self, path: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body(path))
        return document

    def ids(self, query: str = "") -> list[int]:
        """The numbers of the typical measurements that a query finds."""
        return [int(result["id"], 16) for result in self.document(f"/results{query}")["results"]]


def dechunked(body: bytes) -> bytes:
    """The body in chunks that end as they must."""
    whole = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        count = int(size, 16)
        assert body[count : count + 2] == b"\r\n"
        if not count:
            assert body == b"\r\n"
            return whole
        whole += body[:count]
        body = body[count + 2 :]
