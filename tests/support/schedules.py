"""What tests of schedules start from: experiments that end when the test says so, and two clocks."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock as FakeReactor
from twisted.trial.unittest import SynchronousTestCase

from perfd.clock import Clock
from perfd.daemon.schedule import Grid, Schedule
from perfd.daemon.sinks import MemorySink
from perfd.record import Error, Measurement, Outcome, new_id


class ScriptedExperiment:
    """An experiment whose runs end when the test says so."""

    def __init__(self, name: str, wall: Callable[[], float]) -> None:
        self.name = name
        self.not_ready: str | None = None
        self.runs: list[Deferred[None]] = []
        self._wall = wall

    async def run(self, slot: float | None, record: Callable[[Measurement], None]) -> None:
        """Wait for the test, then give a record."""
        start = self._wall()
        waiting: Deferred[None] = Deferred()
        self.runs.append(waiting)
        try:
            await waiting
        except CancelledError:
            record(self._measurement(slot, start, Outcome.CANCELLED, Error.STOPPED, "Perfd was stopped"))
        else:
            record(self._measurement(slot, start, Outcome.OK, None, None))

    def blanks(self, slot: float | None, outcome: Outcome, errorcode: str, reason: str) -> list[Measurement]:
        """A record without a run."""
        return [self._measurement(slot, slot or 0.0, outcome, errorcode, reason)]

    def _measurement(
        self, slot: float | None, start: float, outcome: Outcome, errorcode: str | None, reason: str | None
    ) -> Measurement:
        return Measurement(
            id=new_id(),
            source="test",
            experiment=self.name,
            filesize=1,
            start=start,
            slot=slot,
            outcome=outcome,
            errorcode=errorcode,
            reason=reason,
        )


class ScheduleCase(SynchronousTestCase):
    """``Schedule`` on a fake clock; the wall clock can be stepped apart from it."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.wall_offset = 1000000.0  # a multiple of neither interval used here, plus some
        self.clock = Clock(wall=lambda: self.reactor.seconds() + self.wall_offset, monotonic=self.reactor.seconds)
        self.sink = MemorySink()

    def schedule(self, *names: str, interval: float = 60.0, offset: float = 0.0) -> Schedule:
        self.experiments = [ScriptedExperiment(name, self.clock.wall) for name in names or ("only",)]
        schedule = Schedule(self.reactor, self.clock, "test", Grid(interval, offset), self.experiments, self.sink)
        schedule.startService()
        return schedule

    def outcomes(self) -> list[tuple[float | None, str, str | None]]:
        return [(m.slot, m.outcome.value, m.errorcode) for m in self.sink.measurements]
