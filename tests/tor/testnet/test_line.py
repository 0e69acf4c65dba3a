"""When what is sent over links arrives, in a time that is not the real one."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.config.testnet import Link
from perfd.tor.testnet.links.jitter import Jitter
from perfd.tor.testnet.links.line import MOST_LATENESS, Agenda, Lane, Way


class Timer:
    """What is to be called when."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when, self.callback = when, callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class VirtualLoop:
    """A loop's clock and timers."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        self.timers.append(Timer(when, callback))
        return self.timers[-1]

    def run_until(self, when: float, late: float = 0.0) -> None:
        """Come to this time. What was due in the last ``late`` seconds of it has not been called yet then."""
        while True:
            self.timers = [timer for timer in self.timers if not timer.is_cancelled]
            due = [timer for timer in self.timers if timer.when <= when - late]
            if not due:
                break
            timer = min(due, key=lambda timer: timer.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when)
            timer.callback()
        self.now = when


class VirtualAgenda(Agenda):
    """An agenda in such a time."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(cast(asyncio.AbstractEventLoop, loop))
        self._virtual = loop

    def _wait_until(self, when: float) -> None:
        self._virtual.now = max(self._virtual.now, when)


def new_agenda() -> tuple[VirtualLoop, Agenda]:
    loop = VirtualLoop()
    return loop, VirtualAgenda(loop)


class SleepyLoop(VirtualLoop):
    """It is woken late."""

    def __init__(self, random: Random, least: float, most: float) -> None:
        super().__init__()
        self.lateness = lambda: random.uniform(least, most)

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        return super().call_at(max(when, self.now) + self.lateness(), callback)


def test_lateness_is_learnt() -> None:
    """How late the process is woken, for a packet that comes and when it is to go, is not in the delay.

    No more than a bound of it is taken off.
    """
    for least, most, off in ((0.00005, 0.00015, 0.0002), (0.01, 0.01, 2 * MOST_LATENESS)):
        loop = SleepyLoop(Random(1), least, most)
        agenda = VirtualAgenda(loop)
        way = Way(agenda, (Lane(Link(delay=0.025), Random(1)),))
        delays = list[float]()

        def note(came: float, loop: VirtualLoop = loop, delays: list[float] = delays) -> None:
            delays.append(loop.now - came)

        for _ in range(300):
            came = loop.now
            loop.now += loop.lateness()
            way.send(1, partial(note, came))
            loop.run_until(loop.now + 0.1)
        late = statistics.median(delays[-100:]) - 0.025
        assert late == pytest.approx(least + most - off, abs=0.00002)
        assert min(delays) > 0.0249


def arrivals(links: Sequence[Link], sent: Sequence[tuple[float, int, float]]) -> list[tuple[int, float]]:
    """The number of each packet, and when it came; given when each is sent, its size, and how late timers are."""
    loop, agenda = new_agenda()
    way = Way(agenda, tuple(Lane(link, Random(number)) for number, link in enumerate(links)))
    began, came = loop.now, list[tuple[int, float]]()
    for number, (when, size, late) in enumerate(sent):
        loop.run_until(began + when, late)
        way.send(size, partial(lambda n: came.append((n, loop.now - began)), number))
    loop.run_until(began + 1000.0)
    return came


def test_small_after_large() -> None:
    """A packet that has less to wait for than another before it stays behind it, also in the second queue."""
    links = [Link(rate=8e6), Link(rate=8e6)]
    came = arrivals(links, [(0.0, 1500, 0.0), (0.0007, 100, 0.0)])
    assert came == [(0, pytest.approx(0.003)), (1, pytest.approx(0.0031))]


def test_end_after_data() -> None:
    """The end of a connection, which takes no time anywhere, stays behind its data: also if timers are late."""
    links = [Link(rate=8e6), Link(rate=8e6)]
    came = arrivals(links, [(0.0, 1500, 0.0), (0.0007, 0, 0.0)])
    assert came == [(0, pytest.approx(0.003)), (1, pytest.approx(0.003))]
    assert [number for number, _ in arrivals(links, [(0.0, 1500, 0.0), (0.0016, 0, 0.0005)])] == [0, 1]


