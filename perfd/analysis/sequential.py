"""Looking at a comparison while it goes on, without fooling oneself."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import attrs

LOOKS = 5


@attrs.frozen
class GroupSequential:
    """A design of ``looks`` looks, evenly spaced in information, with O'Brien and Fleming's bounds.

    ``constant`` is the bound of the last look; at look k (from 1) |Z| must exceed constant * sqrt(looks / k),
    so that the chance of a false alarm at any look is ``alpha``. O'Brien and Fleming, "A multiple testing
    procedure for clinical trials", Biometrics 35 (1979).
    """

    looks: int
    alpha: float
    constant: float

    def critical(self, look: int) -> float:
        """The bound of look ``look``, from 1. Its interval uses this in the place of 1.96."""
        if not 1 <= look <= self.looks:
            raise ValueError(f"there are {self.looks} looks, so none is number {look}")
        return self.constant * math.sqrt(self.looks / look)


@lru_cache(maxsize=32)
def group_sequential(looks: int = LOOKS, alpha: float = 0.05) -> GroupSequential:
    """The design, with its constant found numerically (2.040 for five looks at 5 %)."""
    if looks < 1 or not 0 < alpha < 1:
        raise ValueError(f"no design has {looks} looks at the level {alpha}")
    low, high = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(1 - alpha / 2 / looks) + 0.1
    while high - low > 1e-6:
        middle = (low + high) / 2
        if _false_alarm(looks, middle) > alpha:
            low = middle
        else:
            high = middle
    return GroupSequential(looks, alpha, (low + high) / 2)


def _false_alarm(looks: int, constant: float) -> float:
    """The chance that a walk of ``looks`` standard normal steps leaves [-bound, bound], bound = constant
    sqrt(looks).

    Z_k sqrt(k) is that walk, and the bounds of all looks are the same for it. The density of the walk that has
    stayed inside is carried on from look to look (Armitage, McPherson and Rowe, 1969), by Gauss and Legendre's
    quadrature.
    """
    bound = constant * math.sqrt(looks)
    nodes = [(bound * x, bound * w) for x, w in _legendre(40)]
    normal = NormalDist()
    density = [normal.pdf(x) for x, _ in nodes]
    for _ in range(looks - 1):
        density = [
            math.fsum(f * w * normal.pdf(x - y) for f, (y, w) in zip(density, nodes, strict=True)) for x, _ in nodes
        ]
    return 1 - math.fsum(f * w for f, (_, w) in zip(density, nodes, strict=True))


@lru_cache(maxsize=4)
def _legendre(count: int) -> tuple[tuple[float, float], ...]:
    """Nodes and weights of Gauss and Legendre's quadrature on [-1, 1], by Newton's method."""
    found = []
    for i in range(count):
        x = math.cos(math.pi * (i + 0.75) / (count + 0.5))
        for _ in range(100):
            before, value = 1.0, x
            for k in range(2, count + 1):
                before, value = value, ((2 * k - 1) * x * value - (k - 1) * before) / k
            slope = count * (x * value - before) / (x * x - 1)
            step = value / slope
            x -= step
            if abs(step) < 1e-15:
                break
        found.append((x, 2 / ((1 - x * x) * slope * slope)))
    return tuple(found)


def confidence_sequence_margin(deviation: float, count: int, *, tuned_for: int, alpha: float = 0.05) -> float:
    """Half the width of an interval about the mean of ``count`` independent estimates that holds at all times
    at once.

    ``deviation`` is their standard deviation so far. It is s sqrt(2 (t rho^2 + 1) ln(sqrt(t rho^2 + 1) / alpha)
    / (t^2 rho^2)), narrowest near ``tuned_for`` estimates: the asymptotic confidence sequence of Waudby-Smith,
    Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences",
    Annals of Statistics 52 (2024). It holds for many estimates; below ten do not show it.
    """
    if count < 1:
        return math.inf
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tuned_for
    inflated = count * rho2 + 1
    return deviation * math.sqrt(2 * inflated * math.log(math.sqrt(inflated) / alpha) / (count**2 * rho2))
