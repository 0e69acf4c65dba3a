"""How much strangers disturb a measurement: three that download all they can, with and without max-rate.

The arms come in random order within each block. Prints medians and the ratios to no strangers, each with a 95 %
interval over the blocks (percentile bootstrap of the median). Run from the checkout: python -m bench.strangers
"""

from __future__ import annotations

import contextlib
import random
import statistics
import subprocess
from collections.abc import Iterator, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater, react

from bench.verdict import verdict
from perfd.client.fetch import fetch, get_request
from perfd.clock import Clock, Phase, Timeline
from perfd.config.reader import DEFAULT_MAX_RATE
from perfd.config.values import rate
from perfd.reactor import Reactor, installed_reactor
from perfd.record import Outcome
from perfd.web.site import make_site
from perfd.web.stamps import ServerStamps
from perfd.web.targets.random import random_resources
from perfd.web.targets.rate import StrangersRate

SIZE = 5 * 2**20
BLOCKS = 12
RUNS = 8
"""Measurements in a row of one arm."""

STRANGERS = 3
ARMS = ("alone", "max-rate", "no bound")


class Server:
    """Two sites on one clock, with the default rate for strangers and without one."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._clock = Clock()
        self._stamps = ServerStamps(self._clock.monotonic)
        default = rate(DEFAULT_MAX_RATE)
        assert default is not None
        bound = StrangersRate(reactor, self._clock.monotonic, default)
        self._ports = {arm: self._listen(None if arm == "no bound" else bound) for arm in ARMS}
        self._count = 0

    def _listen(self, bound: StrangersRate | None) -> int:
        site = make_site(random_resources(2**30, bound), reactor=self._reactor, stamps=self._stamps)
        port = self._reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[arg-type]
        return int(port.getHost().port)  # type: ignore[attr-defined]

    async def measure(self, arm: str) -> list[tuple[float, float]]:
        """Seconds to the first and to the last byte of each run, with the strangers of ``arm`` beside it."""
        with strangers(self._ports[arm], 0 if arm == "alone" else STRANGERS):
            await deferLater(self._reactor, 1.0)
            return [await self._run(self._ports[arm]) for _ in range(RUNS)]

    async def _run(self, port: int) -> tuple[float, float]:
        self._count += 1
        name = f"m{self._count}"
        self._stamps.expect(name)
        timeline = Timeline(self._clock)
        exchange = await fetch(
            self._reactor,
            TCP4ClientEndpoint(self._reactor, "127.0.0.1", port),
            get_request("localhost", f"/random/{SIZE}", {"X-Perfd-Measurement": name}),
            expect=SIZE,
            timeline=timeline,
            timeout=60.0,
        )
        if exchange.outcome is not Outcome.OK:
            raise RuntimeError(f"{exchange.outcome}: {exchange.reason}")
        began = timeline.stamps[Phase.START]
        return timeline.stamps[Phase.DATARESPONSE] - began, timeline.stamps[Phase.DATACOMPLETE] - began


@contextlib.contextmanager
def strangers(port: int, count: int) -> Iterator[None]:
    """So many processes that download from ``port``, over and over."""
    command = ["curl", "--silent", "--output", "/dev/null", f"http://127.0.0.1:{port}/random/1GiB?[1-1000]"]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def ratio(blocks: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The median of the blocks' ratios, and its 95 % interval."""
    ratios = [a / b for a, b in blocks]
    drawn = random.Random(1)
    medians = sorted(statistics.median(drawn.choices(ratios, k=len(ratios))) for _ in range(4000))
    return statistics.median(ratios), medians[100], medians[-101]


async def run(reactor: Reactor) -> None:
    """Measure and print."""
    server = Server(reactor)
    order = random.Random(2)
    found: dict[str, list[tuple[float, float]]] = {arm: [] for arm in ARMS}
    for _ in range(BLOCKS):
        for arm in order.sample(ARMS, len(ARMS)):
            runs = await server.measure(arm)
            first, last = (statistics.median(values) for values in zip(*runs, strict=True))
            found[arm].append((first, last))
    for n, what in enumerate(("first byte", "5 MiB")):
        for arm in ARMS:
            print(f"{what}, {arm}: {statistics.median(block[n] for block in found[arm]) * 1000:.2f} ms")
        for arm in ARMS[1:]:
            blocks = [(a[n], b[n]) for a, b in zip(found[arm], found["alone"], strict=True)]
            middle, low, high = ratio(blocks)
            print(f"  {arm} / alone: {middle:.2f} (95 % interval {low:.2f} to {high:.2f})")
    blocks = [(a[1], b[1]) for a, b in zip(found["max-rate"], found["no bound"], strict=True)]
    _, _, high = ratio(blocks)
    print(f"5 MiB, max-rate / no bound, upper end of the interval: {verdict(high, '<= 1')}")


def main(_: IReactorTime) -> Deferred[None]:
    """For Twisted's ``react``, which has the reactor that is installed."""
    return Deferred.fromCoroutine(run(installed_reactor()))


if __name__ == "__main__":
    react(main)
