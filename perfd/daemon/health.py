"""Whether Perfd does its work: the last successes of each experiment, the state of each tor and of the database.

An experiment is unhealthy when one of its variants is: one that had no success for three intervals, unless tor was
still learning its circuit build timeout (``skip-until-cbt``). That goes on over a restart: what was before comes
out of the database, so a daemon that fails and is started again and again does not look well. After a planned stop
an experiment is unhealthy, as it was for whoever watched from outside, until its first success.

A tor is unhealthy as soon as a try to start or reach it has failed, until it is ready.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from perfd.clock import Clock
from perfd.interfaces import Tor
from perfd.record import REQUEST, Error, Measurement, Outcome
from perfd.variant import Variant

INTERVALS_WITHOUT_SUCCESS = 3
"""A variant of an experiment without a success for this many intervals makes Perfd unhealthy."""

PAUSE = 1.0
"""Seconds between two tries to read what was before the start: the database may just be made, or be locked."""

WORTH_A_LINE = 10
"""Tries in vain, after which the log says so."""


class History(Protocol):
    """How a variant went on before the start; times are seconds since the epoch."""

    @property
    def first(self) -> float:
        """Its first measurement."""

    @property
    def last_success(self) -> float | None: ...

    @property
    def failures(self) -> int:
        """Since then."""


class FileStatus(Protocol):
    """How a file does that Perfd writes."""

    @property
    def trouble(self) -> str | None:
        """In words; None if it is well."""

    @property
    def replaced(self) -> float | None:
        """When it was last found deleted, moved or replaced (epoch); None: never."""


Read = Callable[[str, Variant, float], Awaitable[History | None]]
"""Gives the history of an experiment's variant until a time (epoch)."""


@attrs.define
class VariantHealth:
    """How one variant of an experiment goes on."""

    variant: Variant
    interval: float  # seconds
    since: float  # raw monotonic seconds: the last success, or when one was first expected
    moved: bool = False  # ``since`` has moved on, so what was before the start does not matter
    last_success: float | None = None  # seconds since the epoch
    last_outcome: Outcome | None = None
    failures: int = 0  # since the last success
    counts: dict[str, int] = attrs.Factory(dict)

    def ended(self, measurement: Measurement, now: float) -> None:
        outcome = measurement.outcome
        self.last_outcome = outcome
        self.counts[outcome.value] = self.counts.get(outcome.value, 0) + measurement.slots
        if outcome is Outcome.OK:
            self.last_success = measurement.end or measurement.start
            self._expect_from(now)
            self.failures = 0
        elif measurement.errorcode == Error.NOCBT:  # neither a success nor a failure: tor learns, as it should
            self._expect_from(now)
        elif outcome is not Outcome.CANCELLED:
            self.failures += measurement.slots

    def expect_every(self, interval: float, now: float) -> None:
        """Expect successes at another interval from now on; that does not make it unhealthy."""
        was_healthy = self.is_healthy(now)
        self.interval = interval
        if was_healthy and not self.is_healthy(now):
            self._expect_from(now)

    def _expect_from(self, now: float) -> None:
        self.since = now
        self.moved = True

    def remember(self, history: History, started: float) -> None:
        """Take over what was before the start, which was at ``started`` (epoch)."""
        if self.last_success is None:
            if not self.moved:
                before = history.first if history.last_success is None else history.last_success
                self.since -= started - before
            self.last_success = history.last_success
            self.failures += history.failures

    def is_healthy(self, now: float) -> bool:
        return now - self.since <= INTERVALS_WITHOUT_SUCCESS * self.interval

    def as_dict(self, now: float) -> dict[str, Any]:
        return {
            **attrs.asdict(self.variant),
            "healthy": self.is_healthy(now),
            "last_success": iso(self.last_success),
            "last_outcome": self.last_outcome and self.last_outcome.value,
            "failures": self.failures,
            "counts": dict(sorted(self.counts.items())),
        }


@attrs.frozen
class ExperimentHealth:
    """How one experiment goes on, in each of its variants."""

    name: str
    interval: float  # seconds
    next_slot: Callable[[], float | None]
    variants: dict[Variant, VariantHealth]

    def as_dict(self, now: float) -> dict[str, Any]:
        variants = [each.as_dict(now) for each in self.variants.values()]
        return {
            "name": self.name,
            "healthy": all(each["healthy"] for each in variants),
            "next_slot": iso(self.next_slot()),
            "interval": self.interval,
            "variants": variants,
        }


