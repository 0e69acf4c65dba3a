"""When what is sent arrives: the queue, the rate and the delay of a link, and a clock that wakes precisely.

The process of the links is an asyncio loop, not a reactor: nothing of Twisted is needed here, and its reactors wake
at whole milliseconds, which would be 2 % of a round trip of 50 ms.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import selectors
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from select import select

from perfd.config.testnet import Link
from perfd.tor.testnet.links.jitter import Jitter

MOST_LATENESS = 0.0003
"""Seconds that are allowed for: what is later is the load of the machine, which must not keep a processor busy."""

_STEP = 2e-6


class PreciseSelector(selectors.EpollSelector):
    """Waits for descriptors, or until a time to the microsecond: epoll itself has milliseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            select([self.fileno()], [], [], timeout)
        return super().select(0)


def new_loop() -> asyncio.SelectorEventLoop:
    """A loop whose clock is precise."""
    return asyncio.SelectorEventLoop(PreciseSelector())


class Agenda:
    """What is to be done when: in order of time, and for the same time in the order in which it was given.

    A process that sleeps is woken late, by 0.05 to 0.2 ms, which for each packet would be twice too much: when it
    comes and when it is to go. So the usual lateness is learnt from timers, which are set for so much earlier; and
    what comes has come so much before it is read.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lateness = 0.0  # about the median: half of the timers are later
        self._set_for = 0.0
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._number = count()
        self._timer: asyncio.TimerHandle | None = None

    def time(self) -> float:
        """When what is read now has come, in seconds."""
        return self._loop.time() - self._lateness

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Do ``action`` at the time ``when``."""
        heapq.heappush(self._due, (when, next(self._number), action))
        if self._due[0][2] is action:
            self._set_timer()

    def catch_up(self) -> None:
        """Do what is due, without waiting for the loop to come to it."""
        if self._due and self._due[0][0] <= self._loop.time():
            self._run()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            self._set_for = self._due[0][0] - self._lateness
            self._timer = self._loop.call_at(self._set_for, self._wake)

    def _wake(self) -> None:
        was_late = self._loop.time() - self._set_for
        step = _STEP if was_late > self._lateness else -_STEP
        self._lateness = min(max(self._lateness + step, 0.0), MOST_LATENESS)
        self._wait_until(self._due[0][0])
        self._run()

    def _wait_until(self, when: float) -> None:
        """Wait a moment, awake: sleeping would be late again."""
        while self._loop.time() < when:
            pass

    def _run(self) -> None:
        now = self._loop.time()
        try:
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
        finally:  # what fails must not keep the others waiting
            self._set_timer()


class Lane:
    """One direction of the link of one relay."""

    def __init__(self, link: Link, random: Random) -> None:
        self.link = link
        self._random = random
        self._jitter = Jitter(link.jitter, Random(random.random())) if link.jitter else None
        self._is_free_at = 0.0

    def passes(self, now: float, size: int) -> float:
        """When so many bytes that come ``now`` have passed its bottleneck, behind those that came before."""
        if self.link.rate is None:
            return now
        self._is_free_at = max(now, self._is_free_at) + 8 * size / self.link.rate
        return self._is_free_at

    def backlog(self, now: float) -> float:
        """For how many seconds what comes ``now`` waits in the queue."""
        return max(0.0, self._is_free_at - now)

    def delay(self, now: float) -> float:
        """How long what leaves the bottleneck ``now`` is on its way, in seconds."""
        return self.link.delay if self._jitter is None else self.link.delay + self._jitter.at(now)

    def loses(self) -> bool:
        """Whether the next packet is lost."""
        return self.link.loss > 0 and self._random.random() < self.link.loss


class Way:
    """What goes from one place to another, over the lanes of both ends, in order.

    What comes to a lane that loses it, or behind more than ``most_backlog`` seconds there, is dropped.
    """

    def __init__(self, agenda: Agenda, lanes: tuple[Lane, ...], most_backlog: float = math.inf) -> None:
        self.lanes = lanes
        self._agenda = agenda
        self._most_backlog = most_backlog
        self._last = 0.0

    def send(self, size: int, arrive: Callable[[], object]) -> None:
        """Have ``arrive`` called when so many bytes are at the other end, if they are not dropped."""
        self._from(0, self._agenda.time(), size, arrive)

    def backlog(self) -> float:
        """For how many seconds what is sent now waits in queues."""
        now = self._agenda.time()
        return max((lane.backlog(now) for lane in self.lanes), default=0.0)

    def _from(self, number: int, now: float, size: int, arrive: Callable[[], object]) -> None:
        for place in range(number, len(self.lanes)):
            lane = self.lanes[place]
            if lane.loses() or lane.backlog(now) > self._most_backlog:
                return
            now = lane.passes(now, size)
            if lane.link.rate is not None and place + 1 < len(self.lanes):
                # The second queue must not be taken before it is reached: others go through it meanwhile. What has
                # nothing to wait for goes by the agenda too, or it could overtake what is due but not done yet.
                self._agenda.at(now, partial(self._from, place + 1, now, size, arrive))
                return
        # Jitter overtakes nothing but by what floats are rounded.
        self._last = max(self._last, now + sum(lane.delay(now) for lane in self.lanes))
        self._agenda.at(self._last, arrive)
