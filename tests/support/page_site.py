"""A process that serves the pages of ``tests.support.browser_pages``, for tests that wait for other processes.

``python -m tests.support.page_site`` writes its ports as a line of JSON. It ends when its standard input is closed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.support.browser_pages import GOOD, Pages
from tests.support.certificates import CERTIFICATE
from tests.support.places import CHECKOUT

reactor: Any = global_reactor


class ToldPages(Pages):
    """Tells what it was asked for. One page that never ends is in no other page."""

    def page_seen(self, request: Request) -> bytes:
        return json.dumps(self.seen).encode()

    def page_unending(self, request: Request) -> Any:
        """A document whose end would be that of the connection."""
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + GOOD)
        return NOT_DONE_YET


class Lifeline(Protocol):
    """Ends the process with its parent."""

    def connectionLost(self, reason: object = None) -> None:
        reactor.stop()


class PageSite:
    """The process. ``url`` is that of its pages, ``secure`` that of the same with a certificate of its own."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.support.page_site"]
        self._process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        plain, secure = json.loads(self._process.stdout.readline())
        self.url, self.secure = f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{secure}"

    def seen(self, path: str) -> int:
        """How often ``path`` was asked for."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url + "/seen", timeout=30) as response:
            return int(json.load(response).count(path))

    def stop(self) -> None:
        with self._process:
            self._process.kill()


def main() -> None:
    site = Site(ToldPages())
    site.log = lambda request: None
    plain = reactor.listenTCP(0, site, interface="127.0.0.1")
    secure = reactor.listenSSL(0, site, CERTIFICATE.options(), interface="127.0.0.1")
    StandardIO(Lifeline())
    sys.stdout.write(json.dumps([port.getHost().port for port in (plain, secure)]) + "\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()
