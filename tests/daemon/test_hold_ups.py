"""Hold-ups of the reactor."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import ExitStack

from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from perfd.daemon.hold_ups import HoldUps, seconds_asleep


class HoldUpsTests(SynchronousTestCase):
    """With clocks of our own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asleep = 0.0
        self.hold_ups = HoldUps(self.clock, self.clock.seconds, lambda: self.asleep)
        self.watching = ExitStack()
        self.watching.enter_context(self.hold_ups.watched())

    def go_on(self, seconds: float) -> None:
        """Nothing happens."""
        self.clock.pump([0.001] * round(seconds * 1000))

    def test_nothing(self) -> None:
        """Looks that come in time, or a little late, are no hold-ups."""
        for seconds in (0.2, 0.0, 0.03):
            self.clock.advance(seconds and 0.03)
            self.go_on(seconds)
        self.assertEqual((self.hold_ups.between(0.0, 9.0), self.hold_ups.seconds), (0.0, 0.0))

    def test_parts(self) -> None:
        """Only what was between two moments counts, of all hold-ups there."""
        self.go_on(1.0)
        self.clock.advance(0.5)
        self.go_on(1.0)
        self.clock.advance(0.3)
        self.go_on(1.0)
        for since, until, held_up in (
            (0.0, 9.0, 0.8),
            (0.0, 2.0, 0.5),
            (1.25, 9.0, 0.55),
            (1.3, 1.4, 0.1),
            (1.48, 2.0, 0.0),  # what little of it is there is within the limit
            (0.0, 0.9, 0.0),
        ):
            self.assertTrue(0 <= self.hold_ups.between(since, until) - held_up < 0.05, (since, until))
        self.assertTrue(0 <= self.hold_ups.seconds - 0.8 < 0.05)

    def test_before_the_next_look(self) -> None:
        """A hold-up is known as soon as it is over."""
        self.go_on(1.0)
        seen: list[float] = []
        self.clock.callLater(0.0, lambda: seen.append(self.hold_ups.between(0.0, self.clock.seconds())))
        self.clock.rightNow += 0.4
        self.clock.advance(0)
        self.assertTrue(0 <= seen[0] - 0.4 < 0.03)

    def test_suspended(self) -> None:
        """What the monotonic clock does not count is held up too."""
        self.go_on(1.0)
        self.asleep += 3600.0
        self.go_on(1.0)
        self.assertTrue(0 <= self.hold_ups.between(0.5, 2.0) - 3600 < 0.03)
        self.assertEqual(self.hold_ups.between(1.5, 2.0), 0.0)
        self.asleep -= 0.5  # the two clocks are not read at once
        self.go_on(0.1)
        self.assertTrue(0 <= self.hold_ups.seconds - 3600 < 0.03)

    def test_nobody_watches(self) -> None:
        """Nothing is said of the time in which nobody watched, and nothing is done then."""
        with self.hold_ups.watched():
            self.go_on(0.5)
            self.watching.close()
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(5.0)
        self.assertEqual(self.hold_ups.between(0.0, 9.0), 0.0)
        with self.hold_ups.watched():
            self.go_on(0.5)
            self.assertEqual(self.hold_ups.seconds, 0.0)
            self.clock.rightNow += 0.4
        self.assertTrue(0 <= self.hold_ups.seconds - 0.4 < 0.03)


class RealHoldUpsTests(TestCase):
    """With the reactor of this process."""

    def setUp(self) -> None:
        self.hold_ups = HoldUps(reactor, time.monotonic)
        watching = ExitStack()
        watching.enter_context(self.hold_ups.watched())
        self.addCleanup(watching.close)

    async def test_blocked(self) -> None:
        """Who blocks is noticed."""
        await deferLater(reactor, 0.05)
        since = time.monotonic()
        time.sleep(0.3)
        await deferLater(reactor, 0.05)
        self.assertTrue(0.29 < self.hold_ups.between(since, time.monotonic()) < 5)
        self.assertGreater(self.hold_ups.seconds, 0.29)

    async def test_stopped_by_a_signal(self) -> None:
        """SIGSTOP is noticed."""
        await deferLater(reactor, 0.05)
        since = time.monotonic()
        with subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -CONT {os.getpid()}"]):
            os.kill(os.getpid(), signal.SIGSTOP)
            await deferLater(reactor, 0.05)
        self.assertGreater(self.hold_ups.between(since, time.monotonic()), 0.3)

    def test_asleep(self) -> None:
        """What the system says of suspensions never goes back by more than it takes to read it."""
        first = seconds_asleep()
        self.assertTrue(-0.1 < seconds_asleep() - first < 0.1)
