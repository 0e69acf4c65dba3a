"""Whether Perfd does its work: the last success of each experiment, the state of each tor and of the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from perfd.clock import Clock
from perfd.interfaces import Tor
from perfd.record import Measurement, Outcome

INTERVALS_WITHOUT_SUCCESS = 3
"""An experiment without a success for this many intervals makes Perfd unhealthy."""


@attrs.define
class ExperimentHealth:
    """How one experiment goes on."""

    name: str
    interval: float  # seconds
    next_slot: Callable[[], float | None]
    watched_since: float  # seconds since the epoch
    last_success: float | None = None
    last_outcome: Outcome | None = None
    failures: int = 0  # since the last success
    counts: dict[str, int] = attrs.Factory(dict)

    def ended(self, measurement: Measurement) -> None:
        outcome = measurement.outcome
        self.last_outcome = outcome
        self.counts[outcome.value] = self.counts.get(outcome.value, 0) + 1
        if outcome is Outcome.OK:
            self.last_success = measurement.end or measurement.start
            self.failures = 0
        else:
            self.failures += 1

    def is_healthy(self, now: float) -> bool:
        since = self.watched_since if self.last_success is None else max(self.last_success, self.watched_since)
        return now - since <= INTERVALS_WITHOUT_SUCCESS * self.interval

    def as_dict(self, now: float) -> dict[str, Any]:
        return {
            "name": self.name,
            "healthy": self.is_healthy(now),
            "last_success": iso(self.last_success),
            "last_outcome": self.last_outcome and self.last_outcome.value,
            "failures": self.failures,
            "next_slot": iso(self.next_slot()),
            "interval": self.interval,
            "counts": dict(sorted(self.counts.items())),
        }


class Health:
    """A sink that remembers how each experiment goes on, and the answer of ``/health``.

    ``database`` gives the trouble of the database in words, None if there is none.
    """

    def __init__(self, clock: Clock, source: str, version: str, database: Callable[[], str | None]) -> None:
        self._clock = clock
        self._source = source
        self._version = version
        self._database = database
        self._experiments: dict[str, ExperimentHealth] = {}
        self._tors: Sequence[Tor] = ()

    def watch(self, name: str, interval: float, next_slot: Callable[[], float | None]) -> None:
        """Expect successes of the experiment ``name`` from now on."""
        self._experiments[name] = ExperimentHealth(name, interval, next_slot, self._clock.wall())

    def watch_tors(self, tors: Sequence[Tor]) -> None:
        self._tors = tuple(tors)

    def record(self, measurement: Measurement) -> None:
        experiment = self._experiments.get(measurement.experiment)
        if experiment is not None:
            experiment.ended(measurement)

    def report(self) -> dict[str, Any]:
        """The state of everything, ready for JSON; ``healthy`` sums it up."""
        now = self._clock.wall()
        trouble = self._database()
        experiments = [experiment.as_dict(now) for experiment in self._experiments.values()]
        return {
            "healthy": trouble is None and all(experiment["healthy"] for experiment in experiments),
            "source": self._source,
            "version": self._version,
            "time": iso(now),
            "database": trouble or "ok",
            "tors": [{"name": t.name, "state": t.not_ready or "ready", "version": t.version} for t in self._tors],
            "experiments": experiments,
        }


def iso(epoch: float | None) -> str | None:
    """A time as people and programs read it: ``2013-01-22T20:26:13Z``."""
    if epoch is None:
        return None
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
