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
import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench.study.tries import KINDS, SAME, SLOWED, Settings, Try, append, concluded, following, read, table
from perfd.units import parse_duration

PERFD = (sys.executable, "-m", "perfd")
DECIDED = (0, 3, 4)
"""Exit codes of perfd compare that say something."""

INTERRUPTED = 5

NO_CONFLUX = "ConfluxEnabled 0"
"""Of both arms."""

BEGUN = "begun"
"""What is found of a try that is not over."""

MOST_FAILURES = 3
"""One after the other: then something else is wrong."""


def main() -> int:
    """Make the tries that are still wanted, and print the table after each."""
    options = _options()
    settings = Settings(delay=options.delay, size=options.size, relays=options.relays)
    study = Study(settings, {SAME: options.same, SLOWED: options.slowed}, options.directory, options.time)
    try:
        asyncio.run(study.run(options.jobs))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"\ninterrupted; the next time it goes on\n\n{study.table}", flush=True)
    finally:
        study.stop_networks()
    return 1 if study.failures else 0


class Study:
    """The tries that were made, and those that are wanted; ``failures`` are those since one could be made."""

    def __init__(
        self, settings: Settings, wanted: Mapping[str, int], directory: Path, seconds: float | None
    ) -> None:
        self.failures = 0
        self._settings = settings
        self._wanted = wanted
        self._directory = directory
        self._results = directory / "tries.jsonl"
        self._made = [*read(self._results, settings)]
        self._begun: list[Try] = []
        self._end = math.inf if seconds is None else time.monotonic() + seconds
        self._places: list[Path] = []

    @property
    def table(self) -> str:
        return table(self._made, self._wanted)

    async def run(self, jobs: int) -> None:
        """Make them, ``jobs`` at the same time, each with a private network of its own."""
        print(self.table, flush=True)
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        self._places = [self._directory / f"job{number}" for number in range(1, jobs + 1)]
        async with asyncio.TaskGroup() as group:
            for place in self._places:
                place.mkdir(parents=True, exist_ok=True)
                group.create_task(self._work(place))

    async def _work(self, place: Path) -> None:
        while self.failures < MOST_FAILURES and time.monotonic() < self._end:
            step = following([*self._made, *self._begun], self._wanted)
            if step is None:
                return
            begun = Try(kind=step[0], seed=step[1], settings=self._settings, seconds=0.0, found=BEGUN)
            self._begun.append(begun)
            try:
                made = await _made(*step, self._settings, place)
            finally:
                self._begun.remove(begun)
            if made is None:
                return
            self._made.append(made)
            append(self._results, made)
            self.failures = self.failures + 1 if made.found is None else 0
            print(f"\n{made.line}\n\n{self.table}", flush=True)

    def stop_networks(self) -> None:
        """Those of all jobs."""
        for place in self._places:
            subprocess.run([*PERFD, "testnet", "stop", _network(self._settings)], cwd=place, check=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.study", description=__doc__.splitlines()[0])
    parser.add_argument("--same", type=int, default=20, metavar="N", help="tries of A/A (default 20)")
    parser.add_argument("--slowed", type=int, default=10, metavar="N", help="tries of +3 %% (default 10)")
    parser.add_argument(
        "--time", type=parse_duration, metavar="TIME", help="begin no further try after that, such as 2h"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=2,
        metavar="N",
        help="so many at the same time, each with its network (default 2)",
    )
    parser.add_argument("--delay", default="25ms", help="of each link, one way (default 25ms)")
    parser.add_argument("--relays", default="6", help="of the network (default 6)")
    parser.add_argument("--size", default="1KiB", help="of each download (default 1KiB)")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("build/lab-study"),
        metavar="DIR",
        help="where tries.jsonl is, and for each job its network and tors, and last.log, what its try says "
        "(default build/lab-study)",
    )
    return parser.parse_args()


async def _made(kind: str, seed: int, settings: Settings, directory: Path) -> Try | None:
    """Compare once, in a directory without a perfd.conf; None if it was interrupted."""
    begun = time.monotonic()
    log = directory / "last.log"
    with log.open("w", encoding="utf-8") as errors:
        process = await asyncio.create_subprocess_exec(
            *(*PERFD, "compare", *_arguments(kind, seed, settings)),
            cwd=directory,
            env={**os.environ, "XDG_CACHE_HOME": str(directory.absolute())},
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)  # SIGINT is ignored in the background of a shell
            await process.wait()
            raise
    seconds = time.monotonic() - begun
    if process.returncode in DECIDED:
        return concluded(kind, seed, settings, seconds, json.loads(output))
    if process.returncode == INTERRUPTED or (process.returncode or 0) < 0:
        return None
    trouble = (log.read_text(encoding="utf-8").strip().splitlines() or [f"exit code {process.returncode}"])[-1]
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
