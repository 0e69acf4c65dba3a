"""A comparison that the daemon makes beside its experiments: block after block, for ever or until it is done."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from secrets import randbelow
from typing import Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from perfd.clock import Clock
from perfd.comparison.design import Plan
from perfd.comparison.running import Place
from perfd.config.records import ComparisonConfig
from perfd.interfaces import Sink
from perfd.reactor import Reactor
from perfd.record import Measurement, StoredComparison

RETRY = 10.0
"""Seconds until what failed is tried again."""

POLL = 0.5
"""Seconds between two looks at whether other experiments run."""


class Designs(Protocol):
    """Where designs are kept, and how far their comparisons have come."""

    async def read(self, name: str) -> tuple[StoredComparison | None, int | None]:
        """The design of this name, and the last block that has a measurement."""

    def keep(self, comparison: StoredComparison) -> None:
        """Keep one that begins."""


class Overlaps:
    """A sink that remembers for a while what was measured when, so that a comparison can say what else ran."""

    def __init__(self, running: Callable[[], Collection[str]]) -> None:
        self.running = running  # the experiments that measure at this moment
        self._recent: deque[tuple[str, float, float]] = deque(maxlen=1000)

    def record(self, measurement: Measurement) -> None:
        if measurement.end is not None:
            self._recent.append((measurement.experiment, measurement.start, measurement.end))

    def during(self, name: str, since: float, until: float) -> set[str]:
        """The other experiments that measured between two moments (epoch)."""
        return {other for other, start, end in self._recent if other != name and start < until and end > since}


class ComparisonService(Service):
    """Makes the runs of one comparison, and gives their records to ``sink``.

    They have COMPARISON, BLOCK, ARM, and OVERLAP if others ran meanwhile. After a restart it goes on with the next
    block, in the order that the seed in the database says.
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
        self._working: Deferred[None] = succeed(None)

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
        seed, number = begun
        a, b = config.arms
        plan = Plan(seed, len(self._places), shared=a.tor == b.tor)
        while self.running and (config.blocks is None or number < config.blocks):
            await self._until_done(partial(self._block, plan, number))
            number += 1
        self._log.info("{name}: all {n} blocks are measured; see perfd compare", name=self.name, n=config.blocks)

    async def _until_done(self, work: Callable[[], Awaitable[tuple[int, int] | None]]) -> tuple[int, int] | None:
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

    async def _begin(self) -> tuple[int, int] | None:
        """The seed and the next block; None if it must not be made."""
        config = self._config
        design = json.dumps(config.design)
        stored, last = await self._designs.read(config.name)
        if stored is None:
            stored = StoredComparison(
                id=config.name,
                source=self._source,
                begun=self._clock.wall(),
                seed=randbelow(10**9) + 1,
                design=design,
            )
            self._designs.keep(stored)
        elif stored.design != design:
            self._log.error(
                "[comparison:{name}] was begun with another design, and is not made: what was measured does not "
                "belong together with what the new one would measure. Give it another name",
                name=config.name,
            )
            return None
        return stored.seed, 0 if last is None else last + 1

    async def _block(self, plan: Plan, number: int) -> None:
        block = plan.block(number, self._config.block)
        for each, side in zip(self._places, block.places, strict=True):
            if await each.become(side):
                await each.experiments[side].run(None, lambda _: None)  # both arms begin alike
        for side, place in block.runs:
            await deferLater(self._reactor, self._config.pause)
            await self._wait_for_others()
            await self._places[place].experiments[side].run(None, partial(self._record, side, number))
            if not self.running:
                raise CancelledError

    async def _wait_for_others(self) -> None:
        while not self._config.beside and self._overlaps.running():
            await deferLater(self._reactor, POLL)

    def _record(self, side: int, number: int, measurement: Measurement) -> None:
        extra = {
            **measurement.extra,
            "COMPARISON": self._config.name,
            "BLOCK": number,
            "ARM": self._config.arms[side].name,
        }
        until = measurement.end or self._clock.wall()
        others = self._overlaps.during(self._config.name, measurement.start, until) | {*self._overlaps.running()}
        if others:
            extra["OVERLAP"] = ",".join(sorted(others))
        self._sink.record(attrs.evolve(measurement, extra=extra))
