"""What a laboratory has for experiments, and what changes in it while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from perfd.clock import Clock
from perfd.config import Config, parse_config
from perfd.laboratory import Laboratory, browsers, laboratory
from perfd.tor.events.sink import NullEventSink

TEXT = """
[perfd]
network = testnet
[server]
listen = 127.0.0.1:8080
[tor:a]
[tor:b]
[browser:x]
binary = /usr/bin/firefox
[experiment:one]
tor = a
"""


class SomeBrowser:
    """A browser that is not launched."""

    def __init__(self, binary: str) -> None:
        self.binary = binary
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


class LaboratoryTests(SynchronousTestCase):
    """Nothing of it is started."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.browsers: list[SomeBrowser] = []
        self.patch(browsers, "make_browser", self.make_browser)

    def make_browser(self, _reactor: Any, _clock: Any, config: Any, _directory: Path) -> SomeBrowser:
        self.browsers.append(SomeBrowser(config.binary))
        return self.browsers[-1]

    def config(self, more: str = "", *changes: tuple[str, str]) -> Config:
        text = TEXT + more
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        return parse_config(text, self.directory / "perfd.conf")

    def laboratory(self, more: str = "") -> Laboratory:
        reactor: Any = MemoryReactorClock()
        return Laboratory(reactor, Clock(), self.config(more), {}, NullEventSink())

    def lacks(self, found: Laboratory, experiment: str) -> str | None:
        config = self.config(f"[experiment:new]\n{experiment}")
        return found.lacks(config.experiments[-1])

    def test_lacks(self) -> None:
        """Tors that nothing uses are not launched, nor is the onion service; the page's ports are not bound."""
        found = self.laboratory()
        self.assertIsNone(self.lacks(found, "tor = a\ntype = upload"))
        self.assertIsNone(self.lacks(found, "tor = none"))
        self.assertIsNone(self.lacks(found, "tor = a\ntype = pageload\nurl = http://example.org/"))
        self.assertEqual(self.lacks(found, "tor = a, b"), "needs the tor b, which was not launched")
        self.assertIn("the onion service", self.lacks(found, "tor = a\nserver = onion") or "")
        self.assertIn("page-ports", self.lacks(found, "tor = a\ntype = pageload") or "")

    def test_targets(self) -> None:
        """An experiment runs once for each address of a list; tors get keys when they start, and not later."""
        onions = [f"http://{letter * 56}.onion/" for letter in "ab"]
        (self.directory / "list").write_text("# two\nhttp://example.org/x\n\n" + "\n".join(onions))
        (self.directory / "keys").write_text(f"{'a' * 56}:descriptor:x25519:{'A' * 52}\n")
        more = "[experiment:targets]\nurls = list\nonion-key = keys\ntor = a\nfresh-descriptor = yes\n"
        found = self.laboratory(more)
        runs = found.experiments(self.config(more).experiments[-1])
        targets = [each.setup.target for each in runs if each.setup.target is not None]
        self.assertEqual([target.config.url for target in targets], ["http://example.org/x", *onions])
        self.assertEqual([target.config.onion_key for target in targets], [None, "A" * 43 + "=", None])
        self.assertEqual([each.setup.fresh_descriptor for each in runs], [False, True, True])
        known = f"tor = a\nurl = {onions[0]}\nonion-key = keys"
        self.assertIsNone(self.lacks(found, known))
        (self.directory / "keys").write_text(f"descriptor:x25519:{'B' * 52}\n")
        self.assertIn("keys to onion services", self.lacks(found, known) or "")

    def test_has(self) -> None:
        """What is there from the start is there for others."""
        more = "[experiment:page]\ntype = pageload\ntor = a\n[experiment:onion]\nserver = onion\ntor = b\n"
        found = self.laboratory(more)
        self.assertIsNone(self.lacks(found, "tor = a, b\nserver = onion, public"))
        self.assertIsNone(self.lacks(found, "tor = b\ntype = pageload"))

    def test_public_address(self) -> None:
        """Who is measured from now on goes to the other address; a run in flight still goes to the old one."""
        found = self.laboratory()
        (before,) = found.experiments(self.config().experiments[0])
        config = self.config("", ("[server]", "[server]\npublic-address = 127.0.0.1:9999"))
        found.change(config)
        (after,) = found.experiments(config.experiments[0])
        self.assertEqual([each.setup.server.port for each in (before, after)], [8080, 9999])

    def test_browser(self) -> None:
        """A browser that is configured in another way is another; the old one ends when its page is loaded."""
        page = "[experiment:page]\ntype = pageload\nbrowser = x\ntor = a\n"
        found = self.laboratory(page)
        turns: list[DeferredLock] = []
        make = laboratory.make_page_load

        def make_page_load(*arguments: Any, browser: Any, **more: Any) -> Any:
            turns.append(browser.turn)
            return make(*arguments, browser=browser, **more)

        with mock.patch.object(laboratory, "make_page_load", make_page_load):
            found.experiments(self.config(page).experiments[-1])
            self.successResultOf(turns[0].acquire())
            config = self.config(page, ("/usr/bin/firefox", "/opt/firefox"))
            found.change(config)
            found.experiments(config.experiments[-1])
            self.assertEqual([each.binary for each in self.browsers], ["/usr/bin/firefox", "/opt/firefox"])
            self.assertEqual([each.closed for each in self.browsers], [0, 0])
            turns[0].release()
            self.assertEqual([each.closed for each in self.browsers], [1, 0])
            found.change(config)
            found.experiments(config.experiments[-1])
            self.assertEqual(len(self.browsers), 2)

    def test_stop_while_a_browser_leaves(self) -> None:
        """A stop closes both."""
        page = "[experiment:page]\ntype = pageload\nbrowser = x\ntor = a\n"
        found = self.laboratory(page)
        found.experiments(self.config(page).experiments[-1])
        found._browsers.browser("x").turn.acquire()
        config = self.config(page, ("/usr/bin/firefox", "/opt/firefox"))
        found.change(config)
        found.experiments(config.experiments[-1])
        stopped: Deferred[None] = found.stopService()
        self.successResultOf(stopped)
        self.assertEqual([each.closed for each in self.browsers], [1, 1])
