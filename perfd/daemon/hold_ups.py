"""Times in which the reactor did not get to its work: a disk hangs, the process was stopped, the machine slept.

What happens then is stamped late, so records say of it (HELDUP).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

TICK = 0.02
"""Seconds between two looks; a hold-up is told up to so much longer than it was.

Fifty looks a second cost 0.7 % of a processor, so there are none while nothing is measured.
"""

LIMIT = 0.05
"""Seconds; what holds the reactor up for longer is told."""

KEPT = 10_000
"""How many of the last hold-ups are remembered."""


@attrs.frozen
class HoldUp:
    """From one look to another that came late."""

    begin: float  # raw monotonic seconds
    end: float
    asleep: float  # seconds between them that the monotonic clock did not count

    def seconds_within(self, since: float, until: float) -> float:
        """How much of it was between two moments; 0 if that is within ``LIMIT``."""
        common = min(self.end, until) - max(self.begin, since)
        seconds = common + self.asleep if common > 0 else 0.0
        return seconds if seconds > LIMIT else 0.0


def seconds_asleep() -> float:
    """For how long this machine has been suspended since it was started; 0 where the system does not tell."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return 0.0 if boottime is None else time.clock_gettime(boottime) - time.clock_gettime(time.CLOCK_MONOTONIC)


class HoldUps:
    """Notices hold-ups while anybody watches. ``seconds`` is their sum so far."""

    def __init__(
        self,
        reactor: IReactorTime,
        monotonic: Callable[[], float],
        asleep: Callable[[], float] = seconds_asleep,
    ) -> None:
        self.seconds = 0.0
        self._reactor = reactor
        self._monotonic = monotonic
        self._asleep = asleep
        self._last = monotonic(), asleep()
        self._kept: deque[HoldUp] = deque(maxlen=KEPT)
        self._next: IDelayedCall | None = None
        self._watching = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Hold-ups are noticed as long as the context lasts; several may overlap."""
        self._watching += 1
        if self._next is None:
            self._begin()
        try:
            yield
        finally:
            self._watching -= 1
            if not self._watching and self._next is not None:
                self._next.cancel()
                self._note()
                self._next = None

    def between(self, since: float, until: float) -> float:
        """For how many seconds the reactor was held up between two moments (raw monotonic seconds), 0 if never."""
        if self._next is None:
            return 0.0
        # The one that has just ended too: what waited for its end may come before the next look.
        found = (each.seconds_within(since, until) for each in (*self._kept, self._since_last()))
        return round(sum(found), 6)

    def _begin(self) -> None:
        self._last = self._monotonic(), self._asleep()
        self._next = self._reactor.callLater(TICK, self._look)

    def _look(self) -> None:
        self._note()
        self._begin()

    def _note(self) -> None:
        found = self._since_last()
        seconds = found.seconds_within(found.begin, found.end)
        if seconds:
            self._kept.append(found)
            self.seconds += seconds

    def _since_last(self) -> HoldUp:
        begin, asleep = self._last
        return HoldUp(begin, self._monotonic(), max(0.0, self._asleep() - asleep))
