"""Keeping something running that may end at any time: readiness, growing pauses, and the loop around both."""

from __future__ import annotations

from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from perfd.clock import Clock
from perfd.reactor import Reactor

SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
HEALTHY = 60.0
"""After this many seconds of readiness the pauses begin with the shortest one again."""


class NotReadyError(Exception):
    """What was waited for was stopped before it became ready."""


class NetworkUnusableError(Exception):
    """A private network is there, but lacks what something needs of it."""


class Readiness:
    """Why something is not ready (None: it is), and those who wait for it. Can be lost and regained any time."""

    def __init__(self, reason: str) -> None:
        self.reason: str | None = reason
        self._waiting: list[Deferred[None]] = []

    async def wait(self) -> None:
        """Return as soon as it is ready. Raises ``NotReadyError`` if it is given up."""
        while self.reason is not None:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._waiting:  # cancelled
                    self._waiting.remove(waiting)

    def gain(self) -> None:
        self.reason = None
        for waiting in self._take():
            waiting.callback(None)

    def lose(self, reason: str) -> None:
        self.reason = reason

    def give_up(self, reason: str) -> None:
        """Lose it for good: who waits is told."""
        self.reason = reason
        for waiting in self._take():
            waiting.errback(NotReadyError(reason))

    def _take(self) -> list[Deferred[None]]:
        taken, self._waiting = self._waiting, []
        return taken


class Pauses:
    """The pause before each next try, in seconds: doubled each time, up to a limit."""

    def __init__(self) -> None:
        self._next = SHORTEST_PAUSE

    def next(self) -> float:
        pause, self._next = self._next, min(2 * self._next, LONGEST_PAUSE)
        return pause

    def reset(self) -> None:
        self._next = SHORTEST_PAUSE


class PrivateNetwork(Protocol):
    """What must be there before something is launched that belongs to it."""

    @property
    def not_ready(self) -> str | None: ...

    @property
    def trouble(self) -> str | None: ...

    async def when_ready(self) -> None: ...


class SupervisedService(Service):
    """A service that runs something again and again, because it may end at any time.

    Subclasses write ``_run``. ``what`` names the thing in messages, as in ``tor default``. What belongs to a
    private ``network`` calls ``_wait_for_network`` before it launches anything; meanwhile the network's state is
    its own.
    """

    _log = Logger()

    def __init__(
        self, reactor: Reactor, what: str, clock: Clock | None = None, network: PrivateNetwork | None = None
    ) -> None:
        self._reactor = reactor
        self._awaited = network
        self._waited_for: PrivateNetwork | None = None  # right now
        self._what = what
        self._clock = clock or Clock()
        self._readiness = Readiness(f"{what} is not running")
        self._ready_since: float | None = None
        self._trouble: str | None = None
        self._supervision: Deferred[None] = succeed(None)

    @property
    def not_ready(self) -> str | None:
        """Why it cannot be used now, in words for a record; None when it can."""
        if self._waited_for is not None and self._waited_for.not_ready is not None:
            return f"{self._what} waits for the private network: {self._waited_for.not_ready}"
        return self._readiness.reason

    @property
    def trouble(self) -> str | None:
        """How the last try ended, a sentence, or that of the network that it waits for.

        None in the first try, and when it was ready since.
        """
        return self._trouble if self._waited_for is None else self._waited_for.trouble

    async def when_ready(self) -> None:
        """Return as soon as it can be used. Raises ``NotReadyError`` when the service is stopped first."""
        await self._readiness.wait()

    def startService(self) -> None:
        super().startService()
        self._supervision = Deferred.fromCoroutine(self._supervise())
        self._supervision.addErrback(_cancelled)

    def stopService(self) -> Deferred[None]:
        """Stop; the Deferred fires when everything that was started is gone."""
        stopped: Deferred[None] = Deferred()
        # Not the supervision itself: whoever cancels what we return must not cancel the cleaning up.
        self._supervision.addBoth(lambda _: stopped.callback(None))
        if self.running:
            # Later, since a coroutine cannot be cancelled by what it calls, such as those who waited for readiness.
            self._reactor.callLater(0, self._supervision.cancel)
        super().stopService()
        self._readiness.give_up(f"{self._what} was stopped")
        return stopped

    async def _wait_for_network(self) -> None:
        """Return as soon as its private network is ready; at once if it has none."""
        if self._awaited is None or self._awaited.not_ready is None:
            return
        self._waited_for = self._awaited
        try:
            await self._awaited.when_ready()
        finally:
            self._waited_for = None

    async def _run(self) -> str:
        """Run it once, and return how it ended, as the rest of a sentence that begins with ``what``."""
        raise NotImplementedError

    def _gained(self) -> None:
        """It can be used from now on."""
        if not self.running:
            return
        if self._ready_since is None:
            self._ready_since = self._clock.monotonic()
        self._trouble = None
        self._readiness.gain()

    def _lost(self, reason: str) -> None:
        """It cannot be used now, because of ``reason``, a whole sentence."""
        self._readiness.lose(reason)

    async def _supervise(self) -> None:
        pauses = Pauses()
        while self.running:
            self._ready_since = None
            self._lost(f"{self._what} is starting")
            # Whatever ends it is followed by another try, also our own mistake: nobody watches over night.
            try:
                ending = await Deferred.fromCoroutine(self._run()).addErrback(self._mistaken)
            except CancelledError:
                self._lost(f"{self._what} was stopped")
                raise
            if not self.running:
                return
            if self._was_healthy():
                pauses.reset()
            pause = pauses.next()
            self._trouble = f"{self._what} {ending}"
            self._lost(f"{self._what} {ending}; next try in {pause:g} s")
            self._log.warn("{reason}", reason=self.not_ready)
            await deferLater(self._reactor, pause)

    def _was_healthy(self) -> bool:
        return self._ready_since is not None and self._clock.monotonic() - self._ready_since >= HEALTHY

    def _mistaken(self, failure: Failure) -> str:
        """An exception that nobody expected is logged whole, and then an ending like others."""
        if failure.check(CancelledError):
            failure.raiseException()
        self._log.failure("{what} met a mistake in Perfd", failure, what=self._what)
        return f"met a mistake in Perfd: {failure.getErrorMessage()}"


def _cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
