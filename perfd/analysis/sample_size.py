"""How many runs a comparison needs, from the noise of a pilot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import attrs

from perfd.analysis.blocks import Block
from perfd.analysis.quantiles import of_sorted

POWER = 0.95
BLOCK_SIZES = range(4, 13)


@attrs.frozen
class SampleSize:
    """``runs`` of each arm, in ``blocks`` blocks of ``block_size`` runs of each, find ``delta`` with ``power``."""

    block_size: int
    blocks: int
    delta: float
    power: float

    @property
    def runs(self) -> int:
        return self.block_size * self.blocks


def density_integral(blocks: Sequence[Block]) -> float:
    """The integral of the squared density of the noise within blocks, per unit of the values.

    Estimated as P(|y_i - y_j| < h) / 2h over pairs of the same block and arm, with h = 0.4 robust standard
    deviations of the noise (interquartile range of the differences / 1.349 / sqrt 2), which is low by 1.3 % for
    normal noise. Pairs of failures are left out. Raises ValueError if there are fewer than 20 pairs, or no
    noise at all.
    """
    differences = sorted(
        abs(arm[i] - arm[j])
        for block in blocks
        for arm in (block.a, block.b)
        for i in range(len(arm))
        for j in range(i)
        if arm[i] != math.inf and arm[j] != math.inf
    )
    if len(differences) < 20:
        raise ValueError(
            f"a pilot of {len(differences)} pairs says too little about the noise: at least 20 are needed"
        )
    # The absolute difference of two has its median at the quartile of the difference.
    deviation = of_sorted(differences, 0.5) / 0.6745 / math.sqrt(2)
    if deviation <= 0:
        raise ValueError("more than half of the pilot's values are equal: there is no noise to compare with")
    h = 0.4 * deviation
    near = sum(1 for each in differences if each < h) / len(differences)
    return near / (2 * h)


def sample_size(
    pilot: Sequence[Block],
    delta: float,
    *,
    block_size: int = 6,
    power: float = POWER,
    inflation: float = 1.03,
    noise: float = 1.0,
) -> SampleSize:
    """How many runs find a shift of ``delta`` (of the logarithm: ln 1.03 for 3 %) with ``power`` at 5 %,
    two-sided.

    For each arm (z_0.975 + z_power)^2 / (6 delta^2 I^2) * (2m + 1) / 2m, with I = ``density_integral`` and m =
    ``block_size``: the asymptotic efficiency of van Elteren's test. ``inflation`` is the price of looking five
    times (O'Brien and Fleming's design needs 3 % more at most); ``noise`` is how many times as large the variance
    is as that of runs within blocks (`perfd.analysis.rank.design_effect`). Raises ValueError for a pilot that says
    too little.
    """
    integral = density_integral(pilot)
    normal = NormalDist()
    z = normal.inv_cdf(0.975) + normal.inv_cdf(power)
    runs = noise * inflation * z**2 / (6 * delta**2 * integral**2) * (2 * block_size + 1) / (2 * block_size)
    return SampleSize(block_size, math.ceil(runs / block_size), delta, power)


def best_block_size(a: Sequence[tuple[int, float]], b: Sequence[tuple[int, float]], default: int = 6) -> int:
    """The runs of each arm in a block, from 4 to 12, with which a shift needs the fewest runs.

    ``a`` and ``b`` are a pilot's runs of each arm: their places in the order of time, and their values, of which
    the arm's median is taken away first. For each size the runs are cut into blocks anew, so that a drift makes
    long blocks noisy. ``default`` stays unless another one saves 5 % of the runs, or where the pilot says too
    little.
    """
    residuals: list[tuple[int, float]] = []
    for arm in (a, b):
        middle = of_sorted(sorted(value for _, value in arm), 0.5) if arm else 0.0
        residuals += [(place, value - middle) for place, value in arm if math.isfinite(value)]
    ordered = [value for _, value in sorted(residuals)]
    needed = {}
    for size in BLOCK_SIZES:
        cut = [Block(ordered[n : n + 2 * size], ()) for n in range(0, len(ordered) - 2 * size + 1, 2 * size)]
        try:
            needed[size] = (2 * size + 1) / (2 * size) / density_integral(cut) ** 2
        except ValueError:
            return default
    best = min(needed, key=needed.__getitem__)
    return best if needed[best] < 0.95 * needed[default] else default
