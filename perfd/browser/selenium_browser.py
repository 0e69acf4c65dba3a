"""A browser driven through Selenium: a geckodriver of this machine, or a Selenium server elsewhere.

Every load has a child process, a geckodriver and a browser of its own, which are killed when it is over. They start
before the page's time begins, within ``START_LIMIT``. The page's time is kept twice: geckodriver gives a page up a
little before its deadline, so that it can still be asked about it; at the deadline everything is killed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.defer import TimeoutError as TwistedTimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from perfd.browser.firefox import environment, in_thread, owned_prefix, remove_leftovers, sweep
from perfd.browser.fold import refused_address
from perfd.browser.prefs import PREFS, Prefs
from perfd.browser.records import PageLoad, PageTask
from perfd.browser.selenium_results import Ending, Report, overdue, page_load
from perfd.clock import Clock
from perfd.extras import how_to_get
from perfd.processes.child import ERRORS, Child, describe_exit
from perfd.processes.modules import module_command, module_environment
from perfd.processes.programs import ProgramMissingError, find_program
from perfd.reactor import Reactor
from perfd.record import EMPTY, Error, Outcome

START_LIMIT = 60.0
"""Seconds in which geckodriver and the browser must have started; they are not the page's."""

QUIT_LIMIT = 5.0
"""Seconds for a Selenium server to end a session."""

MOST_OUTPUT = 64 * 1024 * 1024
"""Bytes of a child's reports, the screenshot included."""

_MOST_WORDS = 500


@attrs.frozen(kw_only=True)
class SeleniumOptions:
    """Which browser, and how it is reached."""

    name: str = "selenium"  # in messages
    geckodriver: str = "geckodriver"  # a program in PATH, or a path
    binary: str | None = None  # the browser; None: firefox-esr, or what the Selenium server has
    selenium_url: str | None = None  # a Selenium server; it and its browsers must reach 127.0.0.1 of this machine
    profile: Path | None = None  # every browser gets a copy of it
    directory: Path | None = None  # where the files of running browsers are; None: the system's for such
    prefs: Prefs = EMPTY  # over Perfd's own


class SeleniumBrowser:
    """The ``Browser`` that Selenium drives. Loads may overlap: each has a browser of its own."""

    _log = Logger()

    def __init__(self, reactor: Reactor, clock: Clock, options: SeleniumOptions) -> None:
        self._reactor = reactor
        self._clock = clock
        self._options = options
        self._tidy_start = options.directory is not None
        self._running: set[_Run] = set()
        self._clearing: set[Deferred[None]] = set()
        self._closed = False

    @property
    def not_ready(self) -> str | None:
        """Why no page can be loaded now, and what to install if that is why; None when one can."""
        if self._closed:
            return f"the browser {self._options.name} was closed"
        if importlib.util.find_spec("selenium") is None:
            return f"Selenium is not installed: {how_to_get('selenium')}"
        try:
            self._programs()
        except ProgramMissingError as error:
            return str(error)
        return None

    async def load(self, task: PageTask) -> PageLoad:
        """See ``Browser.load``. The start of the browser is not part of the page's time."""
        start = self._clock.wall()
        refused = refused_address(task.url)
        reason = self.not_ready
        if refused is not None:
            return page_load(task, start, start, (), Ending(Outcome.FAILED, refused.code, refused.reason))
        if reason is not None:
            return page_load(task, start, start, (), Ending(Outcome.FAILED, Error.BROWSER, reason))
        run = _Run(self._reactor, task.timeout, self._options.directory)
        ending = await self._watched(run, task)
        end = self._clock.wall()
        await self._cleared(run)
        return page_load(task, start, end, run.reports, ending)

    async def close(self) -> None:
        """See ``Browser.close``. Loads that are going on are stopped."""
        self._closed = True
        for run in tuple(self._running):
            run.stop(_STOPPED)
        await DeferredList([_after(clearing) for clearing in self._clearing])

    async def _watched(self, run: _Run, task: PageTask) -> Ending | None:
        self._running.add(run)
        try:
            await self._remove_leftovers()
            if self._closed:
                return _STOPPED
            run.start(self._job(task))
            ending = await run.over
            # A browser elsewhere is not killed with our processes: its session has to be ended.
            if self._options.selenium_url and ending is None:
                await run.wait(QUIT_LIMIT)
        except (OSError, ProgramMissingError) as error:
            return Ending(Outcome.FAILED, Error.BROWSER, f"the browser cannot be started: {error}")
        except CancelledError:
            return _STOPPED
        finally:
            self._running.discard(run)
        return ending

    async def _remove_leftovers(self) -> None:
        """Remove the files of browsers whose Perfd was killed, with all that would have removed them."""
        if self._tidy_start and self._options.directory is not None:
            self._tidy_start = False
            await in_thread(self._reactor, partial(remove_leftovers, self._options.directory))

    async def _cleared(self, run: _Run) -> None:
        """Return when the run's processes are gone, or at once if that is cancelled: they go all the same."""
        clearing = Deferred.fromCoroutine(self._clear(run))
        clearing.addErrback(lambda failure: self._log.failure("clearing away after a browser", failure))
        self._clearing.add(clearing)
        clearing.addBoth(lambda _: self._clearing.discard(clearing))
        with contextlib.suppress(CancelledError):
            await _after(clearing)

    async def _clear(self, run: _Run) -> None:
        left = await run.end()
        if left:
            self._log.error("{name}: processes do not end: {left}", name=self._options.name, left=left)

    def _job(self, task: PageTask) -> dict[str, Any]:
        """What the child is told. Raises ``ProgramMissingError``."""
        geckodriver, binary = self._programs()
        prefs = {**PREFS, **self._options.prefs, "network.proxy.socks_port": task.proxy_port}
        return {
            "url": task.url,
            "timeout": task.timeout + START_LIMIT,
            # What is left of the page's time is for asking about a page that did not load.
            "page_timeout": task.timeout - min(2.0, task.timeout / 5),
            "quiet": task.quiet,
            "screenshot": task.screenshot,
            "insecure": task.insecure,
            "selenium_url": self._options.selenium_url,
            "geckodriver": geckodriver,
            "binary": binary,
            "profile": None if self._options.profile is None else str(self._options.profile),
            "prefs": prefs,
        }

    def _programs(self) -> tuple[str | None, str | None]:
        """The paths of geckodriver and of the browser. Raises ``ProgramMissingError``."""
        if self._options.selenium_url:
            return None, self._options.binary
        binary = find_program(self._options.binary or "firefox-esr", "firefox-esr")
        try:
            return find_program(self._options.geckodriver), os.path.realpath(binary)
        except ProgramMissingError:
            raise ProgramMissingError(
                f"the program {self._options.geckodriver} was not found; it is Mozilla's, and not in Debian 12"
            ) from None


