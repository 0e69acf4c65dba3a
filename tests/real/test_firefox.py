"""Page loads in a real Firefox: what is recorded of a good page, and how each bad one ends."""

from __future__ import annotations

import pytest
from twisted.internet.ssl import Certificate
from twisted.web.server import Site

from perfd.record import Error, Outcome
from tests.support.browser_pages import LARGE, MISSING, BrowserTestCase, reactor
from tests.support.certificates import CERTIFICATE

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

assert isinstance(CERTIFICATE, Certificate)


class GoodPageTests(BrowserTestCase):
    """What a load tells about a page."""

    async def test_record(self) -> None:
        """Everything that happens is told, in its order; a second load finds no cache, cookie or connection."""
        first = await self.load(screenshot=True, filmstrip=True)
        self.assertEqual((first.outcome, first.errorcode, first.reason), (Outcome.OK, None, None))
        self.assertEqual((first.driver, first.browser), ("bidi", "firefox"))
        self.assertRegex(first.browser_version or "", r"^\d+\.")
        self.assertEqual((first.url, first.status, first.title), (self.url + "/", 200, "good"))
        steps = (
            (first.start, first.navigation_start, first.first_byte, first.last_byte, first.dom_content_loaded),
            (first.first_byte, first.first_contentful_paint, first.largest_contentful_paint, first.end),
            (first.dom_content_loaded, first.load, first.fully_loaded, first.end),
        )
        for times in steps:
            self.assertEqual(list(times), sorted(times))  # type: ignore[type-var]
        self.assertGreaterEqual(first.end, (first.fully_loaded or 0) + 0.2)
        self.assertTrue((first.screenshot or b"").startswith(b"\x89PNG"))
        self.assertGreaterEqual(len(first.frames), 2)  # before it, and with it
        self.assertTrue(all(frame.image.startswith(b"\xff\xd8") for frame in first.frames))
        self.assertEqual(first.frames[0].at, first.start)

        requests = {request.url.removeprefix(self.url): request for request in first.requests}
        self.assertEqual(sorted(requests), ["/", "/data", "/image.png", "/missing.png", "/moved", "/style.css"])
        self.assertEqual(len(first.requests), len(requests))
        page = requests["/"]
        self.assertEqual((page.status, page.protocol, page.kind, page.method), (200, "http/1.1", "document", "GET"))
        self.assertTrue(page.is_navigation)
        self.assertEqual(page.mime_type, "text/html")
        steps_of_page = (
            page.started, page.connect_start, page.connect_end, page.request_start, page.response_start,
        )  # fmt: skip
        self.assertEqual(list(steps_of_page), sorted(steps_of_page))  # type: ignore[type-var]
        self.assertIsNone(page.tls_start)
        self.assertIn(("Host", self.url.removeprefix("http://")), page.request_headers)
        self.assertEqual(requests["/style.css"].body_size, len(b"p { color: green }"))
        self.assertEqual(requests["/missing.png"].status, 404)
        self.assertEqual((requests["/moved"].status, requests["/moved"].redirect_url), (302, self.url + "/data"))
        self.assertEqual([r.url for r in first.requests if r.is_navigation], [self.url + "/"])

        second = await self.load()
        self.assertEqual(second.outcome, Outcome.OK)
        self.assertEqual({r.url for r in second.requests}, {r.url for r in first.requests})
        self.assertEqual([r.url for r in second.requests if r.from_cache], [])
        self.assertIsNotNone(second.requests[0].connect_start)
        self.assertEqual(self.pages.seen.count("/"), 2)
        self.assertEqual(self.pages.cookies["/"], [b"", b""])
        self.assertEqual((second.screenshot, second.frames), (None, ()))

    @pytest.mark.long
    async def test_other_good_pages(self) -> None:
        """A page is the one that scripts lead to; dialogs, size and a request without end do not spoil it."""
        moved = await self.load("/script-redirect")
        self.assertEqual((moved.outcome, moved.url, moved.title), (Outcome.OK, self.url + "/", "good"))
        self.assertEqual((await self.load("/alert")).outcome, Outcome.OK)
        large = await self.load("/large")
        self.assertEqual((large.outcome, large.title), (Outcome.OK, "large"))
        self.assertGreater(large.requests[0].body_size or 0, LARGE)
        polling = await self.load("/poll", timeout=3)
        self.assertEqual(polling.outcome, Outcome.OK)
        self.assertIsNotNone(polling.load)
        self.assertIsNone(polling.fully_loaded)


