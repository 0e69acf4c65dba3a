"""The ellipse of a cloud of points: where it is, how wide, and in which direction.

That of so many standard deviations of the normal distribution with the mean and the covariance of the points. It is
the level curve of that distribution: of one standard deviation, it holds 39 % of it, of two 86 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

Place = tuple[float, float]

FEWEST = 3
"""Points of which there is an ellipse."""


@attrs.frozen
class Ellipse:
    """An ellipse by its centre, its two half axes (the longer one first), and the angle of that in radians."""

    centre: Place
    axes: tuple[float, float]
    angle: float

    def outline(self, count: int = 48) -> list[Place]:
        """So many places on it, all the way round; the first one comes again at the end."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        found = []
        for n in range(count + 1):
            turn = 2 * math.pi * (n % count) / count
            along, across = self.axes[0] * math.cos(turn), self.axes[1] * math.sin(turn)
            found.append(
                (self.centre[0] + along * cosine - across * sine, self.centre[1] + along * sine + across * cosine)
            )
        return found


def ellipse(points: Sequence[Place], deviations: float = 1.0) -> Ellipse | None:
    """That of ``points``; None of too few, or if all are the same."""
    count = len(points)
    if count < FEWEST:
        return None
    mean_x, mean_y = (math.fsum(point[axis] for point in points) / count for axis in (0, 1))
    xx, yy, xy = (
        math.fsum(products) / (count - 1)
        for products in (
            [(x - mean_x) ** 2 for x, _ in points],
            [(y - mean_y) ** 2 for _, y in points],
            [(x - mean_x) * (y - mean_y) for x, y in points],
        )
    )
    # The eigenvalues of a symmetric matrix of two rows.
    middle, half = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    if middle <= 0:
        return None
    axes = deviations * math.sqrt(middle + half), deviations * math.sqrt(max(0.0, middle - half))
    return Ellipse((mean_x, mean_y), axes, math.atan2(2 * xy, xx - yy) / 2)
