"""Stamps against a packet capture: how much later than the packet Perfd says that a byte has come.

tcpdump listens on loopback while Perfd downloads over ``network = socks``, with its web server, its SOCKS proxy and
its client all in one process, as in the daemon. DATARESPONSE should be the time of the first packet with a byte of
the HTTP response, DATACOMPLETE that of the packet with the last one. Both packets are found by counting bytes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react

from bench.pcap import Segment, segments
from bench.verdict import verdict
from perfd.cli.standalone import FREE_PORT
from perfd.clock import Clock, Phase
from perfd.config import parse_config
from perfd.experiments.run import Setup, TorExperiment
from perfd.experiments.transfer import Transfer
from perfd.laboratory import Laboratory
from perfd.record import Outcome, new_id
from perfd.tor.events.sink import NullEventSink

CONFIG = """
[perfd]
network = socks
[server]
max-connections = 1000
[experiment:bench]
size = {size}
timeout = {timeout}
"""
TIMEOUT = 120
IDLE_RUNS = 30
PAUSE = 0.1  # seconds
PARALLEL = 200
SIZES = {"50 KiB": 51200, "1 MiB": 2**20}

NEGOTIATION = 2 + 2 + 10
"""Bytes of the SOCKS port's three answers: method, login (RFC 1929), reply with an IPv4 address (RFC 1928)."""

SETTLE = 1.0  # seconds until tcpdump has surely been given the last packets
BUFFER = 128 * 1024  # KiB


class Capture:
    """tcpdump, which writes the packets that come from one TCP port on loopback to a file."""

    def __init__(self, port: int, path: Path) -> None:
        self._path = path
        command = ["tcpdump", "-i", "lo", "-n", "-s", "128", "--time-stamp-precision", "nano"]
        command += ["-B", str(BUFFER), "-w", "-", f"tcp and src port {port}"]
        with path.open("wb") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "listening on" in line:
                return
        raise RuntimeError(f"tcpdump ended with {self._process.wait()}")

    def stop(self) -> dict[int, list[Segment]]:
        """End it. Gives what it saw, by the port that it went to."""
        self._process.terminate()
        _, said = self._process.communicate()
        lost = [line for line in said.splitlines() if "dropped" in line and not line.startswith("0 ")]
        if lost:
            print(f"  tcpdump: {', '.join(lost)}")
        streams: dict[int, list[Segment]] = {}
        for segment in segments(self._path.read_bytes()):
            streams.setdefault(segment.port, []).append(segment)
        return streams


@attrs.frozen
class Lateness:
    """By how many seconds the stamps of a download are later than their packets."""

    response: float
    complete: float


def lateness(transfer: Transfer, stream: Sequence[Segment]) -> Lateness:
    """Compare a download with what was captured of its connection."""
    exchange = transfer.exchange
    assert exchange is not None
    assert exchange.readbytes is not None
    first, last = NEGOTIATION + 1, NEGOTIATION + exchange.readbytes
    response, complete = (transfer.timeline.epoch(p) for p in (Phase.DATARESPONSE, Phase.DATACOMPLETE))
    # A port may have been used before; the connection is the last one that was open when the response came.
    begins = max(n for n, segment in enumerate(stream) if segment.is_syn and segment.time < (response or 0.0))
    opened = stream[begins].sequence

    def seen(byte: int) -> float:
        """When the ``byte``-th byte came by."""
        own = (s for s in stream[begins:] if s.length)
        return next(s.time for s in own if (s.sequence - opened - 1) % 2**32 + s.length >= byte)

    assert response is not None
    assert complete is not None
    return Lateness(response - seen(first), complete - seen(last))


def port_of(address: Any) -> int:
    """The TCP port of an address."""
    return int(address.port)


async def download(setup: Setup, *, optimistic: bool = False) -> Transfer:
    """One download, with its stamps."""
    identity = new_id()
    transfer = Transfer(setup, identity, identity, optimistic=optimistic)
    await transfer.fetch(setup.size, setup.timeout)
    return transfer


async def captured(
    reactor: Any, directory: Path, size: int, at_once: int, *, optimistic: bool = False
) -> list[Lateness]:
    """Downloads one after the other, or ``at_once``; those that did not succeed are reported, and left out."""
    config = parse_config(CONFIG.format(size=size, timeout=TIMEOUT), directory / "perfd.conf")
    server = attrs.evolve(config.server, listen=FREE_PORT, public_address=FREE_PORT)
    laboratory = Laboratory(reactor, Clock(), attrs.evolve(config, server=server), {}, NullEventSink())
    laboratory.startService()
    try:
        (experiment,) = laboratory.experiments(config.experiments[0])
        assert isinstance(experiment, TorExperiment)
        setup = experiment.setup
        first = await download(setup)
        assert first.exchange is not None
        capture = Capture(port_of(first.exchange.remote), directory / "packets")
        transfers = []
        if at_once == 1:
            for _ in range(IDLE_RUNS):
                await deferLater(reactor, PAUSE)
                transfers.append(await download(setup, optimistic=optimistic))
        else:
            transfers = await gatherResults(
                [Deferred.fromCoroutine(download(setup, optimistic=optimistic)) for _ in range(at_once)]
            )
        await deferLater(reactor, SETTLE)
        streams = capture.stop()
    finally:
        await laboratory.stopService()
    ended = [transfer.exchange for transfer in transfers if transfer.exchange is not None]
    good = [transfer for transfer in transfers if transfer.exchange and transfer.exchange.outcome is Outcome.OK]
    bad = [exchange for exchange in ended if exchange.outcome is not Outcome.OK]
    print(f"  {len(good)} of {len(transfers)} succeeded; those that did not: {verdict(len(bad), '<= 0')}")
    return [lateness(transfer, streams[port_of(transfer.exchange.local)]) for transfer in good if transfer.exchange]


def report(found: Sequence[Lateness], target: str) -> None:
    """Print how late the stamps were, in milliseconds."""
    if not found:
        return
    for name in ("response", "complete"):
        late = sorted(getattr(each, name) * 1e3 for each in found)
        middle = statistics.median(abs(each) for each in late)
        print(
            f"  DATA{name.upper()}: median error in ms {verdict(middle, target)};"
            f" from {late[0]:.3f} to {late[-1]:.3f}, nine tenths below {late[len(late) * 9 // 10]:.3f}"
        )


async def main(reactor: Any) -> None:
    """Measure and print."""
    if os.geteuid() != 0 or shutil.which("tcpdump") is None:
        print("skipped: needs root and tcpdump")
        return
    with tempfile.TemporaryDirectory() as directory:
        for name, size in SIZES.items():
            print(f"one download of {name} at a time over network = socks, {IDLE_RUNS} runs")
            report(await captured(reactor, Path(directory), size, 1), "<= 0.1")
        print(f"the same of 50 KiB with optimistic data, {IDLE_RUNS} runs")
        report(await captured(reactor, Path(directory), SIZES["50 KiB"], 1, optimistic=True), "<= 0.1")
        print(f"{PARALLEL} downloads of 1 MiB at once over network = socks")
        report(await captured(reactor, Path(directory), SIZES["1 MiB"], PARALLEL), "<= 1")


if __name__ == "__main__":
    sys.exit(react(lambda reactor: Deferred.fromCoroutine(main(reactor))))
