"""What charts show: frozen records, which know nothing of how they are drawn.

Each has a ``name`` (of its file, and of its place in a page), a ``title``, a ``note`` (a sentence on how it is
computed) and a ``table`` of its numbers: what stands below it in a page, and in the CSV file beside a picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import attrs

from perfd.charts.axes import Axis, Scale, moment, number
from perfd.charts.outlines import thinned

Cell = str | float | int | None


class Tone(str, Enum):
    """What a colour stands for. The six of series differ in lightness too; words tell them apart besides."""

    A = "a"
    B = "b"
    C = "c"
    D = "d"
    E = "e"
    F = "f"
    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    SKIPPED = "skipped"


SERIES = (Tone.A, Tone.B, Tone.C, Tone.D, Tone.E, Tone.F)


def tone(place: int) -> Tone:
    """That of the n-th series, from 0; they come again after six."""
    return SERIES[place % len(SERIES)]


@attrs.frozen
class Table:
    """Numbers under their headings; None is what there is not."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@attrs.frozen
class Mark:
    """A place on the x axis and what is there: a note of the operator, a margin, no difference."""

    at: float
    text: str


@attrs.frozen
class Point:
    """A place of a line, with the band around it; without ``y`` the line is interrupted."""

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None


@attrs.frozen(kw_only=True)
class Line:
    """A line, its band and its name, which may say a number, such as the median."""

    name: str
    points: tuple[Point, ...]
    tone: Tone = Tone.A
    stepped: bool = False  # between two points it stays what it was, as a distribution function

    @property
    def pieces(self) -> list[list[Point]]:
        """The parts that hang together."""
        found: list[list[Point]] = [[]]
        for point in self.points:
            if point.y is not None:
                found[-1].append(point)
            elif found[-1]:
                found.append([])
        return [piece for piece in found if piece]

    @property
    def has_band(self) -> bool:
        return any(point.low is not None and point.high is not None for point in self.points)


@attrs.frozen(kw_only=True)
class _Chart:
    name: str
    title: str
    note: str = ""


@attrs.frozen(kw_only=True)
class LineChart(_Chart):
    """Lines over time, or distribution functions."""

    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...] = ()
    band: str = "quartiles"  # what the bands are

    @property
    def table(self) -> Table:
        has_band = any(line.has_band for line in self.lines)
        headings = ("series", self.x.title, self.y.title, *(("low", "high") if has_band else ()))
        rows = (
            (
                line.name,
                _value(self.x, p.x),
                *(_value(self.y, y) for y in ((p.y, p.low, p.high) if has_band else (p.y,))),
            )
            for line in self.lines
            for p in line.points
        )
        return Table(headings, tuple(rows))


@attrs.frozen
class Stretch:
    """A part of the x axis and what happened in it."""

    start: float
    end: float
    tone: Tone
    text: str


@attrs.frozen(kw_only=True)
class Strip(_Chart):
    """How runs ended, one beside the other."""

    x: Axis
    stretches: tuple[Stretch, ...]
    marks: tuple[Mark, ...] = ()

    @property
    def table(self) -> Table:
        rows = ((_value(self.x, s.start), _value(self.x, s.end), s.text) for s in self.stretches)
        return Table(("from", "until", "what happened"), tuple(rows))


@attrs.frozen
class Row:
    """A row of a waterfall."""

    name: str
    spans: tuple[Stretch, ...]


@attrs.frozen(kw_only=True)
class Waterfall(_Chart):
    """Steps one after the other, each in a row of its own."""

    x: Axis
    rows: tuple[Row, ...]
    marks: tuple[Mark, ...] = ()

    @property
    def kinds(self) -> dict[str, Tone]:
        """What colours stand for, if that is not the row itself."""
        if all(len(row.spans) < 2 for row in self.rows):
            return {}
        return {span.text: span.tone for row in self.rows for span in row.spans}

    @property
    def table(self) -> Table:
        rows = ((r.name, s.text, s.start, s.end, s.end - s.start) for r in self.rows for s in r.spans)
        unit = f" ({self.x.unit})" if self.x.unit else ""
        return Table(("step", "what", f"from{unit}", f"until{unit}", f"took{unit}"), tuple(rows))


@attrs.frozen(kw_only=True)
class HeatMap(_Chart):
    """A number for each row and column; None where nothing was measured."""

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    label: str
    unit: str = ""

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest of the values; two equal ones if there are less than two."""
        known = [value for row in self.values for value in row if value is not None] or [0.0]
        return min(known), max(known)

    def level(self, value: float, levels: int) -> int:
        """In which of so many equal parts of the range ``value`` is, from 0."""
        low, high = self.range
        return 0 if low == high else min(levels - 1, int((value - low) / (high - low) * levels))

    @property
    def table(self) -> Table:
        rows = (
            (name, column, value)
            for name, values in zip(self.rows, self.values, strict=True)
            for column, value in zip(self.columns, values, strict=True)
        )
        return Table(("row", "column", f"{self.label} ({self.unit})" if self.unit else self.label), tuple(rows))


@attrs.frozen
class Bar:
    """A value and its interval, which may reach beyond the axis."""

    name: str
    value: float
    low: float
    high: float
    tone: Tone = Tone.A
    text: str = ""  # what is said of it besides
    part: str = ""  # of what: stands above the bars in a row that have it in common

    @property
    def whole_name(self) -> str:
        """What tells it from all others of its chart."""
        return f"{self.part}: {self.name}" if self.part else self.name


@attrs.frozen(kw_only=True)
class Bars(_Chart):
    """Values with intervals, one row each: effects, rates, relays. ``marks`` are what they are compared with."""

    x: Axis
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...] = ()

    def interval(self, bar: Bar) -> str:
        """A bar's numbers in words."""
        factor, unit = (100, "%") if self.x.scale is Scale.SHARE else (1, self.x.unit)
        value, low, high = (number(each * factor) for each in (bar.value, bar.low, bar.high))
        return f"{value} {unit} ({low} to {high})" if unit else f"{value} ({low} to {high})"

    @property
    def table(self) -> Table:
        rows = ((b.whole_name, *(_value(self.x, x) for x in (b.value, b.low, b.high)), b.text) for b in self.bars)
        return Table(("what", self.x.title, "low", "high", "besides"), tuple(rows))


