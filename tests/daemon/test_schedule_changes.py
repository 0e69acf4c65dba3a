"""A schedule that is changed while it runs: nothing in flight is disturbed, and each slot has its record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perfd.daemon.schedule import Grid
from perfd.record import Error
from perfd.variant import Variant
from tests.support.schedules import ScheduleCase, ScriptedExperiment


class ChangeTests(ScheduleCase):
    """What is measured, and when, changes while it runs."""

    def others(self, *names: str) -> list[ScriptedExperiment]:
        return [ScriptedExperiment(name, self.clock.wall) for name in names]

    def end_all(self, *experiments: ScriptedExperiment) -> None:
        for experiment in experiments:
            for run in experiment.runs:
                if not run.called:
                    run.callback(None)

    def test_round_in_flight(self) -> None:
        """It ends as it began; the next slot is of what was changed to, and is skipped if it still goes on."""
        schedule = self.schedule("old")
        (old,) = self.experiments
        self.reactor.advance(20.0)
        (new,) = self.others("new")
        schedule.change(Grid(60.0), [new])
        self.assertEqual(schedule.next_slot, 1000080.0)
        self.reactor.advance(60.0)
        self.assertEqual((len(old.runs), len(new.runs)), (1, 0))
        self.end_all(old)
        self.reactor.advance(60.0)
        self.end_all(new)
        said = [(m.experiment, m.slot, m.outcome.value, m.errorcode) for m in self.sink.measurements]
        self.assertEqual(
            said,
            [
                ("new", 1000080.0, "skipped", Error.BUSY),
                ("old", 1000020.0, "ok", None),
                ("new", 1000140.0, "ok", None),
            ],
        )

    def test_slot_of_both_grids(self) -> None:
        """A slot in which the old one has run is not run again in the new grid, however soon that comes."""
        for moment in (0.0, 0.0005, 0.5):
            schedule = self.schedule()
            until = (schedule.next_slot or 0.0) - self.clock.wall()
            self.reactor.advance(until + moment)
            slot = schedule.next_slot
            schedule.change(Grid(10.0), self.experiments)
            self.assertEqual(schedule.next_slot, (slot or 0.0) - 50.0)
            schedule.stopService()
            self.reactor.advance(7.0)

    def test_slot_that_is_due(self) -> None:
        """A slot that has come, though its timer has not fired yet, belongs to what was before."""
        schedule = self.schedule("old")
        (old,) = self.experiments
        self.wall_offset += 20.0005
        schedule.change(Grid(30.0), self.others("new"))
        self.assertEqual((len(old.runs), schedule.next_slot), (1, 1000050.0))

    def test_finished(self) -> None:
        """The round in flight goes on, and no slot comes any more; a stop then has nothing to skip."""
        schedule = self.schedule("a", "b")
        self.reactor.advance(20.0)
        over = schedule.finish()
        self.assertNoResult(over)
        self.reactor.advance(600.0)
        self.end_all(*self.experiments)
        self.end_all(*self.experiments)
        self.successResultOf(over)
        schedule.stopService()
        self.assertEqual(self.outcomes(), [(1000020.0, "ok", None)] * 2)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stopped_while_it_finishes(self) -> None:
        """The round in flight has its records then too."""
        schedule = self.schedule("a", "b")
        self.reactor.advance(20.0)
        over = schedule.finish()
        schedule.stopService()
        self.successResultOf(over)
        self.assertEqual([m.errorcode for m in self.sink.measurements], [Error.STOPPED] * 2)

    def test_begun_anew(self) -> None:
        """After ``finish`` a change begins anew, beside the round that may still go on."""
        schedule = self.schedule("old")
        self.reactor.advance(20.0)
        schedule.finish()
        self.reactor.advance(200.0)
        schedule.change(Grid(60.0), self.others("new"))
        self.assertEqual(schedule.next_slot, 1000260.0)
        self.reactor.advance(40.0)
        self.assertEqual(self.outcomes(), [(1000260.0, "skipped", Error.BUSY)])

    def test_made_up(self) -> None:
        """What was missed before the start is that of the start, whatever was changed before it is known."""
        schedule = self.schedule("old", interval=60.0)
        schedule.change(Grid(7.0), self.others("new"))
        schedule.make_up(Variant(None, None), 999900.0, 999900.0)
        (down,) = self.sink.measurements
        self.assertEqual((down.experiment, down.slot, down.slots), ("old", 999960.0, 1))

    @given(
        steps=st.lists(
            st.tuples(
                st.floats(0.1, 40.0), st.sampled_from([3.0, 5.0, 7.5, 10.0, 30.0]), st.sampled_from([0.0, 1.0, 2.5])
            ),
            min_size=1,
            max_size=12,
        ),
        patience=st.floats(0.5, 20.0),
    )
    def test_each_slot_once(self, steps: list[tuple[float, float, float]], patience: float) -> None:
        """Whenever the grid changes, each slot of the grid that then holds has one record of each variant."""
        self.setUp()
        schedule = self.schedule("a", "b", interval=10.0)
        wanted: list[float] = []
        covered = self.clock.wall() - 0.002
        for seconds, interval, offset in steps:
            grid = schedule.grid
            ended = 0.0
            while ended < seconds:
                self.reactor.advance(min(patience, seconds - ended))
                ended += patience
                self.end_all(*self.experiments)
            last = grid.last(self.clock.wall())
            slots = grid.slots(grid.next(covered + 0.002), last)
            wanted += slots
            covered = max(covered, *slots) if slots else covered
            schedule.change(Grid(interval, offset), self.experiments)
            covered = max(covered, self.clock.wall() - 0.002)
        for _ in range(4):
            self.end_all(*self.experiments)
        for name in ("a", "b"):
            found = sorted(m.slot for m in self.sink.measurements if m.experiment == name and m.slot is not None)
            self.assertEqual(found, sorted(wanted))
