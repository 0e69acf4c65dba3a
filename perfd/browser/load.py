"""One page load: the browser is told to load it, is watched until the page rests, and then asked about it."""

from __future__ import annotations

import base64
import json
from collections.abc import Coroutine, Mapping
from enum import Enum
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from perfd.browser.bidi import BidiError, Session
from perfd.browser.fold import LONGEST_TEXT, PageFailure, PageFold, is_headless, is_http
from perfd.browser.numbers import moment, number
from perfd.browser.records import Frame, PageLoad, PageRequest, PageTask
from perfd.clock import Clock
from perfd.record import Error, Outcome

STALL_AFTER = 30.0
"""Seconds without news of a request after which a load that meets its deadline stalled; half its time if less."""

ANSWER_LIMIT = 2.0
"""Seconds for an answer about a page, after its deadline; before it, there is what is left of the page's time."""

BROWSER_LIMIT = 3.0
"""Seconds for an answer of the browser itself, until it counts as hung."""

FILM_STEP = 0.1
MOST_FRAMES = 600

_UNWATCHED = 60.0  # for commands whose end the watch decides
_CRASH_NEWS = 0.5  # seconds after which the news of a crash must have followed it
_FILM_FORMAT = {"type": "image/jpeg", "quality": 0.5}

# In a sandbox, where the page's own scripts cannot reach it. All times are milliseconds after the origin.
_QUESTION = """
(() => {
  const short = text => text.slice(0, LONGEST).toWellFormed();
  const observer = new PerformanceObserver(() => {});
  observer.observe({type: "largest-contentful-paint", buffered: true});
  const navigation = performance.getEntriesByType("navigation")[0];
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  const largest = observer.takeRecords().pop();
  return JSON.stringify({
    url: short(location.href),
    title: short(document.title),
    origin: performance.timeOrigin,
    dom_content_loaded: navigation && navigation.domContentLoadedEventStart,
    load: navigation && navigation.loadEventStart,
    first_contentful_paint: paint && paint.startTime,
    largest_contentful_paint: largest && largest.startTime,
  });
})()
""".replace("LONGEST", str(LONGEST_TEXT))


class _End(Enum):
    FAILED = "failed"  # the fold knows why
    RESTED = "rested"
    DEADLINE = "deadline"
    LOST = "lost"  # the browser


@attrs.frozen
class _Answer:
    """What the page said of itself; times are seconds since the epoch."""

    url: str
    title: str
    times: Mapping[str, float]


