"""What optimistic data saves: downloads of 50 KiB with and without it, in pairs, over circuits of 150 ms.

The private network's guards are behind a delay line, once for a tor without Conflux and once for one with it. All
runs of a tor use one circuit, and the two of a pair take turns in going first. Prints for each tor the round trip
(from the SOCKS request to its reply), the paired difference of the first byte with its 95 % interval (signed
ranks), and how often tor refused optimistic data. Run from the checkout: python -m bench.optimistic
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from bench.compare import Interval, paired_difference
from bench.verdict import verdict
from perfd.client.fetch import fetch, get_request
from perfd.clock import Clock, Phase, Timeline
from perfd.record import Outcome
from perfd.socks import SOCKS5ClientEndpoint
from perfd.tor.launch import TorOptions, TorService
from perfd.tor.testnet.network import Testnet
from perfd.tor.testnet.service import TestnetService
from perfd.web.site import make_site
from perfd.web.stamps import ServerStamps
from perfd.web.targets.random import random_resources
from tests.support.delay_line import DelayLine, optimistic_data

RTT = 0.15  # seconds
SIZE = 51200
PAIRS = 20
PAUSE = 0.3  # seconds


@attrs.frozen
class Arm:
    """One tor behind its delay line."""

    reactor: Any
    tor: TorService
    log: Path
    port: int

    async def download(self, *, optimistic: bool) -> Timeline | None:
        """The stamps of one download; None if it failed."""
        await deferLater(self.reactor, PAUSE)
        timeline = Timeline(Clock())
        endpoint = SOCKS5ClientEndpoint(
            *("127.0.0.1", self.port, self.tor.socks_port().endpoint, {"login": ("bench", "optimistic")}),
            timeline=timeline,
            optimistic=optimistic,
        )
        request = get_request(f"127.0.0.1:{self.port}", f"/random/{SIZE}")
        exchange = await fetch(self.reactor, endpoint, request, expect=SIZE, timeline=timeline, timeout=30.0)
        return timeline if exchange.outcome is Outcome.OK else None

    async def ready(self, *, allows: bool) -> None:
        """Wait until downloads work, over a circuit that ``allows`` optimistic data or does not."""
        await self.tor.when_ready()
        for _ in range(60):
            done = await self.download(optimistic=False)
            if done is not None and self.allowed()[-1:] == [allows]:
                return
            await deferLater(self.reactor, 1.0)
        raise RuntimeError(f"no circuit of the kind wanted: {self.allowed()}")

    def allowed(self) -> list[bool]:
        """For each stream so far: whether tor allowed optimistic data."""
        return optimistic_data(self.log.read_text(encoding="utf-8"))


def between(timeline: Timeline, first: Phase, last: Phase) -> float:
    """Seconds."""
    return timeline.stamps[last] - timeline.stamps[first]


async def measure(arm: Arm, what: str, *, allows: bool) -> Interval:
    """Print what the pairs of one tor say; gives the saving in round trips."""
    await arm.ready(allows=allows)
    before = len(arm.allowed())
    savings: list[float] = []
    round_trips: list[float] = []
    while len(savings) < PAIRS:
        order = [False, True] if len(savings) % 2 else [True, False]
        pair = {optimistic: await arm.download(optimistic=optimistic) for optimistic in order}
        strict, early = pair[False], pair[True]
        if strict is None or early is None:
            await arm.ready(allows=allows)
            continue
        first_bytes = [between(each, Phase.START, Phase.DATARESPONSE) for each in (strict, early)]
        savings.append(first_bytes[0] - first_bytes[1])
        round_trips.append(between(strict, Phase.REQUEST, Phase.RESPONSE))
    saving, round_trip = paired_difference(savings), statistics.median(round_trips)
    refused = arm.allowed()[before:].count(False)
    print(f"{what}: {PAIRS} pairs of 50 KiB, round trip {round_trip * 1e3:.1f} ms")
    print(
        f"  optimistic data saves of the first byte, in ms, {saving.scaled(1e3)};"
        f" tor's log refuses it {refused} times in {2 * PAIRS} downloads",
        flush=True,
    )
    return saving.scaled(1 / round_trip)


async def bench(reactor: Any, directory: Path) -> None:
    """Start the network and the tors, and measure one tor after the other."""
    clock = Clock()
    network = TestnetService(reactor, Testnet(directory / "testnet", "tor", owner=os.getpid, clock=clock), clock)
    site = make_site(random_resources(SIZE), reactor=reactor, stamps=ServerStamps(time.monotonic))
    port = reactor.listenTCP(0, site, interface="127.0.0.1").getHost().port
    network.startService()
    try:
        await network.when_ready()
        saved = {}
        for what, conflux in (("without Conflux", 0), ("with Conflux", 1)):
            line = DelayLine(reactor, RTT)
            log = directory / f"conflux{conflux}.log"
            torrc = f"{line.torrc}\nLog [app]info file {log}\nConfluxEnabled {conflux}"
            options = TorOptions(name=what, data_directory=directory / f"conflux{conflux}", torrc=torrc)
            tor = TorService(reactor, options, network)
            tor.startService()
            try:
                saved[conflux] = await measure(Arm(reactor, tor, log, port), what, allows=not conflux)
            finally:
                await tor.stopService()
                await line.stop()
    finally:
        await network.stopService()
    print(f"saved without Conflux, in round trips: {verdict(saved[0], '>= 0.8')}, {verdict(saved[0], '<= 1.2')}")
    print(f"saved with Conflux, in round trips: {saved[1]}")


def main() -> None:
    """Print the figures."""

    async def run(reactor: Any) -> None:
        with tempfile.TemporaryDirectory() as directory:
            await bench(reactor, Path(directory).resolve())

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