@attrs.frozen
class Column:
    """A part of the x axis, and how much of each thing there was."""

    start: float
    end: float
    values: tuple[float, ...]


@attrs.frozen(kw_only=True)
class Stacks(_Chart):
    """Amounts over time, one on the other, such as failures by their code.

    Where a column is missing, nothing was measured.
    """

    x: Axis
    y: Axis
    names: tuple[str, ...]
    columns: tuple[Column, ...]
    marks: tuple[Mark, ...] = ()

    @property
    def table(self) -> Table:
        rows = (
            (_value(self.x, c.start), _value(self.x, c.end), *(_value(self.y, value) for value in c.values))
            for c in self.columns
        )
        return Table(("from", "until", *(f"{name}: {self.y.title}" for name in self.names)), tuple(rows))

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """The parts of the x axis without a column."""
        ends = [self.x.low, *(column.end for column in self.columns)]
        starts = [*(column.start for column in self.columns), self.x.high]
        return [(end, start) for end, start in zip(ends, starts, strict=True) if start > end]

    def parts(self, column: Column) -> Iterator[tuple[int, float, float]]:
        """Of each value that is not 0: its place, and where it begins and ends on the y axis."""
        below = 0.0
        for place, value in enumerate(column.values):
            if value:
                yield place, below, below + value
            below += value


@attrs.frozen(kw_only=True)
class Cloud:
    """Points of one kind, and the outline of the ellipse that stands for them (empty: there is none)."""

    name: str
    points: tuple[tuple[float, float], ...]
    outline: tuple[tuple[float, float], ...] = ()
    tone: Tone = Tone.A


@attrs.frozen(kw_only=True)
class Scatter(_Chart):
    """Two numbers of each run, one by the other, or one of them over time."""

    x: Axis
    y: Axis
    clouds: tuple[Cloud, ...]
    marks: tuple[Mark, ...] = ()

    @property
    def table(self) -> Table:
        rows = (
            (cloud.name, _value(self.x, x), _value(self.y, y)) for cloud in self.clouds for x, y in cloud.points
        )
        return Table(("series", self.x.title, self.y.title), tuple(rows))

    def sparse(self, most: int) -> Scatter:
        """With about ``most`` points, and a note that says which they are: what is hidden by others costs as much.

        Those far up are what is looked for, so a tenth of the room of each cloud is theirs.
        """
        room = max(10, most // max(1, len(self.clouds)))
        clouds = tuple(attrs.evolve(each, points=thinned(each.points, room)) for each in self.clouds)
        count, drawn = (sum(len(cloud.points) for cloud in each) for each in (self.clouds, clouds))
        if drawn == count:
            return self
        said = f"Drawn are {drawn:,} of {count:,}: the highest of each series, and evenly of the others."
        return attrs.evolve(self, clouds=clouds, note=f"{self.note} {said}".strip())


@attrs.frozen
class Shot:
    """A picture of a page, as JPEG, and when it was taken: seconds since the navigation began."""

    at: float
    image: bytes


@attrs.frozen
class Reel:
    """What a page looked like during one load: at the beginning of each part of the x axis, if it is known."""

    name: str
    shots: tuple[Shot | None, ...]


@attrs.frozen(kw_only=True)
class Film(_Chart):
    """Page loads in pictures, one below the other; what stands in a column was seen at the same time.

    All reels have as many shots; ``aspect`` is the height of the pictures by their width.
    """

    x: Axis
    reels: tuple[Reel, ...]
    aspect: float

    @property
    def columns(self) -> int:
        return len(self.reels[0].shots)

    def start(self, column: int) -> float:
        """When what stands in a column was seen."""
        return self.x.low + (self.x.high - self.x.low) * column / self.columns

    def changed(self, reel: Reel) -> list[tuple[int, Shot, bool]]:
        """The columns with pictures, and whether each is another one than that before."""
        befores = (None, *reel.shots)
        both = enumerate(zip(reel.shots, befores[:-1], strict=True))
        return [(column, shot, before is None or shot.at != before.at) for column, (shot, before) in both if shot]

    @property
    def table(self) -> Table:
        rows = (
            (reel.name, round(self.start(column), 6), None if shot is None else shot.at)
            for reel in self.reels
            for column, shot in enumerate(reel.shots)
        )
        return Table(("load", "seen at (s)", "picture of (s)"), tuple(rows))


Chart = LineChart | Strip | Waterfall | HeatMap | Bars | Stacks | Scatter | Film


def _value(axis: Axis, value: float | None) -> Cell:
    """In the unit that the title of the axis says."""
    if value is None:
        return None
    if axis.scale is Scale.TIME:
        return moment(value)
    return round(100 * value, 10) if axis.scale in (Scale.SHARE, Scale.TAIL) else value
