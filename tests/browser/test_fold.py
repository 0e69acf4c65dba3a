"""Events of WebDriver BiDi, as Firefox 153 sends them, folded into what is known of a page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from perfd.browser import fold
from perfd.browser.firefox import owned_prefix, remove_leftovers
from perfd.browser.fold import PageFold, failure_of, is_http, refused_address
from perfd.browser.prefs import PREFS, user_js
from perfd.record import Error

PAGE = "http://page.example/"
TIMES = {"requestTime": 1001.5, "requestStart": 1002.5, "responseStart": 1003.25, "responseEnd": 1004.0}


class FoldTests(SynchronousTestCase):
    """One tab with the context ``tab``."""

    def setUp(self) -> None:
        self.fold = PageFold("tab")

    def network(self, name: str, url: str = PAGE, number: str = "1", **more: Any) -> None:
        """An event of a request; what is not said is as Firefox has it."""
        asked = {
            "request": number, "url": url, "method": "GET", "headers": more.pop("headers", []),
            "timings": more.pop("timings", TIMES), "destination": "", "initiatorType": None,
        }  # fmt: skip
        event = {"context": "tab", "navigation": None, "redirectCount": 0, "timestamp": 2000, "request": asked}
        self.fold.take(f"network.{name}", event | more)

    def browsing(self, name: str, url: str = PAGE, **more: Any) -> None:
        event = {"context": "tab", "navigation": "n1", "timestamp": 3000, "url": url}
        self.fold.take(f"browsingContext.{name}", event | more)

    def answered(self, url: str = PAGE, number: str = "1", status: int = 200, **more: Any) -> None:
        """A request from its beginning to its end."""
        answer = {"status": status, "fromCache": more.pop("cached", False), "headers": [], "protocol": "h2"}
        self.network("beforeRequestSent", url, number, **more)
        self.network("responseCompleted", url, number, response=answer, **more)

    def test_page(self) -> None:
        """A page rests after its load event, when no request is under way."""
        self.browsing("navigationStarted")
        self.answered(navigation="n1")
        self.browsing("navigationCommitted")
        self.network("beforeRequestSent", PAGE + "image", "2")
        self.browsing("load", timestamp=3500)
        self.assertFalse(self.fold.resting)
        self.network("fetchError", PAGE + "image", "2", errorText="NS_ERROR_NET_RESET")
        self.assertTrue(self.fold.resting)
        self.assertEqual((self.fold.url, self.fold.load), (PAGE, 3.5))
        main = self.fold.main
        assert main is not None
        self.assertEqual((main.status, main.protocol, main.is_navigation), (200, "h2", True))
        self.assertEqual((main.started, main.response_start, main.response_end), (1.0015, 1.00325, 1.004))
        image = self.fold.requests()[1]
        self.assertEqual((image.error, image.status, image.response_end), ("NS_ERROR_NET_RESET", None, None))

    def test_redirects(self) -> None:
        """Each hop is a request of its own, with the next one's address; the last one is the page's."""
        self.answered(status=302, navigation="n1")
        self.answered("http://other.example/", navigation="n1", redirectCount=1)
        self.browsing("navigationCommitted", "http://other.example/")
        first, second = self.fold.requests()
        self.assertEqual((first.redirect_url, second.redirect_url), ("http://other.example/", None))
        self.assertEqual(self.fold.main, second)

    def test_script_leads_on(self) -> None:
        """A second document replaces the first one; events of frames are not the page's."""
        self.answered(navigation="n1")
        self.browsing("navigationCommitted")
        self.browsing("load")
        self.answered("http://other.example/", "2", 404, navigation="n2")
        self.browsing("navigationCommitted", "http://other.example/", navigation="n2")
        self.assertFalse(self.fold.resting)
        self.answered("http://frame.example/", "3", context="frame", navigation="n3")
        self.browsing("navigationCommitted", "http://frame.example/", context="frame", navigation="n3")
        self.browsing("load", "http://frame.example/", context="frame", navigation="n3")
        self.assertFalse(self.fold.resting)
        assert self.fold.main is not None
        self.assertEqual((self.fold.url, self.fold.main.status), ("http://other.example/", 404))
        self.assertEqual([request.is_navigation for request in self.fold.requests()], [True, True, False])

    def test_failures(self) -> None:
        """An error page, a crash and a download are known from what the browser commits or begins."""
        cases = [
            ("about:tabcrashed?e=tabcrashed", None, Error.CRASH),
            ("about:neterror?e=redirectLoop&u=x", None, Error.REDIRECTS),
            ("about:neterror?e=netReset&u=x", "NS_ERROR_REDIRECT_LOOP", Error.REDIRECTS),
            ("about:certerror?e=nssBadCert&u=x", None, Error.TLS),
            ("about:neterror?e=connectionFailure", "NS_ERROR_PROXY_CONNECTION_REFUSED", Error.CONNECT),
            ("about:neterror?e=dnsNotFound", "NS_ERROR_UNKNOWN_HOST", Error.PAGE),
        ]
        for url, error, code in cases:
            self.setUp()
            if error is not None:
                self.network("fetchError", navigation="n1", errorText=error)
            self.browsing("navigationCommitted", url)
            assert self.fold.failure is not None
            self.assertEqual(self.fold.failure.code, code, url)
            self.assertIsNone(self.fold.url)
        self.assertEqual(failure_of("NS_ERROR_MODULE_SECURITY, SEC_ERROR_EXPIRED_CERTIFICATE").code, Error.TLS)

        self.setUp()
        self.browsing("downloadWillBegin")
        assert self.fold.failure is not None
        self.assertEqual(self.fold.failure.code, Error.DOWNLOAD)

        self.setUp()
        self.browsing("navigationCommitted")
        self.browsing("downloadWillBegin", PAGE + "file")
        self.fold.navigate_failed("NS_BINDING_ABORTED")
        self.assertIsNone(self.fold.failure, "a page that was shown already may offer a download")

    def test_what_is_no_request(self) -> None:
        """Parts of the page itself, and the browser's notes of images that it had, are left out."""
        self.answered("data:image/png;base64,xx", "1")
        self.answered("chrome://global/skin/x.css", "2")
        self.answered(PAGE + "image", "3", cached=True, timings={"requestTime": 1000, "requestStart": 0})
        self.answered(PAGE + "cached", "4", cached=True)
        self.assertEqual([request.url for request in self.fold.requests()], [PAGE + "cached"])

    def test_connections(self) -> None:
        """Half of a connection is another request's; TLS has a start of its own."""
        whole = {**TIMES, "connectStart": 1001.6, "tlsStart": 1001.8, "connectEnd": 1002.4}
        self.answered(number="1", timings=whole)
        self.answered(number="2", timings={**TIMES, "connectStart": 1001.6, "connectEnd": 0})
        self.answered(number="3", timings={**TIMES, "connectStart": 0, "tlsStart": 1001.8, "connectEnd": 1002.4})
        found = [(r.connect_start, r.tls_start, r.connect_end) for r in self.fold.requests()]
        self.assertEqual(found, [(1.0016, 1.0018, 1.0024), (None, None, None), (None, None, None)])

    def test_cut_short(self) -> None:
        """A document whose end is missing has failed, also before it is shown; not one that was left before."""
        cut = {"errorText": "NS_ERROR_NET_PARTIAL_TRANSFER"}
        self.browsing("navigationStarted")
        self.network("beforeRequestSent", navigation="n1")
        self.network("beforeRequestSent", PAGE + "image", "2")
        self.network("fetchError", PAGE + "image", "2", **cut)
        self.assertIsNone(self.fold.failure)
        self.network("fetchError", navigation="n1", **cut)
        assert self.fold.failure is not None
        self.assertEqual(self.fold.failure.code, Error.SHORT)
        self.assertIn("NS_ERROR_NET_PARTIAL_TRANSFER", self.fold.failure.reason)

        self.setUp()
        self.browsing("navigationStarted")
        self.network("beforeRequestSent", navigation="n1")
        self.browsing("navigationCommitted")
        self.browsing("navigationStarted", navigation="n2")
        self.network("fetchError", navigation="n1", **cut)
        self.assertIsNone(self.fold.failure)

    def test_last_end(self) -> None:
        """Requests that failed end too; an image that was there already asks for nothing."""
        self.assertEqual(self.fold.last_end, 0)
        self.network("beforeRequestSent", number="1")
        self.assertEqual(self.fold.last_end, 0)
        self.network("fetchError", number="1", errorText="NS_ERROR_NET_RESET", timestamp=5000)
        self.assertEqual(self.fold.last_end, 5)
        self.answered(number="2", cached=True, timings={}, timestamp=9000)
        self.assertEqual(self.fold.last_end, 5)

    def test_bounds(self) -> None:
        """A page cannot fill the memory with requests or headers; odd bytes of headers are kept."""
        self.patch(fold, "MOST_REQUESTS", 2)
        headers = [
            {"name": "a", "value": {"type": "string", "value": "x" * 100_000}},
            {"name": "b", "value": {"type": "base64", "value": "/w=="}},
        ]
        for number in range(4):
            self.network("beforeRequestSent", number=str(number), headers=headers)
        self.assertEqual((len(self.fold.requests()), self.fold.requests_omitted), (2, 2))
        self.assertEqual(self.fold.requests()[0].request_headers, (("a", "x" * fold.LONGEST_TEXT), ("b", "ÿ")))
        self.browsing("load")
        for number in range(4):
            self.assertFalse(self.fold.resting)
            self.network("fetchError", number=str(number), errorText="NS_BINDING_ABORTED", timestamp=2000 + number)
        self.assertTrue(self.fold.resting)
        self.assertEqual((self.fold.last_end, self.fold.requests_omitted), (2.003, 2))

    def test_many_headers(self) -> None:
        """Of the headers of one request, and of all requests, only so much is kept, whatever events repeat."""
        self.patch(fold, "MOST_HEADERS", 1000)
        self.patch(fold, "MOST_KEPT", 2500)
        headers = [{"name": f"{n:04}", "value": {"type": "string", "value": "x" * 96}} for n in range(20)]
        answer = {"status": 200, "headers": headers, "protocol": "p" * 9999, "statusText": "s" * 9999}
        for number in "1234567":
            self.network("beforeRequestSent", number=number, headers=headers[:1])
            self.network("responseStarted", number=number, headers=headers[:1], response=answer)
            self.network("responseCompleted", number=number, headers=headers[:1], response=answer)
        kept = [(len(r.request_headers), len(r.response_headers)) for r in self.fold.requests()]
        self.assertEqual(kept, [(1, 4), (1, 4), (1, 1), (0, 0), (0, 0)])
        self.assertEqual(self.fold.requests_omitted, 2)
        self.assertEqual({len(r.status_text) for r in self.fold.requests()}, {200})
        self.assertEqual({len(r.protocol or "") for r in self.fold.requests()}, {200})


