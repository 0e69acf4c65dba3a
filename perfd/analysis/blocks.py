"""What is compared: blocks of measurements of two arms, A and B, that were made at about the same time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(map(float, values))


@attrs.frozen
class Block:
    """The values of one block, one for each run; a run that failed is ``math.inf``.

    Values are times in seconds, or anything else of which less is better, or the ``logarithms`` of such. nan is
    refused.
    """

    a: tuple[float, ...] = attrs.field(converter=_floats)
    b: tuple[float, ...] = attrs.field(converter=_floats)

    def __attrs_post_init__(self) -> None:
        if any(map(math.isnan, (*self.a, *self.b))):
            raise ValueError("a block cannot hold nan: a run that failed is infinite")

    @property
    def logarithms(self) -> Block:
        """The same with the natural logarithm of each value; a difference of these is a ratio.

        Raises ValueError for what has none: times are positive.
        """
        if min((*self.a, *self.b), default=1.0) <= 0:
            raise ValueError("only positive values have logarithms")
        return Block(map(math.log, self.a), map(math.log, self.b))


def arms(blocks: Sequence[Block]) -> tuple[list[float], list[float]]:
    """All values of A, and all of B."""
    return [value for block in blocks for value in block.a], [value for block in blocks for value in block.b]
