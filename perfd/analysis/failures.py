"""Does B fail more often than A? Failure rates that are compared within blocks, and then put together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from perfd.analysis import student
from perfd.analysis.blocks import Block
from perfd.analysis.rank import CRITICAL


@attrs.frozen
class FailureDifference:
    """The rate of B less that of A (0.01 is one per cent of all runs), its interval, and the test's two-sided
    p.
    """

    difference: float
    low: float
    high: float
    p: float
    failures: tuple[int, int]
    runs: tuple[int, int]


def failure_difference(
    blocks: Sequence[Block], critical: float = CRITICAL, *, by_block: bool = False
) -> FailureDifference:
    """The Mantel-Haenszel difference of failure rates; infinite values are failures.

    Each block weighs w = n_a n_b / N. The variance is Sato's, which holds for many small blocks as for few large
    ones: (D sum P + sum Q) / (sum w)^2 with the difference D, P = (n_b^2 x_a - n_a^2 x_b + n_a n_b (n_a - n_b) / 2)
    / N^2 and Q = (x_b (n_a - x_a) + x_a (n_b - x_b)) / 2N, "On the variance estimator for the Mantel-Haenszel risk
    difference", Biometrics 45 (1989). The test is that of Cochran, Mantel and Haenszel without correction (Mantel
    and Haenszel, Journal of the National Cancer Institute 22, 1959). Where nothing failed, the interval is that of
    the rule of three for each arm, 3 / n, or of what is as rare as ``critical``; it is never narrower.

    ``by_block``: runs of an arm in a block have more in common than the arm, so the spread is at least that of the
    blocks' differences, with Student's t; see `perfd.analysis.rank`.
    """
    of_blocks: list[tuple[float, float]] = []  # the weight of each, and its weighted difference
    weights = weighted = p_sum = q_sum = surplus = chance = 0.0
    failures, runs = [0, 0], [0, 0]
    for block in blocks:
        n_a, n_b = len(block.a), len(block.b)
        x_a, x_b = block.a.count(math.inf), block.b.count(math.inf)
        failures[0], failures[1] = failures[0] + x_a, failures[1] + x_b
        runs[0], runs[1] = runs[0] + n_a, runs[1] + n_b
        n, x = n_a + n_b, x_a + x_b
        if not n_a or not n_b:
            continue
        of_blocks.append((n_a * n_b / n, (x_b * n_a - x_a * n_b) / n))
        weights += of_blocks[-1][0]
        weighted += of_blocks[-1][1]
        p_sum += (n_b**2 * x_a - n_a**2 * x_b + n_a * n_b * (n_a - n_b) / 2) / n**2
        q_sum += (x_b * (n_a - x_a) + x_a * (n_b - x_b)) / (2 * n)
        surplus += x_b - n_b * x / n
        chance += n_a * n_b * x * (n - x) / (n**2 * (n - 1)) if n > 1 else 0.0
    if not weights:
        return FailureDifference(0.0, -1.0, 1.0, 1.0, (failures[0], failures[1]), (runs[0], runs[1]))
    difference = weighted / weights
    below, above = (-math.log(math.erfc(critical / math.sqrt(2))) / n for n in runs)
    if any(failures):  # those of both arms alike have no spread, and then they are like none
        spread = critical * math.sqrt(max(0.0, difference * p_sum + q_sum)) / weights
        below, above = max(below, spread), max(above, spread)
    p = math.erfc(abs(surplus) / math.sqrt(2 * chance)) if chance else 1.0
    if by_block and any(failures):
        freedom = len(of_blocks) - 1
        rarely = student.as_rare_as(critical, freedom)
        if math.isfinite(rarely):
            between = math.fsum((each - difference * weight) ** 2 for weight, each in of_blocks)
            error = math.sqrt((freedom + 1) / freedom * between) / weights
            below, above = max(below, rarely * error), max(above, rarely * error)
            p = max(p, student.two_sided(difference / error, freedom)) if error else p
        else:
            below, above, p = math.inf, math.inf, 1.0
    return FailureDifference(
        difference,
        max(-1.0, difference - below),
        min(1.0, difference + above),
        p,
        (failures[0], failures[1]),
        (runs[0], runs[1]),
    )
