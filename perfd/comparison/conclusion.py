"""What a comparison says: computed once from its blocks, into a frozen record that is then only shown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import attrs

from perfd.analysis.blocks import Block, arms
from perfd.analysis.failures import FailureDifference, failure_difference
from perfd.analysis.multiplicity import holm
from perfd.analysis.pairs import paired_shift, signed_rank_test
from perfd.analysis.quantiles import percentile_cont
from perfd.analysis.rank import CRITICAL, rank_test, shift
from perfd.analysis.shift_function import DecileShift, shift_function
from perfd.comparison.metrics import Samples

LEAST_RUNS = 10
"""Of each arm: with fewer there is no interval that could be trusted."""

CODES = 3
"""Of errors that are told where nothing else can be."""

SLOWER, NOT_SLOWER, UNDECIDED = "slower", "not slower", "undecided"
INTERRUPTED = "interrupted"


@attrs.frozen(kw_only=True)
class Design:
    """How the runs were made: what a reader needs to judge them, and to make them again."""

    a: str  # the names of the arms
    b: str
    primary: str
    margin: float  # 0.03: B may be 3 % slower
    seed: int | None  # of the random order; None: nothing was random
    text: str  # in words
    blocks: int | None = None  # that were planned; None: as many as there are
    look: int | None = None  # the one that this is, of ``looks``
    looks: int | None = None
    critical: float = CRITICAL  # |Z| of this look, in the place of 1.96
    by_block: bool = False  # the arms had data directories of their own in each block: it is the unit
    paired: bool = False  # each block is a pair by its nature, such as two runs over the same circuit
    interrupted: bool = False  # before it was decided, or done

    @property
    def is_single_look(self) -> bool:
        """Whether it is looked at once, at its end: only then is p what it says, and not what decides else."""
        return self.critical == CRITICAL or self.looks == 1


@attrs.frozen(kw_only=True)
class Effect:
    """By how much B takes longer than A in one metric, relatively and in seconds at A's median.

    ``low`` and ``high`` are the ends of the interval; infinite where failures decide. ``p`` is adjusted for how
    many metrics there are (Holm), but for the primary one, which was declared before.
    """

    metric: str
    runs: tuple[int, int]
    medians: tuple[float, float]
    ratio: float
    low: float
    high: float
    p: float

    @property
    def seconds(self) -> tuple[float, float, float]:
        """Estimate, low and high at the median of A."""
        return self.ratio * self.medians[0], self.low * self.medians[0], self.high * self.medians[0]

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval says that there is a difference."""
        return not self.low <= 0 <= self.high


@attrs.frozen(kw_only=True)
class OfNetwork:
    """What one of several private networks says of the primary metric."""

    name: str  # with its seed, if that is known
    blocks: int
    effect: Effect


@attrs.frozen(kw_only=True)
class Conclusion:
    """All that is told of a comparison."""

    design: Design
    blocks: int
    primary: Effect
    others: tuple[Effect, ...]
    failures: FailureDifference
    deciles: tuple[DecileShift, ...]  # of the primary metric, in seconds
    warnings: tuple[str, ...]
    values: tuple[tuple[float, ...], ...] = ()  # of the primary metric, those of A and those of B
    networks: tuple[OfNetwork, ...] = ()  # where the unit is the network

    @property
    def verdict(self) -> str:
        """What is said about the margin: ``slower`` than it allows, ``not slower``, or ``undecided``.

        ``interrupted``: it ended by chance, so that nothing is said.
        """
        if self.design.interrupted:
            return INTERRUPTED
        if self.primary.low > self.design.margin:
            return SLOWER
        return NOT_SLOWER if self.primary.high < self.design.margin else UNDECIDED


class TooLittleError(ValueError):
    """There is nothing to conclude from; the message says what is missing."""


