"""How soon Perfd shows something: ``--help``, ``perfd run`` and ``perfd measure``, the first time and again.

The private network is new, then stopped in between, then kept. Each figure is the longest of several. Run from the
checkout: python -m bench.starts
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.verdict import verdict
from perfd.instance import create_instance

TIMES = 5
PERFD = (sys.executable, "-m", "perfd")


def until(word: str, *arguments: str, directory: Path) -> float:
    """Seconds until a command prints a line with ``word`` in it; then it is asked to end, which it must."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(directory / "cache")}
    began = time.monotonic()
    with subprocess.Popen(
        [*PERFD, *arguments],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        found = next((time.monotonic() - began for line in process.stdout if word in line), None)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    if found is None:
        raise RuntimeError(f"perfd {' '.join(arguments)} ended without {word!r}")
    return found


def longest(what: Callable[[], float], times: int = TIMES) -> float:
    """The longest of several, which begin at any moment of a slot's interval."""
    found = []
    for _ in range(times):
        found.append(what())
        time.sleep(random.uniform(0.0, 5.0))
    return max(found)


def help_text() -> float:
    """Seconds that ``perfd --help`` takes."""
    began = time.monotonic()
    subprocess.run([*PERFD, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def instance(directory: Path, more: Sequence[str] = ()) -> Path:
    """As of ``perfd init``, on a port of its own; ``more`` are lines of ``[testnet]``."""
    create_instance(directory, "testnet", "bench")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = directory / "perfd.conf"
    text = path.read_text(encoding="utf-8").replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    path.write_text(text.replace("\n[testnet]\n", "\n".join(["\n[testnet]", *more, ""])), encoding="utf-8")
    return directory


def main() -> None:
    """Print the figures."""
    print(f"--help, in s: {verdict(min(help_text() for _ in range(TIMES)), '<= 0.2')}")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()

        def run(directory: Path) -> float:
            return until("OUTCOME=ok", "run", directory=directory)

        stopped = instance(root / "stopped")
        print(f"run until the first measurement, in s: {verdict(run(stopped), '<= 60')}", flush=True)
        print(f"  again, the network stopped: {verdict(longest(lambda: run(stopped)), '<= 20')}", flush=True)
        kept = instance(root / "kept", ["keep = 1 min"])
        try:
            run(kept)
            print(f"  again, the network kept: {verdict(longest(lambda: run(kept)), '<= 10')}", flush=True)
        finally:
            subprocess.run([*PERFD, "testnet", "stop", str(kept / "testnet")], check=True)
        measure = ("measure", "--keep", "1min", "--count", "1")
        try:
            print(f"measure until it begins, in s: {until('outcome', *measure, directory=root):.3g}", flush=True)
            again = longest(lambda: until("outcome", *measure, directory=root))
            print(f"  again, with --keep: {verdict(again, '<= 3')}")
        finally:
            own = root / "cache" / "perfd" / "measure" / "testnet"
            subprocess.run([*PERFD, "testnet", "stop", str(own)], check=True)


if __name__ == "__main__":
    main()
