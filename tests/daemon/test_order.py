"""In which order services stop, and what a failure among them costs."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock as FakeReactor
from twisted.trial.unittest import SynchronousTestCase

from perfd.clock import Clock
from perfd.config import parse_config
from perfd.daemon.order import OrderedServices, ParallelServices
from perfd.laboratory import Laboratory
from perfd.tor.events.sink import NullEventSink
from perfd.tor.guards.keeper import Guards
from perfd.tor.launch import TorService

CONFIG = """
[perfd]
source = test
network = tor
[server]
listen = 127.0.0.1:8080
public-address = 192.0.2.1:80
[tor]
control = 127.0.0.1:1
guards = none
[tor:alpha]
[tor:beta]
[tor:gamma]
[experiment:small]
tor = alpha, beta, gamma
size = 1 KiB
interval = 60 s
timeout = 30 s
"""


class Slow(Service):
    """Says in ``log`` when it is told to stop; it has when ``stopped`` fires."""

    def __init__(self, number: int, log: list[int]) -> None:
        self.stopped: Deferred[None] = Deferred()
        self._number = number
        self._log = log

    def stopService(self) -> Deferred[None]:
        self._log.append(self._number)
        return self.stopped


class OrderTests(SynchronousTestCase):
    """Three services that take their time."""

    def services(self, parent: OrderedServices | ParallelServices) -> list[Slow]:
        self.log: list[int] = []
        made = [Slow(number, self.log) for number in range(3)]
        for each in made:
            each.setServiceParent(parent)
        self.stopping = parent.stopService()
        return made

    def test_one_after_the_other(self) -> None:
        """The last one first; one that fails does not keep the others up."""
        first, second, third = self.services(OrderedServices())
        self.assertEqual(self.log, [2])
        third.stopped.errback(ZeroDivisionError())
        self.assertEqual(self.log, [2, 1])
        second.stopped.callback(None)
        self.assertNoResult(self.stopping)
        first.stopped.callback(None)
        self.successResultOf(self.stopping)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_together(self) -> None:
        """All at once; it is done when the slowest is."""
        first, second, third = self.services(ParallelServices())
        self.assertEqual(sorted(self.log), [0, 1, 2])
        first.stopped.callback(None)
        second.stopped.errback(ZeroDivisionError())
        self.assertNoResult(self.stopping)
        third.stopped.callback(None)
        self.successResultOf(self.stopping)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_tors(self) -> None:
        """Guards are given back on all tors at once, and then all tors are let go at once."""
        config = parse_config(CONFIG, Path(self.mktemp()) / "perfd.conf")
        laboratory = Laboratory(FakeReactor(), Clock(), config, {}, NullEventSink())  # type: ignore[arg-type]
        guards: list[Deferred[None]] = [Deferred() for _ in range(3)]
        tors: list[Deferred[None]] = [Deferred() for _ in range(3)]
        with (
            mock.patch.object(Guards, "stop", side_effect=guards) as restored,
            mock.patch.object(TorService, "stopService", side_effect=tors) as stopped,
        ):
            stopping = laboratory.stopService()
            self.assertEqual((restored.call_count, stopped.call_count), (3, 0))
            for each in guards:
                each.callback(None)
            self.assertEqual(stopped.call_count, 3)
            self.assertNoResult(stopping)
            for each in tors:
                each.callback(None)
            self.successResultOf(stopping)
