"""What was missed while Perfd was stopped or dead: at its start the database says when it last ran."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from perfd.daemon.schedule import Schedule
from perfd.variant import Variant

PAUSE = 1.0
"""Seconds until the database is tried again."""

WORTH_A_LINE = 10
"""Tries after which it is told; a new database is made within the first."""

LATEST = 1e12
"""Seconds since the epoch; later than any record."""

ReadLastSlot = Callable[[str, Variant, float], Deferred[float | None]]
"""The last slot of a variant of an experiment before a time that has a record."""


class Downtime(Service):
    """Has each schedule cover the slots between the last record of each of its variants and this start."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, read: ReadLastSlot) -> None:
        self._reactor = reactor
        self._read = read
        self._watched: list[tuple[str, Schedule, list[Variant]]] = []
        self._making_up: Deferred[None] | None = None

    def watch(self, experiment: str, schedule: Schedule, variants: Iterable[Variant]) -> None:
        """Look after the schedule of an experiment."""
        self._watched.append((experiment, schedule, list(variants)))

    def startService(self) -> None:
        super().startService()
        self._making_up = Deferred.fromCoroutine(self._make_up())
        self._making_up.addErrback(lambda failure: failure.trap(CancelledError))

    def stopService(self) -> None:
        super().stopService()
        if self._making_up is not None:
            self._making_up.cancel()

    async def _make_up(self) -> None:
        for experiment, schedule, variants in self._watched:
            for variant in variants:
                if schedule.first_slot is None:
                    continue
                last = await self._last_slot(experiment, variant, schedule.first_slot)
                # Later than this start, if the clock was set back meanwhile.
                latest = await self._last_slot(experiment, variant, LATEST)
                if latest is not None:
                    schedule.make_up(variant, last, latest)

    async def _last_slot(self, experiment: str, variant: Variant, before: float) -> float | None:
        """What the database says, once it can be read."""
        tries = 0
        while True:
            try:
                return await self._read(experiment, variant, before)
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it may pass
                tries += 1
                if tries == WORTH_A_LINE:
                    self._log.error("what was missed before the start is not known yet: {error}", error=error)
                await deferLater(self._reactor, PAUSE)
