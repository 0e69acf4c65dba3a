"""``make lab-study``: compares on the lab again and again, A with itself and with a B that is slowed down by 3 %.

It takes hours, can be interrupted, and goes on where it was. Each try is a ``perfd compare`` of its own, with a
pilot, as many blocks as that asks for, and five looks; each connection over B's SOCKS port takes 3 % of the pilot's
median longer. ``--delay`` is the smallest at which links, and not the processors of a small machine, make the
times.

Neither arm has Conflux, and downloads are small: whether a run gets a set that is linked already, and how the
windows of many packets open, would make times of several kinds, and so need several times as many runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.study.tries import KINDS, SAME, SLOWED, Settings, Try, append, concluded, following, read, table
from perfd.units import parse_duration

PERFD = (sys.executable, "-m", "perfd")
DECIDED = (0, 3, 4)
"""Exit codes of perfd compare that say something."""

INTERRUPTED = 5

NO_CONFLUX = "ConfluxEnabled 0"
"""Of both arms."""

MOST_FAILURES = 3
"""One after the other: then something else is wrong."""


def main() -> int:
    """Make the tries that are still wanted, and print the table after each."""
    options = _options()
    settings = Settings(delay=options.delay, size=options.size, relays=options.relays)
    wanted = {SAME: options.same, SLOWED: options.slowed}
    options.directory.mkdir(parents=True, exist_ok=True)
    results = options.directory / "tries.jsonl"
    made = [*read(results, settings)]
    failures = 0
    print(table(made, wanted), flush=True)
    end = math.inf if options.time is None else time.monotonic() + options.time
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while (step := following(made, wanted)) is not None and failures < MOST_FAILURES and time.monotonic() < end:
            made.append(_try(*step, settings, options.directory))
            append(results, made[-1])
            failures = failures + 1 if made[-1].found is None else 0
            print(f"\n{made[-1].line}\n\n{table(made, wanted)}", flush=True)
    except KeyboardInterrupt:
        print(f"\ninterrupted; the next time it goes on\n\n{table(made, wanted)}", flush=True)
    finally:
        subprocess.run([*PERFD, "testnet", "stop", _network(settings)], cwd=options.directory, check=False)
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.study", description=__doc__.splitlines()[0])
    parser.add_argument("--same", type=int, default=20, metavar="N", help="tries of A/A (default 20)")
    parser.add_argument("--slowed", type=int, default=10, metavar="N", help="tries of +3 %% (default 10)")
    parser.add_argument(
        "--time", type=parse_duration, metavar="TIME", help="begin no further try after that, such as 2h"
    )
    parser.add_argument("--delay", default="25ms", help="of each link, one way (default 25ms)")
    parser.add_argument("--relays", default="6", help="of the network (default 6)")
    parser.add_argument("--size", default="1KiB", help="of each download (default 1KiB)")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("build/lab-study"),
        metavar="DIR",
        help="where tries.jsonl, the networks and tors are, and last.log, what the try in progress says "
        "(default build/lab-study)",
    )
    return parser.parse_args()


def _try(kind: str, seed: int, settings: Settings, directory: Path) -> Try:
    """Compare once, in a directory without a perfd.conf."""
    begun = time.monotonic()
    log = directory / "last.log"
    with log.open("w", encoding="utf-8") as errors:
        done = subprocess.run(
            [*PERFD, "compare", *_arguments(kind, seed, settings)],
            cwd=directory,
            env={**os.environ, "XDG_CACHE_HOME": str(directory.absolute())},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
        )
    seconds = time.monotonic() - begun
    if done.returncode in DECIDED:
        return concluded(kind, seed, settings, seconds, json.loads(done.stdout))
    if done.returncode == INTERRUPTED or done.returncode < 0:
        raise KeyboardInterrupt
    trouble = (log.read_text(encoding="utf-8").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return Try(kind=kind, seed=seed, settings=settings, seconds=seconds, trouble=trouble)


def _network(settings: Settings) -> str:
    return f"{settings.relays}-{settings.delay}"


def _arguments(kind: str, seed: int, settings: Settings) -> Sequence[str]:
    return (
        *(
            "--arm",
            f"plain={NO_CONFLUX}",
            "--arm",
            f"other={NO_CONFLUX}",
            "--size",
            settings.size,
            "--inject",
            KINDS[kind],
        ),
        *("--until-decided", "--margin", "0%", "--effect", "3%", "--seed", str(seed), "--json"),
        *("--testnet", _network(settings), "--keep", "1 h"),
        *("--relays", settings.relays, "--delay", settings.delay),
    )


if __name__ == "__main__":
    sys.exit(main())