class PageLoading:
    """The load of ``task`` in the browsing context ``context``, which shows nothing yet."""

    def __init__(self, reactor: IReactorTime, clock: Clock, session: Session, context: str, task: PageTask) -> None:
        self._reactor = reactor
        self._clock = clock
        self._session = session
        self._context = context
        self._task = task
        self._fold = PageFold(context)
        self._over: Deferred[_End] = Deferred()
        self._rest: IDelayedCall | None = None
        self._lost: str | None = None
        self._anchor = clock.anchor()
        self._news = self._anchor.monotonic  # when something was last heard of a request
        self._ended_at: float | None = None
        self._frames: list[Frame] = []

    async def run(self) -> PageLoad:
        """Load the page. Never raises; cancelled, it returns what is known at that moment."""
        self._session.listener = self
        deadline: IDelayedCall | None = None
        background: list[Deferred[None]] = []
        try:
            blank = await self._picture(_FILM_FORMAT, ANSWER_LIMIT) if self._task.filmstrip else None
            self._anchor = self._clock.anchor()
            self._news = self._anchor.monotonic
            deadline = self._reactor.callLater(self._task.timeout, self._end, _End.DEADLINE)
            background.append(_start(self._navigate()))
            if blank:
                self._frames.append(Frame(self._anchor.wall, blank))
                background.append(_start(self._film()))
            end = await self._over
            self._stop(deadline, background)
            return await self._look_back(end)
        except CancelledError:
            return self._record(Outcome.CANCELLED, Error.STOPPED, "stopped")
        finally:
            self._stop(deadline, background)
            self._session.listener = None

    def event_received(self, method: str, params: Mapping[str, Any]) -> None:
        if self._over.called and not _is_crash(method, params):
            return  # what comes after the end does not belong to the load
        try:
            self._fold.take(method, params)
            if method == "network.authRequired":
                _start(self._no_credentials(params["request"]["request"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.session_lost(f"its event {method} makes no sense: {error!r}")
            return
        if method.startswith("network."):
            self._news = self._clock.monotonic()
        self._consider()

    def session_lost(self, reason: str) -> None:
        self._lost = reason
        self._end(_End.LOST)

    def _consider(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._fold.failure is not None:
            self._end(_End.FAILED)
        elif self._fold.resting and not self._over.called:
            self._rest = self._reactor.callLater(self._task.quiet, self._rested)

    def _rested(self) -> None:
        self._rest = None
        self._end(_End.RESTED)

    def _end(self, end: _End) -> None:
        if not self._over.called:
            self._ended_at = self._clock.monotonic()
            self._over.callback(end)

    def _stop(self, deadline: IDelayedCall | None, background: list[Deferred[None]]) -> None:
        for call in (deadline, self._rest):
            if call is not None and call.active():
                call.cancel()
        self._rest = None
        for each in background:
            each.cancel()

    async def _navigate(self) -> None:
        try:
            await self._ask(
                "browsingContext.navigate", self._task.timeout + _UNWATCHED, url=self._task.url, wait="none"
            )
        except BidiError as error:
            if not error.lost:
                self._fold.navigate_failed(error.message.removeprefix("Error: "))
                self._consider()

    async def _no_credentials(self, request: str) -> None:
        """Let the server's answer without credentials be the page; nobody is there to be asked for them."""
        try:
            await self._session.command(
                "network.continueWithAuth", self._task.timeout + _UNWATCHED, request=request, action="cancel"
            )
        except BidiError:
            return  # the load is over, or meets its deadline

    async def _film(self) -> None:
        """Take pictures. A frame's time is that of its arrival: what it shows was visible by then."""
        while len(self._frames) < MOST_FRAMES:
            began = self._clock.monotonic()
            image = await self._picture(_FILM_FORMAT, self._task.timeout + _UNWATCHED)
            now = self._clock.monotonic()
            if image and image != self._frames[-1].image:
                self._frames.append(Frame(self._anchor.epoch(now), image))
            await deferLater(self._reactor, max(0.0, began + FILM_STEP - now))

    async def _picture(self, image_format: Mapping[str, Any], limit: float) -> bytes | None:
        try:
            shot = await self._ask("browsingContext.captureScreenshot", limit, format=image_format)
            return base64.b64decode(shot["data"])
        except (BidiError, KeyError, TypeError, ValueError):
            return None

    async def _look_back(self, end: _End) -> PageLoad:
        """Ask about the page, and judge how its load ended: a load event alone is no success."""
        answer: _Answer | str | None = None
        screenshot = None
        if end is not _End.LOST:
            answer = await self._question()
            if answer is not None and self._task.screenshot:
                screenshot = await self._picture({"type": "image/png"}, self._patience())
            if answer is None:
                await self._check_browser()
        outcome, code, reason = self._judge(end, answer)
        if not isinstance(answer, _Answer):
            return self._record(outcome, code, reason)
        return self._record(outcome, code, reason, answer, screenshot, has_rested=end is _End.RESTED)

    def _judge(self, end: _End, answer: _Answer | str | None) -> tuple[Outcome, str | None, str | None]:
        # In the order of causes: a lost browser explains all that follows, a deadline an answer that is missing.
        failure = self._fold.failure
        main = self._fold.main
        if self._lost is not None:
            failure = PageFailure(Error.BROWSER, f"the browser was lost during the load: {self._lost}")
        elif failure is None and end is _End.DEADLINE and self._fold.load is None:
            return Outcome.TIMEOUT, *self._overdue(is_busy=answer is None)
        elif failure is None and isinstance(answer, str):
            failure = PageFailure(Error.PAGE, answer)
        elif failure is None and (main is None or main.status is None):
            failure = PageFailure(Error.PAGE, "no response of the server led to the page")
        elif failure is None and main is not None and is_headless(main):
            failure = PageFailure(Error.HTTP, "the server's answer is not HTTP")
        elif failure is None and main is not None and not 200 <= (main.status or 0) < 300:
            failure = PageFailure(
                Error.STATUS, f"the server answered with status {main.status} {main.status_text}".strip()
            )
        if failure is not None:
            return Outcome.FAILED, failure.code, failure.reason
        return Outcome.OK, None, None

    def _overdue(self, *, is_busy: bool) -> tuple[str, str]:
        if is_busy:
            return Error.TIMEOUT, f"the page was not loaded within {self._task.timeout:g} s: its scripts are busy"
        silence = (self._ended_at or self._news) - self._news
        stalled = silence >= min(STALL_AFTER, self._task.timeout / 2)
        news = f"; nothing was heard of a request for {silence:.0f} s" if stalled else ""
        reason = f"the page was not loaded within {self._task.timeout:g} s{news}"
        return (Error.STALL if stalled else Error.TIMEOUT), reason

    async def _question(self) -> _Answer | str | None:
        """The page's answer, why there is none that counts, or None if the page is silent."""
        target = {"context": self._context, "sandbox": "perfd"}
        try:
            result = await self._session.command(
                "script.evaluate", self._patience(), expression=_QUESTION, target=target, awaitPromise=False
            )
            return _answer(json.loads(result["result"]["value"]))
        except BidiError as error:
            if error.lost:
                return None
            if self._fold.failure is None:  # if the page's process crashed, the news of it is on its way
                await deferLater(self._reactor, _CRASH_NEWS)
            return f"the page could not be asked: {error}"
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            return f"the page's answer makes no sense: {error!r}"

    def _patience(self) -> float:
        """Seconds that an answer about the page may take now."""
        return max(ANSWER_LIMIT, self._anchor.monotonic + self._task.timeout - self._clock.monotonic())

    async def _check_browser(self) -> None:
        """Tell a page that hangs from a browser that does."""
        try:
            await self._session.command("session.status", BROWSER_LIMIT)
        except BidiError as error:
            self._lost = self._lost or str(error)

    async def _ask(self, method: str, limit: float, **params: Any) -> dict[str, Any]:
        return await self._session.command(method, limit, context=self._context, **params)

    def _record(
        self,
        outcome: Outcome,
        code: str | None,
        reason: str | None,
        answer: _Answer | None = None,
        screenshot: bytes | None = None,
        *,
        has_rested: bool = False,
    ) -> PageLoad:
        fold, main, requests = self._fold, self._fold.main, self._fold.requests()
        end = self._anchor.epoch(self._clock.monotonic() if self._ended_at is None else self._ended_at)
        if answer is not None and (fold.failure is not None or fold.url is None or not is_http(answer.url)):
            answer = None  # it spoke for an error page, or for the empty one before
        if answer is not None and answer.times["origin"] > end:
            answer = None  # it spoke for a page that came after the end
        times = {} if answer is None else {name: at for name, at in answer.times.items() if at <= end}
        load = times.get("load") or fold.load
        return PageLoad(
            task=self._task,
            driver="bidi",
            outcome=outcome,
            errorcode=code,
            reason=reason,
            start=self._anchor.wall,
            navigation_start=times.get("origin") or _first_start(requests),
            first_byte=None if main is None else main.response_start,
            last_byte=None if main is None or main.error else main.response_end,
            first_contentful_paint=times.get("first_contentful_paint"),
            largest_contentful_paint=times.get("largest_contentful_paint"),
            dom_content_loaded=times.get("dom_content_loaded") or fold.dom_content_loaded,
            load=load,
            fully_loaded=max(load, fold.last_end)
            if load is not None and has_rested and outcome is Outcome.OK
            else None,
            end=end,
            url=fold.url,
            status=None if main is None else main.status,
            title=None if answer is None else answer.title,
            requests=requests,
            requests_omitted=fold.requests_omitted,
            screenshot=screenshot,
            frames=tuple(self._frames),
        )


def _first_start(requests: tuple[PageRequest, ...]) -> float | None:
    return next((request.started for request in requests if request.is_navigation), None)


def _is_crash(method: str, params: Mapping[str, Any]) -> bool:
    return method == "browsingContext.navigationCommitted" and str(params.get("url")).startswith("about:tabcrashed")


def _answer(given: Mapping[str, Any]) -> _Answer:
    origin = moment(given["origin"], 1000)
    if origin is None:
        raise ValueError("its time origin is no time")
    times = {"origin": origin}
    for name in ("dom_content_loaded", "load", "first_contentful_paint", "largest_contentful_paint"):
        offset = number(given.get(name))
        at = moment(number(given["origin"]) + offset, 1000)
        if offset > 0 and at is not None:  # 0: it did not happen
            times[name] = at
    return _Answer(str(given["url"]), str(given["title"])[:LONGEST_TEXT], times)


def _start(work: Coroutine[Any, Any, None]) -> Deferred[None]:
    """Do ``work`` beside what is awaited; it may be cancelled."""
    return Deferred.fromCoroutine(work).addErrback(_cancelled)


def _cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
