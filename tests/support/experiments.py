"""Experiments over a scripted tor."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from perfd.record import Measurement
from tests.support.scripted import Bench, Connection

SIZE = "size = 1000\n"


class ExperimentCase(SynchronousTestCase):
    """Experiments in memory."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.reactor, self.tor = self.bench.reactor, self.bench.tor

    @property
    def connections(self) -> list[Connection]:
        return self.tor.connections

    @property
    def parts(self) -> list[Measurement]:
        return list(self.bench.parts.measurements)

    def result(self, running: Deferred[Measurement]) -> Measurement:
        """The record; nothing may be left that could still happen, and the tor is free."""
        measurement = self.successResultOf(running)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertFalse(self.tor.turn.locked)
        return measurement

    def download(self, number: int, size: int = 1000) -> None:
        """The connection of this number works."""
        self.connections[number].open()
        self.connections[number].respond(size)
