"""What an upload costs: processor time of the process that is client and server of it, and the time it takes.

5 MiB over the private network, through a tor of its own; and, without Tor, over loopback. Processor time is the
whole process's from before the run until its record is there, so tor's events are in it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from bench.compare import median_interval
from bench.runs import last_record
from bench.verdict import verdict
from perfd.clock import Clock
from perfd.config import parse_config
from perfd.config.values import Address
from perfd.laboratory import Laboratory
from perfd.record import Measurement, Outcome
from perfd.tor.events.sink import NullEventSink

RUNS = 21
PAUSE = 1.0  # seconds

CONFIG = """
[perfd]
network = testnet
[experiment:tor]
type = upload
size = 5 MiB
timeout = 60 s
[experiment:direct]
type = upload
tor = none
size = 5 MiB
timeout = 60 s
"""


def laboratory(reactor: Any, directory: Path) -> tuple[Laboratory, dict[str, Any]]:
    """A web server on a free port, a way into the private network, and the experiments by name."""
    config = parse_config(CONFIG, directory / "perfd.conf")
    anywhere = Address("127.0.0.1", 0)
    server = attrs.evolve(config.server, listen=anywhere, public_address=anywhere)
    lab = Laboratory(reactor, Clock(), attrs.evolve(config, server=server), {}, NullEventSink())
    return lab, {each.name: lab.experiments(each)[0] for each in config.experiments}


async def measure(reactor: Any, experiment: Any) -> list[tuple[float, Measurement]]:
    """The processor time, in seconds, and the record of each run, but for the first one."""
    runs = []
    for _ in range(RUNS + 1):
        await deferLater(reactor, PAUSE)
        before = time.process_time()
        measurement = await last_record(experiment)
        runs.append((time.process_time() - before, measurement))
        assert measurement.outcome is Outcome.OK, measurement
    return runs[1:]


def report(what: str, runs: list[tuple[float, Measurement]], target: str) -> None:
    """Print the medians."""

    def median(later: str, earlier: str) -> float:
        return statistics.median(float(m.extra[later]) - float(m.extra[earlier]) for _, m in runs)

    print(f"5 MiB {what}, {len(runs)} runs, medians")
    print(f"  processor time of perfd in s: {verdict(median_interval(cost for cost, _ in runs), target)}")
    print(
        f"  first to last byte at the server {median('UPLOADLAST', 'UPLOADFIRST'):.3f} s, "
        f"handed to the socket {median('SENTLAST', 'SENTFIRST'):.3f} s"
    )


def main() -> None:
    """Print the figures."""

    async def run(reactor: Any) -> None:
        with tempfile.TemporaryDirectory() as directory:
            lab, experiments = laboratory(reactor, Path(directory))
            lab.startService()
            try:
                report("without Tor", await measure(reactor, experiments["direct"]), "<= 0.1")
                await lab.tors["default"].when_ready()
                report("over the private network", await measure(reactor, experiments["tor"]), "<= 0.1")
            finally:
                await lab.stopService()

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
