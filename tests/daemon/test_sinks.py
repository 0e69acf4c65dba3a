"""The fan-outs of measurements and of what tor tells, and the memory sink."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from perfd.daemon.sinks import EventFanOut, FanOut, MemorySink
from perfd.record import Circuit, Measurement, Stream, TorEvent
from tests.support.strategies import typical
from tests.support.tor_recording import MemoryEventSink


class Broken:
    """A sink that fails while it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = RuntimeError("broken")
        self.taken: list[Measurement] = []

    def record(self, measurement: Measurement) -> None:
        if self.error is not None:
            raise self.error
        self.taken.append(measurement)


class FanOutTests(SynchronousTestCase):
    """One failing sink never costs the others."""

    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.broken = Broken()
        self.before, self.after = MemorySink(), MemorySink()
        self.fan_out = FanOut({"before": self.before, "broken": self.broken, "after": self.after})

    def test_others_are_not_harmed(self) -> None:
        """The sinks before and after the broken one get every measurement."""
        measurements = [typical(n) for n in range(3)]
        for measurement in measurements:
            self.fan_out.record(measurement)
        self.assertEqual(list(self.before.measurements), measurements)
        self.assertEqual(list(self.after.measurements), measurements)
        self.assertEqual(self.fan_out.failing, {"broken": 3})
        self.flushLoggedErrors(RuntimeError)

    def test_one_line_per_streak(self) -> None:
        """A streak of failures is logged at its start, with the error, and at its end, with the count."""
        for _ in range(2):
            self.broken.error = RuntimeError("broken")
            for n in range(5):
                self.fan_out.record(typical(n))
            self.broken.error = None
            self.fan_out.record(typical(5))
            self.fan_out.record(typical(6))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.assertEqual([e["log_level"] for e in self.events], [LogLevel.critical, LogLevel.info] * 2)
        self.assertEqual([e["n"] for e in self.events if "n" in e], [5, 5])
        self.assertEqual(self.fan_out.failing, {})

    def test_nothing_to_do(self) -> None:
        """Without sinks a measurement goes nowhere, quietly."""
        FanOut({}).record(typical())
        self.assertEqual(self.events, [])


class MemorySinkTests(SynchronousTestCase):
    """Measurements in memory."""

    def test_limit(self) -> None:
        """With a limit only the newest are kept."""
        sink = MemorySink(2)
        for n in range(5):
            sink.record(typical(n))
        self.assertEqual(list(sink.measurements), [typical(3), typical(4)])


class BrokenEventSink(MemoryEventSink):
    """Takes no streams."""

    def record_stream(self, stream: Stream) -> None:
        raise RuntimeError("broken")


class EventFanOutTests(SynchronousTestCase):
    """Circuits, streams and events go to all sinks as measurements do."""

    def test_others_are_not_harmed(self) -> None:
        """A sink that takes no streams costs nobody a stream, and itself nothing else."""
        before, broken, after = MemoryEventSink(), BrokenEventSink(), MemoryEventSink()
        fan_out = EventFanOut({"before": before, "broken": broken, "after": after})
        circuit = Circuit(id="c", source="here", tor="default", circ_id=1, status="BUILT")
        stream = Stream(id="s", source="here", tor="default", stream_id=2, status="CLOSED")
        event = TorEvent(at=1.0, source="here", tor="default", keyword="GUARD", text="ENTRY x UP")
        fan_out.record_circuit(circuit)
        fan_out.record_stream(stream)
        self.assertEqual(fan_out.failing, {"broken": 1})
        fan_out.record_event(event)
        self.assertEqual(fan_out.failing, {})
        for sink in (before, after):
            self.assertEqual((sink.circuits, sink.streams, sink.events), ([circuit], [stream], [event]))
        self.assertEqual((broken.circuits, broken.events), ([circuit], [event]))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
