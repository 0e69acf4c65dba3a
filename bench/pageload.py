"""Page loads in a real Firefox: what the measuring proxy costs, what a load costs, and whether stamps suffer.

The canonical page, over the private network, in one warm Firefox. For the proxy's price, loads through the strict
proxy and loads that go to tor's SOCKS port directly are in random order. For the stamps, downloads run beside page
loads in the same process, and are compared with a packet capture.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from bench.capture import SETTLE, Capture, download, errors, passages, port_of, report
from bench.compare import Comparison
from bench.verdict import verdict
from perfd.browser.make import make_browser
from perfd.browser.records import Browser, PageLoad, PageTask
from perfd.cli.standalone import FREE_PORT
from perfd.clock import Clock
from perfd.config import Config, ExperimentConfig, parse_config
from perfd.experiments.run import Setup, TorExperiment
from perfd.experiments.transfer import Transfer
from perfd.laboratory import Laboratory
from perfd.proxy import MeasuringProxy
from perfd.record import Outcome
from perfd.tor.events.sink import NullEventSink
from tests.support.delay_line import DelayLine

CONFIG = """
[perfd]
network = testnet
[experiment:page]
type = pageload
[experiment:download]
size = 50 KiB
timeout = 60 s
[tor:far]
torrc = {torrc}
[experiment:far]
tor = far
size = 50 KiB
timeout = 60 s
"""
BLOCKS = 4
EACH = 6  # loads of either in a block
LOADS = 10
WARMING = 5  # loads until a Firefox has done what it does after its start
TIMEOUT = 60.0
RTT = 0.15  # seconds, which the delay line adds


def processor_time_of_firefox() -> float:
    """Seconds of processor that our Firefox has used, with all of its processes."""
    ticks = os.sysconf("SC_CLK_TCK")
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    roots = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "stat").read_text().rpartition(")")[2].split()
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue  # it has just ended
        number = int(path.name)
        parents[number] = int(words[1])
        used[number] = sum(map(int, words[11:15])) / ticks  # with its own children that have ended
        if b"--remote-debugging-port" in command and parents[number] == os.getpid():
            roots.add(number)

    def belongs(number: int) -> bool:
        while number > 1:
            if number in roots:
                return True
            number = parents.get(number, 0)
        return False

    return sum(seconds for number, seconds in used.items() if belongs(number))


@attrs.frozen
class Bench:
    """What all parts need."""

    reactor: Any
    config: Config
    laboratory: Laboratory
    browser: Browser
    page: str

    async def load(self, port: int) -> PageLoad:
        """One load through the SOCKS port ``port``, tried again if it fails."""
        for _ in range(3):
            task = PageTask(url=self.page, proxy_port=port, timeout=TIMEOUT, screenshot=False)
            loaded = await self.browser.load(task)
            if loaded.outcome is Outcome.OK:
                return loaded
            print(f"  a load failed and is repeated: {loaded.errorcode} {loaded.reason}")
        raise RuntimeError("three loads failed")

    async def through_proxy(self, name: str = "default") -> PageLoad:
        """One load through the strict proxy in front of the tor ``name``."""
        tor = self.laboratory.tors[name]
        events = self.laboratory.events[name]
        port = MeasuringProxy(self.reactor, Clock(), tor.socks_port, events).open(login=("bench", "perfd"))
        loaded = await self.load(port.port)
        await port.close()
        return loaded


def duration(loaded: PageLoad) -> float:
    """Seconds from the start of the navigation to the load event."""
    assert loaded.load is not None
    assert loaded.navigation_start is not None
    return loaded.load - loaded.navigation_start


async def price_of_proxy(bench: Bench, tor: str, socks_port: int, where: str) -> None:
    """Loads through the proxy and without it."""
    await bench.through_proxy(tor)
    await bench.load(socks_port)
    comparison = Comparison("proxy", "direct")
    for _ in range(BLOCKS):
        for way in comparison.block(EACH):
            loaded = await (bench.through_proxy(tor) if way == "proxy" else bench.load(socks_port))
            comparison.add(way, load=duration(loaded))
    print(f"canonical page, {where}, {BLOCKS} blocks of {EACH} + {EACH} loads in random order")
    print(
        f"  load: through the proxy {comparison.median('load', 'proxy'):.3f} s,"
        f" directly {comparison.median('load', 'direct'):.3f} s,"
        f" ratio {verdict(comparison.ratio('load', 'proxy', 'direct'), '<= 1.02')}"
    )


async def price_of_load(bench: Bench) -> None:
    """Processor time of Firefox for each load in a warm process, which is not replaced meanwhile."""
    bench = attrs.evolve(bench, browser=make_browser(bench.reactor, Clock(), bench.config.browsers[0]))
    for _ in range(WARMING):
        await bench.through_proxy()
    before = processor_time_of_firefox()
    for _ in range(LOADS):
        await bench.through_proxy()
    used = (processor_time_of_firefox() - before) / LOADS
    await bench.browser.close()
    print(f"processor time of Firefox per load, warm, {LOADS} loads, in s: {verdict(used, '<= 1')}")


async def stamps(bench: Bench, directory: Path) -> None:
    """Downloads while Firefox loads pages, against a packet capture."""
    if os.geteuid() != 0 or shutil.which("tcpdump") is None:
        print("stamps during page loads: skipped, needs root and tcpdump")
        return
    (experiment,) = bench.laboratory.experiments(bench.config.experiments[1])
    assert isinstance(experiment, TorExperiment)
    first = await download(experiment.setup)
    assert first.exchange is not None
    port = port_of(first.exchange.remote)
    capture = Capture([port], directory / "packets")
    transfers: list[Transfer] = []
    loading = Deferred.fromCoroutine(loads(bench))
    while not loading.called:
        transfers.append(await download(experiment.setup))
        await deferLater(bench.reactor, 0.2)
    await loading
    await deferLater(bench.reactor, SETTLE)
    packets = passages(capture.stop(), port)
    good = [each for each in transfers if each.exchange and each.exchange.outcome is Outcome.OK]
    print(f"{len(good)} downloads of 50 KiB over tor while Firefox loaded {LOADS} pages")
    report([errors(each, packets[each.measurement][1]) for each in good], "<= 1")


async def loads(bench: Bench) -> None:
    """Page loads through the proxy, one after the other."""
    for _ in range(LOADS):
        await bench.through_proxy()


async def socks_port(laboratory: Laboratory, experiment: ExperimentConfig) -> tuple[int, Setup]:
    """The SOCKS port of the experiment's tor, once a download went through it."""
    (prepared,) = laboratory.experiments(experiment)
    assert isinstance(prepared, TorExperiment)
    await laboratory.tors[experiment.tors[0]].when_ready()
    first = await download(prepared.setup)
    assert first.exchange is not None
    return port_of(first.exchange.remote), prepared.setup


async def main(reactor: Any) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        line = DelayLine(reactor, RTT)
        config = parse_config(CONFIG.format(torrc=line.torrc), directory / "perfd.conf")
        server = attrs.evolve(config.server, listen=FREE_PORT, public_address=FREE_PORT)
        config = attrs.evolve(config, server=server)
        laboratory = Laboratory(reactor, Clock(), config, {}, NullEventSink())
        browser = make_browser(reactor, Clock(), config.browsers[0])
        laboratory.startService()
        try:
            near, setup = await socks_port(laboratory, config.experiments[1])
            far, _ = await socks_port(laboratory, config.experiments[2])
            way = setup.server
            bench = Bench(reactor, config, laboratory, browser, f"http://{way.host}:{way.port}/page/")
            await price_of_load(bench)
            await price_of_proxy(bench, "far", far, f"a circuit's round trip longer by {RTT * 1e3:.0f} ms")
            await price_of_proxy(bench, "default", near, "without delay")
            await stamps(bench, directory)
        finally:
            await browser.close()
            await laboratory.stopService()
            await line.stop()


if __name__ == "__main__":
    sys.exit(react(lambda reactor: Deferred.fromCoroutine(main(reactor))))
