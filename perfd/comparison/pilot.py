"""What a pilot says: how large a comparison must be to find what it is to find."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from perfd.analysis.rank import design_effect
from perfd.analysis.sample_size import SampleSize, best_block_size, sample_size
from perfd.comparison.conclusion import TooLittleError
from perfd.comparison.design import BLOCK_SIZE
from perfd.comparison.metrics import METRICS, run_of
from perfd.comparison.running import DoneRun, samples_of

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


def judged(
    blocks: Sequence[Sequence[DoneRun]], primary: str, effect: float, size: int | None, *, by_block: bool
) -> Pilot:
    """What the blocks of a pilot say, without those that warmed up; ``size`` of a block, if it is given.

    ``by_block``: see `perfd.analysis.rank`; so many more runs are needed as blocks differ more than runs within
    them say. Raises TooLittleError.
    """
    logarithms = [block.logarithms for block in samples_of(blocks).metrics[primary] if block.a and block.b]
    if size is None:
        values: tuple[list[tuple[int, float]], list[tuple[int, float]]] = ([], [])
        for place, run in enumerate(run for each in blocks for run in each):
            value = METRICS[primary].value(run_of(run.measurement))
            if value is not None:
                values[run.side].append((place, math.log(value)))
        size = best_block_size(*values, default=BLOCK_SIZE)
    try:
        noise = design_effect(logarithms) if by_block else 1.0
        needed = sample_size(logarithms, math.log1p(effect), block_size=size, noise=noise)
    except ValueError as error:
        raise TooLittleError(str(error)) from None
    return Pilot(size, needed, effect)
