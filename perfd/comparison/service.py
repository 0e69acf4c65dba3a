"""A comparison that the daemon makes beside its experiments: block after block, for ever or until it is done."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from secrets import randbelow
from typing import Protocol, TypeVar

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from perfd.clock import Clock
from perfd.comparison.conclusion import TooLittleError, all_failed
from perfd.comparison.design import BLOCK_SIZE, PILOT, Plan, is_by_block, is_same, is_whole
from perfd.comparison.pilot import WARM_UP, Pilot, Values, values_of
from perfd.comparison.running import DoneRun, Place, counts, samples_of
from perfd.config.records import ComparisonConfig
from perfd.interfaces import Experiment, Sink
from perfd.reactor import Reactor
from perfd.record import Measurement, StoredComparison
from perfd.units import format_duration

T = TypeVar("T")

RETRY = 10.0
"""Seconds until what failed is tried again."""

POLL = 0.5
"""Seconds between two looks at whether other experiments run, or a tor is not ready."""

PATIENCE = 300.0
"""Seconds for which a tor may keep a comparison from going on before the log says so."""

NO_MARGIN = 0.03
"""What a pilot of a comparison with the margin 0 says how to find."""


class Designs(Protocol):
    """Where designs are kept, and how far their comparisons have come."""

    async def read(self, name: str) -> tuple[StoredComparison | None, list[tuple[int, int, int]]]:
        """The design of this name, and of each block its number, how many measurements it has, and how many of them
        were cancelled.
        """

    def keep(self, comparison: StoredComparison) -> None:
        """Keep one that begins."""


class PilotJudge(Protocol):
    """Who says what a pilot says."""

    async def judged(self, values: Values, effect: float, size: int | None, *, by_block: bool) -> Pilot:
        """See `perfd.comparison.pilot.judged`."""


class Overlaps:
    """A sink that remembers for a while what was measured when, so that a comparison can say what else ran.

    ``scheduled`` gives the experiments that measure at this moment; comparisons say it themselves.
    """

    def __init__(self, scheduled: Callable[[], Collection[str]]) -> None:
        self._scheduled = scheduled
        self._comparing: set[str] = set()
        self._recent: deque[tuple[str, float, float]] = deque(maxlen=1000)

    def record(self, measurement: Measurement) -> None:
        if measurement.end is not None:
            self._recent.append((measurement.experiment, measurement.start, measurement.end))

    def running(self, name: str) -> set[str]:
        """What measures at this moment besides the comparison ``name``."""
        return {*self._scheduled(), *self._comparing} - {name}

    @contextmanager
    def measuring(self, name: str) -> Iterator[None]:
        """The comparison ``name`` measures meanwhile."""
        self._comparing.add(name)
        try:
            yield
        finally:
            self._comparing.discard(name)

    def during(self, name: str, since: float, until: float) -> set[str]:
        """The other experiments that measured between two moments (epoch)."""
        return {other for other, start, end in self._recent if other != name and start < until and end > since}


@attrs.frozen
class _Begun:
    """A comparison that was begun."""

    seed: int
    size: int  # runs of each arm in a block
    number: int  # of the next block
    whole: int  # blocks that were not interrupted


class ComparisonService(Service):
    """Makes the runs of one comparison, and gives their records to ``sink``.

    They have COMPARISON, BLOCK, ARM, and OVERLAP if others ran meanwhile. It begins with a pilot, whose blocks have
    numbers below 0; then its design is kept. After a restart it goes on with the next block, in the order that the
    seed in the database says.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        clock: Clock,
        config: ComparisonConfig,
        source: str,
        places: Sequence[Place],
        sink: Sink,
        designs: Designs,
        overlaps: Overlaps,
        judge: PilotJudge,
    ) -> None:
        self.setName(f"comparison-{config.name}")
        self._reactor = reactor
        self._clock = clock
        self._config = config
        self._source = source
        self._places = places
        self._sink = sink
        self._designs = designs
        self._overlaps = overlaps
        self._judge = judge
        self._working: Deferred[None] = succeed(None)
        self._held_up_by: Experiment | None = None  # for longer than ``PATIENCE``

    @property
    def hindrance(self) -> str | None:
        """Why it has not gone on for a long while, in words; None if it goes on."""
        return None if self._held_up_by is None else self._held_up_by.refusal

    def startService(self) -> None:
        super().startService()
        self._working = Deferred.fromCoroutine(self._run())
        self._working.addErrback(self._ended)

    def stopService(self) -> Deferred[None]:
        """Stop, with the run in flight cancelled and recorded; fires when it is."""
        super().stopService()
        stopped: Deferred[None] = Deferred()
        self._working.addBoth(lambda _: stopped.callback(None))
        self._working.cancel()
        return stopped

    def _ended(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("{name} ended", failure, name=self.name)

    async def _run(self) -> None:
        config = self._config
        begun = await self._until_done(self._begin)
        if begun is None:
            return
        plan, number, whole = self._plan(begun.seed), begun.number, begun.whole
        while self.running and (config.blocks is None or whole < config.blocks):
            await self._until_done(partial(self._block, plan, number, begun.size))
            number += 1
            whole += 1
        self._log.info("{name}: all {n} blocks are measured; see perfd compare", name=self.name, n=config.blocks)

    def _plan(self, seed: int) -> Plan:
        a, b = self._config.arms
        return Plan(seed, len(self._places), shared=a.tor == b.tor)

    async def _until_done(self, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` gives; whatever it raises is logged, and it is tried again."""
        while True:
            try:
                return await work()
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - nobody watches over night
                if not self.running:
                    raise CancelledError from None
                self._log.failure("{name} is tried again in {n:.0f} s", name=self.name, n=RETRY)
                await deferLater(self._reactor, RETRY)

    async def _begin(self) -> _Begun | None:
        """Where it goes on, with a pilot if it is new; None if it must not be made."""
        config = self._config
        stored, blocks = await self._designs.read(config.name)
        if stored is None:
            stored = await self._piloted(randbelow(10**9) + 1)
            self._designs.keep(stored)
        design = json.loads(stored.design)
        if not is_same(design, config.design):
            self._log.error(
                "[comparison:{name}] was begun with another design, and is not made: what was measured does not "
                "belong together with what the new one would measure. Give it another name",
                name=config.name,
            )
            return None
        size = design["block"]
        whole = sum(number >= 0 and is_whole(runs, cancelled, size) for number, runs, cancelled in blocks)
        return _Begun(stored.seed, size, max(0, *(number + 1 for number, *_ in blocks), 0), whole)

    async def _piloted(self, seed: int) -> StoredComparison:
        """The comparison with all that its pilot decides."""
        config, plan = self._config, self._plan(seed)
        size, count = config.block or BLOCK_SIZE, PILOT + WARM_UP
        self._log.info(
            "{name} begins with a pilot of {runs} runs, which warms up its tors and says how noisy the runs are; "
            "they do not count",
            name=self.name,
            runs=2 * size * count,
        )
        began = self._clock.monotonic()
        blocks = [await self._block(plan, -1 - n, size) for n in range(count)][WARM_UP:]
        took = self._clock.monotonic() - began
        pilot = {"runs": 2 * size * count, "seconds": round(took)}
        try:
            found = await self._judge.judged(
                values_of(blocks, config.primary),
                config.margin or NO_MARGIN,
                config.block,
                by_block=is_by_block(*config.arms),
            )
        except (TooLittleError, OSError, TimeoutError) as error:  # its runs are not made again for that
            a, b = (arm.name for arm in config.arms)
            text = f"{all_failed(a, b, samples_of(blocks)) or error}, so blocks have {size} + {size} runs"
        else:
            of_run, size = took / pilot["runs"], found.size
            pilot["needed"] = found.needed.blocks
            text = f"{found.text}, in {format_duration(round(2 * found.needed.runs * of_run))}"
        self._log.info(
            "{name}: the pilot took {took}; {text}", name=self.name, took=format_duration(round(took)), text=text
        )
        design = {**config.design, "block": size, "pilot": pilot}
        return StoredComparison(
            id=config.name, source=self._source, begun=self._clock.wall(), seed=seed, design=json.dumps(design)
        )

    async def _block(self, plan: Plan, number: int, size: int) -> list[DoneRun]:
        block = plan.block(number, size)
        for each, side in zip(self._places, block.places, strict=True):
            experiment = each.experiments[side]
            with self._patient(experiment):
                is_new = await each.become(side)
            if is_new:  # both arms begin alike
                await self._wait(experiment)
                with self._overlaps.measuring(self._config.name):
                    await experiment.run(None, lambda _: None)
        done: list[DoneRun] = []
        for side, place in block.runs:
            experiment = self._places[place].experiments[side]
            await deferLater(self._reactor, self._config.pause)
            await self._wait(experiment)
            with self._overlaps.measuring(self._config.name):
                await experiment.run(None, partial(self._record, done, side, number))
            if not self.running:
                raise CancelledError
        return done

    def _has_to_wait(self, experiment: Experiment) -> bool:
        others = () if self._config.beside else self._overlaps.running(self._config.name)
        return experiment.refusal is not None or bool(others)

    async def _wait(self, experiment: Experiment) -> None:
        """Wait as long as that must be: a run that is skipped would leave its block with too few."""
        with self._patient(experiment):
            while self._has_to_wait(experiment):
                await deferLater(self._reactor, POLL)

    @contextmanager
    def _patient(self, experiment: Experiment) -> Iterator[None]:
        """Tells if ``experiment`` cannot be run for long, and when that is over; others may run."""
        began = self._reactor.seconds()

        def look() -> None:
            reason = experiment.refusal
            if reason is None or self._held_up_by is not None:
                return
            self._held_up_by = experiment
            waited = format_duration(round(self._reactor.seconds() - began))
            self._log.warn(
                "{name} has waited for {waited}, and still does: {reason}",
                name=self.name,
                waited=waited,
                reason=reason,
            )

        looking = LoopingCall(look)
        looking.clock = self._reactor
        looking.start(PATIENCE, now=False)
        try:
            yield
        finally:
            looking.stop()
            was_held_up, self._held_up_by = self._held_up_by is not None, None
        if was_held_up:
            waited = format_duration(round(self._reactor.seconds() - began))
            self._log.info("{name} goes on after {waited}", name=self.name, waited=waited)

    def _record(self, done: list[DoneRun], side: int, number: int, measurement: Measurement) -> None:
        if counts(measurement):
            done.append(DoneRun(side, measurement))
        extra = {
            **measurement.extra,
            "COMPARISON": self._config.name,
            "BLOCK": number,
            "ARM": self._config.arms[side].name,
        }
        until = measurement.end or self._clock.wall()
        others = self._overlaps.during(self._config.name, measurement.start, until) | self._overlaps.running(
            self._config.name
        )
        if others:
            extra["OVERLAP"] = ",".join(sorted(others))
        self._sink.record(attrs.evolve(measurement, extra=extra))
