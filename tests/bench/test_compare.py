"""How benches compare, and what they say of targets."""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from bench.compare import Comparison, Interval, median_interval, paired_difference
from bench.verdict import MISSED, verdict


class ComparisonTests(SynchronousTestCase):
    """`Comparison`, `median_interval` and `paired_difference`."""

    def made(self, factor: float, runs: int = 6) -> Comparison:
        """Eight blocks, of which each has a level of its own that is far larger than the difference."""
        noise = Random(5)
        comparison = Comparison("a", "b")
        for level in range(1, 9):
            for way in comparison.block(runs):
                comparison.add(way, time=level * noise.lognormvariate(0, 0.05) * (factor if way == "b" else 1))
        return comparison

    def test_order(self) -> None:
        """Each way has its runs in every block, in an order that differs from block to block."""
        comparison = Comparison("a", "b", "c")
        orders = [tuple(comparison.block(4)) for _ in range(5)]
        for order in orders:
            self.assertEqual(Counter(order), {"a": 4, "b": 4, "c": 4})
        self.assertEqual(len(set(orders)), 5)

    def test_ratio(self) -> None:
        """A difference of a tenth is found in spite of blocks of all sizes, and none where there is none."""
        ratio = self.made(1.1).ratio("time", "b", "a")
        self.assertTrue(1.05 < ratio.low < ratio.estimate < ratio.high < 1.15, ratio)
        same = self.made(1.0).ratio("time", "b", "a")
        self.assertTrue(0.95 < same.low < 1 < same.high < 1.05, same)

    def test_difference(self) -> None:
        """By how much one is above the other, in the values' own unit."""
        comparison = Comparison("a", "b")
        for way in comparison.block(6):
            comparison.add(way, time=3.0 if way == "b" else 1.0)
        self.assertEqual(comparison.difference("time", "b", "a").estimate, 2.0)
        self.assertEqual((comparison.median("time", "a"), comparison.median("time", "b")), (1.0, 3.0))

    def test_median_interval(self) -> None:
        """Ranks of the binomial distribution: of 20 values the 6th and the 15th (Conover, table A3)."""
        self.assertEqual(median_interval(range(20, 0, -1)), Interval(10.5, 6, 15))
        self.assertEqual(median_interval([3, 1, 2]), Interval(2, 1, 3))

    def test_paired(self) -> None:
        """What is typical of differences, however much the pairs differ from each other."""
        found = paired_difference([1.0 + step / 100 for step in range(-10, 11)])
        self.assertAlmostEqual(found.estimate, 1.0)
        self.assertTrue(0.9 < found.low < 1.0 < found.high < 1.1, found)


class VerdictTests(SynchronousTestCase):
    """`verdict`."""

    def test_figure(self) -> None:
        """A plain figure reaches its target or misses it."""
        self.assertEqual(verdict(1.05, "<= 1.05"), "1.05 (target <= 1.05: reached)")
        self.assertEqual(verdict(1.06, "<= 1.05"), f"1.06 (target <= 1.05: {MISSED})")
        self.assertIn(MISSED, verdict(0.4, ">= 0.5"))

    def test_interval(self) -> None:
        """An estimate misses its target only if the whole interval does."""
        for found, target, said in (
            (Interval(1.0, 0.9, 1.2), "<= 1.05", "reached"),
            (Interval(1.1, 1.0, 1.2), "<= 1.05", "not decided"),
            (Interval(1.1, 1.06, 1.2), "<= 1.05", MISSED),
            (Interval(0.6, 0.4, 0.7), ">= 0.5", "reached"),
            (Interval(0.4, 0.3, 0.6), ">= 0.5", "not decided"),
            (Interval(0.4, 0.3, 0.49), ">= 0.5", MISSED),
        ):
            self.assertTrue(verdict(found, target).endswith(f"(target {target}: {said})"), found)
