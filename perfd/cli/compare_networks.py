"""``perfd compare --networks N``: the same comparison on several private networks, one after the other.

Each is measured in a process of its own, since a reactor runs once: ``python -m perfd.cli.compare_networks`` takes
what is to be compared from standard input, and writes its conclusion, both pickled.
"""

from __future__ import annotations

import math
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from perfd.cli.compare_lab import LabComparison, say
from perfd.cli.comparing import Showing
from perfd.cli.networks import overrides
from perfd.cli.trial import Trial, configured
from perfd.comparison import words
from perfd.comparison.conclusion import Conclusion, TooLittleError
from perfd.comparison.design import BLOCK_SIZE
from perfd.comparison.networks import FEWEST, over_networks
from perfd.config import ConfigError
from perfd.instance import InstanceError
from perfd.processes.modules import module_command, module_environment
from perfd.processes.signals import end_with_parent

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
        self._process: subprocess.Popen[bytes] | None = None  # the one that measures
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
        for each in self._trials:
            LabComparison(path, each, self._showing)  # refuses what cannot answer

    def run(self) -> Conclusion:
        """Measure on all of them. Raises InstanceError and TooLittleError."""
        trial = self._trials[0]
        if trial.records is not None:
            trial.records.write_text("", encoding="utf-8")
        say(
            f"{len(self._trials)} networks are the units: in each as many blocks are made as find "
            f"{trial.effect * 100:.1f} % there, unless --blocks says how many"
        )
        found: dict[str, Conclusion] = {}
        troubles: list[str] = []
        with self._signals():
            for number, (name, each) in enumerate(zip(self._names, self._trials, strict=True), 1):
                if self._interrupted:
                    break
                say(f"network {number} of {len(self._trials)}: {name}")
                made = self._measured(each)
                if isinstance(made, str):
                    troubles.append(f"{name}: {made}")
                    say(troubles[-1])
                elif not made.design.interrupted:
                    found[name] = made
                    say(f"{name}: {made.design.b} is {words.change(made.primary)} ({made.primary.metric})")
        return self._together(found, troubles)

    def _together(self, found: Mapping[str, Conclusion], troubles: Sequence[str]) -> Conclusion:
        """What the networks that were measured whole say; the others are told."""
        if len(found) < FEWEST:
            why = "interrupted" if self._interrupted else "; ".join(troubles)
            raise TooLittleError(f"{len(found)} networks were measured, and at least {FEWEST} are needed: {why}")
        whole = over_networks([*found.values()], [*found])
        if len(found) < len(self._trials):
            missing = (
                f"{len(self._trials) - len(found)} of {len(self._trials)} networks were not measured to the end"
            )
            whole = attrs.evolve(whole, warnings=(*whole.warnings, missing, *troubles))
        return attrs.evolve(whole, design=attrs.evolve(whole.design, interrupted=self._interrupted))

    def _measured(self, trial: Trial) -> Conclusion | str:
        """What one network says, or why it says nothing."""
        process = self._process = subprocess.Popen(
            module_command(__name__),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=module_environment(),
            start_new_session=True,  # a terminal's Ctrl-C reaches it once, by us
        )
        if self._interrupted:  # before there was a process
            process.terminate()
        output, _ = process.communicate(pickle.dumps((self._path, trial, self._showing)))
        found: Conclusion | str = pickle.loads(output) if output else f"it ended with {process.returncode}"
        return found

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """What would end us ends the process that measures well, and then us; what is ignored stays so."""

        def interrupt(number: int, frame: object) -> None:
            if not self._interrupted and self._process is not None:
                self._process.terminate()
            self._interrupted = True

        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, interrupt) for number in heeded}
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
    links = {**trial.links, "seed": str(seed)}
    return attrs.evolve(trial, using=using, links=links, seed=trial.seed + number - 1)


def main() -> None:
    """Measure on one network what standard input asks; ends when whoever started this does."""
    path, trial, showing = pickle.load(sys.stdin.buffer)
    end_with_parent()
    try:
        found: Conclusion | str = LabComparison(path, trial, showing).run()
    except (ConfigError, InstanceError, TooLittleError) as error:
        found = str(error)
    with suppress(BrokenPipeError):  # nobody waits any more
        sys.stdout.buffer.write(pickle.dumps(found))


if __name__ == "__main__":
    main()
