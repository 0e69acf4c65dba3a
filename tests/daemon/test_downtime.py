"""What was missed while Perfd did not run."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock as FakeReactor
from twisted.trial.unittest import SynchronousTestCase

from perfd.daemon.downtime import PAUSE, Downtime
from perfd.variant import Variant

A, B = Variant("a", "public"), Variant("b", "public")


class SomeSchedule:
    """A schedule that keeps what it was to make up."""

    first_slot: float | None = 1000.0

    def __init__(self) -> None:
        self.made_up: list[tuple[Variant, float | None, float]] = []

    def make_up(self, variant: Variant, last: float | None, latest: float) -> None:
        self.made_up.append((variant, last, latest))


class DowntimeTests(SynchronousTestCase):
    """The database is asked for each variant."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.schedule: Any = SomeSchedule()
        self.answers: dict[Variant, float | None] = {A: 400.0, B: None}
        self.asked: list[tuple[str, Variant, float]] = []
        self.trouble: Exception | None = None
        self.service = Downtime(self.reactor, self.read)
        self.service.watch("x", self.schedule, [A, B])

    def read(self, experiment: str, variant: Variant, before: float) -> Deferred[float | None]:
        self.asked.append((experiment, variant, before))
        return succeed(self.answers[variant]) if self.trouble is None else fail(self.trouble)

    def test_each_variant(self) -> None:
        """One of which nothing is known has nothing to make up."""
        self.service.startService()
        self.assertEqual(self.schedule.made_up, [(A, 400.0, 400.0)])
        self.assertEqual([asked[:2] for asked in self.asked], [("x", A)] * 2 + [("x", B)] * 2)
        self.assertEqual(self.asked[0][2], 1000.0)

    def test_database_that_cannot_be_read(self) -> None:
        """It is asked again, and a stop ends that."""
        self.trouble = OSError("locked")
        self.service.startService()
        self.assertEqual(self.schedule.made_up, [])
        self.trouble = None
        self.reactor.advance(PAUSE)
        self.assertEqual(self.schedule.made_up, [(A, 400.0, 400.0)])
        self.service.stopService()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