class Health:
    """A sink that remembers how each experiment goes on, and the answer of ``/health``.

    ``database`` and ``log`` give the status of the database and of perfd.log.
    """

    def __init__(
        self,
        clock: Clock,
        source: str,
        version: str,
        *,
        database: Callable[[], FileStatus],
        log: Callable[[], FileStatus],
    ) -> None:
        self._clock = clock
        self._source = source
        self._version = version
        self._files = {"database": database, "log": log}
        self._began = clock.anchor()
        self._experiments: dict[str, ExperimentHealth] = {}
        self._tors: Sequence[Tor] = ()
        self._address: Callable[[], str | None] = lambda: None
        self._comparisons: Mapping[str, Callable[[], str | None]] = {}

    def watch(
        self, name: str, interval: float, next_slot: Callable[[], float | None], variants: Iterable[Variant]
    ) -> None:
        """Expect successes of each of ``variants`` of the experiment ``name``.

        What is known of those that were watched before goes on, at the interval that is given now.
        """
        now = self._clock.monotonic()
        known = self._experiments[name].variants if name in self._experiments else {}
        watched = {variant: known.get(variant) or VariantHealth(variant, interval, now) for variant in variants}
        for each in watched.values():
            each.expect_every(interval, now)
        self._experiments[name] = ExperimentHealth(name, interval, next_slot, watched)

    def forget(self, name: str) -> None:
        """Expect nothing more of the experiment ``name``."""
        del self._experiments[name]

    def watch_tors(self, tors: Sequence[Tor]) -> None:
        self._tors = tuple(tors)

    def watch_address(self, state: Callable[[], str | None]) -> None:
        """Say whether our web server answers at its public address, in words; None: not known, or not asked."""
        self._address = state

    def watch_comparisons(self, hindrances: Mapping[str, Callable[[], str | None]]) -> None:
        """Say of each comparison what keeps it from going on, in words; None: it goes on."""
        self._comparisons = hindrances

    async def remember(self, read: Read) -> None:
        """Take over what was before.

        Raises what ``read`` does. What lies in the future, written while the clock was wrong, does not count.
        """
        started = self._began.wall
        histories = [
            (health, await read(experiment.name, variant, started))
            for experiment in self._experiments.values()
            for variant, health in experiment.variants.items()
        ]
        for health, history in histories:
            if history is not None:
                health.remember(history, started)

    def record(self, measurement: Measurement) -> None:
        """Count a run; of a series its own record counts, and what was missed before the start does not."""
        experiment = self._experiments.get(measurement.experiment)
        if experiment is None or measurement.type == REQUEST or measurement.errorcode == Error.DOWN:
            return
        variant = experiment.variants.get(Variant.of(measurement))
        if variant is not None:
            variant.ended(measurement, self._clock.monotonic())

    def variants(self) -> Iterator[tuple[str, VariantHealth, bool]]:
        """Each variant with the name of its experiment, and whether it is healthy now."""
        now = self._clock.monotonic()
        for experiment in self._experiments.values():
            for health in experiment.variants.values():
                yield experiment.name, health, health.is_healthy(now)

    def report(self) -> dict[str, Any]:
        """The state of everything, ready for JSON; ``healthy`` sums it up."""
        now = self._clock.monotonic()
        files = {name: status() for name, status in self._files.items()}
        tors = [_tor_report(tor) for tor in self._tors]
        experiments = [experiment.as_dict(now) for experiment in self._experiments.values()]
        return {
            "healthy": all(file.trouble is None for file in files.values())
            and all(each["healthy"] for each in (*tors, *experiments)),
            "source": self._source,
            "version": self._version,
            "time": iso(self._clock.wall()),
            **{name: file.trouble or "ok" for name, file in files.items()},
            **{f"{name}_replaced": iso(file.replaced) for name, file in files.items()},
            "public_address": self._address(),
            "tors": tors,
            "experiments": experiments,
            "comparisons": [
                {"name": name, "state": hindrance() or "ok"} for name, hindrance in self._comparisons.items()
            ],
        }


def _tor_report(tor: Tor) -> dict[str, Any]:
    """Its state; it is unhealthy from a try to start or to reach it that failed until it is ready."""
    trouble: str | None = getattr(tor, "trouble", None)  # a SOCKS proxy has none
    return {
        "name": tor.name,
        "healthy": trouble is None,
        "state": tor.not_ready or "ready",
        "version": tor.version,
    }


class HealthHistory(Service):
    """Lets ``health`` remember what was before the start, as soon as it can be read."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, health: Health, read: Read) -> None:
        self._reactor = reactor
        self._health = health
        self._read = read
        self._remembering: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self._remembering = Deferred.fromCoroutine(self._remember())
        self._remembering.addErrback(lambda failure: failure.trap(CancelledError))

    def stopService(self) -> None:
        super().stopService()
        if self._remembering is not None:
            self._remembering.cancel()

    async def _remember(self) -> None:
        tries = 0
        while True:
            try:
                await self._health.remember(self._read)
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it may pass
                tries += 1
                if tries == WORTH_A_LINE:
                    self._log.error("the last successes cannot be read: {error}; tried on", error=error)
                await deferLater(self._reactor, PAUSE)
            else:
                return


def iso(epoch: float | None) -> str | None:
    """A time as people and programs read it: ``2013-01-22T20:26:13Z``."""
    if epoch is None:
        return None
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