def test_each_queue_has_its_bound() -> None:
    """What several send to one waits for its link no longer than the bound: it is dropped when it comes there."""
    loop, agenda = new_agenda()
    rate, bound, size = 20e6, 0.1, 1500
    target = Lane(Link(rate=rate), Random(0))
    ways = [Way(agenda, (Lane(Link(rate=rate), Random(n)), target), bound) for n in range(1, 8)]
    came, longest, took = 0, 0.0, 8 * size / rate

    def arrive(began: float) -> None:
        nonlocal came, longest
        came, longest = came + 1, max(longest, loop.now - began)

    # Each sends as much at once as its own queue takes, and goes on at its rate.
    began = loop.now
    burst = int(bound / took)
    for number in range(400):
        loop.run_until(began + max(0, number - burst) * took)
        for way in ways:
            way.send(size, partial(arrive, loop.now))
    loop.run_until(began + 10.0)
    # Its own queue, the other's, and itself in both.
    assert bound < longest <= 2 * (bound + took) + 1e-9
    assert came == pytest.approx((400 - burst) * took * rate / 8 / size + 2 * burst, rel=0.02)


def test_loss_on_each_link() -> None:
    """Either link loses its share."""
    loop, agenda = new_agenda()
    way = Way(agenda, (Lane(Link(loss=0.1), Random(1)), Lane(Link(loss=0.2), Random(2))))
    came = list[int]()
    for _ in range(10_000):
        way.send(1500, lambda: came.append(1))
    loop.run_until(loop.now + 1.0)
    assert abs(len(came) - 7200) < 4 * (10_000 * 0.72 * 0.28) ** 0.5


def test_catching_up() -> None:
    """What is due is done at once, what is not at its time; nothing twice."""
    loop, agenda = new_agenda()
    done, began = list[str](), loop.now
    for name, when in (("first", 1.0), ("second", 2.0), ("third", 3.0)):
        agenda.at(began + when, partial(done.append, name))
    loop.now = began + 2.0
    agenda.catch_up()
    agenda.catch_up()
    assert done == ["first", "second"]
    loop.run_until(began + 3.0)
    assert done == ["first", "second", "third"]


def delays(link: Link, pause: float, count: int, links: int = 1) -> list[float]:
    """How long each of so many packets was on its way, without what the rate took."""
    loop, agenda = new_agenda()
    way = Way(agenda, tuple(Lane(link, Random(number)) for number in range(links)))
    took, found = links * 8 * 1500 / (link.rate or math.inf), list[float]()
    began = loop.now
    for number in range(count):
        loop.run_until(began + pause * number)
        way.send(1500, lambda sent=loop.now: found.append(loop.now - sent - took))
    loop.run_until(loop.now + 10.0)
    return found


@pytest.mark.parametrize(("pause", "count"), [(0.0006, 50_000), (0.1, 4_000)])
def test_jitter_keeps_the_mean(pause: float, count: int) -> None:
    """The mean is the delay, for a dense stream as for single packets; all values are equally likely."""
    found = delays(Link(delay=0.025, jitter=0.005, rate=20e6), pause, count)
    assert statistics.mean(found) == pytest.approx(0.025, rel=0.02)
    assert 0.02 - 1e-9 <= min(found) < 0.0201
    assert 0.0299 < max(found) <= 0.03 + 1e-9
    tenths = [sum(20 + n <= 1000 * each < 21 + n for each in found) / count for n in range(10)]
    assert all(0.08 < share < 0.12 for share in tenths)


def test_jitter_over_two_links() -> None:
    """Their jitters are of each link, and the mean of both holds."""
    found = delays(Link(delay=0.025, jitter=0.005, rate=20e6), 0.0012, 25_000, links=2)
    assert statistics.mean(found) == pytest.approx(0.05, rel=0.02)
    assert min(found) < 0.043
    assert max(found) > 0.057


def test_jitter_changes_slowly() -> None:
    """By a quarter of the time at most, also if queues ask for a later time before an earlier one."""
    jitter, random = Jitter(0.005, Random(1)), Random(2)
    for number in range(10_000):
        when, later = number / 100 + random.uniform(0, 1), random.uniform(0, 0.1)
        assert abs(jitter.at(when + later) - jitter.at(when)) <= 0.25 * later + 1e-12


LINKS = st.builds(
    lambda delay, share, rate: Link(delay=delay, jitter=share * delay, rate=rate),
    st.sampled_from([0.0, 0.0001, 0.005, 0.05]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([8e6, 1e6, 100e6, None]),
)
SENT = st.lists(
    st.tuples(
        st.floats(0.0, 0.003),  # seconds after the one before
        st.integers(0, 1500),
        st.floats(0.0, 0.003),
    ),
    min_size=2,
    max_size=30,
)


@given(links=st.lists(LINKS, min_size=1, max_size=2), sent=SENT)
def test_nothing_is_overtaken(links: list[Link], sent: list[tuple[float, int, float]]) -> None:
    """Whatever the sizes, the times, the links, and how late the machine is."""
    when, packets = 0.0, list[tuple[float, int, float]]()
    for pause, size, late in sent:
        when += pause
        packets.append((when, size, late))
    assert [number for number, _ in arrivals(links, packets)] == list(range(len(sent)))
