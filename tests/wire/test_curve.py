"""Curves of few points, and samples that are bounded."""

from __future__ import annotations

import random
from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from perfd.wire.curve import MOST_POINTS, ROOM, ArrivalCurve, Samples


def area(points: list[tuple[float, int]], until: float) -> float:
    """Below the step function of ``points``."""
    steps = zip(points, [*points[1:], (until, 0)], strict=True)
    return sum(count * (end - at) for (at, count), (end, _) in steps)


class ArrivalCurveTests(SynchronousTestCase):
    """Points that were reached, fewer than that if there are many."""

    @settings(max_examples=30)
    @given(st.integers(0, 1 << 32), st.integers(1, 3 * ROOM))
    def test_points_are_true_and_few(self, seed: int, reads: int) -> None:
        """At most so many, all of them reached, in order, with the first and the last."""
        draw = random.Random(seed)
        curve, stamp, count, reached = ArrivalCurve(), 0.0, 0, []
        for _ in range(reads):
            stamp, count = stamp + draw.expovariate(100.0), count + draw.choice((1, 498, 16_384))
            curve.reached(count, stamp)
            reached.append((stamp, count))
        points = curve.points()
        assert len(points) == min(reads, MOST_POINTS)
        assert set(points) <= set(reached)
        assert points == sorted(points)
        assert (points[0], points[-1]) == (reached[0], reached[-1])

    def test_silences_stay(self) -> None:
        """Of 20,000 reads with three silences among them, each silence is there from its begin to its end."""
        curve, stamp, count = ArrivalCurve(), 100.0, 0
        silences = {3000: 2.0, 9001: 0.5, 15_002: 1.0}
        expected = []
        for n in range(20_000):
            if n in silences:
                expected.append(((stamp, count), (stamp + silences[n], count + 500)))
            stamp += silences.get(n, 0.0001)
            count += 500
            curve.reached(count, stamp)
        points = curve.points()
        pairs = list(pairwise(points))
        longest = sorted(pairs, key=lambda pair: pair[0][0] - pair[1][0])[:3]
        self.assertEqual(sorted(longest), sorted(expected))

    def test_it_is_near_to_what_was(self) -> None:
        """A steady flow of 10,000 reads differs from its curve by less than two hundredths of the payload."""
        curve, reads = ArrivalCurve(), [(n * 0.001, n * 500) for n in range(1, 10_001)]
        for at, count in reads:
            curve.reached(count, at)
        self.assertLess(abs(area(curve.points(), 10.0) - area(reads, 10.0)) / area(reads, 10.0), 0.02)


class SamplesTests(SynchronousTestCase):
    """What is sampled for a time that nobody knows before."""

    def test_the_interval_grows(self) -> None:
        """There are never more than the most, from the first to near the last, at even distances."""
        samples: Samples[int] = Samples(0.1, most=10)
        for n in range(100_000):
            if samples.is_due(n * 0.01):
                samples.add(n * 0.01, n)
            assert len(samples.taken()) <= 10
        taken = samples.taken()
        self.assertGreater(len(taken), 4)
        self.assertEqual(taken[0], (0.0, 0))
        gaps = {round(later - earlier, 6) for (earlier, _), (later, _) in pairwise(taken)}
        self.assertLessEqual(max(gaps) / min(gaps), 1.01)
        self.assertGreater(taken[-1][0], 1000 - 2 * max(gaps))
