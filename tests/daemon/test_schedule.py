"""The schedule keeps its grid, and every slot ends in a record."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock as FakeReactor
from twisted.trial.unittest import SynchronousTestCase

from perfd.clock import Clock
from perfd.daemon.schedule import MOST_SLOTS_MADE_UP, Grid, Schedule
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
        assert slot is not None
        return [self._measurement(slot, slot, outcome, errorcode, reason)]

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


class ScheduleTests(SynchronousTestCase):
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

    def test_runs_at_whole_intervals_of_the_clock(self) -> None:
        """The first run waits for the first slot of the grid, with its offset."""
        schedule = self.schedule(interval=60.0, offset=7.0)
        self.assertEqual(schedule.next_slot, 1000027.0)
        self.reactor.advance(26.9)
        self.assertEqual(self.experiments[0].runs, [])
        self.reactor.advance(0.2)
        self.experiments[0].runs[0].callback(None)
        self.assertEqual(self.outcomes(), [(1000027.0, "ok", None)])
        self.assertEqual(schedule.next_slot, 1000087.0)

    def test_no_overlap(self) -> None:
        """A slot that comes while the run before goes on is recorded as skipped."""
        self.schedule()
        self.reactor.pump([20.0, 60.0, 60.0])
        self.assertEqual(len(self.experiments[0].runs), 1)
        self.experiments[0].runs[0].callback(None)
        self.reactor.advance(60.0)
        self.experiments[0].runs[1].callback(None)
        self.assertEqual(
            self.outcomes(),
            [
                (1000080.0, "skipped", Error.BUSY),
                (1000140.0, "skipped", Error.BUSY),
                (1000020.0, "ok", None),
                (1000200.0, "ok", None),
            ],
        )

    def test_not_ready_meanwhile(self) -> None:
        """If the run before goes on because its tor is lost, that is the reason; of this variant only."""
        self.schedule("a", "b")
        self.reactor.advance(20.0)
        self.experiments[0].not_ready = "tor a does not answer"
        self.reactor.advance(60.0)
        said = [(m.experiment, m.errorcode, m.reason) for m in self.sink.measurements]
        busy = "the run before it was still going on"
        self.assertEqual(said, [("a", Error.NOTREADY, "tor a does not answer"), ("b", Error.BUSY, busy)])

    def test_variants_take_turns(self) -> None:
        """Variants run one after the other, and another one goes first each time."""
        self.schedule("a", "b")
        self.reactor.advance(20.0)
        a, b = self.experiments
        self.assertEqual((len(a.runs), len(b.runs)), (1, 0))
        a.runs[0].callback(None)
        b.runs[0].callback(None)
        self.reactor.advance(60.0)
        self.assertEqual((len(a.runs), len(b.runs)), (1, 2))
        b.runs[1].callback(None)
        a.runs[1].callback(None)
        self.assertEqual([m.experiment for m in self.sink.measurements], ["a", "b", "b", "a"])

    def test_exception_in_a_run(self) -> None:
        """An error inside a run is a record, and the next slot runs."""
        self.schedule()
        self.reactor.advance(20.0)
        self.experiments[0].runs[0].errback(ZeroDivisionError("oops"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.reactor.advance(60.0)
        self.experiments[0].runs[1].callback(None)
        self.assertEqual(self.outcomes(), [(1000020.0, "failed", Error.INTERNAL), (1000080.0, "ok", None)])
        self.assertEqual(self.sink.measurements[0].reason, "ZeroDivisionError: oops")

    def test_exception_in_blank(self) -> None:
        """Even an experiment that cannot make a record does not end the schedule."""
        self.schedule()
        self.reactor.advance(20.0)

        def broken(*arguments: object) -> Measurement:
            raise RuntimeError("no record")

        self.experiments[0].blanks = broken  # type: ignore[method-assign]
        self.reactor.advance(60.0)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.experiments[0].runs[0].callback(None)
        self.reactor.advance(60.0)
        self.assertEqual(len(self.experiments[0].runs), 2)

    def test_stop_cancels_and_records(self) -> None:
        """Stopping ends the run in flight with a record, and those that had not begun."""
        schedule = self.schedule("a", "b")
        self.reactor.advance(20.0)
        stopped = schedule.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        self.assertEqual(
            self.outcomes(), [(1000020.0, "cancelled", Error.STOPPED), (1000020.0, "skipped", Error.STOPPED)]
        )
        self.reactor.advance(600.0)
        self.assertEqual(len(self.sink.measurements), 2)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_before_the_first_slot(self) -> None:
        """Nothing stays behind in the reactor."""
        schedule = self.schedule()
        self.assertIsNone(schedule.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_held_up_process(self) -> None:
        """Slots that passed while the process was held up are recorded, and the grid is kept."""
        self.schedule()
        self.reactor.advance(20.0)
        self.experiments[0].runs[0].callback(None)
        self.reactor.advance(190.0)
        self.experiments[0].runs[1].callback(None)
        self.reactor.advance(50.0)
        self.experiments[0].runs[2].callback(None)
        self.assertEqual(
            self.outcomes(),
            [
                (1000020.0, "ok", None),
                (1000080.0, "skipped", Error.LATE),
                (1000140.0, "skipped", Error.LATE),
                (1000200.0, "ok", None),
                (1000260.0, "ok", None),
            ],
        )

    def test_wall_clock_stepped_forward(self) -> None:
        """After a step the grid is found again; the slots that were jumped over are recorded."""
        schedule = self.schedule()
        self.reactor.advance(20.0)
        self.experiments[0].runs[0].callback(None)
        self.wall_offset += 130.0
        self.reactor.advance(60.0)
        self.experiments[0].runs[1].callback(None)
        self.assertEqual(
            self.outcomes(),
            [
                (1000020.0, "ok", None),
                (1000080.0, "skipped", Error.LATE),
                (1000140.0, "skipped", Error.LATE),
                (1000200.0, "ok", None),
            ],
        )
        self.assertIn("jumped over it by 130.0 s", self.sink.measurements[1].reason or "")
        self.assertEqual(schedule.next_slot, 1000260.0)
        self.reactor.advance(50.0)
        self.assertEqual(self.clock.wall(), 1000260.0)
        self.assertEqual(len(self.experiments[0].runs), 3)

    def test_wall_clock_stepped_back(self) -> None:
        """A step back makes nobody wait for the clock to catch up."""
        self.schedule()
        self.reactor.advance(20.0)
        self.experiments[0].runs[0].callback(None)
        self.wall_offset -= 3600.0
        self.reactor.advance(60.0)
        self.experiments[0].runs[1].callback(None)
        self.assertEqual(self.outcomes()[1], (1000080.0 - 3600.0, "ok", None))
        self.reactor.advance(60.0)
        self.assertEqual(len(self.experiments[0].runs), 3)

    def test_great_step_makes_few_records(self) -> None:
        """A clock that was years off does not flood the database."""
        self.schedule(interval=1.0)
        self.reactor.advance(1.0)
        self.experiments[0].runs[0].callback(None)
        self.wall_offset += 1e9
        self.reactor.advance(1.0)
        self.assertEqual(len(self.sink.measurements), 1 + MOST_SLOTS_MADE_UP)


@given(
    interval=st.sampled_from([1.0, 10.0, 300.0, 3600.0]),
    offset=st.sampled_from([0.0, 0.5]),
    now=st.floats(min_value=0, max_value=4e9),
)
def test_grid(interval: float, offset: float, now: float) -> None:
    """The next slot is never behind, less than an interval ahead, and belongs to itself."""
    grid = Grid(interval, offset)
    slot = grid.next(now)
    assert now <= slot + 1e-6
    assert slot - now <= interval
    assert grid.at(slot) == slot
    assert grid.between(slot, slot + 3 * interval) == [slot + interval, slot + 2 * interval]
