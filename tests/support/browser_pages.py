"""For tests with a real Firefox: pages that behave and misbehave, a SOCKS server before them, and processes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from perfd.browser.bidi_browser import BidiBrowser
from perfd.browser.firefox import FirefoxOptions, processes_of
from perfd.browser.records import PageLoad, PageTask
from perfd.clock import Clock
from perfd.socks.server import SOCKSServer
from perfd.socks.server_machine import ClientRequest
from perfd.socks.way_out import Direct

reactor: Any = global_reactor

MISSING = "" if shutil.which("firefox-esr") else "Firefox is not installed (apt install firefox-esr)"
"""Why tests with a real Firefox are skipped; empty if they are not."""

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)

GOOD = b"""<!DOCTYPE html><meta charset="utf-8"><title>good</title>
<link rel="stylesheet" href="/style.css"><p>Hello, world
<img src="/image.png"><img src="/image.png"><img src="/missing.png">
<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">
<script>document.cookie = "seen=1"; fetch("/moved")</script>"""

LARGE = 50 * 1024 * 1024

HTML = "text/html"

# The path, and what is answered to it: type and body.
PLAIN: dict[str, tuple[str, bytes]] = {
    "/": (HTML, GOOD),
    "/style.css": ("text/css", b"p { color: green }"),
    "/image.png": ("image/png", PNG),
    "/data": ("application/json", b"{}"),
    "/script-redirect": (HTML, b"<script>location.replace('/')</script>"),
    "/hung-image": (HTML, b"<p>x<img src='/hang'>"),
    "/busy": (HTML, b"<p>x<script>while (true) {}</script>"),
    "/busy-later": (HTML, b"<p>x<script>onload = () => setTimeout(() => { while (true) {} }, 50)</script>"),
    "/poll": (HTML, b"<p>x<script>fetch('/hang')</script>"),
    "/close": (HTML, b"<p>x<script>onload = () => close()</script>"),
    "/alert": (HTML, b"<p>x<script>alert('x'); confirm('y'); onbeforeunload = () => 'z'</script>"),
}


class Pages(Resource):
    """A site whose pages are good and bad in all ways. ``seen`` are the paths that were asked for."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.cookies: dict[str, list[bytes]] = {}

    def render_GET(self, request: Request) -> Any:
        path = request.path.decode()
        self.seen.append(path)
        self.cookies.setdefault(path, []).append(request.getHeader(b"cookie") or b"")
        if path in PLAIN:
            kind, body = PLAIN[path]
            request.setHeader("content-type", kind)
            return body
        return getattr(self, "page_" + path.strip("/").replace("-", "_"), self.page_missing)(request)

    def page_missing(self, request: Request) -> Any:
        request.setResponseCode(404)
        return b"nothing here"

    def page_broken(self, request: Request) -> Any:
        request.setResponseCode(500)
        return b"broken"

    def page_moved(self, request: Request) -> Any:
        request.redirect(b"/data")
        return b""

    def page_loop(self, request: Request) -> Any:
        request.redirect(b"/loop")
        return b""

    def page_password(self, request: Request) -> Any:
        request.setResponseCode(401)
        request.setHeader("www-authenticate", 'Basic realm="x"')
        return b"no"

    def page_no_content(self, request: Request) -> Any:
        request.setResponseCode(204)
        return b""

    def page_file(self, request: Request) -> Any:
        request.setHeader("content-disposition", 'attachment; filename="x.bin"')
        return b"x" * 1000

    def page_hang(self, request: Request) -> Any:
        return NOT_DONE_YET

    def page_endless(self, request: Request) -> Any:
        request.setHeader("content-type", HTML)
        request.write(b"<title>endless</title><p>more" * 100)
        return NOT_DONE_YET

    def page_cut(self, request: Request) -> Any:
        request.setHeader("content-length", "5000")
        request.write(b"<p>abc")
        reactor.callLater(0.1, request.transport.abortConnection)
        return NOT_DONE_YET

    def page_short(self, request: Request) -> Any:
        request.setHeader("content-length", "5000")
        request.write(b"<p>abc")
        reactor.callLater(0.1, request.channel.transport.loseConnection)
        return NOT_DONE_YET

    def page_garbage(self, request: Request) -> Any:
        """No HTTP at all."""
        request.channel.transport.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        request.channel.transport.loseConnection()
        return NOT_DONE_YET

    def page_large(self, request: Request) -> Any:
        request.setHeader("content-type", HTML)
        return b"<title>large</title><!--" + b"x" * LARGE + b"-->"


