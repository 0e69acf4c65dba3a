"""The reactor of a process: its timers run by the monotonic clock."""

import subprocess
import sys
import time

from twisted.internet.task import Clock

from perfd.reactor import use_monotonic_time

STEP = """
import time
from perfd.reactor import installed_reactor
reactor = installed_reactor()
began = time.monotonic()
wall = time.time
time.time = lambda: wall() + 3600  # a step of the clock, as far as this process can see
assert abs(reactor.seconds() - began) < 10
reactor.callLater(0.3, reactor.stop)
reactor.run()
assert time.monotonic() - began >= 0.3, time.monotonic() - began
"""


def test_a_step_of_the_clock_ends_no_deadline() -> None:
    """A deadline is kept although the clock of the machine is set forward by an hour."""
    subprocess.run([sys.executable, "-c", STEP], check=True, timeout=30)


def test_what_is_scheduled_keeps_its_time() -> None:
    """A reactor that has something scheduled keeps the clock by which that was."""
    reactor = Clock()
    use_monotonic_time(reactor)
    assert reactor.seconds is time.monotonic
    reactor = Clock()
    reactor.callLater(1, lambda: None)
    use_monotonic_time(reactor)
    assert reactor.seconds is not time.monotonic
