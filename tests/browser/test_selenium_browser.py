"""The Selenium driver: what its reports mean, its deadlines, and real loads in a real Firefox."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock as FakeTime
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from perfd.browser import selenium_browser
from perfd.browser.files.har import har_document
from perfd.browser.firefox import owned_prefix, sweep
from perfd.browser.records import PageLoad, PageTask
from perfd.browser.selenium_browser import START_LIMIT, SeleniumBrowser, SeleniumOptions
from perfd.browser.selenium_results import page_load
from perfd.clock import Clock
from perfd.record import Error, Outcome
from perfd.socks.server import SOCKSServer
from perfd.socks.server_machine import ClientRequest
from perfd.socks.way_out import Direct
from perfd.tor.endpoints import tcp_endpoint
from tests.support.geckodriver import GECKODRIVER, missing

reactor: Any = global_reactor

NOW = 1795444800.0
URL = "http://site.example/"


def task(url: str = URL, **fields: Any) -> PageTask:
    return PageTask(**{"url": url, "proxy_port": 9, "timeout": 20.0, **fields})


SESSION = {"event": "session", "at": NOW, "browser": "firefox", "version": "153.7"}
NAVIGATING = {"event": "navigating", "at": NOW + 1}

PAGE = {
    "origin": (NOW + 1.01) * 1000,
    "url": URL,
    "title": "Page",
    "paints": [700, 900],
    "entries": [
        {
            "entryType": "navigation",
            "name": "document",
            "startTime": 0,
            "connectStart": 10,
            "secureConnectionStart": 40,
            "connectEnd": 100,
            "requestStart": 101,
            "responseStart": 200,
            "responseEnd": 250,
            "responseStatus": 200,
            "nextHopProtocol": "h2",
            "contentType": "text/html",
            "transferSize": 800,
            "encodedBodySize": 500,
            "domContentLoadedEventStart": 400,
            "loadEventStart": 600,
        },
        {
            "entryType": "resource",
            "name": "http://site.example/a.png",
            "initiatorType": "img",
            "startTime": 300,
            "connectStart": 300,
            "connectEnd": 300,
            "requestStart": 310,
            "responseStart": 400,
            "responseEnd": 1500,
            "responseStatus": 200,
            "transferSize": 0,
            "encodedBodySize": 50,
        },
        {"entryType": "resource", "name": "http://other.example/b.js", "startTime": 300, "responseEnd": 500},
        {"entryType": "resource", "name": "data:,x", "startTime": 300, "responseEnd": 500},
        {"entryType": "paint", "name": "first-contentful-paint", "startTime": 450},
    ],
}


def finished(**fields: Any) -> dict[str, Any]:
    return {"event": "finished", "at": NOW + 9, "error": None, "rested": True, "page": PAGE, **fields}


def page_with(**values: Any) -> dict[str, Any]:
    """The page, with other values in its Navigation Timing."""
    navigation, *others = PAGE["entries"]  # type: ignore[misc]
    return {**PAGE, "entries": [{**navigation, **values}, *others]}


def told(*reports: dict[str, Any]) -> PageLoad:
    """What the reports of a child that ended by itself mean."""
    return page_load(task(), NOW, NOW + 10, reports, None)


def failed(message: str, kind: str = "WebDriverException") -> PageLoad:
    """What it means that Selenium raised this while the page was loaded."""
    return told(SESSION, NAVIGATING, finished(error={"type": kind, "message": message}))


class ResultsTests(SynchronousTestCase):
    """What the reports of a child mean."""

    def test_page(self) -> None:
        """All times are turned into seconds since the epoch; fully loaded is the last response."""
        load = told(SESSION, NAVIGATING, finished(screenshot=base64.b64encode(b"png").decode()))
        self.assertEqual((load.driver, load.browser, load.browser_version), ("selenium", "firefox", "153.7"))
        self.assertEqual((load.outcome, load.errorcode), (Outcome.OK, None))
        self.assertEqual((load.url, load.status, load.title, load.screenshot), (URL, 200, "Page", b"png"))
        self.assertEqual((load.start, load.end), (NOW + 1, NOW + 9))
        origin = NOW + 1.01
        names = ("navigation_start", "first_byte", "last_byte", "dom_content_loaded", "load", "fully_loaded")
        for name, offset in zip(names, (0, 0.2, 0.25, 0.4, 0.6, 1.5), strict=True):
            self.assertAlmostEqual(getattr(load, name), origin + offset, places=5, msg=name)
        self.assertAlmostEqual(load.first_contentful_paint or 0, origin + 0.45, places=5)
        self.assertAlmostEqual(load.largest_contentful_paint or 0, origin + 0.9, places=5)

    def test_requests(self) -> None:
        """A request has the steps that Resource Timing tells; what it keeps silent about is None."""
        page, image, other = told(SESSION, NAVIGATING, finished()).requests
        self.assertEqual((page.url, page.is_navigation, page.kind, page.protocol), (URL, True, "document", "h2"))
        self.assertAlmostEqual(page.tls_start or 0, NOW + 1.05, places=5)
        self.assertEqual((page.body_size, page.mime_type, page.status), (500, "text/html", 200))
        self.assertEqual(
            (image.connect_start, image.connect_end, image.from_cache, image.kind), (None, None, True, "image")
        )
        self.assertEqual((other.request_start, other.response_start, other.status, other.body_size), (None,) * 4)
        self.assertAlmostEqual(other.response_end or 0, NOW + 1.51, places=5)

    def test_not_rested(self) -> None:
        """A page that did not come to rest was not fully loaded."""
        self.assertIsNone(told(SESSION, NAVIGATING, finished(rested=False)).fully_loaded)

    def test_status(self) -> None:
        """A page with an error status failed, and keeps its times."""
        load = told(SESSION, NAVIGATING, finished(page=page_with(responseStatus=404)))
        self.assertEqual((load.outcome, load.errorcode, load.status), (Outcome.FAILED, Error.STATUS, 404))
        self.assertIsNotNone(load.first_byte)

    def test_errors(self) -> None:
        """What Selenium raises has a code of Perfd's; nothing is told of the error page."""
        shown = "Reached error page: about:{}&u=http%3A//site.example\nStacktrace:\nR"
        for message, kind, code in (
            (shown.format("neterror?e=redirectLoop"), "WebDriverException", Error.REDIRECTS),
            (shown.format("neterror?e=nssFailure2"), "WebDriverException", Error.TLS),
            (shown.format("certerror?e=nssBadCert"), "InsecureCertificateException", Error.TLS),
            ("", "InsecureCertificateException", Error.TLS),
            (shown.format("neterror?e=netReset"), "WebDriverException", Error.PAGE),
            (shown.format("neterror?e=proxyConnectFailure"), "WebDriverException", Error.CONNECT),
            ("Failed to decode response from marionette", "WebDriverException", Error.BROWSER),
            ("Tried to run command without establishing a connection", "InvalidSessionIdException", Error.BROWSER),
            ("connection refused", "MaxRetryError", Error.BROWSER),
            ("Browsing context has been discarded", "NoSuchWindowException", Error.CRASH),
            ("Malformed URL", "InvalidArgumentException", Error.PAGE),
        ):
            load = failed(message, kind)
            self.assertEqual((load.outcome, load.errorcode), (Outcome.FAILED, code), message)
            self.assertEqual((load.navigation_start, load.requests), (None, ()))
            self.assertNotIn("\n", load.reason or "")

    def test_timeout(self) -> None:
        """A page that met its deadline is a timeout with what came of it; a download is told apart."""
        error = {"type": "TimeoutException", "message": "Navigation timed out"}
        late = finished(error=error, rested=False, page=page_with(loadEventStart=0))
        load = told(SESSION, NAVIGATING, {"event": "overdue", "downloaded": False}, late)
        self.assertEqual((load.outcome, load.errorcode), (Outcome.TIMEOUT, Error.TIMEOUT))
        self.assertEqual(len(load.requests), 3)
        load = told(SESSION, NAVIGATING, {"event": "overdue", "downloaded": True}, late)
        self.assertEqual((load.outcome, load.errorcode), (Outcome.FAILED, Error.DOWNLOAD))

    def test_overdue_for_the_driver(self) -> None:
        """A page that had its load event is no timeout if the driver waited for more; it was not fully loaded."""
        late = finished(error={"type": "TimeoutException", "message": "Navigation timed out"}, rested=False)
        load = told(SESSION, NAVIGATING, {"event": "overdue", "downloaded": False}, late)
        self.assertEqual((load.outcome, load.errorcode, load.fully_loaded), (Outcome.OK, None, None))
        self.assertIsNotNone(load.load)

    def test_not_http(self) -> None:
        """An answer without any header is not HTTP, and the status that Firefox gives it is none."""
        bare = {"contentType": "text/plain", "finalResponseHeadersStart": 0}
        load = told(SESSION, NAVIGATING, finished(page=page_with(**bare)))
        self.assertEqual((load.outcome, load.errorcode, load.status), (Outcome.FAILED, Error.HTTP, None))
        for other in ({"finalResponseHeadersStart": 150}, {"requestStart": 0}, {"contentType": "text/html"}):
            load = told(SESSION, NAVIGATING, finished(page=page_with(**bare | other)))
            self.assertEqual((load.outcome, load.status), (Outcome.OK, 200))

    def test_no_session(self) -> None:
        """Whatever goes wrong before the page is asked for is the browser's fault."""
        load = told(finished(page=None, error={"type": "SessionNotCreatedException", "message": "no\nfirefox"}))
        self.assertEqual((load.errorcode, load.reason, load.start), (Error.BROWSER, "no", NOW))

    def test_other_page(self) -> None:
        """A page of the browser's own in the place of the one asked for is a failure."""
        for page in ({**PAGE, "url": "about:blank"}, {}, None, "text"):
            load = told(SESSION, NAVIGATING, finished(page=page))
            self.assertEqual((load.outcome, load.errorcode, load.requests), (Outcome.FAILED, Error.PAGE, ()))

    def test_nonsense(self) -> None:
        """A page whose scripts tamper with the answer gets fields that are missing, and no traceback."""
        for bad in (None, True, "1", -5, float("nan"), float("inf"), [], {}):
            entries = [dict.fromkeys(entry, bad) | {"entryType": entry["entryType"]} for entry in PAGE["entries"]]  # type: ignore[attr-defined]
            load = told(SESSION, NAVIGATING, finished(page={**PAGE, "entries": [*entries, bad], "paints": [bad]}))
            har_document(load)
            told(
                SESSION, NAVIGATING, finished(page={**dict.fromkeys(PAGE, bad), "url": URL}, screenshot=bad, at=bad)
            )


