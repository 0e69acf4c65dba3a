"""When the daily work is done: soon after the daemon's start, and then each day as soon as the last run of the
day before can have ended and been recorded.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from perfd.clock import Clock
from perfd.daemon.upkeep.days import DAY, day_of
from perfd.daemon.upkeep.work import Work
from perfd.processes.child import Child
from perfd.processes.modules import module_command, module_environment
from perfd.reactor import Reactor

FIRST_AFTER = 30.0
"""Seconds from the daemon's start to the first run: what was missed while it did not run."""

RETRY_AFTER = 600.0
LONGEST_RETRY = 6 * 3600.0
"""Seconds until the next try after a failure; each pause is twice the one before."""

MOST_TIME = 4 * 3600.0
"""Seconds after which a run is ended; the next one goes on where it stopped."""

STOP_TIMEOUT = 5.0
"""Seconds from SIGTERM to SIGKILL."""

MOST_LINES = 1000
"""Lines of a run that are logged."""


class DailyService(Service):
    """Starts the child process in time, logs what it says, and starts it again when it failed."""

    _log = Logger()

    def __init__(self, reactor: Reactor, clock: Clock, work: Work, first_after: float = FIRST_AFTER) -> None:
        self._reactor = reactor
        self._wall = clock.wall
        self._task = work
        self._first_after = first_after
        self._next: IDelayedCall | None = None
        self._child: Child | None = None
        self._retry_after = RETRY_AFTER
        self._lines_left = 0

    def change(self, work: Work) -> None:
        """Do this from the next time on."""
        self._task = work

    def startService(self) -> None:
        super().startService()
        self._next = self._reactor.callLater(self._first_after, self._run)

    def stopService(self) -> Deferred[int] | None:
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        return None if self._child is None else Deferred.fromCoroutine(self._child.stop(STOP_TIMEOUT))

    def _run(self) -> None:
        self._next = None
        Deferred.fromCoroutine(self._work()).addCallback(self._worked)

    async def _work(self) -> int | None:
        """Run the child to its end; its exit code, None if it cannot be started."""
        self._lines_left = MOST_LINES
        try:
            self._child = child = Child.spawn(
                self._reactor,
                module_command("perfd.daemon.upkeep.work"),
                environment=module_environment(),
                stdin=[self._task.to_json()],
                on_line=self._say_line,
            )
        except OSError as error:
            self._say(f"cannot be started: {error}")
            return None
        overdue = self._reactor.callLater(MOST_TIME, lambda: Deferred.fromCoroutine(child.stop(STOP_TIMEOUT)))
        code = await child.when_ended()
        if overdue.active():
            overdue.cancel()
        self._child = None
        return code

    def _worked(self, code: int | None) -> None:
        if not self.running:
            return
        if code == 0:
            self._retry_after = RETRY_AFTER
            pause = self._until_next_day()
        else:
            pause = min(self._retry_after, self._until_next_day())
            self._retry_after = min(2 * self._retry_after, LONGEST_RETRY)
            self._log.error(
                "the daily work (publishing, deleting) failed with {code}; it is tried again in {pause:.0f} s",
                code=code,
                pause=pause,
            )
        self._next = self._reactor.callLater(pause, self._run)

    def _until_next_day(self) -> float:
        """Seconds until the first day that is not finished now can be published."""
        now = self._wall()
        wait = self._task.grace
        return day_of(now - wait) + DAY + wait - now + 1.0

    def _say_line(self, line: str) -> None:
        if self._lines_left:
            self._lines_left -= 1
            self._say(line)

    def _say(self, line: str) -> None:
        self._log.info("daily work: {line}", line=line)
