"""Pilots are judged in a process of their own, as they would be in this one."""

from __future__ import annotations

import math
from random import Random

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from perfd.comparison.conclusion import TooLittleError
from perfd.comparison.judge import Judge
from perfd.comparison.pilot import Values, judged


def values(runs: int) -> Values:
    """Six blocks of so many runs of each arm, one of which failed."""
    chance = Random(1)
    found = [[(n % 2, chance.lognormvariate(0, 0.1)) for n in range(2 * runs)] for _ in range(6)]
    found[0][0] = (0, math.inf)
    return found


def test_mostly_failing() -> None:
    """An arm of which most runs fail says little of the noise, and the other one enough."""
    blocks = values(6)
    failing = [[(side, math.inf if side and n > 3 else value) for n, (side, value) in enumerate(b)] for b in blocks]
    assert judged(failing, 0.03, None, by_block=True).needed.blocks > 10


class JudgeTests(TestCase):
    """With a real process."""

    def test_same(self) -> Deferred[None]:
        """The same as in this process."""

        async def main() -> None:
            found = await Judge(reactor).judged(values(6), 0.03, None, by_block=True)
            self.assertEqual(found, judged(values(6), 0.03, None, by_block=True))
            self.assertGreater(found.needed.blocks, 10)

        return Deferred.fromCoroutine(main())

    def test_too_little(self) -> Deferred[None]:
        """What cannot be said comes back as the same error."""

        async def main() -> None:
            with pytest.raises(TooLittleError, match="at least 20 are needed"):
                await Judge(reactor).judged(values(1), 0.03, 1, by_block=False)

        return Deferred.fromCoroutine(main())
