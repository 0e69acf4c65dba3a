"""The schedule keeps its grid, and every slot ends in a record."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock as FakeReactor

from perfd.clock import Clock
from perfd.daemon.schedule import MOST_SLOTS_MADE_UP, Grid, Schedule
from perfd.daemon.sinks import MemorySink
from perfd.record import Error, Measurement, Outcome
from perfd.variant import Variant
from tests.support.schedules import ScheduleCase, ScriptedExperiment


class ScheduleTests(ScheduleCase):
    """``Schedule`` on a fake clock."""

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

    def test_waits_at_the_start(self) -> None:
        """A slot whose tor is still starting runs late, when that is ready; another one does not wait."""
        self.schedule("a", "b")
        a, b = self.experiments
        a.not_ready = "tor a is starting"
        self.reactor.advance(20.0)
        self.assertEqual((len(a.runs), len(b.runs)), (0, 1))
        b.runs[0].callback(None)
        self.reactor.pump([0.1] * 30)
        self.assertEqual(len(a.runs), 0)
        a.not_ready = None
        self.reactor.advance(0.1)
        a.runs[0].callback(None)
        self.assertEqual(self.outcomes(), [(1000020.0, "ok", None)] * 2)

    def test_waits_until_the_next_slot(self) -> None:
        """The next slot waits for itself, a minute after the start none does any more; each has its record."""
        self.schedule("a", interval=10.0)
        (a,) = self.experiments
        a.not_ready = "tor a is starting"
        ran = []
        for _ in range(690):
            self.reactor.advance(0.1)
            ran += [self.clock.wall()] * len(a.runs)
            for run in a.runs:
                run.callback(None)
            a.runs.clear()
        self.assertEqual([slot for slot, _, _ in self.outcomes()], [1000000.0 + 10 * n for n in range(7)])
        self.assertEqual([round(at) % 10 for at in ran], [0] * 7)
        self.assertEqual(
            [at < slot for at, (slot, _, _) in zip(ran, self.outcomes()[1:], strict=False)], [True] * 6
        )

    def test_stopped_while_waiting(self) -> None:
        """What waited for its tor has not begun."""
        schedule = self.schedule("a")
        self.experiments[0].not_ready = "tor a is starting"
        self.reactor.advance(25.0)
        stopped = schedule.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        self.assertEqual(self.outcomes(), [(1000020.0, "skipped", Error.STOPPED)])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

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
        jumped = list(self.sink.measurements)[2:]
        self.assertEqual(len(jumped), MOST_SLOTS_MADE_UP + 1)
        rest = jumped[-1]
        self.assertEqual((rest.errorcode, rest.slots), (Error.LATE, 10**9 - MOST_SLOTS_MADE_UP))
        self.assertEqual((rest.extra["FROM"], rest.extra["UNTIL"]), (rest.slot, self.clock.wall() - 1.0))

    def test_ends_shortly_before_a_slot(self) -> None:
        """A hold-up that ends within a second before a slot runs the slot before late, and this one once."""
        self.schedule()
        self.reactor.advance(79.5)
        self.experiments[0].runs[0].callback(None)
        self.assertEqual(self.outcomes(), [(1000020.0, "ok", None)])
        self.reactor.advance(0.5)
        self.experiments[0].runs[1].callback(None)
        self.reactor.advance(10.0)
        self.assertEqual(self.outcomes(), [(1000020.0, "ok", None), (1000080.0, "ok", None)])

    def test_late_start(self) -> None:
        """A start that is held up past the second slot gives the first its record; the grid is kept."""
        self.schedule()
        self.reactor.advance(62.0 + 20.0)
        self.experiments[0].runs[0].callback(None)
        self.reactor.advance(58.0)
        self.experiments[0].runs[1].callback(None)
        slots = [(1000020.0, "skipped", Error.LATE), (1000080.0, "ok", None), (1000140.0, "ok", None)]
        self.assertEqual(self.outcomes(), slots)
        self.assertEqual(self.sink.measurements[-1].start, 1000140.0)

    def test_stopped_when_due(self) -> None:
        """A slot that had come but not begun when Perfd was stopped has a record."""
        schedule = self.schedule("a", "b")
        self.reactor.rightNow += 85.0  # nothing has been called yet
        self.assertIsNone(schedule.stopService())
        self.assertEqual(
            self.outcomes(),
            [(1000020.0, "skipped", Error.STOPPED)] * 2 + [(1000080.0, "skipped", Error.STOPPED)] * 2,
        )

    def test_slots_that_come_again(self) -> None:
        """After a step back the slots that were covered say so, those of the round under way too."""
        self.schedule("a", "b")
        self.reactor.advance(20.0)
        for each in self.experiments:
            each.runs[0].callback(None)
        self.wall_offset -= 60.0
        for _ in range(2):
            self.reactor.advance(60.0)
            for each in (*self.experiments, *self.experiments):
                if not each.runs[-1].called:
                    each.runs[-1].callback(None)
        marks = [(m.slot, m.experiment, m.extra.get("REPEATED")) for m in self.sink.measurements]
        self.assertEqual(marks[:2], [(1000020.0, "a", None), (1000020.0, "b", None)])
        self.assertEqual(sorted(marks[2:4]), [(1000020.0, "a", 1), (1000020.0, "b", 1)])
        self.assertEqual(sorted(marks[4:]), [(1000080.0, "a", None), (1000080.0, "b", None)])

    def test_made_up(self) -> None:
        """What was missed before the start is one record of the variant; nothing if nothing was."""
        schedule = self.schedule("a", "b")
        a, b = (Variant.of(each.blanks(0.0, Outcome.SKIPPED, "", "")[0]) for each in self.experiments)
        schedule.make_up(a, 1000020.0 - 60.0, 1000020.0 - 60.0)
        self.assertEqual(self.outcomes(), [])
        schedule.make_up(b, 1000020.0 - 5 * 60.0, 1000020.0 - 60.0)
        missed = list(self.sink.measurements)
        self.assertEqual({(m.slot, m.errorcode, m.slots) for m in missed}, {(1000020.0 - 240.0, Error.DOWN, 4)})
        self.assertEqual(missed[-1].extra["UNTIL"], 1000020.0 - 60.0)


class Instances:
    """An instance that is held up, set to another time, stopped and started again; what it has covered."""

    INTERVAL = 10.0

    def __init__(self) -> None:
        self.reactor = FakeReactor()
        self.step = 1_000_000.0
        self.clock = Clock(wall=lambda: self.reactor.seconds() + self.step, monotonic=self.reactor.seconds)
        self.sink = MemorySink()
        self.experiment = ScriptedExperiment("only", self.clock.wall)
        self.greatest = 0.0
        self.start()

    def start(self) -> None:
        grid = Grid(self.INTERVAL)
        self.schedule = Schedule(self.reactor, self.clock, "test", grid, [self.experiment], self.sink)
        self.schedule.startService()
        covered = self.covered()
        if covered:
            first = self.schedule.first_slot
            assert first is not None
            before = [slot for slot in covered if slot < first]
            blank = self.experiment.blanks(0.0, Outcome.SKIPPED, "", "")[0]
            # As the database says it: the last slot before this start, and the last of all.
            self.schedule.make_up(Variant.of(blank), max(before, default=None), max(covered))

    def stop(self) -> None:
        self.schedule.stopService()

    def end_run(self) -> None:
        if self.experiment.runs and not self.experiment.runs[-1].called:
            self.experiment.runs[-1].callback(None)

    def covered(self) -> list[float]:
        """Every slot that has a record, but for those that say that they came again."""
        found: list[float] = []
        for m in self.sink.measurements:
            assert m.slot is not None
            if "REPEATED" not in m.extra:
                found += [m.slot + n * self.INTERVAL for n in range(m.slots)]
        return found


STEPS = st.one_of(
    st.tuples(st.just("pass"), st.floats(0.01, 25)),
    st.tuples(st.just("held up"), st.floats(1, 200)),
    st.tuples(st.just("set"), st.floats(-120, 120)),
    st.tuples(st.just("end run"), st.just(0.0)),
    st.tuples(st.just("down"), st.floats(0, 200)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=25))
def test_every_slot_is_covered_once(steps: list[tuple[str, float]]) -> None:
    """Whatever holds Perfd up, sets its clock or stops it: no slot is covered twice, and none is left out."""
    instance = Instances()
    for kind, amount in steps:
        if kind == "pass":
            for _ in range(10):
                instance.reactor.advance(amount / 10)
        elif kind == "held up":
            instance.reactor.advance(amount)
        elif kind == "set":
            instance.step += amount
        elif kind == "end run":
            instance.end_run()
        else:
            instance.stop()
            instance.reactor.advance(amount)
            instance.start()
    instance.end_run()
    instance.stop()
    covered = sorted(instance.covered())
    assert len(covered) == len(set(covered)), "a slot was covered twice"
    if covered:
        count = round((covered[-1] - covered[0]) / instance.INTERVAL) + 1
        assert len(covered) == count, "a slot was left out"


@given(
    interval=st.sampled_from([1.0, 10.0, 300.0, 3600.0]),
    offset=st.sampled_from([0.0, 0.5]),
    now=st.floats(min_value=0, max_value=4e9),
)
def test_grid(interval: float, offset: float, now: float) -> None:
    """The next slot is never behind, less than an interval ahead, and belongs to itself."""
    grid = Grid(interval, offset)
    slot = grid.next(now)
    assert now <= slot + 0.0011  # so much earlier a timer may fire
    assert slot - now <= interval
    assert grid.last(slot) == slot
    assert grid.next(slot) == slot
    assert grid.slots(slot, slot + 2 * interval) == [slot, slot + interval, slot + 2 * interval]