class FakePool:
    """A thread pool that does the work at once."""

    def callInThreadWithCallback(self, done: Callable[..., None], work: Callable[..., Any], *args: Any) -> None:
        try:
            result = work(*args)
        except Exception:  # noqa: BLE001 - as a thread pool does
            done(False, Failure())
        else:
            done(True, result)


class FakeProcess(StringTransport):
    """The process of a child."""

    pid = 1 << 23  # no system has so many

    def __init__(self) -> None:
        super().__init__()
        self.signals: list[str] = []

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)
        if len(self.signals) > 1:
            raise ProcessExitedAlready


class FakeReactor(FakeTime):
    """Starts no process; threads do their work at once."""

    def __init__(self) -> None:
        super().__init__()
        self.process = FakeProcess()
        self.child: Any = None
        self.directory = Path()

    def getThreadPool(self) -> FakePool:
        return FakePool()

    def callFromThread(self, call: Callable[..., None], *args: Any) -> None:
        call(*args)

    def spawnProcess(self, protocol: Any, executable: str, args: Any, env: Any, path: str) -> None:
        self.child, self.directory, self.process = protocol, Path(path), FakeProcess()
        protocol.makeConnection(self.process)

    def report(self, *reports: dict[str, Any]) -> None:
        for report in reports:
            self.child.childDataReceived(1, json.dumps(report).encode() + b"\n")


