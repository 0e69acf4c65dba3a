"""``perfd compare --arm A=... --arm B=...``: a comparison by design, measured at once, without a daemon."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TextIO

import attrs
from twisted.internet.defer import CancelledError

from perfd.analysis.quantiles import percentile_cont
from perfd.analysis.rank import CRITICAL
from perfd.analysis.sequential import LOOKS, group_sequential
from perfd.cli.comparing import Showing
from perfd.cli.foreground import Interruption, run_reactor
from perfd.cli.standalone import (
    NotReadyError,
    own_instance,
    patience,
    prepare,
)
from perfd.cli.terminal import Progress
from perfd.cli.trial import Trial, check_network, configured
from perfd.clock import Clock
from perfd.comparison.conclusion import (
    UNDECIDED,
    Conclusion,
    Design,
    TooLittleError,
    all_failed,
    conclude,
)
from perfd.comparison.design import (
    BLOCK_SIZE,
    PILOT,
    DesignError,
    Plan,
    Side,
    check_blocks,
    check_design,
    is_by_block,
    looks_of,
)
from perfd.comparison.metrics import METRICS, run_of
from perfd.comparison.pilot import WARM_UP, judged, values_of
from perfd.comparison.running import DoneRun, Place, in_turn, run_block, samples_of
from perfd.comparison.slowed import SlowedTor
from perfd.config import ConfigError
from perfd.config.comparison import DIRECTORIES, NO_CBT
from perfd.daemon.order import StartError
from perfd.experiments.run import TorExperiment
from perfd.experiments.ways import MeasuredTor
from perfd.instance import InstanceError
from perfd.laboratory import Laboratory
from perfd.preflight import tor_trouble
from perfd.reactor import Reactor, installed_reactor
from perfd.record import Measurement
from perfd.tor.events.sink import NullEventSink
from perfd.tor.launch import TorService
from perfd.units import format_duration

LEARNING = 3600.0
"""Seconds in which each tor must have learnt its circuit build timeout, where runs before that do not count."""


class LabComparison:
    """One comparison, from its configuration to its conclusion."""

    def __init__(self, path: Path | None, trial: Trial, showing: Showing) -> None:
        self._trial = trial
        self._showing = showing
        self._config = configured(path, trial)
        check_network(self._config, trial)
        self._names = [f"tor-{n}" for n in range(1, DIRECTORIES + 1)] if self._config.tors else ["default"]
        common = self._config.tors[0].torrc_lines if self._config.tors else ()
        try:
            sides = zip((trial.a, trial.b), self._config.experiments, strict=True)
            check_design(
                *(Side.of(arm, experiment, common) for arm, experiment in sides),
                primary=showing.primary,
                launches=bool(self._config.tors),
            )
            check_blocks(trial.blocks, LOOKS if trial.until_decided else 1, by_block=is_by_block(trial.a, trial.b))
        except DesignError as error:
            raise ConfigError([f"compare: {error}"]) from None
        self._is_learning = NO_CBT.lower() not in {" ".join(line.lower().split()) for line in common}
        self._done: list[list[DoneRun]] = []
        self._conclusion: Conclusion | None = None
        self._size = trial.block_size or BLOCK_SIZE
        self._planned = trial.blocks or 0
        self._seconds: list[float] = []  # that each block took
        self._injected = 0.0
        self._log: TextIO | None = None
        self._interruption = Interruption()

    def run(self) -> Conclusion:
        """Measure until it is decided, or done. Raises InstanceError and TooLittleError."""
        reactor = installed_reactor()
        self._check_arms()
        with own_instance(self._config), ExitStack() as stack:
            if self._trial.records is not None:
                self._log = stack.enter_context(
                    self._trial.records.open("a" if self._trial.append else "w", encoding="utf-8")
                )
            laboratory = Laboratory(reactor, Clock(), self._config, {}, NullEventSink())
            try:
                run_reactor(
                    reactor,
                    lambda interruption: self._run(reactor, laboratory, interruption),
                    laboratory.stopService,
                )
            except (StartError, NotReadyError) as error:
                raise InstanceError(str(error)) from None
            except CancelledError:
                return self._interrupted()
        if self._conclusion is None:
            self._conclusion = self._conclude(None)
        return self._conclusion

    def _interrupted(self) -> Conclusion:
        """What can be said nevertheless: that of the last look, or if there was none, of what was measured."""
        if self._conclusion is None:
            say("interrupted; what was measured until now is shown")
            found = self._conclude(None)
        else:
            say("interrupted; the last look is shown")
            found = self._conclusion
            after = len(self._done) - found.blocks
            warning = f"it was interrupted {after} blocks after this look, which do not count"
            found = attrs.evolve(found, warnings=(*found.warnings, warning))
        return attrs.evolve(found, design=attrs.evolve(found.design, interrupted=True))

    def _check_arms(self) -> None:
        """Raises ConfigError if tor would not take what an arm gives it."""
        problems = []
        for arm in (self._trial.a, self._trial.b) if self._config.tors else ():
            tor = self._config.tors[0]
            torrc = "\n".join((tor.torrc, *arm.torrc))
            if trouble := tor_trouble(attrs.evolve(tor, torrc=torrc, binary=arm.binary or tor.binary)):
                problems.append(f"compare: {arm.name}: {trouble}")
        if problems:
            raise ConfigError(problems)

    async def _run(self, reactor: Reactor, laboratory: Laboratory, interruption: Interruption) -> None:
        self._interruption = interruption
        laboratory.startService()
        places = self._places(laboratory)
        await prepare(reactor, partial(_first, "not_ready", places), patience(self._config))
        if _first("refusal", places) is not None:  # with skip-until-cbt
            await prepare(reactor, partial(_first, "refusal", places), LEARNING)
        trial = self._trial
        plan = Plan(trial.seed, len(places), trial.a.tor == trial.b.tor)
        with Progress("pilot") as progress:
            count = PILOT + WARM_UP
            pilot = [await self._block(plan, places, -1 - n, progress, count) for n in range(count)][WARM_UP:]
        self._plan_size(pilot)
        if trial.inject:
            self._injected = trial.inject * self._pilot_median(pilot)
            say(f"{trial.b.name} is slowed down by {self._injected * 1e3:.2f} ms on purpose")
            places = self._places(laboratory, slowed=reactor)
        looks = looks_of(self._planned, LOOKS if trial.until_decided else 1)
        with Progress("comparing") as progress:
            while len(self._done) < self._planned:
                self._done.append(await self._block(plan, places, len(self._done), progress, self._planned))
                if len(self._done) in looks and self._is_over(looks.index(len(self._done)) + 1):
                    return

    def _places(self, laboratory: Laboratory, slowed: Reactor | None = None) -> list[Place]:
        """The data directories; those of B behind a delay line if it is to be ``slowed``."""
        arms = (self._trial.a, self._trial.b)
        of_arms = in_turn([laboratory.experiments(experiment) for experiment in self._config.experiments])
        if slowed is not None:
            of_arms[1] = [_slowed(each, slowed, self._injected) for each in of_arms[1]]
        found = []
        for n, name in enumerate(self._names):
            tor = laboratory.tors[name]
            service = tor if isinstance(tor, TorService) else None
            found.append(Place(service, arms, [experiments[n] for experiments in of_arms]))
        return found

    async def _block(
        self, plan: Plan, places: Sequence[Place], number: int, progress: Progress, total: int
    ) -> list[DoneRun]:
        done = number if number >= 0 else -1 - number
        runs = 0

        def record(side: int, measurement: Measurement) -> None:
            nonlocal runs
            runs += 1
            progress.update(f"block {done + 1} of {total}", done + min(1.0, runs / (2 * self._size)), total)
            if self._log is not None:
                arm = (self._trial.a, self._trial.b)[side].name
                self._log.write(json.dumps({"block": number, "arm": arm, **measurement.as_dict()}) + "\n")

        began = time.monotonic()
        found = await run_block(plan, places, number, self._size, record)
        if self._interruption.came:  # experiments end well when they are cancelled
            raise CancelledError
        self._seconds.append(time.monotonic() - began)
        return found

    def _plan_size(self, pilot: Sequence[Sequence[DoneRun]]) -> None:
        """How large it must be, from the noise of the pilot; says how long that will take."""
        trial = self._trial
        by_block = is_by_block(trial.a, trial.b)
        values = values_of(pilot, self._showing.primary)
        try:
            found = judged(values, trial.effect, trial.block_size, by_block=by_block)
        except TooLittleError as error:
            raise TooLittleError(all_failed(trial.a.name, trial.b.name, samples_of(pilot)) or str(error)) from None
        self._size = found.size
        self._planned = trial.blocks or max(2 * LOOKS, found.needed.blocks)
        seconds = percentile_cont(self._seconds[1:], 0.5) * self._size / (trial.block_size or BLOCK_SIZE)
        runs, took, will_take = (
            2 * self._size * self._planned,
            *(format_duration(round(each)) for each in (sum(self._seconds), seconds * self._planned)),
        )
        say(
            f"pilot: {len(pilot)} blocks and one to warm up took {took}; {found.text}; {self._planned} blocks are "
            f"{runs} runs, and take about {will_take}"
        )

    def _pilot_median(self, pilot: Sequence[Sequence[DoneRun]]) -> float:
        values = [METRICS["complete"].value(run_of(run.measurement)) for each in pilot for run in each]
        return percentile_cont([value for value in values if value is not None], 0.5)

    def _is_over(self, look: int) -> bool:
        """Look; whether that was enough."""
        if not self._trial.until_decided:
            self._conclusion = self._conclude(None)
            return True
        try:
            self._conclusion = self._conclude(look)
        except TooLittleError:
            self._conclusion = None  # not that of an earlier look; the last one will say so
            return False
        return self._conclusion.verdict != UNDECIDED

    def _conclude(self, look: int | None) -> Conclusion:
        trial = self._trial
        design = Design(
            a=trial.a.name,
            b=trial.b.name,
            primary=self._showing.primary,
            margin=self._showing.margin,
            seed=trial.seed,
            text=self._text(),
            blocks=self._planned or None,
            look=look,
            looks=None if look is None else LOOKS,
            critical=CRITICAL if look is None else group_sequential(LOOKS).critical(look),
            by_block=is_by_block(trial.a, trial.b),
        )
        return conclude(design, samples_of(self._done), self._warnings(look))

    def _text(self) -> str:
        """The design in words."""
        trial = self._trial
        words = [f"blocks of {self._size} + {self._size} runs in random order"]
        if self._config.tors and trial.a.tor != trial.b.tor:
            words.append(f"{DIRECTORIES} data directories that both arms share, assigned anew for each block")
        elif self._config.tors:
            words.append(f"both arms over the same {DIRECTORIES} tors")
        if links := {run.measurement.links for block in self._done for run in block} - {None}:
            words.append(f"links {' and '.join(sorted(filter(None, links)))}")
        if not self._is_learning:
            words.append(f"{NO_CBT} for both")
        for arm in (trial.a, trial.b):
            options = "; ".join([*arm.torrc, *filter(None, [arm.binary])])
            words.append(f"{arm.name}: {options or 'no options of tor'}")
        words += [f"{arm.name}: {key}={value}" for arm in (trial.a, trial.b) for key, value in arm.options.items()]
        if self._injected:
            words.append(f"{trial.b.name} is slowed down by {self._injected * 1e3:.2f} ms on purpose")
        return ", ".join(words)

    def _warnings(self, look: int | None) -> list[str]:
        warnings = []
        if look is None and len(self._done) < self._planned:
            warnings.append(
                "it was interrupted, and its interval is that of a single look: not one that was planned"
            )
        short = sum(len(each) < 2 * self._size for each in self._done)
        if short:
            warnings.append(f"{short} blocks have fewer runs than they should, since some could not be made")
        return warnings


def _first(hindrance: str, places: Sequence[Place]) -> str | None:
    """The first of what keeps places from being measured, ``not_ready`` or ``refusal``; None if nothing does."""
    found = (getattr(place.experiments[0], hindrance) for place in places)
    return next((reason for reason in found if reason is not None), None)


def _slowed(experiment: TorExperiment, reactor: Reactor, seconds: float) -> TorExperiment:
    way = experiment.setup.tor
    assert isinstance(way, MeasuredTor)
    slow = attrs.evolve(way, tor=SlowedTor(reactor, way.tor, seconds))
    return attrs.evolve(experiment, setup=attrs.evolve(experiment.setup, tor=slow))


def say(text: str) -> None:
    """A line on standard error: standard output is for the conclusion."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
