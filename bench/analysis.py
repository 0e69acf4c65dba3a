"""Simulations of comparisons: how often nothing is taken for something, and how often 3 % are found.

The noise is of Tor's kind, in each of the ways that could mislead a test, and in all of them together. Prints for
each how many of the comparisons reject at 5 % where both arms are the same (A/A), and where B is 3 % slower and
as many runs are made as the formula asks for after a pilot; with exact binomial intervals. The last column is that
of five looks, each with its own bound. Run from the checkout: python -m bench.analysis
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from random import Random
from statistics import NormalDist

import attrs

from bench.compare import SEED, Interval
from bench.verdict import MISSED, verdict
from perfd.analysis.blocks import Block
from perfd.analysis.proportion import exact_interval
from perfd.analysis.rank import rank_test
from perfd.analysis.sample_size import sample_size
from perfd.analysis.sequential import LOOKS, group_sequential
from perfd.comparison.design import Plan
from perfd.config.comparison import DIRECTORIES

EFFECT = math.log(1.03)
SIZE = 6  # runs of each arm in a block
PILOT = 6  # blocks, as perfd compare has
NOTHING = 40  # blocks of a comparison in which nothing differs


@attrs.frozen(kw_only=True)
class Noise:
    """What else than the arm decides how long a run takes; times are logarithms of seconds."""

    name: str
    tail: float = 0.0  # the share of runs with an exponential time more
    daily: float = 0.0  # half the height of a wave with a period of 24 blocks
    correlation: float = 0.0  # of a run with the one before it
    failing: float = 0.0  # the share of runs that fail
    directories: float = 0.0  # the deviation of data directories, whose guards differ
    deviation: float = 0.15

    @property
    def by_block(self) -> bool:
        """Whether the block is the unit, as in comparisons whose arms have tors of their own."""
        return self.directories > 0

    def levels(self, chance: Random) -> list[float]:
        """Of each data directory how much longer runs over it take."""
        return [chance.gauss(0, self.directories) for _ in range(DIRECTORIES)]

    def blocks(self, chance: Random, count: int, levels: Sequence[float], effect: float = 0.0) -> list[Block]:
        """So many blocks over directories with these ``levels``, in which B takes ``effect`` longer."""
        runs = self._runs(chance)
        plan = Plan(chance.getrandbits(32), DIRECTORIES, shared=not self.by_block)
        return [self._block(chance, runs, plan, levels, number, effect) for number in range(count)]

    def _block(
        self,
        chance: Random,
        runs: Iterator[float],
        plan: Plan,
        levels: Sequence[float],
        number: int,
        effect: float,
    ) -> Block:
        level = self.daily * math.sin(2 * math.pi * number / 24)
        values: tuple[list[float], list[float]] = ([], [])
        for arm, place in plan.block(number, SIZE).runs:
            value = next(runs) + level + levels[place] + effect * arm
            values[arm].append(math.inf if chance.random() < self.failing else value)
        return Block(*values)

    def _runs(self, chance: Random) -> Iterator[float]:
        before = chance.gauss(0, self.deviation)
        fresh = self.deviation * math.sqrt(1 - self.correlation**2)
        while True:
            yield before + (chance.expovariate(1.0) if chance.random() < self.tail else 0.0)
            before = self.correlation * before + chance.gauss(0, fresh)


NOISES = (
    Noise(name="normal"),
    Noise(name="heavy tail", tail=0.08),
    Noise(name="daily pattern", daily=0.4),
    Noise(name="AR(0.5)", correlation=0.5),
    Noise(name="2 % failures", failing=0.02),
    Noise(name="all of these", tail=0.08, daily=0.4, correlation=0.5, failing=0.02),
    Noise(name="directories whose guards differ", tail=0.08, directories=0.1),
)


def rejects(blocks: Sequence[Block], *, by_block: bool) -> bool:
    """Whether one look at the end finds a difference at 5 %."""
    return rank_test(blocks, by_block=by_block).p < 0.05


def rejects_at_a_look(blocks: Sequence[Block], *, by_block: bool) -> bool:
    """Whether one of five looks on the way does."""
    design = group_sequential(LOOKS)
    return any(
        rank_test(blocks[: round(len(blocks) * look / LOOKS)], by_block=by_block).p
        < 2 * NormalDist().cdf(-design.critical(look))
        for look in range(1, LOOKS + 1)
    )


def made(noise: Noise, chance: Random) -> list[Block]:
    """A comparison in which B takes ``EFFECT`` longer, as large as a pilot of the same directories asks for."""
    levels = noise.levels(chance)
    pilot = noise.blocks(chance, PILOT, levels)
    count = sample_size(pilot, EFFECT, block_size=SIZE, by_block=noise.by_block).blocks
    return noise.blocks(chance, count, levels, EFFECT)


def share(count: int, times: int) -> Interval:
    """Of all comparisons."""
    return Interval(count / times, *exact_interval(count, times))


def simulate(noise: Noise, nothing: int, something: int) -> None:
    """Print the line of one noise: so many comparisons in which nothing differs, and so many with 3 %."""
    chance = Random(SEED)
    empty = [noise.blocks(chance, NOTHING, noise.levels(chance)) for _ in range(nothing)]
    sizes: list[int] = []
    found = 0
    for _ in range(something):
        blocks = made(noise, chance)  # with a pilot of its own for each
        sizes.append(len(blocks))
        found += rejects_at_a_look(blocks, by_block=noise.by_block)
    alarms = share(sum(rejects(each, by_block=noise.by_block) for each in empty), nothing)
    looks = share(sum(rejects_at_a_look(each, by_block=noise.by_block) for each in empty), nothing)
    median = sorted(sizes)[len(sizes) // 2]
    power = verdict(share(found, something), ">= 0.95")
    print(f"{noise.name}:")
    print(f"  A/A, one look: {_holds(alarms)}; five looks: {_holds(looks)}")
    print(f"  +3 % in {median} blocks of {SIZE} + {SIZE} (median), five looks: {power}")
    sys.stdout.flush()


def _holds(alarms: Interval) -> str:
    """Whether the share of false alarms can be 5 %."""
    said = "holds" if alarms.low <= 0.05 <= alarms.high else MISSED
    return f"{alarms} (5 %: {said})"


def main() -> None:
    """Print the figures."""
    for noise in NOISES:
        simulate(noise, nothing=1000, something=200)


if __name__ == "__main__":
    main()