class BadPageTests(BrowserTestCase):
    """How loads end that do not succeed."""

    @pytest.mark.long
    async def test_failures(self) -> None:
        """Each page that is none has its own error code, and none costs the browser."""
        cases = {
            "/missing": (Error.STATUS, 404),
            "/broken": (Error.STATUS, 500),
            "/password": (Error.STATUS, 401),
            "/loop": (Error.REDIRECTS, 302),
            "/file": (Error.DOWNLOAD, 200),
            "/no-content": (Error.PAGE, 204),
            "/cut": (Error.PAGE, 200),
            "/short": (Error.SHORT, 200),
            "/garbage": (Error.HTTP, 200),
            "/close": (Error.PAGE, 200),
        }
        processes = set()
        for path, (code, status) in cases.items():
            # A busy machine needs its time until it tells of a window that was closed.
            loaded = await self.load(path, quiet=3.0)
            self.assertEqual(
                (loaded.outcome, loaded.errorcode, loaded.status), (Outcome.FAILED, code, status), path
            )
            self.assertTrue(loaded.reason, path)
            processes.add(self.main_process())
        for url in ("file:///etc/passwd", "about:crashcontent", "javascript:1", "http://", "http://[::1", "x"):
            loaded = await self.load(url=url)
            self.assertEqual((loaded.outcome, loaded.errorcode), (Outcome.FAILED, Error.PAGE), url)
        refused = await self.load(url="http://pages.example:45/")
        self.assertEqual(refused.errorcode, Error.PAGE)
        self.assertIn("NS_ERROR_CONNECTION_REFUSED", refused.reason or "")
        self.assertEqual(refused.requests[0].error, "NS_ERROR_CONNECTION_REFUSED")
        no_proxy = await self.browser.load(self.task().__class__(url=self.url, proxy_port=1, timeout=30))
        self.assertEqual(no_proxy.errorcode, Error.CONNECT)
        self.assertEqual((await self.load()).outcome, Outcome.OK)
        self.assertEqual(processes, {self.main_process()})

    @pytest.mark.long
    async def test_certificates(self) -> None:
        """A certificate that nobody signed is refused, unless the task takes it."""
        secure = reactor.listenSSL(0, Site(self.pages), CERTIFICATE.options(), interface="127.0.0.1")
        url = f"https://pages.example:{secure.getHost().port}/"
        refused = await self.load(url=url)
        self.assertEqual((refused.outcome, refused.errorcode), (Outcome.FAILED, Error.TLS))
        self.assertEqual(self.pages.seen, [])
        taken = await self.load(url=url, insecure=True)
        self.assertEqual((taken.outcome, taken.status), (Outcome.OK, 200))
        first = taken.requests[0]
        steps = (first.connect_start, first.tls_start, first.connect_end, first.request_start)
        self.assertEqual(list(steps), sorted(steps))  # type: ignore[type-var]
        self.assertEqual((await self.load(url=url)).errorcode, Error.TLS)
        await secure.stopListening()

    @pytest.mark.long
    async def test_deadlines(self) -> None:
        """Whatever hangs is ended at the deadline, and what was seen until then is told."""
        await self.load()
        process = self.main_process()
        for path in ("/endless", "/hung-image", "/hang", "/busy"):
            loaded = await self.load(path, timeout=1.5)
            code = Error.TIMEOUT if path == "/busy" else Error.STALL
            self.assertEqual((loaded.outcome, loaded.errorcode), (Outcome.TIMEOUT, code), path)
            self.assertEqual(loaded.requests[0].url, self.url + path)
            self.assertIsNone(loaded.load, path)
            self.assertGreaterEqual(loaded.end - loaded.start, 1.5, path)
        busy = await self.load("/busy-later", timeout=3)
        self.assertEqual((busy.outcome, busy.fully_loaded), (Outcome.OK, None))
        self.assertIsNotNone(busy.load)
        self.assertEqual((await self.load()).outcome, Outcome.OK)
        self.assertEqual(self.main_process(), process)
