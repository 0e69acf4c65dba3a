"""Stamps against a packet capture: how much they differ from the times of the packets that they stand for.

tcpdump listens on loopback while Perfd downloads over ``network = socks``, with its web server, its SOCKS proxy and
its client all in one process, as in the daemon. Each stamp is compared with the packet that carried its byte: that
of the request between client and proxy (DATAREQUEST, and the proxy's datarequest) and between proxy and server
(SERVERREQUEST), the first and the last byte of the response there (SERVERRESPONSE, SERVERCOMPLETE, and the proxy's
dataresponse and datacomplete) and at the client (DATARESPONSE, DATACOMPLETE).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react

from bench.compare import median_interval
from bench.pcap import Segment, segments
from bench.verdict import verdict
from perfd.cli.standalone import FREE_PORT
from perfd.clock import Clock, Phase
from perfd.config import parse_config
from perfd.experiments.run import Setup, TorExperiment
from perfd.experiments.transfer import Transfer
from perfd.laboratory import Laboratory
from perfd.reactor import use_monotonic_time
from perfd.record import Outcome, new_id
from perfd.socks.forwarding import ForwardedConnection
from perfd.socks.server import SOCKSServer
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
IDLE_RUNS = 60
ROUNDS = {50: 4, 200: 3}
"""How often so many downloads are run at once."""

PAUSE = 0.1  # seconds
SMALL, LARGE = 51200, 2**20
IDLE_TARGET, BUSY_TARGET = "<= 0.02", "<= 0.1"  # ms
ASSERTED = ("DATAREQUEST", "SERVERREQUEST", "DATARESPONSE", "DATACOMPLETE")
"""The stamps that have a target, and those of the proxy have it too."""

SETTLE = 1.0  # seconds until tcpdump has surely been given the last packets
BUFFER = 128 * 1024  # KiB
SNAP = 512  # bytes of a packet: with the head of a request

_ID = re.compile(rb"X-Perfd-Measurement: ([0-9a-f]+)")


class Capture:
    """tcpdump, which writes the packets of the connections to some TCP ports on loopback to a file."""

    def __init__(self, ports: Sequence[int], path: Path) -> None:
        self._path = path
        command = ["tcpdump", "-i", "lo", "-n", "-s", str(SNAP), "--time-stamp-precision", "nano"]
        command += ["-B", str(BUFFER), "-w", "-", " or ".join(f"tcp port {port}" for port in ports)]
        with path.open("wb") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "listening on" in line:
                return
        raise RuntimeError(f"tcpdump ended with {self._process.wait()}")

    def stop(self) -> list[Segment]:
        """End it. Gives what it saw."""
        self._process.terminate()
        _, said = self._process.communicate()
        lost = [line for line in said.splitlines() if "dropped" in line and not line.startswith("0 ")]
        if lost:
            print(f"  tcpdump: {', '.join(lost)}")
        return list(segments(self._path.read_bytes()))


@attrs.frozen
class Passage:
    """When a request and its response passed between two ports, in seconds since the epoch."""

    request: float
    response: float  # the first byte
    complete: float  # the last one


def passages(packets: Sequence[Segment], port: int) -> dict[str, tuple[int, Passage]]:
    """What passed on the connections to ``port``, by the measurement's id; with the port at the other end."""
    streams: dict[int, list[Segment]] = {}
    for packet in packets:
        if port in (packet.source, packet.port):
            other = packet.source if packet.port == port else packet.port
            if packet.is_syn and packet.port == port:
                streams[other] = []
            streams.setdefault(other, []).append(packet)
    found = {}
    for other, stream in streams.items():
        for number, packet in enumerate(stream):
            named = _ID.search(packet.payload) if packet.port == port else None
            if named is not None:
                back = [each for each in stream[number:] if each.source == port and each.length]
                # With optimistic data the SOCKS port's reply comes before it.
                first = next(each for each in back if b"HTTP/1." in each.payload)
                last = max(back, key=lambda each: each.sequence)
                found[named[1].decode()] = other, Passage(packet.time, first.time, last.time)
    return found


@contextmanager
def proxied() -> Iterator[dict[int, ForwardedConnection]]:
    """The connections that SOCKS servers of this process have forwarded, by the port towards their destination."""
    connections: dict[int, ForwardedConnection] = {}
    over = SOCKSServer.over

    def kept(server: SOCKSServer, connection: ForwardedConnection) -> None:
        over(server, connection)
        if connection.notes.local_port is not None:
            connections[connection.notes.local_port] = connection

    SOCKSServer.over = kept  # type: ignore[method-assign, assignment]
    try:
        yield connections
    finally:
        SOCKSServer.over = over  # type: ignore[method-assign]


