"""One page load, in a browser that only the test plays: how it ends, and what of it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from perfd.browser.bidi import NO_ANSWER, BidiError
from perfd.browser.load import PageLoading
from perfd.browser.records import PageLoad, PageTask
from perfd.clock import Clock
from perfd.record import Error, Outcome

PAGE = "http://page.example/"
EPOCH = 1000.0
"""When the test begins, in seconds since the epoch."""

HEADERS = [{"name": "Server", "value": {"type": "string", "value": "x"}}]


class PlayedSession:
    """Answers as it is told to: ``answers`` has the result, or the exception, for a command; a Deferred waits."""

    def __init__(self) -> None:
        self.listener: Any = None
        self.answers: dict[str, Any] = {"browsingContext.navigate": {}, "session.status": {}}

    async def command(self, method: str, timeout: float, **params: Any) -> Mapping[str, Any]:
        answer = self.answers[method]
        if isinstance(answer, Deferred):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        if method != "script.evaluate":
            return answer
        return {"result": {"value": answer if isinstance(answer, str) else json.dumps(answer)}}


class LoadTests(SynchronousTestCase):
    """A task with 6 seconds, and 2 until a page rests. Times are seconds after the start."""

    def setUp(self) -> None:
        self.time = task.Clock()
        clock = Clock(wall=lambda: EPOCH + self.time.seconds(), monotonic=self.time.seconds)
        self.session: Any = PlayedSession()
        page = PageTask(url=PAGE, proxy_port=9, timeout=6, quiet=2, screenshot=False)
        self.loading = Deferred.fromCoroutine(PageLoading(self.time, clock, self.session, "tab", page).run())
        self.page_says()

    def page_says(self, **times: float) -> None:
        """The answer of the page, which began at 0; of what did not happen, the time is 0."""
        answer = {name: at * 1000 for name, at in times.items()}
        self.session.answers["script.evaluate"] = {"url": PAGE, "title": "t", "origin": EPOCH * 1000, **answer}

    def page_is_silent(self) -> None:
        self.session.answers["script.evaluate"] = BidiError(NO_ANSWER, "")

    def browsing(self, name: str, url: str = PAGE, **more: Any) -> None:
        event = {"context": "tab", "url": url, "navigation": "n", "timestamp": self.now_ms(), **more}
        self.session.listener.event_received(f"browsingContext.{name}", event)

    def network(self, name: str, number: str, **more: Any) -> None:
        asked = {"request": number, "url": PAGE + number, "method": "GET", "headers": [], "timings": {}}
        event = {"context": "tab", "navigation": None, "redirectCount": 0, "timestamp": self.now_ms(), **more}
        self.session.listener.event_received(f"network.{name}", {**event, "request": asked})

    def now_ms(self) -> float:
        return (EPOCH + self.time.seconds()) * 1000

    def document(self, **more: Any) -> None:
        """The page's own request, and its answer, which is shown."""
        answer = {"status": 200, "protocol": "http/1.1", "headers": HEADERS, "headersSize": 50, **more}
        self.browsing("navigationStarted")
        self.network("beforeRequestSent", "", navigation="n")
        self.network("responseCompleted", "", navigation="n", response=answer)
        self.browsing("navigationCommitted")

    def ended(self) -> PageLoad:
        loaded: PageLoad = self.successResultOf(self.loading)
        self.assertEqual(self.time.getDelayedCalls(), [])
        return loaded

    def test_rests(self) -> None:
        """A page is fully loaded with the end of its last request, also of one that failed."""
        self.document()
        self.browsing("load")
        self.time.advance(1)
        self.network("beforeRequestSent", "x")
        self.time.advance(1)
        self.network("fetchError", "x", errorText="NS_ERROR_NET_RESET")
        self.time.advance(2)
        loaded = self.ended()
        self.assertEqual((loaded.outcome, loaded.load, loaded.fully_loaded), (Outcome.OK, EPOCH, EPOCH + 2))
        self.assertEqual((loaded.end, loaded.title), (EPOCH + 4, "t"))

    def test_never_rests(self) -> None:
        """A page that asks for something again and again is never fully loaded, also when no request is open."""
        self.document()
        self.browsing("load")
        for number in range(4):
            self.time.advance(1.5)
            if number < 3:
                self.network("beforeRequestSent", str(number))
                self.network("responseCompleted", str(number), response={"status": 200, "headers": []})
        loaded = self.ended()
        self.assertEqual((loaded.outcome, loaded.load, loaded.fully_loaded), (Outcome.OK, EPOCH, None))
        self.assertEqual(loaded.end, EPOCH + 6)

    def test_too_late(self) -> None:
        """What happens after the deadline, while the page is asked, does not belong to the load."""
        self.document()
        answer = self.session.answers["script.evaluate"] = Deferred()
        self.time.advance(6)
        self.time.advance(0.5)
        self.browsing("load")
        self.network("beforeRequestSent", "late")
        self.page_says(dom_content_loaded=2, load=6.5, first_contentful_paint=5, largest_contentful_paint=6.2)
        answer.callback(self.session.answers["script.evaluate"])
        loaded = self.ended()
        self.assertEqual((loaded.outcome, loaded.load, loaded.end), (Outcome.TIMEOUT, None, EPOCH + 6))
        self.assertEqual((loaded.dom_content_loaded, loaded.first_contentful_paint), (EPOCH + 2, EPOCH + 5))
        self.assertIsNone(loaded.largest_contentful_paint)
        self.assertEqual(len(loaded.requests), 1)

    def test_another_page(self) -> None:
        """A page that came after the deadline does not answer for the one before."""
        self.document()
        self.browsing("load")
        self.network("beforeRequestSent", "open")
        self.page_says(origin=EPOCH + 6.1, load=0.1)
        self.time.advance(6)
        loaded = self.ended()
        self.assertEqual((loaded.outcome, loaded.load, loaded.title), (Outcome.OK, EPOCH, None))

    def test_crash(self) -> None:
        """News of a crash counts after the end too, since it explains the page's silence."""
        self.document()
        self.browsing("load")
        self.session.answers["script.evaluate"] = BidiError("unsupported operation", "")
        self.time.advance(2)
        self.browsing("navigationCommitted", "about:tabcrashed")
        self.time.advance(0.5)
        self.assertEqual(self.ended().errorcode, Error.CRASH)

    def test_busy(self) -> None:
        """A page whose scripts are too busy to answer is ok if it had its load event, else it is late."""
        self.document()
        self.browsing("load")
        self.page_is_silent()
        self.time.advance(2)
        loaded = self.ended()
        self.assertEqual((loaded.outcome, loaded.load, loaded.fully_loaded), (Outcome.OK, EPOCH, None))

        self.setUp()
        self.document()
        self.page_is_silent()
        self.time.advance(6)
        loaded = self.ended()
        self.assertEqual((loaded.outcome, loaded.errorcode), (Outcome.TIMEOUT, Error.TIMEOUT))
        self.assertIn("busy", loaded.reason or "")

        self.setUp()
        self.document()
        self.browsing("load")
        self.page_is_silent()
        self.session.answers["session.status"] = BidiError(NO_ANSWER, "")
        self.time.advance(2)
        self.assertEqual(self.ended().errorcode, Error.BROWSER)

    def test_stall(self) -> None:
        """A page that answers, but got nothing for half of its time, stalled."""
        self.document()
        self.page_says()
        self.time.advance(6)
        loaded = self.ended()
        self.assertEqual((loaded.outcome, loaded.errorcode), (Outcome.TIMEOUT, Error.STALL))

    def test_not_http(self) -> None:
        """Firefox shows anything as a page with the status 200; an answer without headers may be one."""
        for size, code in ((2, Error.HTTP), (len("HTTP/1.0 200\r\n\r\n"), None)):
            self.setUp()
            self.document(headers=[], headersSize=size)
            self.browsing("load")
            self.time.advance(2)
            self.assertEqual(self.ended().errorcode, code)

    def test_window_closed(self) -> None:
        """A page that closes its window has failed at once."""
        self.document()
        self.session.answers["script.evaluate"] = BidiError("no such frame", "")
        self.browsing("contextDestroyed", context="frame")
        self.assertNoResult(self.loading)
        self.browsing("contextDestroyed")
        loaded = self.ended()
        self.assertEqual((loaded.outcome, loaded.errorcode, loaded.end), (Outcome.FAILED, Error.PAGE, EPOCH))
        self.assertIn("closed its window", loaded.reason or "")

    def test_hostile_browser(self) -> None:
        """Whatever a browser says, the load ends with an outcome and a reason."""
        self.document(status="200", headersSize="many")
        self.session.answers["script.evaluate"] = "[" * 100_000
        self.browsing("load")
        self.time.advance(2)
        load = self.successResultOf(self.loading)
        self.assertEqual((load.outcome, load.errorcode, load.status), (Outcome.FAILED, Error.PAGE, None))
        self.assertIn("makes no sense", load.reason)

    def test_event_of_nonsense(self) -> None:
        """An event with an impossible number ends the load: the browser is to be restarted."""
        self.network("beforeRequestSent", "", timestamp=10**400)
        load = self.successResultOf(self.loading)
        self.assertEqual((load.outcome, load.errorcode), (Outcome.FAILED, Error.BROWSER))
        self.assertIn("makes no sense", load.reason)