_STOPPED = Ending(Outcome.CANCELLED, Error.STOPPED, "stopped")
_NOT_STARTED = Ending(Outcome.FAILED, Error.BROWSER, f"the browser did not start within {START_LIMIT:.0f} s")


class _Run:
    """One run of ``selenium_child``, with the processes and files that it leaves behind."""

    def __init__(self, reactor: Reactor, timeout: float, parent: Path | None) -> None:
        self.reports: list[Report] = []
        self.over: Deferred[Ending | None] = Deferred()
        """Fires when the load is over: with how it ended, if the last report does not tell."""
        self._reactor = reactor
        self._timeout = timeout
        self._parent = parent
        self._directory: Path | None = None
        self._child: Child | None = None
        self._limit: IDelayedCall | None = None
        self._partial = b""
        self._received = 0

    def start(self, job: dict[str, Any]) -> None:
        """Start the process and give it its ``job``. Raises ``OSError``."""
        if self._parent is not None:
            self._parent.mkdir(parents=True, exist_ok=True)
        self._directory = Path(tempfile.mkdtemp(prefix=owned_prefix("selenium"), dir=self._parent))
        downloads = self._directory / "downloads"
        downloads.mkdir()
        prefs = {**job["prefs"], "browser.download.folderList": 2, "browser.download.dir": str(downloads)}
        job = {**job, "prefs": prefs, "downloads": str(downloads), "directory": str(self._directory)}
        self._limit_to(START_LIMIT, lambda: _NOT_STARTED)
        self._child = Child.spawn(
            self._reactor,
            module_command("perfd.browser.selenium_child"),
            environment=module_environment(environment(self._directory)),
            directory=self._directory,
            on_data=self._received_data,
            lines_of=ERRORS,
            stdin=[json.dumps(job).encode() + b"\n"],
            hold_stdin=True,
        )
        self._child.when_ended().addCallback(self._ended)

    def stop(self, ending: Ending | None) -> None:
        """The load is over. What comes later is ignored."""
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        if not self.over.called:
            self.over.callback(ending)

    async def wait(self, limit: float) -> None:
        """Return when the process has ended, or after ``limit`` seconds."""
        if self._child is not None:
            with contextlib.suppress(TwistedTimeoutError):
                await self._child.when_exited().addTimeout(limit, self._reactor)

    async def end(self) -> list[int]:
        """Kill all processes and remove their files; return the processes that withstood."""
        self.stop(None)
        if self._child is not None:
            self._child.kill()
        if self._directory is None:
            return []
        pid = 0 if self._child is None else self._child.pid
        return await in_thread(self._reactor, partial(sweep, pid, self._directory))

    def _received_data(self, descriptor: int, data: bytes) -> None:
        if descriptor != 1:
            return
        self._received += len(data)
        if self._received > MOST_OUTPUT:
            self.stop(Ending(Outcome.FAILED, Error.BROWSER, "the browser told too much"))
        if self.over.called:
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._report(line)

    def _report(self, line: bytes) -> None:
        try:
            report = json.loads(line)
        except (ValueError, RecursionError):
            report = None
        if not isinstance(report, dict):
            self.stop(Ending(Outcome.FAILED, Error.BROWSER, "Selenium's process made no sense"))
            return
        self.reports.append(report)
        if report.get("event") == "navigating":
            self._limit_to(self._timeout, lambda: overdue(self.reports))
        elif report.get("event") == "finished":
            self.stop(None)

    def _limit_to(self, seconds: float, ending: Callable[[], Ending | None]) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._limit = self._reactor.callLater(seconds, lambda: self.stop(ending()))

    def _ended(self, code: int) -> None:
        assert self._child is not None
        words = self._child.lines[-1].strip() if self._child.lines else ""
        how = f"{describe_exit(code)}{words and ': '}{words}"
        self.stop(Ending(Outcome.FAILED, Error.BROWSER, f"Selenium's process ended: {how}"))


def _after(work: Deferred[None]) -> Deferred[None]:
    """Fires when ``work`` is over; cancelling it does not cancel ``work``."""
    waiting: Deferred[None] = Deferred()

    def fire(result: None) -> None:
        if not waiting.called:
            waiting.callback(None)
        return result

    work.addBoth(fire)
    return waiting
