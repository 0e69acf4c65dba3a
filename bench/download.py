"""Downloads through Perfd and through curl, in random order, over the same SOCKS port and from the same server.

Prints the ratio of the times of 5 MiB and the difference of the first bytes on the private network, and the median
of 50 KiB on ``network = socks``, all with their intervals.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.internet.utils import getProcessOutput

from bench.compare import Comparison, median_interval
from bench.runs import last_record
from bench.verdict import verdict
from perfd.clock import Clock
from perfd.config import ExperimentConfig, parse_config
from perfd.config.values import Address
from perfd.laboratory import Laboratory
from perfd.record import Measurement, Outcome, new_id
from perfd.tor.events.sink import NullEventSink

BLOCKS = 4
EACH = 6  # runs of either in a block
PAUSE = 1.5  # seconds
LARGE = 5 * 2**20
SMALL = 51200
SMALL_RUNS = 200


def experiment(size: int) -> ExperimentConfig:
    """Downloads of ``size`` bytes."""
    return parse_config(f"[experiment:bench]\nsize = {size}\ntimeout = 60 s", Path("perfd.conf")).experiments[0]


def laboratory(reactor: Any, network: str, directory: Path) -> Laboratory:
    """A web server on a free port and a way into ``network``."""
    config = parse_config(f"[perfd]\nnetwork = {network}", directory / "perfd.conf")
    anywhere = Address("127.0.0.1", 0)
    server = attrs.evolve(config.server, listen=anywhere, public_address=anywhere)
    return Laboratory(reactor, Clock(), attrs.evolve(config, server=server), {}, NullEventSink())


async def curl(port: int, address: str, size: int) -> dict[str, float]:
    """One download with curl over the SOCKS port, on a circuit of its own."""
    arguments = ["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{json}"]
    arguments += ["--proxy", f"socks5h://{new_id()}:bench@127.0.0.1:{port}", f"http://{address}/random/{size}"]
    output: dict[str, float] = json.loads(await getProcessOutput("/usr/bin/curl", arguments))
    assert output["size_download"] == size
    return output


def port_of(measurement: Measurement) -> int:
    """The SOCKS port that the measurement went through."""
    assert measurement.endpointproxy is not None
    return int(measurement.endpointproxy.rpartition(":")[2])


async def compare_with_curl(reactor: Any, directory: Path) -> None:
    """5 MiB on the private network: Perfd and curl."""
    comparison = Comparison("perfd", "curl")
    lab = laboratory(reactor, "testnet", directory)
    lab.startService()
    try:
        await lab.tors["default"].when_ready()
        download = lab.experiments(experiment(LARGE))[0]
        first_one = await last_record(download)
        port = port_of(first_one)
        address = (first_one.endpointremote or "").partition(":")[2]
        for _ in range(BLOCKS):
            for way in comparison.block(EACH):
                # Tor makes circuits ahead while it is idle. Perfd waits for the last events after its runs;
                # without a pause for both, that would be to the good of curl alone.
                await deferLater(reactor, PAUSE)
                if way == "perfd":
                    measured = await last_record(download)
                    assert measured.outcome is Outcome.OK, measured
                    assert measured.datacomplete is not None
                    assert measured.dataresponse is not None
                    comparison.add(
                        way,
                        complete=measured.datacomplete - measured.start,
                        first=measured.dataresponse - measured.start,
                    )
                else:
                    told = await curl(port, address, LARGE)
                    comparison.add(way, complete=told["time_total"], first=told["time_starttransfer"])
    finally:
        await lab.stopService()
    print(f"5 MiB over the private network, {BLOCKS} blocks of {EACH} + {EACH} runs in random order")
    total, first = (
        {way: comparison.median(name, way) for way in ("perfd", "curl")} for name in ("complete", "first")
    )
    ratio = comparison.ratio("complete", "perfd", "curl")
    print(
        f"  complete:   perfd {total['perfd']:.3f} s, curl {total['curl']:.3f} s, ratio {verdict(ratio, '<= 1.05')}"
    )
    later = comparison.difference("first", "perfd", "curl").scaled(1e3)
    print(
        f"  first byte: perfd {first['perfd'] * 1e3:.2f} ms, curl {first['curl'] * 1e3:.2f} ms, "
        f"later by, in ms, {verdict(later, '<= 2')}"
    )


async def small_over_socks(reactor: Any, directory: Path) -> None:
    """50 KiB over the embedded SOCKS server."""
    lab = laboratory(reactor, "socks", directory)
    lab.startService()
    try:
        download = lab.experiments(experiment(SMALL))[0]
        measured = [await last_record(download) for _ in range(SMALL_RUNS)]
    finally:
        await lab.stopService()
    assert all(m.outcome is Outcome.OK for m in measured)
    median = median_interval((m.datacomplete - m.start) * 1e3 for m in measured if m.datacomplete)
    print(f"50 KiB over network = socks, {SMALL_RUNS} runs: median in ms {verdict(median, '<= 5')}")


def main() -> None:
    """Print the figures."""

    async def run(reactor: Any) -> None:
        with tempfile.TemporaryDirectory() as directory:
            await small_over_socks(reactor, Path(directory) / "socks")
            (Path(directory) / "testnet").mkdir()
            await compare_with_curl(reactor, Path(directory) / "testnet")

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
