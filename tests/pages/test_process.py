"""The process that makes pages: a real one, that is killed, hangs, and ends when nobody asks."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from perfd.pages.layout import STYLE_PATH
from perfd.pages.process import MOST_WAITING, RESERVE, PagesProcess
from perfd.pages.records import Made, PageError, PageRequest, View
from perfd.store.inserts import insert_many
from perfd.store.reader import StoreReader
from perfd.store.schema import open_database
from tests.support.pages import state
from tests.support.strategies import typical


def asked(name: str = "about") -> PageRequest:
    return PageRequest(name=name, view=View(f"/{name}"), arguments={}, state=state())


class ProcessTests(TestCase):
    """Real processes."""

    timeout = 60

    def setUp(self) -> None:
        self.path = path = Path(self.mktemp())
        with closing(open_database(path)) as connection:
            insert_many(connection, [typical(1)])
        self.pages = PagesProcess(reactor, path)  # type: ignore[arg-type]
        self.pages.startService()
        self.addCleanup(self.pages.stopService)

    def ask(self, request: PageRequest) -> Deferred[Made]:
        return Deferred.fromCoroutine(self.pages.make(request))

    @property
    def pid(self) -> int:
        assert self.pages._child is not None
        return self.pages._child.pid

    async def test_pages(self) -> None:
        """One process makes all of them, also those that are asked for at once."""
        made = [self.ask(asked(name)) for name in ("about", "results", "about")]
        about, results, again = [await each for each in made]
        self.assertEqual(about, again)
        self.assertIn(STYLE_PATH.encode(), results.body)
        self.assertIn(typical(1).experiment.encode(), results.body)
        pid = self.pid
        await self.ask(asked())
        self.assertEqual(self.pid, pid)
        stopping = self.pages.stopService()
        assert stopping is not None
        await stopping
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        with self.assertRaises(PageError):
            await self.ask(asked())

    async def test_hours_are_summarized(self) -> None:
        """Between two pages, so that the next is made sooner."""
        with StoreReader(self.path) as reader:
            self.assertEqual(len(reader.stale_hours(0, 2**40)), 1)
        await self.ask(asked())
        await self.ask(asked())  # not before it has done that
        with StoreReader(self.path) as reader:
            self.assertEqual(reader.stale_hours(0, 2**40), [])

    async def test_killed(self) -> None:
        """Who waits is told to ask again, and the next has another process."""
        await self.ask(asked())
        os.kill(self.pid, signal.SIGSTOP)
        first, second = self.ask(asked()), self.ask(asked())
        await deferLater(reactor, 0)  # type: ignore[arg-type]
        os.kill(self.pid, signal.SIGKILL)
        with self.assertRaises(PageError) as caught:
            await first
        self.assertEqual(caught.exception.status, 503)
        self.assertEqual((await second).status, 200)
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    async def test_mistake_in_a_page(self) -> None:
        """A page that cannot be made costs itself."""
        with self.assertRaises(PageError):
            await self.ask(asked("nothing-of-this-name"))
        self.assertEqual((await self.ask(asked())).status, 200)

    async def test_hangs(self) -> None:
        """It is ended when its time is over."""
        await self.ask(asked())
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        self.pages._timeout = 0.2
        with self.assertRaises(PageError):
            await self.ask(asked())
        self.pages._timeout = 50.0
        self.assertEqual((await self.ask(asked())).status, 200)
        self.assertNotEqual(self.pid, pid)

    async def test_too_many(self) -> None:
        """Only so many wait."""
        stranger = attrs.evolve(asked(), seconds=20.0)
        waiting = [self.ask(stranger) for _ in range(MOST_WAITING + 1)]
        with self.assertRaises(PageError):
            await self.ask(stranger)
        waiting += [self.ask(asked()) for _ in range(RESERVE)]  # those of this machine have places of their own
        with self.assertRaises(PageError):
            await self.ask(asked())
        for each in waiting:
            self.assertEqual((await each).status, 200)

    async def test_who_asked_has_gone(self) -> None:
        """The answer to somebody who waits no longer is not given to the next."""
        await self.ask(asked())
        gone = self.ask(asked("results"))
        gone.addErrback(lambda _: None)
        gone.cancel()
        self.assertNotIn(b"<h1>Results", (await self.ask(asked())).body)

    async def test_answers_in_pieces(self) -> None:
        """A long page comes whole."""
        request = attrs.evolve(asked(), state=state([f"experiment-{n}" for n in range(3000)]))
        made = await self.ask(request)
        self.assertGreater(len(made.body), 300_000)
        self.assertTrue(made.body.endswith(b"</html>\n"))
