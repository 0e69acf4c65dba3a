"""From a browser's configuration to what drives it."""

from __future__ import annotations

from pathlib import Path

from perfd.browser.bidi_browser import BidiBrowser
from perfd.browser.firefox import FirefoxOptions
from perfd.browser.records import Browser
from perfd.browser.selenium_browser import SeleniumBrowser, SeleniumOptions
from perfd.clock import Clock
from perfd.config import BrowserConfig
from perfd.reactor import Reactor


def make_browser(reactor: Reactor, clock: Clock, config: BrowserConfig, directory: Path | None = None) -> Browser:
    """The browser of ``config``; nothing is launched yet.

    ``directory`` is where the profiles of running browsers are; None: the system's place for such.
    """
    if config.driver == "selenium":
        selenium = SeleniumOptions(
            name=config.name,
            geckodriver=config.geckodriver,
            binary=config.binary,
            selenium_url=config.selenium_url,
            profile=config.profile,
            directory=directory,
        )
        return SeleniumBrowser(reactor, clock, selenium)
    options = FirefoxOptions(
        name=config.name,
        binary=config.binary,
        profile=config.profile,
        warm=config.is_warm,
        directory=directory,
    )
    return BidiBrowser(reactor, clock, options)
