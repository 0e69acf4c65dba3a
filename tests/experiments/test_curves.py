"""The curves of transfers, in memory."""

from __future__ import annotations

from perfd.record import Event, Outcome, Stream
from perfd.tor.events.bandwidth import CircuitSample
from perfd.tor.events.join import CarriedBy, Joined
from perfd.tor.events.lines import Congestion
from tests.support.experiments import SIZE, ExperimentCase
from tests.support.scripted import WALL


class CurveTests(ExperimentCase):
    """Downloads."""

    def test_arrival(self) -> None:
        """A step for each read with the seconds since the start, also of a download that fails."""
        running = self.bench.run(self.bench.experiment(SIZE))
        self.connections[0].open()
        self.reactor.advance(0.5)
        self.connections[0].receive(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(100))
        self.reactor.advance(2.0)
        self.connections[0].receive(bytes(600))
        self.reactor.advance(1.0)
        self.connections[0].lose()
        m = self.result(running)
        self.assertIs(m.outcome, Outcome.FAILED)
        (curve,) = self.bench.curves
        self.assertEqual((curve.measurement, curve.at, curve.name), (m.id, m.start, "arrival"))
        self.assertEqual(curve.columns, ("seconds", "payload"))
        self.assertEqual(curve.samples, ((0.5, 100), (2.5, 700)))

    def test_nothing_came(self) -> None:
        """There is no curve of what never was."""
        running = self.bench.run(self.bench.experiment(SIZE))
        self.connections[0].refuse(OSError("no"))
        self.result(running)
        self.assertEqual(self.bench.curves, [])

    def test_what_tor_told(self) -> None:
        """Samples of each circuit, and how many XOFF and XON there had been."""
        running = self.bench.run(self.bench.experiment(SIZE))
        congestion = Congestion(slow_start=True, cwnd=124, rtt=0.1, min_rtt=None)
        stream = Stream(
            id="s",
            source="test",
            tor="default",
            stream_id=7,
            status="CLOSED",
            events=tuple(
                Event(WALL + at, f"USER:{word}")
                for at, word in ((0.0, "NEW"), (1.0, "XOFF_RECV"), (1.5, "XON_RECV"), (2.0, "XOFF_RECV"))
            ),
        )
        carried = CarriedBy(
            circ_id=5, read=1018, written=509, samples=((WALL + 1, CircuitSample(509, 0, congestion)),)
        )
        self.connections[0].open()
        self.tor.events.told[self.connections[0].measurement] = Joined(stream=stream, carried=(carried,))
        self.connections[0].respond(1000)
        m = self.result(running)
        curves = {curve.name: curve for curve in self.bench.curves}
        self.assertEqual(sorted(curves), ["arrival", "circuit-5", "flow"])
        self.assertEqual(curves["circuit-5"].samples, ((1.0, 509, 0, 1, 124, 0.1, None),))
        self.assertEqual(curves["flow"].samples, ((1.0, 0, 0, 1, 0), (1.5, 0, 0, 1, 1), (2.0, 0, 0, 2, 1)))
        self.assertEqual({curve.measurement for curve in curves.values()}, {m.id})
