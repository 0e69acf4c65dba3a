"""What the daemon costs: memory after 5,000 measurements on ``network = socks``, and processor time when idle."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bench.compare import median_interval
from bench.verdict import verdict
from perfd.store.database import connect_readonly

MEASUREMENTS = 5000
EXPERIMENTS = 20  # one run a second is the most that an experiment does; together they do twenty
IDLE = 30.0

HEAD = """
[perfd]
network = socks
[server]
listen = 127.0.0.1:{port}
"""
EXPERIMENT = """
[experiment:e{n}]
size = 50 KiB
interval = 1 s
timeout = 10 s
"""
TESTNET = """
[perfd]
network = testnet
[server]
listen = 127.0.0.1:{port}
[experiment:large]
size = 5 MiB
interval = 4 s
timeout = 60 s
"""
LARGE_MEASUREMENTS = 15
QUIET = """
[experiment:quiet]
interval = 1 h
offset = {offset} s
"""

TWISTD = (str(Path(sys.executable).with_name("twistd")),)
"""The command that runs it."""


class Daemon:
    """A daemon of its own for as long as the context lasts."""

    def __init__(self, directory: Path, experiments: str, head: str = HEAD, twistd: Sequence[str] = TWISTD) -> None:
        self.directory = directory
        self._twistd = twistd
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (directory / "perfd.conf").write_text(head.format(port=self.port) + experiments)

    def __enter__(self) -> Daemon:
        command = [*self._twistd, "-n", "perfd"]
        self._process = subprocess.Popen(command, cwd=self.directory, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait(60)

    def done(self) -> int:
        """How many measurements have ended well."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=10) as response:
                report = json.load(response)
        except OSError:
            return 0
        variants = [variant for experiment in report["experiments"] for variant in experiment["variants"]]
        return sum(variant["counts"].get("ok", 0) for variant in variants)

    def memory(self) -> float:
        """Resident memory in MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def cpu(self) -> float:
        """Processor seconds so far, of all threads that live."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def curves(self) -> tuple[int, float]:
        """How many measurements have curves, and how many bytes one has on the average."""
        with closing(connect_readonly(self.directory / "perfd.sqlite")) as connection:
            ((count, size),) = connection.execute(
                "SELECT COUNT(DISTINCT measurement), SUM(LENGTH(columns) + LENGTH(samples)) FROM curves"
            )
        return int(count), (size or 0) / max(1, count)


def memory() -> None:
    """Run 5,000 measurements and look at the memory on the way."""
    experiments = "".join(EXPERIMENT.format(n=n) for n in range(EXPERIMENTS))
    with tempfile.TemporaryDirectory() as directory, Daemon(Path(directory), experiments) as daemon:
        seen: dict[int, float] = {}
        while not seen or max(seen) < MEASUREMENTS:
            time.sleep(1.0)
            done = daemon.done()
            if done // 1000 > (max(seen) // 1000 if seen else 0):
                seen[done] = daemon.memory()
        cpu = daemon.cpu() / max(seen)
        count, size = daemon.curves()
    assert count >= MEASUREMENTS - 100, "curves are missing"
    print(f"curves of {count} runs of 50 KiB in the database: {size / 1024:.1f} KiB each")
    steps = ", ".join(f"{done}: {mib:.1f}" for done, mib in seen.items())
    last = max(seen.values())
    print(f"memory of the daemon in MiB after measurements: {steps}; highest {verdict(last, '<= 80')}")
    print(f"processor time per 50 KiB measurement, server, proxy and records included: {cpu * 1e3:.2f} ms")


def idle() -> None:
    """A daemon that waits for its next slot."""
    offset = int(time.time() + 1800) % 3600
    with tempfile.TemporaryDirectory() as directory, Daemon(Path(directory), QUIET.format(offset=offset)) as daemon:
        time.sleep(5.0)
        before, began = daemon.cpu(), time.monotonic()
        time.sleep(IDLE)
        share = (daemon.cpu() - before) / (time.monotonic() - began)
    print(f"idle daemon, per cent of a processor: {verdict(share * 100, '<= 0.5')}")


def large() -> None:
    """5 MiB over a real tor: processor time of the daemon alone, with server, client, events and records."""
    with tempfile.TemporaryDirectory() as directory, Daemon(Path(directory), "", TESTNET) as daemon:
        while daemon.done() < 2:
            time.sleep(1.0)
        costs: list[float] = []
        while len(costs) < LARGE_MEASUREMENTS:
            done, before = daemon.done(), daemon.cpu()
            while (more := daemon.done() - done) < 1:
                time.sleep(1.0)
            costs += [(daemon.cpu() - before) / more] * more
        memory = daemon.memory()
        count, size = daemon.curves()
    assert count >= LARGE_MEASUREMENTS, "curves are missing"
    found = median_interval(costs)
    print(f"processor time of the daemon per 5 MiB over tor, all recorded, in s: {verdict(found, '<= 0.06')}")
    print(f"curves of such a run in the database: {size / 1024:.1f} KiB")
    print(f"its memory in MiB: {verdict(memory, '<= 80')}")


def main() -> None:
    """Print the figures."""
    idle()
    large()
    memory()


if __name__ == "__main__":
    main()
