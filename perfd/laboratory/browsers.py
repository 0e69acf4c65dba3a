"""The browsers that experiments load pages with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from perfd.browser.make import make_browser
from perfd.clock import Clock
from perfd.config import BrowserConfig
from perfd.daemon.order import finish
from perfd.experiments.pageload import MeasuredBrowser
from perfd.instance import Instance
from perfd.reactor import Reactor


class Browsers:
    """Those of the configuration, by name; each is launched when its first page is loaded."""

    _log = Logger()

    def __init__(
        self, reactor: Reactor, clock: Clock, directory: Path, configured: Sequence[BrowserConfig]
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._directory = directory
        self._configured = configured
        self._made: dict[str, MeasuredBrowser] = {}
        self._leaving: list[MeasuredBrowser] = []

    def browser(self, name: str) -> MeasuredBrowser:
        """The browser of this name."""
        if name not in self._made:
            (browser,) = (each for each in self._configured if each.name == name)
            made = make_browser(self._reactor, self._clock, browser, Instance(self._directory).browsers)
            self._made[name] = MeasuredBrowser(name, browser.driver, made)
        return self._made[name]

    def change(self, configured: Sequence[BrowserConfig]) -> None:
        """Let go of those that are configured in another way now, each when the page that it loads is there."""
        before, self._configured = self._configured, configured
        for browser in before:
            if browser.name in self._made and browser not in configured:
                self._let_go(self._made.pop(browser.name))

    async def close(self) -> None:
        """Close all of them."""
        await finish(measured.browser.close for measured in (*self._made.values(), *self._leaving))

    def _let_go(self, measured: MeasuredBrowser) -> None:
        self._leaving.append(measured)
        closing = measured.turn.run(lambda each: Deferred.fromCoroutine(each.browser.close()), measured)
        closing.addErrback(lambda failure: self._log.failure("a browser was not closed", failure))
        closing.addBoth(partial(_forget, self._leaving, measured))


def _forget(browsers: list[MeasuredBrowser], browser: MeasuredBrowser, _: object) -> None:
    browsers.remove(browser)
