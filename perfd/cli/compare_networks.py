"""``perfd compare --networks N``: the same comparison on several private networks, one after the other.

Each is measured in a process of its own, since a reactor runs once.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import attrs

from perfd.cli.compare_lab import LabComparison, say
from perfd.cli.comparing import Showing
from perfd.cli.networks import overrides
from perfd.cli.trial import Trial, configured
from perfd.comparison.conclusion import Conclusion, TooLittleError
from perfd.comparison.design import BLOCK_SIZE
from perfd.comparison.networks import FEWEST, over_networks
from perfd.config import ConfigError
from perfd.instance import InstanceError

SMALLEST = 7
"""Relays of a network that is another one with another seed: with more than six there are weights."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NetworksComparison:
    """One comparison over ``count`` networks; those in ``directory`` if it is given, else it starts its own."""

    def __init__(
        self, path: Path | None, trial: Trial, showing: Showing, count: int, directory: Path | None
    ) -> None:
        """Raises ConfigError for what cannot answer."""
        self._path = path
        self._showing = attrs.evolve(showing, display=None, report=None, plots=None)
        self._interrupted = False
        _check(trial, count)
        first = int(trial.links.get("seed", 1))
        seeds = range(first, first + count)
        self._names = [f"network{n}" if directory else f"seed {seed}" for n, seed in enumerate(seeds, 1)]
        each = attrs.evolve(
            trial, block_size=trial.block_size or BLOCK_SIZE, effect=trial.effect * math.sqrt(count), append=True
        )
        self._trials = [_of_network(each, n, seed, directory) for n, seed in enumerate(seeds, 1)]
        config = configured(path, self._trials[0])
        if config.network != "testnet":
            raise ConfigError([f"compare: --networks is for network = testnet, not {config.network}"])
        if config.private_network.relays < SMALLEST:
            raise ConfigError(
                [
                    "compare: networks of up to six relays are all alike: --networks needs --relays 8 or more, "
                    "whose weights are drawn with the seed"
                ]
            )
        LabComparison(path, self._trials[0], self._showing)  # refuses what cannot answer

    def run(self) -> Conclusion:
        """Measure on all of them. Raises InstanceError and TooLittleError."""
        trial = self._trials[0]
        if trial.records is not None:
            trial.records.write_text("", encoding="utf-8")
        say(
            f"{len(self._trials)} networks are the units: in each as many blocks are made as find "
            f"{trial.effect * 100:.1f} % there, unless --blocks says how many"
        )
        found: list[Conclusion] = []
        for number, (name, each) in enumerate(zip(self._names, self._trials, strict=True), 1):
            say(f"network {number} of {len(self._trials)}: {name}")
            made = self._measured(each)
            if self._interrupted:
                break
            found.append(made)
            say(f"{name}: {made.primary.ratio * 100:+.1f} % ({made.primary.metric})")
        if self._interrupted and len(found) < FEWEST:
            raise TooLittleError(
                f"interrupted; {len(found)} networks were measured, and at least {FEWEST} are needed"
            )
        whole = over_networks(found, self._names[: len(found)])
        return attrs.evolve(whole, design=attrs.evolve(whole.design, interrupted=self._interrupted))

    def _measured(self, trial: Trial) -> Conclusion:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_measure, args=(theirs, self._path, trial, self._showing))
        process.start()
        theirs.close()
        with self._signals_for(process.pid or 0):
            try:
                found: Conclusion | str = ours.recv()
            except EOFError:
                found = "it ended without a result"
            process.join()
        if isinstance(found, str):
            if self._interrupted:
                raise TooLittleError("interrupted before anything could be said")
            raise InstanceError(found)
        return found

    @contextmanager
    def _signals_for(self, pid: int) -> Iterator[None]:
        """What would end us ends the comparison in process ``pid`` well, and then us."""

        def interrupt(number: int, frame: object) -> None:
            self._interrupted = True
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

        before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _check(trial: Trial, count: int) -> None:
    if count < FEWEST:
        raise ConfigError([f"compare: --networks needs at least {FEWEST}: they are compared with each other"])
    if trial.until_decided:
        raise ConfigError(
            [
                "compare: --until-decided ends a network when that is decided, which says little of the next: give "
                "--networks without it"
            ]
        )


def _of_network(trial: Trial, number: int, seed: int, directory: Path | None) -> Trial:
    """That of one network, whose runs have an order of their own."""
    using = trial.using
    if directory is not None:
        using = overrides(directory / f"network{number}", trial.using.get("testnet", {}).get("keep"))
    links = trial.links if directory is not None else {**trial.links, "seed": str(seed)}
    return attrs.evolve(trial, using=using, links=links, seed=trial.seed + number - 1)


def _measure(pipe: Connection, path: Path | None, trial: Trial, showing: Showing) -> None:
    """In its process: the conclusion, or why there is none, into ``pipe``."""
    try:
        pipe.send(LabComparison(path, trial, showing).run())
    except (ConfigError, InstanceError, TooLittleError) as error:
        pipe.send(str(error))
