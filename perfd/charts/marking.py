"""Where the words of marks stand in a picture, so that none is written over another, or beyond the chart."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

import attrs

from perfd.charts.axes import Axis
from perfd.charts.model import Bar, Chart, Film, HeatMap, LineChart, Mark, Scatter, Stacks

LINE = 40
"""Characters of a line of words."""

MOST_LINES = 2
ROWS = 6
"""Lines one below the other in which there may be words: what is lower belongs to the chart itself."""

ROOM, ROOM_BESIDE_NAMES = 88, 40
"""Characters of words in the width of a chart; rows have their names and numbers beside them."""


@attrs.frozen
class Words:
    """The words of a mark, from the line ``row`` on; to the right of the mark, or to its left."""

    lines: tuple[str, ...]
    row: int
    is_right: bool


def placed(marks: Sequence[Mark], x: Axis, y: Axis | None) -> list[tuple[float, Words | None]]:
    """The place of each mark from 0 to 1, in order, and its words; None: there is no room for them."""
    room = ROOM if y is not None else ROOM_BESIDE_NAMES
    taken: list[tuple[int, float, float]] = []  # row, and from where to where
    found = []
    for place, text in sorted((x.place(mark.at), mark.text) for mark in marks):
        lines = tuple(wrap(text, LINE, max_lines=MOST_LINES, placeholder=" ..."))
        width = (max(map(len, lines), default=0) + 2) / room
        is_right = place + width <= 1 or place < 0.5
        low, high = (place, place + width) if is_right else (place - width, place)
        rows = (row for row in range(ROWS - len(lines) + 1) if _is_free(taken, row, len(lines), low, high))
        row = next(rows, None)
        if row is not None:
            taken += [(row + n, low, high) for n in range(len(lines))]
        found.append((place, None if row is None else Words(lines, row, is_right)))
    return found


def _is_free(taken: Sequence[tuple[int, float, float]], row: int, count: int, low: float, high: float) -> bool:
    return not any(row <= other < row + count and low < end and begin < high for other, begin, end in taken)


def without_words(chart: Chart) -> str:
    """What to say of the marks of a chart whose words have no room; nothing if all have."""
    if isinstance(chart, HeatMap | Film):
        return ""
    y = chart.y if isinstance(chart, LineChart | Scatter | Stacks) else None
    count = sum(words is None for _, words in placed(chart.marks, chart.x, y))
    return f"For the words of {count:,} of {len(chart.marks):,} marks there is no room." if count else ""


def headed(bars: Sequence[Bar]) -> list[tuple[Bar, str]]:
    """Each bar, and the heading that stands above it, if any."""
    befores = ("", *(bar.part for bar in bars[:-1]))
    return [(bar, "" if bar.part == before else bar.part) for bar, before in zip(bars, befores, strict=True)]