class RecordingSocks:
    """A SOCKS server that remembers what it was asked for, and connects to this machine whatever the name."""

    def __init__(self) -> None:
        self.requests: list[ClientRequest] = []
        self.factory = SOCKSServer(reactor, Direct(self._endpoint_for))
        self._listening = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.port: int = self._listening.getHost().port

    def _endpoint_for(self, request: ClientRequest) -> IStreamClientEndpoint:
        self.requests.append(request)
        return HostnameEndpoint(reactor, "127.0.0.1", request.port)

    def stop(self) -> Any:
        self.factory.abort_all()
        return self._listening.stopListening()


class BrowserTestCase(TestCase):
    """Has ``pages`` at ``url``, and a ``browser`` for them, whose process starts with its first load."""

    timeout = 150
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.pages = Pages()
        site = Site(self.pages)
        site.log = lambda request: None
        self.site = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.url = f"http://pages.example:{self.site.getHost().port}"
        self.socks = RecordingSocks()
        self.directory = Path(self.mktemp()).absolute()
        self.sessions: set[tuple[int, Path]] = set()
        self.browser = self.make_browser(**self.options)

    async def tearDown(self) -> None:
        await self.browser.close()
        await self.socks.stop()
        await self.site.stopListening()
        self.assertEqual(list(self.directory.glob("*")), [])

    def make_browser(self, **options: Any) -> BidiBrowser:
        return BidiBrowser(reactor, Clock(), FirefoxOptions(directory=self.directory, **options))

    async def load(
        self, path: str = "/", *, timeout: float = 60.0, url: str | None = None, **more: Any
    ) -> PageLoad:
        return await self.browser.load(self.task(path, timeout=timeout, url=url, **more))

    def task(self, path: str = "/", *, timeout: float = 60.0, url: str | None = None, **more: Any) -> PageTask:
        more = {"quiet": 0.3, "screenshot": False, **more}
        return PageTask(url=url or self.url + path, proxy_port=self.socks.port, timeout=timeout, **more)

    def start(self, path: str, **more: Any) -> Deferred[PageLoad]:
        return Deferred.fromCoroutine(self.load(path, **more))

    def profiles(self) -> list[Path]:
        return list(self.directory.glob("*"))

    def processes(self) -> list[int]:
        """All processes of all Firefoxes of this test."""
        for profile in self.profiles():
            sessions = {ids_of(pid).session for pid in processes_of(-1, profile)}
            # One that has just been forked is still in the session of the tests.
            self.sessions |= {(session, profile) for session in sessions - {os.getsid(0)}}
        return sorted({pid for session, profile in self.sessions for pid in processes_of(session, profile)})

    def main_process(self) -> int:
        """The one Firefox that this process runs."""
        (pid,) = [pid for pid in self.processes() if ids_of(pid).parent == os.getpid()]
        return pid

    async def until(self, what: Callable[[], object]) -> None:
        """Return when ``what`` gives something true. The test's timeout is the limit."""
        while not what():
            await deferLater(reactor, 0.05)


class Ids(NamedTuple):
    """Which processes a process belongs to; -1 if it has just ended."""

    parent: int = -1
    session: int = -1


def ids_of(pid: int) -> Ids:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()
    except OSError:
        return Ids()
    return Ids(int(fields[1]), int(fields[3]))


def command_of(pid: int) -> bytes:
    """The command line, with blanks or NULs between arguments; empty if the process has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
