"""Sinks: where measurements, and tor's circuits, streams and events, go when they are done.

The interfaces are ``perfd.interfaces.Sink`` and ``perfd.tor.events.sink.EventSink``. A further sink is a class, and
a name in one of the fan-outs of ``perfd.service``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from twisted.logger import Logger

from perfd.interfaces import Sink
from perfd.record import Circuit, Measurement, Stream, TorEvent
from perfd.tor.events.sink import EventSink

_Sink = TypeVar("_Sink")


class _Guarded(Generic[_Sink]):
    """Named sinks, all of which are given everything; one that fails never costs the others.

    The first failure of a streak is logged with its traceback, and the success that ends it with the number
    of failures. ``records`` is what they take, in words.
    """

    _log = Logger()

    def __init__(self, records: str, sinks: Mapping[str, _Sink]) -> None:
        self._records = records
        self._sinks = dict(sinks)
        self._failures = dict.fromkeys(sinks, 0)  # since the last success

    def add(self, name: str, sink: _Sink) -> None:
        self._sinks[name] = sink
        self._failures[name] = 0

    @property
    def failing(self) -> Mapping[str, int]:
        """The sinks that failed the last time, with the number of failures since their last success."""
        return {name: failures for name, failures in self._failures.items() if failures}

    def give(self, give: Callable[[_Sink], None], what: str) -> None:
        """Have ``give`` give each sink the record that ``what`` names. Never raises."""
        for name, sink in self._sinks.items():
            try:
                give(sink)
            except Exception:  # noqa: BLE001 - whatever it is, the other sinks get the record
                self._failed(name, what)
            else:
                self._succeeded(name)

    def _failed(self, name: str, what: str) -> None:
        self._failures[name] += 1
        if self._failures[name] == 1:
            self._log.failure(
                "the sink {name} failed to take {what}; more failures are counted, not logged", name=name, what=what
            )

    def _succeeded(self, name: str) -> None:
        failures, self._failures[name] = self._failures[name], 0
        if failures:
            self._log.info(
                "the sink {name} takes {records} again, after {n} failures",
                name=name,
                records=self._records,
                n=failures,
            )


class FanOut:
    """Gives every measurement to each of the named sinks; one that fails is logged, and never costs the others."""

    def __init__(self, sinks: Mapping[str, Sink]) -> None:
        self._sinks = _Guarded("measurements", sinks)

    @property
    def failing(self) -> Mapping[str, int]:
        """The sinks that failed the last time, with the number of failures since their last success."""
        return self._sinks.failing

    def add(self, name: str, sink: Sink) -> None:
        """Give what comes from now on to ``sink`` too."""
        self._sinks.add(name, sink)

    def record(self, measurement: Measurement) -> None:
        """Never raises."""
        self._sinks.give(lambda sink: sink.record(measurement), f"measurement {measurement.id}")


class EventFanOut:
    """The same for what tor tells: every circuit, stream and event."""

    def __init__(self, sinks: Mapping[str, EventSink]) -> None:
        self._sinks = _Guarded("circuits, streams and events", sinks)

    @property
    def failing(self) -> Mapping[str, int]:
        """See ``FanOut.failing``."""
        return self._sinks.failing

    def record_circuit(self, circuit: Circuit) -> None:
        """Never raises."""
        self._sinks.give(lambda sink: sink.record_circuit(circuit), f"circuit {circuit.id}")

    def record_stream(self, stream: Stream) -> None:
        """Never raises."""
        self._sinks.give(lambda sink: sink.record_stream(stream), f"stream {stream.id}")

    def record_event(self, event: TorEvent) -> None:
        """Never raises."""
        self._sinks.give(lambda sink: sink.record_event(event), f"event {event.id}")


class MemorySink:
    """Keeps the measurements, the newest ``limit`` of them if that is given."""

    def __init__(self, limit: int | None = None) -> None:
        self.measurements: deque[Measurement] = deque(maxlen=limit)

    def record(self, measurement: Measurement) -> None:
        self.measurements.append(measurement)