class ChildTests(SynchronousTestCase):
    """The parent's side, with a child that is not real."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        self.options = SeleniumOptions(geckodriver="/bin/true", binary="/bin/true", directory=directory)
        self.browser = SeleniumBrowser(self.reactor, Clock(), self.options)

    def start(self, **fields: Any) -> Deferred[PageLoad]:
        return Deferred.fromCoroutine(self.browser.load(task(**fields)))

    def ended(self, loading: Deferred[PageLoad]) -> tuple[Outcome, str | None]:
        """How the load ended; its child must be gone, and its files removed."""
        load = self.successResultOf(loading)
        killed = ["KILL"] if self.reactor.child.exit_code is None else []
        self.assertEqual(self.reactor.process.signals, killed)
        self.assertFalse(self.reactor.directory.exists())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        return load.outcome, load.errorcode

    def test_job(self) -> None:
        """The child is told what to load and through which proxy; it gives the page up before its deadline."""
        loading = self.start(proxy_port=4321)
        job = json.loads(self.reactor.process.value())
        self.assertEqual((job["url"], job["page_timeout"], job["geckodriver"]), (URL, 18.0, "/bin/true"))
        self.assertEqual(job["prefs"]["network.proxy.socks_port"], 4321)
        self.assertIs(job["prefs"]["network.proxy.socks5_remote_dns"], True)
        self.reactor.report(SESSION, NAVIGATING, finished())
        self.assertEqual(self.ended(loading), (Outcome.OK, None))

    def test_reports_in_pieces(self) -> None:
        """A report may arrive in pieces."""
        loading = self.start()
        for byte in json.dumps(NAVIGATING).encode() + b"\n" + json.dumps(finished()).encode() + b"\n":
            self.reactor.child.childDataReceived(1, bytes([byte]))
        self.assertEqual(self.ended(loading), (Outcome.OK, None))

    def test_start_limit(self) -> None:
        """A browser that does not start is given up; the page's time has not begun then."""
        loading = self.start(timeout=1.0)
        self.reactor.advance(START_LIMIT - 1)
        self.assertNoResult(loading)
        self.reactor.advance(1)
        self.assertEqual(self.ended(loading), (Outcome.FAILED, Error.BROWSER))

    def test_hung_browser(self) -> None:
        """A geckodriver or browser that hangs ends at the page's deadline."""
        loading = self.start()
        self.reactor.report(SESSION, NAVIGATING)
        self.reactor.advance(19.9)
        self.assertNoResult(loading)
        self.reactor.advance(0.2)
        self.assertEqual(self.ended(loading), (Outcome.FAILED, Error.BROWSER))

    def test_hung_page(self) -> None:
        """A page that cannot even be asked about when its time is over is a timeout."""
        loading = self.start()
        self.reactor.report(SESSION, NAVIGATING, {"event": "overdue", "downloaded": False})
        self.reactor.advance(20)
        self.assertEqual(self.ended(loading), (Outcome.TIMEOUT, Error.TIMEOUT))

    @pytest.mark.long
    def test_busy_page(self) -> None:
        """A page that hangs in a browser that answers: ok if it had loaded, without FULLYLOADED; else a timeout."""
        asking, loaded = {"event": "asking", "loaded": False}, {"event": "loaded", "page": PAGE}
        for reports, expected in (
            ((asking,), (Outcome.TIMEOUT, Error.TIMEOUT)),
            ((asking, loaded), (Outcome.FAILED, Error.BROWSER)),  # the browser does not answer
            ((asking, loaded, asking), (Outcome.TIMEOUT, Error.TIMEOUT)),  # it went on to another page
            ((asking, loaded, {**asking, "loaded": True}), (Outcome.OK, None)),
        ):
            self.setUp()
            loading = self.start()
            self.reactor.report(SESSION, NAVIGATING, *reports)
            self.reactor.advance(20)
            loads: list[PageLoad] = []
            loading.addCallback(lambda load, loads=loads: (loads.append(load), load)[1])
            self.assertEqual(self.ended(loading), expected)
            self.assertEqual((loads[0].fully_loaded, loads[0].screenshot), (None, None))
        self.assertEqual((loads[0].load, loads[0].status), (NOW + 1.61, 200))

    def test_leftovers(self) -> None:
        """What a killed Perfd left behind is removed before the first browser starts, and nothing else."""
        directory = self.options.directory or Path()
        gone = ("perfd-selenium-1-1-a", "perfd-selenium-999999999-1-b")  # process 1 began at another time
        mine, other = f"{owned_prefix('selenium')}c", "perfd-0"  # another browser of this process; something else
        for name in (*gone, mine, other):
            (directory / name / "profile").mkdir(parents=True)
        self.browser = SeleniumBrowser(self.reactor, Clock(), self.options)
        for _ in range(2):
            loading = self.start()
            left = {path.name for path in directory.iterdir()} - {self.reactor.directory.name}
            self.assertEqual(left, {mine, other})
            self.reactor.process.signals.clear()
            self.reactor.report(NAVIGATING, finished())
            self.assertEqual(self.ended(loading), (Outcome.OK, None))

    def test_closed_while_leftovers_are_removed(self) -> None:
        """No browser is started when Perfd stops meanwhile."""
        self.browser = SeleniumBrowser(self.reactor, Clock(), self.options)
        held: list[Any] = []
        patch = self.patch(FakePool, "callInThreadWithCallback", lambda pool, *call: held.append(call))
        loading = self.start()
        self.successResultOf(Deferred.fromCoroutine(self.browser.close()))
        patch.restore()
        done, work, *arguments = held.pop()
        done(True, work(*arguments))
        self.assertEqual(self.successResultOf(loading).outcome, Outcome.CANCELLED)
        self.assertIsNone(self.reactor.child)

    def test_child_dies(self) -> None:
        """A child that ends without a result is the browser's failure, with its last words."""
        loading = self.start()
        self.reactor.child.childDataReceived(2, b"Traceback\nImportError: no selenium\n")
        self.reactor.child.processExited(Failure(ProcessTerminated(1)))
        self.reactor.child.processEnded(Failure(ProcessTerminated(1)))
        reasons: list[str | None] = []
        loading.addCallback(lambda load: (reasons.append(load.reason), load)[1])
        self.assertEqual(self.ended(loading), (Outcome.FAILED, Error.BROWSER))
        self.assertIn("ImportError: no selenium", reasons[0] or "")

    def test_nonsense(self) -> None:
        """A child that writes something else, or far too much, is ended."""
        self.patch(selenium_browser, "MOST_OUTPUT", 1000)
        for data in (b"hello\n", b"[]\n", b"\xff\n", b"[" * 900 + b"\n", b"x" * 1001):
            self.setUp()
            loading = self.start()
            self.reactor.child.childDataReceived(1, data)
            self.assertEqual(self.ended(loading), (Outcome.FAILED, Error.BROWSER))

    def test_stopped(self) -> None:
        """A load that is cancelled, or whose browser is closed, ends at once."""
        loading = self.start()
        loading.cancel()
        self.assertEqual(self.ended(loading), (Outcome.CANCELLED, Error.STOPPED))
        self.setUp()
        loading = self.start()
        self.successResultOf(Deferred.fromCoroutine(self.browser.close()))
        self.assertEqual(self.ended(loading), (Outcome.CANCELLED, Error.STOPPED))
        self.assertIn("was closed", self.browser.not_ready or "")

    def test_clean_up_that_fails(self) -> None:
        """A clean-up that fails is told, and neither the load nor the end of the browser waits for ever."""

        def fail(pid: int, directory: Path) -> list[int]:
            sweep(pid, directory)
            raise OSError("no")

        self.patch(selenium_browser, "sweep", fail)
        loading = self.start()
        closing = Deferred.fromCoroutine(self.browser.close())
        self.assertEqual(self.ended(loading), (Outcome.CANCELLED, Error.STOPPED))
        self.successResultOf(closing)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_server_ends_its_session(self) -> None:
        """A Selenium server gets a moment to end the session, and no more."""
        self.browser = SeleniumBrowser(self.reactor, Clock(), SeleniumOptions(selenium_url="http://127.0.0.1:4444"))
        for ends in (True, False):
            loading = self.start()
            self.reactor.process.signals.clear()
            self.reactor.report(NAVIGATING, finished())
            self.assertNoResult(loading)
            if ends:
                self.reactor.child.processExited(Failure(ProcessDone(0)))
            else:
                self.reactor.advance(selenium_browser.QUIT_LIMIT)
            self.assertEqual(self.ended(loading), (Outcome.OK, None))

    def test_what_is_missing(self) -> None:
        """What has to be installed is said, before and instead of a load."""
        for options, words in (
            (
                SeleniumOptions(geckodriver="no-such-geckodriver", binary="/bin/true"),
                "no-such-geckodriver was not found",
            ),
            (SeleniumOptions(geckodriver="/bin/true", binary="no-such-firefox"), "firefox-esr"),
        ):
            self.browser = SeleniumBrowser(self.reactor, Clock(), options)
            self.assertIn(words, self.browser.not_ready or "")
            load = self.successResultOf(self.start())
            self.assertEqual((load.outcome, load.errorcode), (Outcome.FAILED, Error.BROWSER))
        self.patch(importlib.util, "find_spec", lambda name: None)
        self.assertIn("pip install 'perfd[selenium]'", self.browser.not_ready or "")

    def test_address(self) -> None:
        """Only web pages are loaded."""
        load = self.successResultOf(self.start(url="file:///etc/passwd"))
        self.assertEqual((load.outcome, load.errorcode), (Outcome.FAILED, Error.PAGE))
        self.assertIsNone(self.reactor.child)