def conclude(design: Design, samples: Samples, warnings: Sequence[str] = ()) -> Conclusion:
    """What the blocks of each metric say, in seconds. Raises TooLittleError.

    Metrics of which an arm has too few runs are left out, but for the primary one.
    """
    used = {name: [each for each in blocks if each.a and each.b] for name, blocks in samples.metrics.items()}
    if not any(math.isfinite(value) for values in arms(used.get(design.primary, ())) for value in values):
        raise TooLittleError(
            all_failed(design.a, design.b, samples) or f"no run of both arms has the metric {design.primary}"
        )
    for name, count in zip((design.a, design.b), _counts(used[design.primary]), strict=True):
        if count < LEAST_RUNS:
            raise TooLittleError(
                f"{count} runs of {name} can be compared by {design.primary}; {LEAST_RUNS} of each arm are needed"
            )
    effects = [
        _effect(name, blocks, design)
        for name, blocks in used.items()
        if min(_counts(blocks)) >= LEAST_RUNS and all(map(_mostly_finite, arms(blocks)))
    ]
    by_name = {effect.metric: effect for effect in effects}
    if decided := _by_failures(used[design.primary], design):
        by_name.setdefault(design.primary, decided)
    if design.primary not in by_name:
        raise TooLittleError(f"half of the runs of an arm have failed: there is no median of {design.primary}")
    others = [effect for effect in effects if effect.metric != design.primary]
    adjusted = holm([effect.p for effect in others])
    blocks = used[design.primary]
    return Conclusion(
        design=design,
        blocks=len(blocks),
        primary=by_name[design.primary],
        others=tuple(attrs.evolve(each, p=p) for each, p in zip(others, adjusted, strict=True)),
        failures=failure_difference(samples.outcomes, design.critical, by_block=design.by_block),
        deciles=tuple(shift_function(blocks, seed=design.seed or 1, critical=design.critical))
        if len(blocks) > 1
        else (),
        warnings=tuple(warnings),
        values=tuple(map(tuple, arms(blocks))),
    )


def all_failed(a: str, b: str, samples: Samples) -> str | None:
    """That all runs of both arms failed, in words, with the most frequent error codes; None if some did not."""
    outcomes = arms(samples.outcomes)
    if not all(outcomes) or any(math.isfinite(value) for values in outcomes for value in values):
        return None
    codes = [f"{code} ({count:,})" for code, count in Counter(samples.errors).most_common(CODES)]
    others = ["and others"] if len(samples.errors) > CODES else []
    counts = f"{len(outcomes[0]):,} of {a} and {len(outcomes[1]):,} of {b}"
    return f"all runs failed, {counts}: {', '.join([*codes, *others])}"


def _by_failures(blocks: Sequence[Block], design: Design) -> Effect | None:
    """The effect where one of the arms fails so often that it has no median, if that decides about the margin."""
    has_median = [_mostly_finite(values) for values in arms(blocks)]
    if has_median[0] == has_median[1]:
        return None
    found = _effect(design.primary, blocks, design)
    is_decided = found.low > design.margin if has_median[0] else found.high < design.margin
    return found if is_decided else None


def _counts(blocks: Sequence[Block]) -> tuple[int, int]:
    return sum(len(block.a) for block in blocks), sum(len(block.b) for block in blocks)


def _mostly_finite(values: Sequence[float]) -> bool:
    return math.isfinite(percentile_cont(values, 0.5))


def _effect(name: str, blocks: Sequence[Block], design: Design) -> Effect:
    logarithms = [block.logarithms for block in blocks]
    if design.paired:
        differences = [b - a for a, b in map(_pair, logarithms) if math.isfinite(a) or math.isfinite(b)]
        found, p = paired_shift(differences, design.critical).ratio, signed_rank_test(differences).p
    else:
        found = shift(logarithms, design.critical, by_block=design.by_block).ratio
        p = rank_test(logarithms, by_block=design.by_block).p
    a, b = arms(blocks)
    return Effect(
        metric=name,
        runs=(len(a), len(b)),
        medians=(percentile_cont(a, 0.5), percentile_cont(b, 0.5)),
        ratio=found.estimate,
        low=found.low,
        high=found.high,
        p=p,
    )


def _pair(block: Block) -> tuple[float, float]:
    (a,), (b,) = block.a, block.b
    return a, b
