"""The schedule: when an experiment runs, and that every slot is covered by a record.

Slots lie on a grid of wall-clock time: whole intervals since the epoch (UTC), plus the offset. So 5 minutes and
offset 0 means :00, :05, :10, as with cron, whenever Perfd was started. Waiting is done by the reactor's clock,
which the service makes monotonic; the grid is looked at anew for each slot.

The rule: each slot is covered by exactly one record of each variant. A record that covers many has COUNT of
them, from FROM until UNTIL. A slot that comes again, as the clock was set back, has REPEATED=1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from perfd.clock import Anchor, Clock
from perfd.interfaces import Experiment, Sink
from perfd.record import REQUEST, Error, Measurement, Outcome
from perfd.variant import Variant

MOST_SLOTS_MADE_UP = 1000
"""How many slots that were jumped over get a record each; one more covers the rest, since a clock step of years
must not flood the database.
"""

START_PATIENCE = 60.0
"""Seconds after a start in which a slot waits for a tor that is not ready yet, instead of being skipped."""

_LOOK = 0.1
"""Seconds between two looks whether one is."""

_ROUNDING = 0.001
"""Seconds: a timer that fires so little before a slot has come to it."""


@attrs.frozen
class Grid:
    """The times at which an experiment is due, in seconds since the epoch."""

    interval: float
    offset: float = 0.0

    @property
    def tolerance(self) -> float:
        """By how much the wall clock may differ from the monotonic one, over a slot, before it counts as
        stepped.
        """
        return min(1.0, self.interval / 10)

    def next(self, now: float) -> float:
        """The first slot at or after ``now``."""
        return self._slot(math.ceil((now - _ROUNDING - self.offset) / self.interval))

    def last(self, now: float) -> float:
        """The last slot at or before ``now``."""
        return self._slot(math.floor((now + _ROUNDING - self.offset) / self.interval))

    def number(self, slot: float) -> int:
        """How many slots it is after the epoch."""
        return round((slot - self.offset) / self.interval)

    def slots(self, first: float, last: float) -> list[float]:
        """All slots from one to another, both included, but no more than ``MOST_SLOTS_MADE_UP``."""
        numbers = range(self.number(first), self.number(last) + 1)
        return [self._slot(number) for number in numbers[:MOST_SLOTS_MADE_UP]]

    def _slot(self, number: int) -> float:
        # Not by adding up: the slots of many days must be the same as those that are computed anew.
        return number * self.interval + self.offset


class Schedule(Service):
    """Runs one experiment in each of its slots.

    An experiment over several tors, or several ways to the server, has a variant for each. They run one after
    the other, so that they do not compete, and take turns in going first. While a round is still going
    on, the next slot is recorded as skipped. Nothing that a run does ends the schedule. In the first minute a slot
    whose tor is still starting runs late, when that is ready before the next slot.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactorTime, clock: Clock, name: str, grid: Grid, variants: Sequence[Experiment], sink: Sink
    ) -> None:
        self.setName(f"schedule-{name}")
        self.grid = grid
        self.next_slot: float | None = None  # the first one that no record covers yet
        self.first_slot: float | None = None  # of this start
        self._reactor = reactor
        self._clock = clock
        self._variants = tuple(variants)
        self._first = grid, self._variants  # what was to be run at this start
        self._sink = sink
        self._looked: Anchor = clock.anchor()  # when the clocks were compared last
        self._covered = -math.inf  # the last slot of all that are covered
        self._last = -math.inf  # the last one before ``finish``
        self._patient_until = -math.inf  # monotonic
        self._waiting: IDelayedCall | None = None
        self._round: Deferred[None] | None = None
        self._rounds = 0

    @property
    def variants(self) -> tuple[Experiment, ...]:
        """What is run in the next slot."""
        return self._variants

    @property
    def is_busy(self) -> bool:
        """Whether a round is going on."""
        return self._round is not None

    def startService(self) -> None:
        super().startService()
        self._looked = self._clock.anchor()
        self._patient_until = self._looked.monotonic + START_PATIENCE
        self._first = self.grid, self._variants
        self.first_slot = self.grid.next(self._looked.wall)
        self._wait_for(self.first_slot)

    def change(self, grid: Grid, variants: Sequence[Experiment]) -> None:
        """From the next slot on run ``variants`` in the slots of ``grid``.

        What has come by now belongs to what was before, and the round in flight is not disturbed. After
        ``finish`` this begins anew.
        """
        covered = self._settle()
        self.grid = grid
        self._variants = tuple(variants)
        # A slot of both grids that has come was covered: what is not later than it by more than 1 ms.
        self._wait_for(grid.next(max(self._looked.wall, covered + 2 * _ROUNDING)))

    def finish(self) -> Deferred[None]:
        """Begin no more rounds. Fires when the one in flight is over, which is not disturbed."""
        self._last = self._settle()
        self.next_slot = None
        over: Deferred[None] = Deferred()
        if self._round is None:
            over.callback(None)
        else:
            self._round.addBoth(lambda _: over.callback(None))
        return over

    def _settle(self) -> float:
        """Deal with what has come, and wait for nothing; the last slot that is covered, or need not be."""
        if self._waiting is None or self.next_slot is None:
            self._looked = self._clock.anchor()
            # If the clock was set back meanwhile, all slots until then come again.
            return self._last if self._last <= self._looked.wall + _ROUNDING else -math.inf
        self._waiting.cancel()
        self._come()
        self._waiting.cancel()
        self._waiting = None
        return self.next_slot - self.grid.interval

    def stopService(self) -> Deferred[None] | None:
        """Stop, with the run in flight cancelled and recorded; fires when it is."""
        super().stopService()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._skip_stopped()
        in_flight = self._round
        if in_flight is not None:
            in_flight.cancel()
        return in_flight

    def make_up(self, variant: Variant, last: float | None, latest: float) -> None:
        """Cover the slots between ``last``, the last one that has a record of ``variant``, and this start.

        ``latest`` is the last one of all; it is later than this start if the clock was set back meanwhile.
        """
        if self.first_slot is None:
            return
        grid, variants = self._first
        # If the clock is set back, or was meanwhile, all slots until then come again.
        self._covered = max(self._covered, latest, self.first_slot - grid.interval)
        if last is None:
            return
        first = grid.next(last + grid.interval / 2)
        until = self.first_slot - grid.interval
        if grid.number(first) > grid.number(until):
            return
        for each in variants:
            for blank in each.blanks(first, Outcome.SKIPPED, Error.DOWN, "Perfd did not run"):
                if Variant.of(blank) == variant:
                    self._sink.record(_covering(grid, blank, first, until))

    def _wait_for(self, slot: float) -> None:
        self.next_slot = slot
        self._waiting = self._reactor.callLater(max(0.0, slot - self._clock.wall()), self._come)

    def _come(self) -> None:
        """A slot has come, or so it seemed when the waiting began. Returns at once."""
        self._waiting = None
        assert self.next_slot is not None
        jumped = self._jumped()
        expected = self._expected(self.next_slot, jumped)
        due = self.grid.last(self._looked.wall)
        try:
            if due >= expected:
                self._skip_missed(expected, due - self.grid.interval, jumped)
                mark = self._mark(due)
                self._covered = max(self._covered, due)
                if self._round is None:
                    self._round = Deferred.fromCoroutine(self._run(due, mark))
                    self._round.addBoth(self._round_ended)
                else:
                    self._skip_overrun(due, mark)
        except Exception:  # noqa: BLE001 - the schedule goes on
            self._log.failure("a slot of {name} was lost", name=self.name)
        self._wait_for(max(expected, due + self.grid.interval))

    def _jumped(self) -> float:
        """By how many seconds the wall clock was stepped since this was last asked; 0 if it runs as it should."""
        before, self._looked = self._looked, self._clock.anchor()
        jumped = self._looked.wall - before.epoch(self._looked.monotonic)
        if abs(jumped) <= self.grid.tolerance:
            return 0.0
        self._log.warn("{name}: the wall clock was stepped by {jumped:.1f} s", name=self.name, jumped=jumped)
        return jumped

    def _expected(self, slot: float, jumped: float) -> float:
        """The slot that was waited for, or, as the clock was set back, the first one that comes again."""
        return slot if jumped >= 0 else min(slot, self.grid.next(self._looked.wall))

    def _skip_missed(self, first: float, last: float, jumped: float) -> None:
        """Give the slots from one to another, which were passed over, their records."""
        reason = f"the wall clock jumped over it by {jumped:.1f} s" if jumped else "Perfd was held up past it"
        self._skip(first, last, Error.LATE, reason)

    def _skip_stopped(self) -> None:
        """The same for those that had come but not begun when Perfd was stopped."""
        if self.next_slot is not None:
            first = self._expected(self.next_slot, self._jumped())
            last = self.grid.last(self._looked.wall)
            self._skip(first, last, Error.STOPPED, "Perfd was stopped before it ran")

    def _skip(self, first: float, last: float, errorcode: str, reason: str) -> None:
        slots = self.grid.slots(first, last)
        for slot in slots:
            self._give(slot, slot, self._blanks(slot, errorcode, reason))
        rest = first + len(slots) * self.grid.interval
        if slots and self.grid.number(rest) <= self.grid.number(last):
            covering = [_covering(self.grid, blank, rest, last) for blank in self._blanks(rest, errorcode, reason)]
            self._give(rest, last, covering)

    def _blanks(self, slot: float, errorcode: str, reason: str) -> list[Measurement]:
        return [m for each in self._variants for m in each.blanks(slot, Outcome.SKIPPED, errorcode, reason)]

    def _give(self, first: float, last: float, measurements: Sequence[Measurement]) -> None:
        """Record what covers the slots from one to another."""
        mark = self._mark(first)
        for measurement in measurements:
            self._sink.record(mark(measurement))
        self._covered = max(self._covered, last)

    def _mark(self, slot: float) -> Callable[[Measurement], Measurement]:
        """What is done to the records of a slot: REPEATED=1 if it was covered before, and comes again."""
        return _repeated if slot <= self._covered else _as_it_is

    async def _run(self, slot: float, mark: Callable[[Measurement], Measurement]) -> None:
        turn = self._rounds % len(self._variants)
        self._rounds += 1
        before_next = self._looked.monotonic + slot - self._looked.wall + self.grid.interval - 2 * _LOOK
        left = [*self._variants[turn:], *self._variants[:turn]]
        while left:
            variant = await self._next_of(left, min(self._patient_until, before_next))
            left.remove(variant)
            given: list[Measurement] = []
            lost = None
            try:
                if self.running:
                    await variant.run(slot, partial(self._record, given, mark))
                else:
                    lost = Outcome.SKIPPED, Error.STOPPED, "Perfd was stopped before it ran"
            except CancelledError:
                lost = Outcome.CANCELLED, Error.STOPPED, "Perfd was stopped"
            except Exception as error:  # noqa: BLE001 - a run may fail in any way, and must leave a record
                self._log.failure("an error inside Perfd ended a run of {name}", name=variant.name)
                lost = Outcome.FAILED, Error.INTERNAL, f"{type(error).__name__}: {error}"
            if lost is not None:
                recorded = {Variant.of(measurement) for measurement in given if measurement.type != REQUEST}
                for blank in variant.blanks(slot, *lost):
                    if Variant.of(blank) not in recorded:
                        self._sink.record(mark(blank))

    async def _next_of(self, variants: Sequence[Experiment], until: float) -> Experiment:
        """The first of them, or, until a moment (monotonic), the first that is ready, which is waited for."""
        while self.running and self._clock.monotonic() < until:
            for variant in variants:
                if variant.not_ready is None:
                    return variant
            # A stop ends the waiting; what did not run then is skipped.
            with suppress(CancelledError):
                await deferLater(self._reactor, _LOOK)
        return variants[0]

    def _record(
        self, given: list[Measurement], mark: Callable[[Measurement], Measurement], measurement: Measurement
    ) -> None:
        given.append(measurement)
        self._sink.record(mark(measurement))

    def _round_ended(self, result: object) -> None:
        self._round = None
        if result is not None:
            self._log.error("{name}: {result}", name=self.name, result=result)

    def _skip_overrun(self, slot: float, mark: Callable[[Measurement], Measurement]) -> None:
        """Skip a slot that came while the run before went on."""
        for variant in self._variants:
            # A run that hangs because its tor does is not the reason: without it there would be none either.
            not_ready = variant.not_ready
            why = (
                (Error.BUSY, "the run before it was still going on")
                if not_ready is None
                else (Error.NOTREADY, not_ready)
            )
            for blank in variant.blanks(slot, Outcome.SKIPPED, *why):
                self._sink.record(mark(blank))


def _as_it_is(measurement: Measurement) -> Measurement:
    return measurement


def _repeated(measurement: Measurement) -> Measurement:
    return attrs.evolve(measurement, extra={**measurement.extra, "REPEATED": 1})


def _covering(grid: Grid, blank: Measurement, first: float, last: float) -> Measurement:
    """A record that covers the slots from one to another."""
    count = grid.number(last) - grid.number(first) + 1
    if count == 1:
        return blank
    return attrs.evolve(blank, extra={**blank.extra, "COUNT": count, "FROM": first, "UNTIL": last})
