"""Firefox driven over WebDriver BiDi: processes come and go, each page load gets a user context of its own."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock, ensureDeferred
from twisted.internet.defer import TimeoutError as TwistedTimeoutError
from twisted.logger import Logger

from perfd.browser.bidi import BidiError, Session
from perfd.browser.firefox import BrowserError, FirefoxOptions, FirefoxProcess, Profiles, in_thread
from perfd.browser.fold import EVENTS, refused_address
from perfd.browser.load import PageLoading
from perfd.browser.records import PageLoad, PageTask
from perfd.clock import Clock
from perfd.processes.programs import ProgramMissingError, find_program
from perfd.reactor import Reactor
from perfd.record import Error, Outcome
from perfd.tor.endpoints import tcp_endpoint

START_LIMIT = 30.0
"""Seconds in which a Firefox must have started; they are not the page's."""

PREPARE_LIMIT = 10.0
"""Seconds for a command that prepares a load."""

TIDY_LIMIT = 5.0
"""Seconds for a command that clears a load away."""

_PACKAGE = "firefox-esr"


@attrs.define
class _Running:
    """A Firefox with its session."""

    process: FirefoxProcess
    session: Session
    browser: str
    version: str
    loads: int = 0


@attrs.frozen
class _Context:
    """A user context, and the tab in it."""

    user: str
    tab: str


