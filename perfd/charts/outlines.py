"""Shapes of lines and bands as polygons of CSS, which are as wide at every size of their box.

A vertex is a share of the box plus some pixels. Boxes are larger by ``EDGE`` pixels on each side than what they
show, so that a line at the edge is whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

RATIO = 2.4
"""Width of a plot by its height, as in charts.css; directions of lines depend on it."""

EDGE = 2

STEPS_SHOWN = 60
"""A distribution of more values than this looks the same without its steps."""

Place = tuple[float, float]
"""Shares of the width, from the left, and of the height, from below."""


def outline(places: Sequence[Place], width: float) -> str:
    """The polygon of a line of ``width`` pixels through at least two places."""
    corners = _without_repeats(places)
    if len(corners) < 2:
        x, y = places[0]
        half = width
        return _polygon([(x, y, -half, -half), (x, y, half, -half), (x, y, half, half), (x, y, -half, half)])
    normals = _normals(corners, width / 2)
    there = [(x, y, dx, dy) for (x, y), (dx, dy) in zip(corners, normals, strict=True)]
    back = [(x, y, -dx, -dy) for x, y, dx, dy in reversed(there)]
    return _polygon([*there, *back])


def stepped(places: Sequence[Place]) -> list[Place]:
    """With the corners of a line that between two places stays what it was."""
    found = list(places[:1])
    for x, y in places[1:]:
        found += [(x, found[-1][1]), (x, y)]
    return found


def area(above: Sequence[Place], below: Sequence[Place]) -> str:
    """The polygon between two lines that go the same way."""
    return _polygon([(x, y, 0.0, 0.0) for x, y in (*above, *reversed(below))])


def thinned(points: tuple[Place, ...], room: int) -> tuple[Place, ...]:
    """At most ``room`` of them: the highest, a tenth of those that stay, and evenly of the others."""
    if len(points) <= room:
        return points
    highest = sorted(range(len(points)), key=lambda n: points[n][1])[-(room // 10) :]
    step = len(points) / (room - len(highest))
    shown = sorted({*highest, *(int(n * step) for n in range(room - len(highest)))})
    return tuple(points[n] for n in shown)


def _without_repeats(places: Sequence[Place]) -> list[Place]:
    found: list[Place] = []
    for place in places:
        if not found or math.dist(found[-1], place) > 1e-4:
            found.append(place)
    return found


def _normals(corners: Sequence[Place], half: float) -> list[Place]:
    """For each corner, the way from it to the line's edge in pixels, downwards positive."""
    directions = []
    for (x, y), (x_next, y_next) in pairwise(corners):
        dx, dy = (x_next - x) * RATIO, y - y_next
        length = math.hypot(dx, dy)
        directions.append((dx / length, dy / length))
    found = []
    for before, after in zip([directions[0], *directions], [*directions, directions[-1]], strict=True):
        nx, ny = -before[1] - after[1], before[0] + after[0]
        length = math.hypot(nx, ny)
        if length < 0.6:  # it turns back: the corner is cut off
            found.append((-before[1] * half, before[0] * half))
            continue
        # As far from the corner as both edges meet: half / cos of half of the angle.
        scale = min(2 * half / length, 2 * half) / length
        found.append((nx * scale, ny * scale))
    return found


def _polygon(vertices: Iterable[tuple[float, float, float, float]]) -> str:
    words = (f"{_position(x, dx)} {_position(1 - y, dy)}" for x, y, dx, dy in vertices)
    return f"clip-path:polygon({','.join(words)})"


def _position(share: float, pixels: float) -> str:
    offset = round(pixels + EDGE * (1 - 2 * share), 1)
    percent = f"{share * 100:.2f}".rstrip("0").rstrip(".")
    if not offset:
        return f"{percent}%"
    return f"calc({percent}% {'+' if offset > 0 else '-'} {abs(offset):g}px)"
