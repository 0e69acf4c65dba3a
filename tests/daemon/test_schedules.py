"""The schedules of all experiments, and what health and metrics are told of them."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.task import Clock as FakeReactor
from twisted.trial.unittest import SynchronousTestCase

from perfd.clock import Clock
from perfd.config import ExperimentConfig
from perfd.daemon.health import Health
from perfd.daemon.metrics import Metrics
from perfd.daemon.schedules import Schedules
from perfd.daemon.sinks import FanOut, MemorySink
from perfd.logfile.file import LogStatus
from perfd.record import Error
from tests.support.schedules import ScriptedExperiment

CONFIG = ExperimentConfig(
    name="x", type="download", size=1, interval=60.0, offset=0.0, timeout=5.0, tors=("a",), servers=("public",)
)


class SchedulesTests(SynchronousTestCase):
    """On a fake clock."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.offset = 1000000.0
        self.clock = Clock(wall=lambda: self.reactor.seconds() + self.offset, monotonic=self.reactor.seconds)
        self.sink = MemorySink()
        well = LogStatus(None, None)
        self.health = Health(self.clock, "s", "0", database=lambda: well, log=lambda: well)
        self.metrics = Metrics("s", "0", lambda: 0)
        sinks = FanOut({"memory": self.sink, "health": self.health, "metrics": self.metrics})
        self.schedules = Schedules(self.reactor, self.clock, sinks, self.health, self.metrics)
        self.variant = ScriptedExperiment("x", self.clock.wall)

    def experiment(self) -> dict[str, Any]:
        (experiment,) = self.health.report()["experiments"]
        found: dict[str, Any] = experiment
        return found

    def test_interval(self) -> None:
        """A shorter interval does not make an experiment unhealthy, and what is known of it goes on."""
        self.schedules.set(CONFIG, [self.variant])
        self.schedules.startService()
        self.reactor.advance(20.0)
        self.variant.runs[0].callback(None)
        self.reactor.advance(59.0)
        self.schedules.set(attrs.evolve(CONFIG, interval=5.0), [self.variant])
        self.assertEqual((self.experiment()["interval"], self.experiment()["healthy"]), (5.0, True))
        self.assertEqual(self.experiment()["variants"][0]["counts"], {"ok": 1})
        self.assertEqual(self.schedules.next_slot, 1000080.0)
        self.reactor.advance(16.0)
        self.assertFalse(self.experiment()["healthy"])

    def test_comes_and_goes(self) -> None:
        """An experiment that is added runs from its next slot on; one that is removed is expected no more."""
        self.schedules.startService()
        self.assertIsNone(self.schedules.next_slot)
        self.schedules.set(CONFIG, [self.variant])
        self.assertIn(b"perfd_measurements_total{", self.metrics.exposition())
        self.reactor.advance(20.0)
        self.schedules.remove("x")
        self.assertEqual((self.health.report()["experiments"], self.schedules.next_slot), ([], None))
        self.variant.runs[0].callback(None)
        self.assertEqual([m.outcome.value for m in self.sink.measurements], ["ok"])
        self.schedules.set(CONFIG, [self.variant])
        self.assertEqual(self.schedules.next_slot, 1000080.0)

    def test_added_again_meanwhile(self) -> None:
        """While the last round of the removed one goes on, the slots of the new one are skipped."""
        self.schedules.startService()
        self.schedules.set(CONFIG, [self.variant])
        self.reactor.advance(20.0)
        self.schedules.remove("x")
        self.schedules.set(CONFIG, [self.variant])
        self.reactor.advance(60.0)
        self.variant.runs[0].callback(None)
        self.assertEqual([m.errorcode for m in self.sink.measurements], [Error.BUSY, None])
        self.reactor.advance(60.0)
        self.assertEqual(len(self.variant.runs), 2)

    def test_clock_set_back(self) -> None:
        """An experiment that comes again does not wait for the clock to reach what it has covered."""
        self.schedules.startService()
        self.schedules.set(CONFIG, [self.variant])
        self.reactor.advance(20.0)
        self.variant.runs[0].callback(None)
        self.schedules.remove("x")
        self.offset -= 86400.0
        self.schedules.set(CONFIG, [self.variant])
        self.assertEqual(self.schedules.next_slot, 1000020.0 - 86400.0)
        self.reactor.advance(0.0)
        self.variant.runs[1].callback(None)
        self.assertEqual([m.extra.get("REPEATED") for m in self.sink.measurements], [None, 1])

    def test_stop(self) -> None:
        """A stop gives the last round of a removed experiment its record too."""
        self.schedules.startService()
        self.schedules.set(CONFIG, [self.variant])
        self.reactor.advance(20.0)
        self.schedules.remove("x")
        self.successResultOf(self.schedules.stopService())
        self.assertEqual([m.errorcode for m in self.sink.measurements], [Error.STOPPED])
