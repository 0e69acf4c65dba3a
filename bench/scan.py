"""Whether a scan of the private network finds the relay that is slow and the one that drops streams, and no other.

``python -m bench.scan`` (``make lab-scan``) makes a network of 20 relays with links of 5 ms. One relay in the
middle has a link of 55 ms. One exit loses one stream in ten: what stands in front of Perfd's server knows the
connections of that exit's process (Linux), and closes every tenth of them, by chance. A daemon scans all relays as
often as ``--passes`` says, and then ``perfd scan`` must name the two, and nobody else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

RELAYS = 20
SLOW, DROPPING = "middle2", "exit3"
SHARE = 0.1
LINKS = f"[{SLOW}]\ndelay = 55 ms\n"

CONFIG = """
[perfd]
source = lab
network = testnet
testnet = network
[server]
listen = 127.0.0.1:{port}
public-address = 127.0.0.1:{front}
[testnet]
relays = {relays}
[tor]
torrc = LearnCircuitBuildTimeout 0
[experiment:relays]
type = scan
guard = ~guard1
middle = ~middle1
exit = ~exit1
seed = 1
size = 10 KiB
interval = 1 s
timeout = 20 s
"""


class Front:
    """Passes on connections to Perfd's server, and closes some of those of the process ``dropping``."""

    def __init__(self, port: int, dropping: int) -> None:
        self._port = port
        self._dropping = dropping
        self._random = Random(1)
        self.dropped = 0
        self.count = 0

    @contextmanager
    def serving(self, place: int) -> Iterator[None]:
        """Take connections at the port ``place``, in a thread of its own."""
        loop = asyncio.new_event_loop()
        loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", place))
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if _has_port(self._dropping, writer.get_extra_info("peername")[1]):
            self.count += 1
            if self._random.random() < SHARE:
                self.dropped += 1
                writer.transport.abort()
                return
        try:
            other, there = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_copy(reader, there), _copy(other, writer))


def _has_port(pid: int, port: int) -> bool:
    """Whether a TCP connection from this port of 127.0.0.1 is the process's (proc_pid_net(5), proc_pid_fd(5))."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    inodes = {words[9] for words in lines if words[1] == f"0100007F:{port:04X}"}
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if os.readlink(file).removeprefix("socket:[").removesuffix("]") in inodes:
                return True
    return False


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


def perfd(directory: Path, *arguments: str) -> str:
    """Run a command, which must work."""
    argv = [sys.executable, "-P", "-m", "perfd", *arguments]
    done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise SystemExit(f"perfd {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def free_ports() -> tuple[int, int]:
    """Two that nobody uses."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def scan(directory: Path, passes: int, front: Front) -> None:
    """Have a daemon scan so often."""
    perfd(directory, "start")
    try:
        last = 0
        while last <= passes:
            time.sleep(5)
            for latest in json.loads(perfd(directory, "results", "--limit", "1", "--json"))["results"]:
                last = latest["extra"].get("SCANPASS", last)
            sys.stderr.write(f"\rpass {last} of {passes}, {front.dropped} of {front.count} streams dropped ")
    finally:
        perfd(directory, "stop")
        sys.stderr.write("\n")


def measure(directory: Path, passes: int) -> int:
    """Make the network, scan it, and print what was found; 0 if that is what is to be found."""
    (directory / "links").write_text(LINKS)
    network, (port, place) = directory / "network", free_ports()
    options = (
        "--relays",
        str(RELAYS),
        "--links",
        "proxy",
        "--delay",
        "5ms",
        "--links-file",
        "links",
        "--seed",
        "1",
    )
    perfd(directory, "testnet", "start", str(network), *options)
    try:
        front = Front(port, int((network / DROPPING / "tor.pid").read_text(encoding="ascii")))
        (directory / "perfd.conf").write_text(CONFIG.format(port=port, front=place, relays=RELAYS))
        with front.serving(place):
            scan(directory, passes, front)
    finally:
        perfd(directory, "testnet", "stop", str(network))
    sys.stdout.write(perfd(directory, "scan"))
    relays: list[dict[str, Any]] = [json.loads(line) for line in perfd(directory, "scan", "--json").splitlines()]
    named = {relay["nickname"]: relay["found"] for relay in relays if relay["found"]}
    is_right = set(named) == {SLOW, DROPPING} and named[DROPPING] == ["failures"] and "failures" not in named[SLOW]
    sys.stdout.write(f"\n{front.dropped} of {front.count} streams over {DROPPING} were dropped\n")
    sys.stdout.write(f"found {named}: {'as it should be' if is_right else 'NOT as it should be'}\n")
    return 0 if is_right else 1


def main() -> int:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.scan", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--passes", type=int, default=60, metavar="N", help="over all relays, half a minute each (default 60)"
    )
    parser.add_argument("--directory", type=Path, metavar="DIR", help="an empty one; it is kept")
    options = parser.parse_args()
    if options.directory is not None:
        options.directory.mkdir(parents=True, exist_ok=True)
        return measure(options.directory.resolve(), options.passes)
    with tempfile.TemporaryDirectory(prefix="perfd-") as directory:
        return measure(Path(directory).resolve(), options.passes)


if __name__ == "__main__":
    sys.exit(main())
