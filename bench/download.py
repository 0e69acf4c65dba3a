"""Downloads through Perfd and through curl, alternating, over the same SOCKS port and from the same server.

Prints the ratio of the median times of 5 MiB and the difference of the median first bytes on the private network,
and the median of 50 KiB on ``network = socks``.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.internet.utils import getProcessOutput

from bench.runs import last_record
from bench.verdict import verdict
from perfd.clock import Clock
from perfd.config import ExperimentConfig, parse_config
from perfd.config.values import Address
from perfd.laboratory import Laboratory
from perfd.record import Measurement, Outcome, new_id
from perfd.tor.events.sink import NullEventSink

ROUNDS = 21
PAUSE = 1.5  # seconds
LARGE = 5 * 2**20
SMALL = 51200
SMALL_RUNS = 200


def experiment(size: int) -> ExperimentConfig:
    """Downloads of ``size`` bytes."""
    return ExperimentConfig(
        name="bench",
        type="download",
        size=size,
        interval=60,
        offset=0,
        timeout=60,
        tors=("default",),
        servers=("public",),
    )


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
    """5 MiB on the private network: Perfd and curl in turn."""
    lab = laboratory(reactor, "testnet", directory)
    lab.startService()
    try:
        await lab.tors["default"].when_ready()
        download = lab.experiments(experiment(LARGE))[0]
        first_one = await last_record(download)
        port = port_of(first_one)
        address = first_one.endpointremote.partition(":")[2]
        ours: list[Measurement] = []
        theirs: list[dict[str, float]] = []
        for _ in range(ROUNDS):
            # Tor makes circuits ahead while it is idle. Perfd waits for the last events after its runs; without a
            # pause for both, that would be to the good of curl alone.
            await deferLater(reactor, PAUSE)
            measured = await last_record(download)
            assert measured.outcome is Outcome.OK, measured
            ours.append(measured)
            await deferLater(reactor, PAUSE)
            theirs.append(await curl(port, address, LARGE))
    finally:
        await lab.stopService()
    total = statistics.median(m.datacomplete - m.start for m in ours if m.datacomplete)
    curl_total = statistics.median(c["time_total"] for c in theirs)
    first = statistics.median(m.dataresponse - m.start for m in ours if m.dataresponse)
    curl_first = statistics.median(c["time_starttransfer"] for c in theirs)
    print(f"5 MiB over the private network, {ROUNDS} each, alternating")
    ratio = total / curl_total
    print(f"  complete:   perfd {total:.3f} s, curl {curl_total:.3f} s, ratio {verdict(ratio, '<= 1.05')}")
    later = (first - curl_first) * 1e3
    print(
        f"  first byte: perfd {first * 1e3:.2f} ms, curl {curl_first * 1e3:.2f} ms, "
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
    median = statistics.median(m.datacomplete - m.start for m in measured if m.datacomplete)
    print(f"50 KiB over network = socks, {SMALL_RUNS} runs: median in ms {verdict(median * 1e3, '<= 5')}")


def main() -> None:
    """Print the figures."""

    async def run(reactor: Any) -> None:
        with tempfile.TemporaryDirectory() as directory:
            await small_over_socks(reactor, Path(directory) / "socks")
            (Path(directory) / "testnet").mkdir()
            await compare_with_curl(reactor, Path(directory) / "testnet")

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    sys.exit(main())
