"""Running the blocks of a comparison by design: the tors become those of the arms, and runs are made in order."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredLock, gatherResults, maybeDeferred

from perfd.comparison.design import Plan
from perfd.comparison.metrics import COUNTED, Samples, run_of, samples
from perfd.config.values import Arm
from perfd.experiments.run import TorExperiment
from perfd.interfaces import Experiment
from perfd.record import REQUEST, Measurement
from perfd.tor.launch import TorService

Record = Callable[[Measurement], None]


class Place:
    """A data directory with its tor, which is of the one arm or of the other; ``experiments`` are those of both.

    ``tor`` None: there is none to launch, and whatever is there serves both.
    """

    def __init__(self, tor: TorService | None, arms: Sequence[Arm], experiments: Sequence[Experiment]) -> None:
        self.experiments = tuple(experiments)
        self._tor = tor
        self._arms = arms
        self._common = None if tor is None else tor.options
        self._arm: Arm | None = None

    async def become(self, side: int) -> bool:
        """Be of the arm, 0 or 1; whether the tor was launched anew for that."""
        arm, before = self._arms[side], self._arm
        self._arm = arm
        if self._tor is None or self._common is None or (before is not None and before.tor == arm.tor):
            return False
        options = attrs.evolve(
            self._common,
            torrc="\n".join((self._common.torrc, *arm.torrc)),
            binary=arm.binary or self._common.binary,
        )
        if options == self._tor.options and self._tor.running:
            await self._tor.when_ready()
            return False
        await maybeDeferred(self._tor.stopService)
        self._tor.change(options)
        self._tor.startService()
        await self._tor.when_ready()
        return True


@attrs.frozen
class DoneRun:
    """A run of a block that says something: its arm (0 is A), and its record."""

    side: int
    measurement: Measurement


def counts(measurement: Measurement) -> bool:
    """Whether it says something: it was run, and is no part of another one."""
    return measurement.outcome.value in COUNTED and measurement.type != REQUEST


async def run_block(
    plan: Plan, places: Sequence[Place], number: int, size: int, record: Callable[[int, Measurement], None]
) -> list[DoneRun]:
    """Run block ``number``; its runs that count, in the order in which they began.

    A tor that was launched anew makes a run first that does not count, so that both arms begin alike. ``record``
    gets each record of the others, with the arm that it is of. All wait for one turn, in the order of the plan:
    while one measures nothing else does, but the next begins before tor has told the rest about it.
    """
    block = plan.block(number, size)
    launched = await _all(place.become(side) for place, side in zip(places, block.places, strict=True))
    await _all(
        place.experiments[side].run(None, lambda _: None)
        for place, side, is_new in zip(places, block.places, launched, strict=True)
        if is_new
    )
    done: list[DoneRun] = []

    def take(side: int) -> Record:
        def taken(measurement: Measurement) -> None:
            record(side, measurement)
            if counts(measurement):
                done.append(DoneRun(side, measurement))

        return taken

    await _all(places[place].experiments[side].run(None, take(side)) for side, place in block.runs)
    return sorted(done, key=lambda run: run.measurement.start)


async def _all(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """The results of all, which run at the same time; a cancellation reaches each."""
    found: list[Any] = await gatherResults([Deferred.fromCoroutine(each) for each in coroutines])
    return found


def in_turn(experiments: Sequence[Sequence[TorExperiment]]) -> list[list[TorExperiment]]:
    """The experiments with one turn for all of them."""
    turn = DeferredLock()
    return [[attrs.evolve(each, first=each.first or turn) for each in of_arm] for of_arm in experiments]


def samples_of(done: Sequence[Sequence[DoneRun]]) -> Samples:
    """What the runs of all blocks say."""
    return samples(
        [[run_of(run.measurement) for run in block if run.side == side] for side in (0, 1)] for block in done
    )
