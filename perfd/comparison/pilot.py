"""What a pilot says: how large a comparison must be to find what it is to find."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from perfd.analysis.blocks import Block
from perfd.analysis.sample_size import SampleSize, best_block_size, sample_size
from perfd.comparison.conclusion import TooLittleError
from perfd.comparison.design import BLOCK_SIZE
from perfd.comparison.metrics import METRICS, run_of
from perfd.comparison.running import DoneRun

WARM_UP = 1
"""Blocks of a pilot that say nothing: they warm up the data directories."""


@attrs.frozen
class Pilot:
    """``size`` runs of each arm make a block; ``needed`` is what finds ``effect`` in the ``primary`` metric."""

    size: int
    needed: SampleSize
    effect: float

    @property
    def text(self) -> str:
        """What is needed, in words."""
        size, effect, power = self.size, self.effect * 100, self.needed.power * 100
        return f"{self.needed.blocks} blocks of {size} + {size} find {effect:g} % with a power of {power:.0f} %"


Values = list[list[tuple[int, float]]]
"""Of each block the runs in their order: the arm, 0 or 1, and the value of the primary metric in seconds."""


def values_of(blocks: Sequence[Sequence[DoneRun]], primary: str) -> Values:
    """Those of the runs that have the ``primary`` metric."""
    metric = METRICS[primary]
    return [
        [(run.side, value) for run in block if (value := metric.value(run_of(run.measurement))) is not None]
        for block in blocks
    ]


def judged(values: Values, effect: float, size: int | None, *, by_block: bool) -> Pilot:
    """What the blocks of a pilot say, without those that warmed up; ``size`` of a block, if it is given.

    ``by_block``: see `perfd.analysis.sample_size`. Raises TooLittleError.
    """
    sides = [[[value for side, value in block if side == arm] for arm in (0, 1)] for block in values]
    logarithms = [Block(a, b).logarithms for a, b in sides if a and b]
    if size is None:
        placed: tuple[list[tuple[int, float]], list[tuple[int, float]]] = ([], [])
        for place, (side, value) in enumerate(run for block in values for run in block):
            placed[side].append((place, math.log(value)))
        size = best_block_size(*placed, default=BLOCK_SIZE)
    try:
        needed = sample_size(logarithms, math.log1p(effect), block_size=size, by_block=by_block)
    except ValueError as error:
        raise TooLittleError(str(error)) from None
    return Pilot(size, needed, effect)
