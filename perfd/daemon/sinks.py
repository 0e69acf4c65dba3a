"""Sinks: where measurements go when they are done. The interface is ``perfd.interfaces.Sink``."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from twisted.logger import Logger

from perfd.interfaces import Sink
from perfd.record import Measurement


class FanOut:
    """Gives every measurement to each of the named sinks; one that fails never costs the others.

    The first failure of a streak is logged with its traceback, and the success that ends it with the number
    of failures.
    """

    _log = Logger()

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self._sinks = dict(sinks)
        self._failures = dict.fromkeys(sinks, 0)  # since the last success

    @property
    def failing(self) -> Mapping[str, int]:
        """The sinks that failed the last time, with the number of failures since their last success."""
        return {name: failures for name, failures in self._failures.items() if failures}

    def record(self, measurement: Measurement) -> None:
        """Never raises."""
        for name, sink in self._sinks.items():
            try:
                sink.record(measurement)
            except Exception:  # noqa: BLE001 - whatever it is, the other sinks get the measurement
                self._failed(name, measurement)
            else:
                self._succeeded(name)

    def _failed(self, name: str, measurement: Measurement) -> None:
        self._failures[name] += 1
        if self._failures[name] == 1:
            self._log.failure(
                "the sink {name} failed to take measurement {id}; more failures are counted, not logged",
                name=name,
                id=measurement.id,
            )

    def _succeeded(self, name: str) -> None:
        failures, self._failures[name] = self._failures[name], 0
        if failures:
            self._log.info("the sink {name} takes measurements again, after {n} failures", name=name, n=failures)


class MemorySink:
    """Keeps the measurements, the newest ``limit`` of them if that is given."""

    def __init__(self, limit: int | None = None) -> None:
        self.measurements: deque[Measurement] = deque(maxlen=limit)

    def record(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)
