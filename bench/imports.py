"""How fast ``perfd import`` is: .tpf files of Torperf's, two years of one every five minutes, into a new database.

The floor is what reading the same files in one process takes, without a database.
Run from the checkout: python -m bench.imports
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.verdict import verdict
from perfd.formats.sniff import read_path

SAMPLE = Path(__file__).parent.parent / "tests" / "data" / "torperf-51200-2016-10-02.tpf"
DAYS, RUNS_A_DAY = 730, 288


def write_days(directory: Path) -> int:
    """A .tpf file for each day; how many measurements there are in all."""
    lines = [line for line in SAMPLE.read_text(encoding="utf-8").splitlines() if not line.startswith("@")]
    for day in range(DAYS):
        with (directory / f"torperf-51200-{day}.tpf").open("w", encoding="utf-8") as opened:
            for run in range(RUNS_A_DAY):
                before, _, rest = lines[run % len(lines)].partition(" START=")
                start = 1475366400 + 86400 * day + 300 * run
                opened.write(f"@type torperf 1.1\n{before} START={start}.23 {rest.partition(' ')[2]}\n")
    return DAYS * RUNS_A_DAY


def seconds(function: Callable[[], object]) -> float:
    """How long ``function`` takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def read(directory: Path) -> None:
    """Read all files and keep nothing."""
    for path in directory.iterdir():
        for _ in read_path(path):
            pass


def perfd_import(instance: Path, files: Path) -> None:
    """The command, as an operator runs it."""
    command = [sys.executable, "-m", "perfd", "import", "--config", str(instance), str(files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(f"  {done.stdout.strip()}")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        files, instance = Path(directory, "files"), Path(directory, "instance")
        files.mkdir()
        instance.mkdir()
        (instance / "perfd.conf").write_text("[perfd]\nsource = bench\nnetwork = socks\n", encoding="utf-8")
        number = write_days(files)
        floor = number / seconds(lambda: read(files))
        first = number / seconds(lambda: perfd_import(instance, files))
        cpu = number / sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        again = number / seconds(lambda: perfd_import(instance, files))
    print(f"import of .tpf, thousand measurements/s: {verdict(first / 1000, '>= 20')}")
    print(f"  per second of processor time, of all its processes: {cpu / 1000:.3g}")
    print(f"  again, all of them known: {again / 1000:.3g}; reading alone in one process: {floor / 1000:.3g}")


if __name__ == "__main__":
    main()
