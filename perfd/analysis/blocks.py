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

    Values are times in seconds, or anything else that is positive and of which less is better. nan is refused.
    """

    a: tuple[float, ...] = attrs.field(converter=_floats)
    b: tuple[float, ...] = attrs.field(converter=_floats)

    def __attrs_post_init__(self) -> None:
        for value in (*self.a, *self.b):
            if not value > 0:
                raise ValueError(f"a block cannot hold {value}: values are positive, failures infinite")

    @property
    def logarithms(self) -> Block:
        """The same with the natural logarithm of each value; a difference of these is a ratio."""
        made = object.__new__(Block)
        object.__setattr__(made, "a", tuple(map(math.log, self.a)))
        object.__setattr__(made, "b", tuple(map(math.log, self.b)))
        return made


def arms(blocks: Sequence[Block]) -> tuple[list[float], list[float]]:
    """All values of A, and all of B."""
    return [value for block in blocks for value in block.a], [value for block in blocks for value in block.b]