class FakeDriver:
    """Gives each answer in turn, the last one for ever."""

    window_handles = ("1",)

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def execute_script(self, *arguments: Any) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.skipif(importlib.util.find_spec("selenium") is None, reason="Selenium is not installed")
class PageTests(SynchronousTestCase):
    """The child's questions to a page."""

    def asked(self, give_up: float, *answers: Any) -> tuple[str | bool, Any, list[str]]:
        """Whether the page rested, or what was raised; its answer; and the events that were reported."""
        from selenium.common.exceptions import TimeoutException

        from perfd.browser import selenium_child

        self.patch(selenium_child, "_PAUSE", 0.001)
        events = []
        page = selenium_child._Page(FakeDriver(*answers), lambda event, **_: events.append(event))  # type: ignore[arg-type]
        rested: str | bool
        try:
            rested = page.rested(0.005, time.monotonic() + give_up)
        except TimeoutException as late:
            rested = str(late.msg)
        return rested, page.answer, events

    def test_prompts(self) -> None:
        """A page behind prompts is asked again until it has loaded and rested."""
        answers = ({"loaded": False, "rest": 7}, None, {"loaded": True, "rest": 2}, {"loaded": True, "rest": 5})
        rested, answer, events = self.asked(60, None, *answers)
        self.assertEqual((rested, answer), (True, answers[-1]))
        self.assertEqual(events, ["asking"] * 4 + ["loaded", "asking"])

    def test_restless(self) -> None:
        """A page that never rests is asked until it is time."""
        for rest in (1, None, "0", {}):
            rested, answer, _ = self.asked(0.02, {"loaded": True, "rest": rest})
            self.assertEqual((rested, answer), (False, {"loaded": True, "rest": rest}))

    def test_late(self) -> None:
        """A page that does not load is late, also one that a loaded page went on to."""
        for answers in ((None,), ({"loaded": True, "rest": 1}, {"loaded": False})):
            self.assertEqual(self.asked(0.02, *answers)[0], "the page was not loaded in time")


