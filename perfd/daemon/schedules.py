"""The schedules of all experiments, and what is told of each: while Perfd runs they come, change and go."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from twisted.internet.interfaces import IReactorTime

from perfd.clock import Clock
from perfd.config import ExperimentConfig
from perfd.daemon.downtime import Downtime
from perfd.daemon.health import Health
from perfd.daemon.metrics import Metrics
from perfd.daemon.order import OrderedServices
from perfd.daemon.schedule import Grid, Schedule
from perfd.interfaces import Experiment, Sink
from perfd.record import Outcome
from perfd.variant import Variant


class Schedules(OrderedServices):
    """A schedule for each experiment, whose records go to ``sink``; health and metrics know its variants."""

    def __init__(self, reactor: IReactorTime, clock: Clock, sink: Sink, health: Health, metrics: Metrics) -> None:
        super().__init__()
        self._reactor = reactor
        self._clock = clock
        self._sink = sink
        self._health = health
        self._metrics = metrics
        self._schedules: dict[str, Schedule] = {}

    @property
    def next_slot(self) -> float | None:
        """When the next measurement is due (epoch); None if none is."""
        slots = [each.next_slot for each in self._schedules.values()]
        return min((slot for slot in slots if slot is not None), default=None)

    def measuring(self) -> list[str]:
        """The experiments that measure at this moment."""
        return [name for name, schedule in self._schedules.items() if schedule.is_busy]

    def set(self, config: ExperimentConfig, variants: Sequence[Experiment]) -> None:
        """Run ``variants`` as ``config`` says from the next slot on, instead of what was run under this name."""
        name = config.name
        grid = Grid(config.interval, config.offset)
        schedule = self._schedules.get(name)
        if schedule is None:
            schedule = Schedule(self._reactor, self._clock, name, grid, variants, self._sink)
            self._schedules[name] = schedule
            schedule.setServiceParent(self)
        else:
            schedule.change(grid, variants)
        watched = variants_of(variants)
        self._health.watch(name, config.interval, partial(getattr, schedule, "next_slot"), watched)
        self._metrics.watch(name, config.type, watched)

    def remove(self, name: str) -> None:
        """Run the experiment no more. The round in flight is not disturbed.

        Its schedule stays, since it knows what it has covered if the experiment comes again.
        """
        self._health.forget(name)
        self._schedules[name].finish()

    def make_up(self, downtime: Downtime) -> None:
        """Let ``downtime`` have the schedules that there are now cover what was missed before this start."""
        for name, schedule in self._schedules.items():
            downtime.watch(name, schedule, variants_of(schedule.variants))


def variants_of(experiments: Sequence[Experiment]) -> list[Variant]:
    """The variants that records of ``experiments`` will have."""
    return [Variant.of(blank) for each in experiments for blank in each.blanks(None, Outcome.SKIPPED, "", "")]
