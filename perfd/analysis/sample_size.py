"""How many runs a comparison needs, from the noise of a pilot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import attrs

from perfd.analysis.blocks import Block
from perfd.analysis.quantiles import of_sorted
from perfd.analysis.rank import design_effect_limit

POWER = 0.95
BLOCK_SIZES = range(4, 13)

_LOOKS = 1.03
"""The price of looking five times: O'Brien and Fleming's design needs so many times as many runs at most."""

_ALLOWANCE = 1.13
"""What six blocks of 6 + 6 runs say of how many runs are needed deviates by a third, so z_power by 0.6: with so
many times as many the power is the promised one on average."""


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
    by_block: bool = False,
) -> SampleSize:
    """How many runs find a shift of ``delta`` (of the logarithm: ln 1.03 for 3 %) with ``power`` at 5 %,
    two-sided.

    For each arm (z_0.975 + z_power)^2 / (6 delta^2 I^2) * (2m + 1) / 2m, with I = ``density_integral`` and m =
    ``block_size``: the asymptotic efficiency of van Elteren's test; 3 % more for five looks.

    ``by_block``: the unit is the block (see `perfd.analysis.rank`), so n is times `design_effect_limit`, and
    z_0.975^2 / 2 more blocks are needed since the test has a t and no z (Guenther, "Sample size formulas for normal
    theory t-tests", The American Statistician 35, 1981). Otherwise n is 13 % more, for how little a pilot says.
    Raises ValueError for a pilot that says too little.
    """
    integral = density_integral(pilot)
    normal = NormalDist()
    critical = normal.inv_cdf(0.975)
    z = critical + normal.inv_cdf(power)
    runs = _LOOKS * z**2 / (6 * delta**2 * integral**2) * (2 * block_size + 1) / (2 * block_size)
    blocks = runs / block_size
    if by_block:
        blocks = blocks * design_effect_limit(pilot) + critical**2 / 2
    else:
        blocks *= _ALLOWANCE
    return SampleSize(block_size, math.ceil(blocks), delta, power)


def best_block_size(a: Sequence[tuple[int, float]], b: Sequence[tuple[int, float]], default: int = 6) -> int:
    """The runs of each arm in a block, from 4 to 12, with which a shift needs the fewest runs.

    ``a`` and ``b`` are a pilot's runs of each arm: their places in the order of time, and their values, of which
    the arm's median is taken away first; failures are left out. For each size the runs are cut into blocks anew, so
    that a drift makes long blocks noisy. ``default`` stays unless another one saves 5 % of the runs, or where the
    pilot says too little.
    """
    residuals: list[tuple[int, float]] = []
    for arm in (a, b):
        finite = [(place, value) for place, value in arm if math.isfinite(value)]
        middle = of_sorted(sorted(value for _, value in finite), 0.5) if finite else 0.0
        residuals += [(place, value - middle) for place, value in finite]
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