class BidiBrowser:
    """The ``Browser`` that is a Firefox. One load at a time: a second one waits until the first is cleared away."""

    _log = Logger()

    def __init__(self, reactor: Reactor, clock: Clock, options: FirefoxOptions) -> None:
        self._reactor = reactor
        self._clock = clock
        self._options = options
        self._profiles = Profiles(options)
        self._running: _Running | None = None
        self._starting: Deferred[_Running] | None = None
        self._lock = DeferredLock()
        self._ending: set[Deferred[None]] = set()
        self._tidy_start = True
        self._closed = False

    @property
    def not_ready(self) -> str | None:
        """Why no page can be loaded now, and what to install if that is why; None when one can."""
        if self._closed:
            return f"the browser {self._options.name} was closed"
        try:
            find_program(self._options.binary, _PACKAGE)
        except ProgramMissingError as error:
            return f"{error} (apt install {_PACKAGE}, or name another Firefox)"
        return None

    async def load(self, task: PageTask) -> PageLoad:
        """See ``Browser.load``. The start of a process that it needs is not part of the page's time."""
        refused = refused_address(task.url)
        if refused is not None:
            return self._not_loaded(task, Outcome.FAILED, refused.code, refused.reason)
        try:
            await self._lock.acquire()
        except CancelledError:
            return self._not_loaded(task, Outcome.CANCELLED, Error.STOPPED, "stopped")
        context = None
        try:
            running, context = await self._prepared(task)
            loaded = await PageLoading(self._reactor, self._clock, running.session, context.tab, task).run()
        except CancelledError:
            return self._not_loaded(task, Outcome.CANCELLED, Error.STOPPED, "stopped")
        except BrowserError as error:
            return self._not_loaded(task, Outcome.FAILED, Error.BROWSER, str(error))
        else:
            return self._judged(running, loaded)
        finally:
            self._in_background(self._clear_away(context)).addBoth(lambda _: self._lock.release())

    async def close(self) -> None:
        """See ``Browser.close``. A load that is going on is stopped."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
        self._retire()
        while self._ending:
            await DeferredList(list(self._ending))

    def _judged(self, running: _Running, loaded: PageLoad) -> PageLoad:
        loaded = attrs.evolve(loaded, browser=running.browser, browser_version=running.version)
        if loaded.errorcode == Error.BROWSER and self._closed:
            return attrs.evolve(loaded, outcome=Outcome.CANCELLED, errorcode=Error.STOPPED, reason="stopped")
        if loaded.errorcode in (Error.BROWSER, Error.CRASH):
            self._log.warn("{name}: {reason}", name=self._options.name, reason=loaded.reason)
            self._retire()
        return loaded

    def _not_loaded(self, task: PageTask, outcome: Outcome, code: str, reason: str) -> PageLoad:
        now = self._clock.wall()
        if self._closed:
            outcome, code, reason = Outcome.CANCELLED, Error.STOPPED, "stopped"
        return PageLoad(
            task=task, driver="bidi", outcome=outcome, errorcode=code, reason=reason, start=now, end=now
        )

    async def _prepared(self, task: PageTask) -> tuple[_Running, _Context]:
        """A browser with an empty context for ``task``. One that idled may have died or hung: then a new one."""
        if self._running is not None:
            try:
                return self._running, await self._new_context(self._running, task)
            except BidiError as error:
                self._log.warn("{name} is started again: {error}", name=self._options.name, error=error)
                self._retire()
        running = self._running = await self._started()
        try:
            return running, await self._new_context(running, task)
        except BidiError as error:
            self._retire()
            raise BrowserError(f"the browser did not prepare for the page: {error}") from error

    async def _new_context(self, running: _Running, task: PageTask) -> _Context:
        """A fresh user context with the task's proxy, and a tab in it."""
        running.loads += 1

        async def do(method: str, **params: Any) -> dict[str, Any]:
            return await running.session.command(method, PREPARE_LIMIT, **params)

        proxy = {"proxyType": "manual", "socksProxy": f"127.0.0.1:{task.proxy_port}", "socksVersion": 5}
        made = await do("browser.createUserContext", proxy=proxy, acceptInsecureCerts=task.insecure)
        user = _named(made, "userContext")
        await do("browser.setDownloadBehavior", downloadBehavior={"type": "denied"}, userContexts=[user])
        tab = _named(await do("browsingContext.create", type="tab", userContext=user), "context")
        await do("session.subscribe", events=list(EVENTS), contexts=[tab])
        return _Context(user, tab)

    async def _started(self) -> _Running:
        if self._closed:
            raise BrowserError("the browser was closed")
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addTimeout(START_LIMIT, self._reactor)
        try:
            return await self._starting
        except (BrowserError, CancelledError):
            raise
        except TwistedTimeoutError as error:
            raise BrowserError(f"the browser did not start within {START_LIMIT:g} s") from error
        except Exception as error:
            raise BrowserError(f"the browser could not be started: {error}") from error
        finally:
            self._starting = None

    async def _start(self) -> _Running:
        binary = find_program(self._options.binary, _PACKAGE)
        if self._tidy_start:
            await in_thread(self._reactor, self._profiles.remove_leftovers)
            self._tidy_start = False
        process = await self._launched(binary)
        try:
            port = await process.listening
            session = await Session.connect(
                self._reactor, tcp_endpoint(self._reactor, "127.0.0.1", port, START_LIMIT), port
            )
            # At once: the port takes anybody of this machine, but only one.
            created = await session.command("session.new", START_LIMIT, capabilities={})
            # Without this, a page that asks for a password stays pending.
            await session.command("network.addIntercept", START_LIMIT, phases=["authRequired"])
        except BaseException:
            self._in_background(process.end())
            raise
        about = created.get("capabilities") or {}
        return _Running(process, session, str(about.get("browserName")), str(about.get("browserVersion")))

    async def _launched(self, binary: str) -> FirefoxProcess:
        profile = self._profiles.reserve()
        try:
            await in_thread(self._reactor, lambda: self._profiles.fill(profile))
            return FirefoxProcess(self._reactor, binary, profile)
        except BaseException:
            self._in_background(in_thread(self._reactor, lambda: self._profiles.remove(profile)))
            raise

    async def _clear_away(self, context: _Context | None) -> None:
        """Leave nothing of a load; the process goes too if it is not to be used again, or does not obey."""
        running = self._running
        if running is None:
            return
        if not self._options.warm or running.loads >= self._options.loads_per_process or context is None:
            self._retire()
            return
        try:
            await self._close_tab(running, context.tab)
            await running.session.command("browser.removeUserContext", TIDY_LIMIT, userContext=context.user)
        except BidiError as error:
            if self._running is running:  # else it was ended meanwhile
                self._log.warn("{name} is ended: {error}", name=self._options.name, error=error)
                self._retire()

    async def _close_tab(self, running: _Running, tab: str) -> None:
        try:
            await running.session.command("browsingContext.close", TIDY_LIMIT, context=tab)
        except BidiError as error:
            if error.code != "no such frame":  # the page closed it
                raise

    def _retire(self) -> None:
        """End the browser; the next load starts another one."""
        running, self._running = self._running, None
        if running is not None:
            running.session.abort()
            self._in_background(running.process.end())

    def _in_background(self, work: Coroutine[Any, Any, None] | Deferred[None]) -> Deferred[None]:
        """Do ``work``; ``close`` waits for it."""
        done = ensureDeferred(work)
        done.addErrback(lambda failure: self._log.failure("clearing away after a browser", failure))
        if not done.called:
            self._ending.add(done)
            done.addBoth(lambda _: self._ending.discard(done))
        return done


def _named(result: Mapping[str, Any], name: str) -> str:
    """The name that a command gave. Raises ``BidiError`` if it gave none."""
    found = result.get(name)
    if not isinstance(found, str):
        raise BidiError("no sense", f"a result without {name}")
    return found