class AddressTests(SynchronousTestCase):
    """Which addresses are loaded."""

    def test_addresses(self) -> None:
        """Only those of the web."""
        for url in (PAGE, "HTTPS://x.onion:8443/a?b#c", "http://[::1]:80/", "http://127.0.0.1"):
            self.assertIsNone(refused_address(url), url)
        for url in (
            "",
            "page.example",
            "file:///etc",
            "about:blank",
            "http:///x",
            "http://h:99999/",
            "http://[::1/",
        ):
            refused = refused_address(url)
            assert refused is not None, url
            self.assertEqual(refused.code, Error.PAGE)
        self.assertFalse(is_http("data:text/html,http://x"))


class PrefsTests(SynchronousTestCase):
    """The preferences as Firefox reads them."""

    def test_user_js(self) -> None:
        """One call for each, with values of JavaScript."""
        text = user_js({"b": True, "a": 'x"\\', "c": 9})
        self.assertEqual(text, 'user_pref("a", "x\\"\\\\");\nuser_pref("b", true);\nuser_pref("c", 9);\n')

    def test_nothing_past_the_proxy(self) -> None:
        """What the prototype proved necessary is there."""
        needed = {
            "network.proxy.allow_bypass": False,
            "network.proxy.socks5_remote_dns": True,
            "network.proxy.type": 1,
            "media.gmp-manager.updateEnabled": False,
            "services.settings.server": "data:,#remote-settings-dummy/v1",
        }
        self.assertEqual({name: PREFS[name] for name in needed}, needed)


class LeftoverTests(SynchronousTestCase):
    """What a Perfd that was killed leaves behind."""

    def test_owners(self) -> None:
        """The directories of a living owner stay; a process that has its id by chance is not the owner."""
        parent = Path(self.mktemp())
        parent.mkdir()
        mine, other = owned_prefix("firefox"), owned_prefix("selenium")
        name, pid, started = mine.rsplit("-", 3)[:3]
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        kept = {mine + "a", other + "b", "perfd-firefox-x-1-c", "perfd-2-3-4-5", "something"}
        for each in (
            *kept,
            f"{name}-{pid}-{int(started) + 1}-d",
            f"{name}-{ended.pid}-{started}-e",
            f"perfd-selenium-{ended.pid}-{started}-f",
        ):
            (parent / each / "file").mkdir(parents=True)
        remove_leftovers(parent)
        self.assertEqual(set(os.listdir(parent)), kept)
        remove_leftovers(parent / "missing")