def errors(
    transfer: Transfer, near: Passage, far: Passage | None = None, connection: ForwardedConnection | None = None
) -> Mapping[str, float]:
    """By how many milliseconds each stamp of a download is later than its packet.

    The packets are those between client and proxy (``near``) and between the proxy's ``connection`` and the server
    (``far``), as far as they were seen.
    """
    timeline, served = transfer.timeline, transfer.served
    pairs: dict[str, tuple[float | None, float]] = {
        "DATAREQUEST": (timeline.stamps.get(Phase.DATAREQUEST), near.request),
        "DATARESPONSE": (timeline.stamps.get(Phase.DATARESPONSE), near.response),
        "DATACOMPLETE": (timeline.stamps.get(Phase.DATACOMPLETE), near.complete),
    }
    if served is not None and far is not None:
        pairs |= {
            "SERVERREQUEST": (served.request, far.request),
            "SERVERRESPONSE": (served.response, far.response),
            "SERVERCOMPLETE": (served.complete, far.complete),
        }
    if connection is not None and far is not None:
        pairs |= {
            "proxy's datarequest": (connection.client.first, near.request),
            "proxy's dataresponse": (connection.remote.first, far.response),
            "proxy's datacomplete": (connection.remote.last, far.complete),
        }
    epoch = timeline.anchor.epoch
    return {name: (epoch(stamp) - time) * 1e3 for name, (stamp, time) in pairs.items() if stamp is not None}


def port_of(address: Any) -> int:
    """The TCP port of an address."""
    return int(address.port)


async def download(setup: Setup, *, optimistic: bool = False) -> Transfer:
    """One download, with its stamps."""
    identity = new_id()
    transfer = Transfer(setup, identity, identity, optimistic=optimistic)
    await transfer.fetch(setup.size, setup.timeout)
    await transfer.result(None)
    return transfer


async def captured(
    reactor: Any, directory: Path, size: int, at_once: int, rounds: int, *, optimistic: bool = False
) -> list[Mapping[str, float]]:
    """The errors of ``rounds`` times ``at_once`` downloads; those that failed are reported, and left out."""
    config = parse_config(CONFIG.format(size=size, timeout=TIMEOUT), directory / "perfd.conf")
    server = attrs.evolve(config.server, listen=FREE_PORT, public_address=FREE_PORT)
    laboratory = Laboratory(reactor, Clock(), attrs.evolve(config, server=server), {}, NullEventSink())
    transfers: list[Transfer] = []
    laboratory.startService()
    try:
        with proxied() as connections:
            (experiment,) = laboratory.experiments(config.experiments[0])
            assert isinstance(experiment, TorExperiment)
            setup = experiment.setup
            first = await download(setup)
            assert first.exchange is not None
            ports = port_of(first.exchange.remote), setup.server.port
            capture = Capture(ports, directory / "packets")
            for _ in range(rounds):
                await deferLater(reactor, PAUSE)
                running = [Deferred.fromCoroutine(download(setup, optimistic=optimistic)) for _ in range(at_once)]
                transfers += await gatherResults(running)
            await deferLater(reactor, SETTLE)
            packets = capture.stop()
    finally:
        await laboratory.stopService()
    bad = [each for each in transfers if each.exchange is None or each.exchange.outcome is not Outcome.OK]
    print(f"  {len(transfers) - len(bad)} of {len(transfers)} succeeded; not: {verdict(len(bad), '<= 0')}")
    near, far = (passages(packets, port) for port in ports)
    found = []
    for transfer in transfers:
        if transfer not in bad:
            port, there = far[transfer.measurement]
            found.append(errors(transfer, near[transfer.measurement][1], there, connections.get(port)))
    return found


def report(found: Sequence[Mapping[str, float]], target: str) -> None:
    """Print how far off the stamps were, in milliseconds, and where the middle nine tenths of them are."""
    for name in found[0] if found else ():
        late = sorted(each[name] for each in found if name in each)
        size = median_interval(map(abs, late))
        shown = verdict(size, target) if name in ASSERTED or "proxy" in name else f"{size.estimate:.3g}"
        print(
            f"  {name}: median error in ms {shown}; nine tenths"
            f" from {late[len(late) // 20]:.3f} to {late[-1 - len(late) // 20]:.3f}, all to {late[-1]:.3f}"
        )


async def main(reactor: Any) -> None:
    """Measure and print."""
    if os.geteuid() != 0 or shutil.which("tcpdump") is None:
        print("skipped: needs root and tcpdump")
        return
    use_monotonic_time(reactor)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for size, title in ((SMALL, "50 KiB"), (LARGE, "1 MiB")):
            print(f"one download of {title} at a time over network = socks, {IDLE_RUNS} runs")
            report(await captured(reactor, directory, size, 1, IDLE_RUNS), IDLE_TARGET)
        print(f"the same of 50 KiB with optimistic data, {IDLE_RUNS} runs")
        report(await captured(reactor, directory, SMALL, 1, IDLE_RUNS, optimistic=True), IDLE_TARGET)
        for at_once, rounds in ROUNDS.items():
            for size, title in ((SMALL, "50 KiB"), (LARGE, "1 MiB")):
                print(f"{at_once} downloads of {title} at once, {rounds} times")
                report(await captured(reactor, directory, size, at_once, rounds), BUSY_TARGET)


if __name__ == "__main__":
    sys.exit(react(lambda reactor: Deferred.fromCoroutine(main(reactor))))