real = pytest.mark.skipif(bool(missing()), reason=missing())


def living_in(directory: Path) -> list[int]:
    """The processes that work for a child whose files are below ``directory``: by environment, or by session."""
    sessions = set()
    found = []
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    for pid in pids:
        with contextlib.suppress(OSError):
            if f"HOME={directory}".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
                sessions.add(os.getsid(pid))
    sessions.discard(os.getsid(0))
    for pid in pids:
        with contextlib.suppress(OSError):
            if os.getsid(pid) in sessions and pid not in found:
                found.append(pid)
    return [pid for pid in found if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


class WebPage(Resource):
    """A page with a style sheet and an image; one that hangs, an odd one, and one that is busy after its load."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.hung: Deferred[None] = Deferred()

    def render_GET(self, request: Any) -> Any:
        if request.path == b"/hang":
            self.hung.callback(None)
            return NOT_DONE_YET
        if request.path == b"/odd":
            return _ODD
        if request.path == b"/busy":
            return _BUSY
        request.setHeader(b"Cache-Control", b"max-age=60")
        if request.path == b"/style.css":
            request.setHeader(b"Content-Type", b"text/css")
            return b"h1 { color: navy }"
        if request.path == b"/image.svg":
            request.setHeader(b"Content-Type", b"image/svg+xml")
            return (
                b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
            )
        if request.path != b"/":
            request.setResponseCode(404)
        return b"<title>A page</title><link rel=stylesheet href=/style.css><h1>Hello</h1><img src=/image.svg>"


_ODD = b"""<title>Odd</title><form name=title></form><h1>Hello</h1><script>
performance.getEntriesByType = () => document.forms;
alert(1);
confirm(2);
</script>"""

_BUSY = b"""<title>Busy</title><script>
addEventListener("load", () => setTimeout(() => { while (true); }, 1500));
</script>"""


class Noise(Protocol):
    """A server of some other protocol."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"220 hello\r\n")  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]


@real
class RealTests(TestCase):
    """Real loads by the old geckodriver and today's Firefox, over a SOCKS proxy."""

    timeout = 240

    def setUp(self) -> None:
        self.page = WebPage()
        self.site = reactor.listenTCP(0, Site(self.page), interface="127.0.0.1")
        self.addCleanup(self.site.stopListening)
        self.asked: set[tuple[str, int]] = set()
        self.proxy_factory = SOCKSServer(reactor, Direct(self._connect))
        self.proxy = reactor.listenTCP(0, self.proxy_factory, interface="127.0.0.1")
        self.addCleanup(self.proxy.stopListening)
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)

    def _connect(self, request: ClientRequest) -> Any:
        self.asked.add((request.host, request.port))
        return tcp_endpoint(reactor, "127.0.0.1", request.port, 10)

    async def load(
        self, path: str, port: int = 0, timeout: float = 60.0, quiet: float = 0.5, **options: Any
    ) -> PageLoad:
        """Load a page of the site, by a name that only the proxy knows; nothing may be left of the browser."""
        options = {"geckodriver": str(GECKODRIVER), "directory": self.directory, **options}
        browser = SeleniumBrowser(reactor, Clock(), SeleniumOptions(**options))
        self.assertIsNone(browser.not_ready)
        url = f"http://site.example:{port or self.site.getHost().port}{path}"
        load = await browser.load(task(url, proxy_port=self.proxy.getHost().port, timeout=timeout, quiet=quiet))
        await browser.close()
        self.proxy_factory.abort_all()
        self.assertEqual(living_in(self.directory), [])
        self.assertEqual(list(self.directory.iterdir()), [])
        return load

    async def test_page(self) -> None:
        """A page with all its times in order, requests and a screenshot; nothing but it passed the proxy."""
        load = await self.load("/")
        self.assertEqual((load.outcome, load.reason, load.status, load.title), (Outcome.OK, None, 200, "A page"))
        self.assertEqual((load.browser, load.driver), ("firefox", "selenium"))
        steps = [
            load.navigation_start,
            load.first_byte,
            load.last_byte,
            load.dom_content_loaded,
            load.load,
            load.fully_loaded,
        ]
        self.assertEqual(steps, sorted(step or 0 for step in steps))
        self.assertIsNotNone(load.first_contentful_paint)
        self.assertIsNotNone(load.largest_contentful_paint)
        self.assertTrue((load.screenshot or b"").startswith(b"\x89PNG"))
        paths = {request.url.rpartition("/")[2] for request in load.requests}
        self.assertEqual(paths, {"", "style.css", "image.svg"})
        self.assertIsNotNone(load.requests[0].connect_end)
        self.assertEqual(self.asked, {("site.example", self.site.getHost().port)})
        self.assertEqual(len(har_document(load)["log"]["entries"]), len(load.requests))

    async def test_odd_page(self) -> None:
        """Prompts do not hide a page; what it puts in the place of its title and timings is no answer."""
        load = await self.load("/odd")
        self.assertEqual((load.outcome, load.reason, load.status, load.title), (Outcome.OK, None, 200, "Odd"))
        self.assertIsNotNone(load.fully_loaded)
        self.assertIsNotNone(load.screenshot)

    @pytest.mark.long
    async def test_busy_page(self) -> None:
        """A page that is busy for ever after its load event has loaded."""
        load = await self.load("/busy", timeout=8.0, quiet=2.5)
        self.assertEqual((load.outcome, load.reason, load.status, load.title), (Outcome.OK, None, 200, "Busy"))
        self.assertIsNotNone(load.load)
        self.assertIsNone(load.fully_loaded)

    async def test_not_http(self) -> None:
        """Whatever a server sends that does not speak HTTP is no page."""
        server = reactor.listenTCP(0, Factory.forProtocol(Noise), interface="127.0.0.1")
        self.addCleanup(server.stopListening)
        load = await self.load("/", port=server.getHost().port)
        self.assertEqual((load.outcome, load.errorcode, load.status), (Outcome.FAILED, Error.HTTP, None))

    @pytest.mark.long
    async def test_server(self) -> None:
        """The same through a Selenium server, whose session is ended; a page that is not found says so."""
        port = _free_port()
        with subprocess.Popen(
            [GECKODRIVER, "--port", str(port)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as server:
            try:
                await _listens(port)
                load = await self.load(
                    "/none", selenium_url=f"http://127.0.0.1:{port}", binary=shutil.which("firefox-esr")
                )
                children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text("ascii").split()
            finally:
                server.kill()
        self.assertEqual((load.outcome, load.errorcode, load.status), (Outcome.FAILED, Error.STATUS, 404))
        self.assertIsNotNone(load.load)
        self.assertEqual([child for child in children if _runs(int(child))], [])

    async def test_geckodriver_dies(self) -> None:
        """The death of geckodriver during a load ends it at once, and the Firefox that it leaves behind too."""

        def kill(_: None) -> None:
            for pid in living_in(self.directory):
                if b"geckodriver" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                    os.kill(pid, signal.SIGKILL)

        self.page.hung.addCallback(kill)
        load = await self.load("/hang")
        self.assertEqual((load.outcome, load.errorcode), (Outcome.FAILED, Error.BROWSER))

    async def test_perfd_dies(self) -> None:
        """Nothing is left of a browser whose Perfd was killed."""
        port = self.proxy.getHost().port
        arguments = [
            str(GECKODRIVER),
            str(self.directory),
            str(port),
            f"http://x.example:{self.site.getHost().port}/hang",
        ]
        with subprocess.Popen([sys.executable, "-c", _PERFD, *arguments]) as perfd:
            try:
                await self.page.hung
                self.assertNotEqual(living_in(self.directory), [])
            finally:
                perfd.kill()
        give_up = time.monotonic() + 60
        while living_in(self.directory) or list(self.directory.iterdir()):
            self.assertLess(time.monotonic(), give_up)
            await deferLater(reactor, 0.1)
        self.proxy_factory.abort_all()


_PERFD = """
import sys
from pathlib import Path
from twisted.internet import task
from perfd.browser.records import PageTask
from perfd.browser.selenium_browser import SeleniumBrowser, SeleniumOptions
from perfd.clock import Clock

async def main(reactor):
    geckodriver, directory, port, url = sys.argv[1:]
    browser = SeleniumBrowser(reactor, Clock(), SeleniumOptions(geckodriver=geckodriver, directory=Path(directory)))
    await browser.load(PageTask(url=url, proxy_port=int(port), timeout=120))

task.react(main)
"""


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


async def _listens(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        await deferLater(reactor, 0.05)
    raise TimeoutError(f"nothing listens on port {port}")
