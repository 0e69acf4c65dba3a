"""The schedule: when an experiment runs, and that every slot ends in a record.

Slots lie on a grid of wall-clock time: whole intervals since the epoch (UTC), plus the offset. So 5 minutes and
offset 0 means :00, :05, :10, as with cron, whenever Perfd was started. Waiting is done by the reactor's
clock, which the service makes monotonic; after a step of the wall clock the grid is found again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from perfd.clock import Anchor, Clock
from perfd.interfaces import Experiment, Sink
from perfd.record import REQUEST, Error, Measurement, Outcome
from perfd.variant import Variant

MOST_SLOTS_MADE_UP = 1000
"""How many slots that were jumped over get a record each; a clock step of years must not flood the database."""


@attrs.frozen
class Grid:
    """The times at which an experiment is due, in seconds since the epoch."""

    interval: float
    offset: float = 0.0

    @property
    def tolerance(self) -> float:
        """How far a call may be from its slot before the wall clock counts as stepped."""
        return min(1.0, self.interval / 10)

    def next(self, now: float) -> float:
        """The first slot at or after ``now``."""
        return math.ceil((now - self.offset) / self.interval) * self.interval + self.offset

    def at(self, now: float) -> float:
        """The slot that a call at ``now`` belongs to: the last one, or one that is about to begin."""
        return math.floor((now + self.tolerance - self.offset) / self.interval) * self.interval + self.offset

    def between(self, earlier: float, later: float) -> list[float]:
        """The slots strictly between two slots."""
        count = round((later - earlier) / self.interval) - 1
        return [earlier + (n + 1) * self.interval for n in range(min(count, MOST_SLOTS_MADE_UP))]


class Schedule(Service):
    """Runs one experiment in each of its slots.

    An experiment over several tors, or several ways to the server, has a variant for each. They run one after
    the other, so that they do not compete, and take turns in going first. While a round is still going
    on, the next slot is recorded as skipped. Nothing that a run does ends the schedule.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactorTime, clock: Clock, name: str, grid: Grid, variants: Sequence[Experiment], sink: Sink
    ) -> None:
        self.setName(f"schedule-{name}")
        self.grid = grid
        self.next_slot: float | None = None
        self._reactor = reactor
        self._clock = clock
        self._variants = tuple(variants)
        self._sink = sink
        self._aligned: Anchor = clock.anchor()
        self._last_slot: float | None = None
        self._waiting: IDelayedCall | None = None
        self._loop: LoopingCall | None = None
        self._round: Deferred[None] | None = None
        self._rounds = 0

    def startService(self) -> None:
        super().startService()
        self._align(self.grid.next(self._clock.wall()))

    def stopService(self) -> Deferred[None] | None:
        """Stop, with the run in flight cancelled and recorded; fires when it is."""
        super().stopService()
        self._stop_timers()
        in_flight = self._round
        if in_flight is not None:
            in_flight.cancel()
        return in_flight

    def _align(self, slot: float) -> None:
        """Start the loop at ``slot``, the next one by the wall clock as it is now."""
        self._stop_timers()
        self._aligned = self._clock.anchor()
        self.next_slot = slot
        self._waiting = self._reactor.callLater(max(0.0, slot - self._aligned.wall), self._begin)

    def _begin(self) -> None:
        self._waiting = None
        self._loop = LoopingCall(self._tick)
        self._loop.clock = self._reactor
        self._loop.start(self.grid.interval).addErrback(lambda failure: self._log.failure("schedule", failure))

    def _stop_timers(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        self._loop = None

    def _tick(self) -> None:
        """A slot has come. Returns at once, so that LoopingCall never passes over the next one."""
        try:
            slot = self.grid.at(self._clock.wall())
            self._skip_missed(slot)
            if self._round is None:
                self._round = Deferred.fromCoroutine(self._run(slot))
                self._round.addBoth(self._round_ended)
            else:
                self._skip_overrun(slot)
        except Exception:  # noqa: BLE001 - LoopingCall would end for good
            self._log.failure("a slot of {name} was lost", name=self.name)

    def _skip_missed(self, slot: float) -> None:
        """Give the slots that were passed over their records, and find the grid again if the clock was stepped."""
        jumped = self._clock.wall() - self._aligned.epoch(self._clock.monotonic())
        if self._last_slot is not None:
            for missed in self.grid.between(self._last_slot, slot):
                self._skip(missed, Error.LATE, _late_reason(jumped, self.grid))
        self._last_slot = slot
        if abs(jumped) > self.grid.tolerance:
            self._log.warn("{name}: the wall clock was stepped by {jumped:.1f} s", name=self.name, jumped=jumped)
            self._align(slot + self.grid.interval)
        else:
            self.next_slot = slot + self.grid.interval

    async def _run(self, slot: float) -> None:
        turn = self._rounds % len(self._variants)
        self._rounds += 1
        for variant in self._variants[turn:] + self._variants[:turn]:
            given: list[Measurement] = []
            lost = None
            try:
                if self.running:
                    await variant.run(slot, partial(self._record, given))
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
                        self._sink.record(blank)

    def _record(self, given: list[Measurement], measurement: Measurement) -> None:
        given.append(measurement)
        self._sink.record(measurement)

    def _round_ended(self, result: object) -> None:
        self._round = None
        if result is not None:
            self._log.error("{name}: {result}", name=self.name, result=result)

    def _skip_overrun(self, slot: float) -> None:
        """Skip a slot that came while the run before went on."""
        for variant in self._variants:
            # A run that hangs because its tor does is not the reason: without it there would be none either.
            not_ready = variant.not_ready
            why = (
                (Error.BUSY, "the run before it was still going on")
                if not_ready is None
                else (Error.NOTREADY, not_ready)
            )
            for measurement in variant.blanks(slot, Outcome.SKIPPED, *why):
                self._sink.record(measurement)

    def _skip(self, slot: float, errorcode: str, reason: str) -> None:
        for variant in self._variants:
            for measurement in variant.blanks(slot, Outcome.SKIPPED, errorcode, reason):
                self._sink.record(measurement)


def _late_reason(jumped: float, grid: Grid) -> str:
    if abs(jumped) > grid.tolerance:
        return f"the wall clock jumped over it by {jumped:.1f} s"
    return "Perfd was held up past it"
