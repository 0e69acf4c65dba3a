"""Charts as HTML and CSS: no script, no SVG, no style attribute, so that a strict policy lets them through.

What is the same for all charts is ``STYLE``. Places and shapes are rules of their own, which a ``Sheet`` collects;
both belong into stylesheets of the same origin or into a style element whose digest the policy names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import singledispatch
from importlib import resources

from markupsafe import Markup, escape

from perfd.charts.axes import Axis, Scale, Tick, number
from perfd.charts.marking import headed
from perfd.charts.model import (
    Bars,
    Cell,
    Chart,
    Film,
    HeatMap,
    Line,
    LineChart,
    Mark,
    Scatter,
    Stacks,
    Stretch,
    Strip,
    Table,
    Tone,
    Waterfall,
    tone,
)
from perfd.charts.outlines import STEPS_SHOWN, area, outline, stepped

STYLE = (resources.files("perfd.charts") / "charts.css").read_text(encoding="utf-8")
"""The stylesheet of all charts."""

LEVELS = 9
"""Shades of a heat map."""

MOST_NUMBERS = 400
"""Rows of the table below a chart; all are in the files that are exported."""

MOST_POINTS = 480
"""Of a scatter in a page; all are in its numbers, and in the files that are exported."""

WIDTH = 2.0
"""Of lines, in pixels."""

MARK_ROWS = 3
MARK_ROOM = 0.04
"""Numbers of marks that are nearer to each other, as a share of the chart, stand in different rows."""


class Sheet:
    """The rules of the charts of a page. A rule has one class however often it is needed."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}

    def rule(self, declarations: str) -> str:
        """The class of elements with these declarations."""
        name = f"k{hashlib.sha256(declarations.encode()).hexdigest()[:8]}"
        self._rules[name] = declarations
        return name

    @property
    def text(self) -> str:
        return "".join(f".chart .{name}{{{declarations}}}" for name, declarations in self._rules.items())


def digest(style: str) -> str:
    """What a Content-Security-Policy calls a style element with this content."""
    return f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"


def figure(chart: Chart, sheet: Sheet, most_numbers: int = MOST_NUMBERS) -> Markup:
    """A chart with its title, its legend and so many of its numbers; its shapes are added to ``sheet``."""
    drawn = chart.sparse(MOST_POINTS) if isinstance(chart, Scatter) else chart
    note = Markup("<p>{}</p>").format(drawn.note) if drawn.note else ""
    return Markup('<figure class="chart" id="{}"><figcaption>{}</figcaption>{}{}{}</figure>\n').format(
        chart.name.replace(".", "-"),
        chart.title,
        note,
        _body(drawn, sheet),
        numbers(chart.table, chart.title, most_numbers),
    )


def numbers(table: Table, title: str, most: int = MOST_NUMBERS) -> Markup:
    """A table that is closed until it is asked for, of at most so many rows."""
    head = join(Markup('<th scope="col">{}</th>').format(heading) for heading in table.headings)
    shown = table.rows[:most]
    # Not by ``format``, which takes most of the time of a page.
    rows = Markup(
        "".join(f"<tr>{''.join(f'<td>{escape(_cell(cell))}</td>' for cell in row)}</tr>" for row in shown)
    )
    more = len(table.rows) - len(shown)
    rest = Markup("<p>and {} more</p>").format(more) if more else ""
    return Markup(
        '<details><summary>The numbers</summary><section class="numbers" tabindex="0" aria-label="Numbers: {}">'
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>{}</section></details>"
    ).format(title, head, rows, rest)


def join(parts: Iterable[str]) -> Markup:
    """One after the other; what is not markup is escaped."""
    return Markup("").join(parts)


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    return number(cell) if isinstance(cell, float) else str(cell)


@singledispatch
def _body(chart: Chart, sheet: Sheet) -> Markup:
    raise NotImplementedError(type(chart).__name__)


@_body.register
def _lines(chart: LineChart, sheet: Sheet) -> Markup:
    shapes = join(_shapes(chart, line, sheet) for line in chart.lines)
    band = f", with {chart.band}" if any(line.has_band for line in chart.lines) else ""
    said = (
        f"{chart.title}: {chart.y.title} by {chart.x.title}{band}; {', '.join(line.name for line in chart.lines)}"
    )
    legend = _legend([(line.name, f"{line.tone.value} line") for line in chart.lines])
    return join([legend, _plot(said, chart.x, chart.y, shapes, chart.marks, sheet)])


@_body.register
def _scatter(chart: Scatter, sheet: Sheet) -> Markup:
    found = []
    for cloud in chart.clouds:
        look = f"shape line {cloud.tone.value}"
        for x, y in cloud.points:
            found.append(_element(look, outline([(chart.x.place(x), chart.y.place(y))], WIDTH), sheet))
        if cloud.outline:
            places = [(chart.x.place(x), chart.y.place(y)) for x, y in cloud.outline]
            found.append(_element(look, outline(places, WIDTH), sheet))
    said = f"{chart.title}: {chart.y.title} by {chart.x.title}; {', '.join(cloud.name for cloud in chart.clouds)}"
    legend = _legend([(cloud.name, f"{cloud.tone.value} line") for cloud in chart.clouds])
    return join([legend, _plot(said, chart.x, chart.y, join(found), chart.marks, sheet)])


def _shapes(chart: LineChart, line: Line, sheet: Sheet) -> Markup:
    def place(x: float, y: float) -> tuple[float, float]:
        return chart.x.place(x), chart.y.place(y)

    found = []
    for piece in line.pieces:
        banded = [(p.x, p.low, p.high) for p in piece if p.low is not None and p.high is not None]
        if len(banded) > 1:
            shape = area([place(x, high) for x, _, high in banded], [place(x, low) for x, low, _ in banded])
            found.append(_element(f"shape band {line.tone.value}", shape, sheet))
        places = [place(p.x, p.y) for p in piece if p.y is not None]
        if line.stepped and len(places) <= STEPS_SHOWN:
            places = stepped(places)
        found.append(_element(f"shape line {line.tone.value}", outline(places, WIDTH), sheet))
    return join(found)


@_body.register
def _stacks(chart: Stacks, sheet: Sheet) -> Markup:
    gaps = join(_element("gap", _across(chart.x, start, end), sheet) for start, end in chart.gaps)
    shapes = join(
        _element(
            tone(place).value,
            f"{_across(chart.x, column.start, column.end)};"
            f"bottom:{_percent(chart.y.place(low))};top:{_percent(1 - chart.y.place(high))}",
            sheet,
        )
        for column in chart.columns
        for place, low, high in chart.parts(column)
    )
    said = f"{chart.title}: {chart.y.title} by {chart.x.title}; {', '.join(chart.names)}"
    legend = _legend([(name, f"box {tone(place).value}") for place, name in enumerate(chart.names)])
    return join([legend, _plot(said, chart.x, chart.y, join([gaps, shapes]), chart.marks, sheet)])


@_body.register
def _strip(chart: Strip, sheet: Sheet) -> Markup:
    parts = [_stretch(chart.x, stretch, stretch.tone.value, sheet) for stretch in chart.stretches]
    counts = {each: sum(s.tone is each for s in chart.stretches) for each in Tone}
    words = [(f"{each.value} ({count})", f"box {each.value}") for each, count in counts.items() if count]
    said = f"{chart.title}: {', '.join(word for word, _ in words)}"
    return join(
        [
            _legend(words),
            Markup('<div class="strip" role="img" aria-label="{}">{}{}{}</div>{}').format(
                said,
                join(parts),
                _ticks_below(chart.x.ticks(), chart.x, sheet),
                _marks(chart.marks, chart.x, sheet),
                _listed(chart.marks, chart.x),
            ),
        ]
    )


@_body.register
def _waterfall(chart: Waterfall, sheet: Sheet) -> Markup:
    found = []
    for row in chart.rows:
        took = sum(span.end - span.start for span in row.spans)
        said = "; ".join(
            f"{span.text} {chart.x.text(span.start)} to {chart.x.text(span.end)}" for span in row.spans
        )
        spans = join(_stretch(chart.x, span, f"span {span.tone.value}", sheet) for span in row.spans)
        marks = _marks(chart.marks, chart.x, sheet, words=False)
        found.append(_row(row.name, f"{row.name}: {said}", join([spans, marks]), chart.x.text(took)))
    legend = _legend([(text, f"box {tone.value}") for text, tone in chart.kinds.items()])
    return join([legend, _rows([*found, _axis_row(chart.x, sheet)], chart.x, chart.marks)])


@_body.register
def _bars(chart: Bars, sheet: Sheet) -> Markup:
    found = []
    for bar, heading in headed(chart.bars):
        if heading:
            found.append(Markup('<span class="part">{}</span>').format(heading))
        whisker = _element(f"whisker {bar.tone.value}", _across(chart.x, bar.low, bar.high), sheet)
        value = _element(f"value {bar.tone.value}", f"left:{_percent(chart.x.place(bar.value))}", sheet)
        marks = _marks(chart.marks, chart.x, sheet, words=False)
        interval = chart.interval(bar)
        said = f"{bar.whole_name}: {interval} {bar.text}"
        found.append(_row(bar.name, said, join([marks, whisker, value]), f"{interval} {bar.text}".strip()))
    return _rows([*found, _axis_row(chart.x, sheet)], chart.x, chart.marks)


def _row(name: str, said: str, inside: str, text: str) -> Markup:
    return Markup(
        '<span class="name">{}</span><div class="track" role="img" aria-label="{}">{}</div>'
        '<span class="said">{}</span>'
    ).format(name, said, inside, text)


def _axis_row(x: Axis, sheet: Sheet) -> Markup:
    ticks = _ticks_below(x.ticks(6), x, sheet)
    return Markup(
        '<span class="name none"></span><div class="track axis" aria-hidden="true">{}</div>'
        '<span class="said none"></span>'
    ).format(ticks)


def _rows(rows: Iterable[str], x: Axis, marks: Sequence[Mark]) -> Markup:
    dashed = "; ".join(f"{mark.text} at {x.text(mark.at)}" for mark in marks)
    return Markup('<div class="rows">{}</div><p class="x">{}{}</p>').format(
        join(rows), x.title, f"; dashed: {dashed}" if dashed else ""
    )


@_body.register
def _heat_map(chart: HeatMap, sheet: Sheet) -> Markup:
    grid = sheet.rule(f"grid-template-columns:max-content repeat({len(chart.columns)},minmax(0,1fr))")
    step = max(1, round(len(chart.columns) / 8))
    head = [Markup("<span>{}</span>").format(c if n % step == 0 else "") for n, c in enumerate(chart.columns)]
    cells: list[str] = [Markup("<span></span>"), *head]
    for name, values in zip(chart.rows, chart.values, strict=True):
        cells.append(Markup('<span class="name">{}</span>').format(name))
        for column, value in zip(chart.columns, values, strict=True):
            said = "not measured" if value is None else f"{number(value)} {chart.unit}"
            level = "" if value is None else f"h{chart.level(value, LEVELS)}"
            cells.append(Markup('<i class="{}" title="{}, {}: {}"></i>').format(level, name, column, said))
    low, high = chart.range
    said = f"{chart.title}: {chart.label}, {number(low)} to {number(high)} {chart.unit}"
    return Markup('<p class="y">{}</p><div class="heat {}" role="img" aria-label="{}">{}</div>').format(
        f"{chart.label}, from {number(low)} (faint) to {number(high)} {chart.unit} (strong)",
        grid,
        said,
        join(cells),
    )


@_body.register
def _film(chart: Film, sheet: Sheet) -> Markup:
    grid = sheet.rule(f"grid-template-columns:repeat({chart.columns},minmax(0,1fr))")
    shape = sheet.rule(f"aspect-ratio:{1 / chart.aspect:.4f}")
    found = []
    for reel in chart.reels:
        shots: list[str] = [Markup("<i></i>")] * chart.columns
        for column, shot, is_new in chart.changed(reel):
            picture = sheet.rule(
                f"background-image:url(data:image/jpeg;base64,{base64.b64encode(shot.image).decode()})"
            )
            said = f"{reel.name} at {chart.x.text(chart.start(column))}"
            shots[column] = Markup('<i class="shot{} {} {}" role="img" aria-label="{}" title="{}"></i>').format(
                " new" if is_new else "", shape, picture, said, f"picture of {chart.x.text(shot.at)}"
            )
        found.append(
            Markup('<p class="y">{}</p><div class="shots {}">{}</div>').format(reel.name, grid, join(shots))
        )
    starts = (Markup("<span>{}</span>").format(number(chart.start(column))) for column in range(chart.columns))
    axis = Markup('<div class="shots below {}" aria-hidden="true">{}</div><p class="x">{}</p>')
    return join([*found, axis.format(grid, join(starts), chart.x.title)])


def _plot(said: str, x: Axis, y: Axis, shapes: str, marks: Sequence[Mark], sheet: Sheet) -> Markup:
    rules = []
    for n, tick in enumerate(y.ticks(5)):
        at = _percent(1 - y.place(tick.value))
        line = _element("grid", f"top:{at}", sheet)
        text = Markup('<span class="ty {}{}">{}</span>').format(sheet.rule(f"top:{at}"), _odd(n), tick.text)
        rules += [line, text]
    ticks = x.ticks()
    tall = join(_element("tall", f"left:{_percent(x.place(tick.value))}", sheet) for tick in ticks)
    return Markup(
        '<p class="y">{}</p><div class="plot" role="img" aria-label="{}">{}{}{}{}{}</div><p class="x">{}</p>{}'
    ).format(
        *(y.title, said, tall, join(rules), shapes, _ticks_below(ticks, x, sheet), _marks(marks, x, sheet)),
        *(x.title, _listed(marks, x)),
    )


def _ticks_below(ticks: Sequence[Tick], x: Axis, sheet: Sheet) -> Markup:
    return join(
        Markup('<span class="tx {}{}">{}</span>').format(
            sheet.rule(f"left:{_percent(x.place(tick.value))}"), _odd(n), tick.text
        )
        for n, tick in enumerate(ticks)
    )


def _odd(n: int) -> str:
    """The class of what is left out where there is little room."""
    return " odd" if n % 2 else ""


def _marks(marks: Sequence[Mark], x: Axis, sheet: Sheet, *, words: bool = True) -> Markup:
    """Dashed lines with their texts; over time with numbers, which ``_listed`` explains."""
    found, taken = [], dict.fromkeys(range(MARK_ROWS), -1.0)
    for n, mark in enumerate(marks):
        place = x.place(mark.at)
        left = f"left:{_percent(place)}"
        found.append(_element("mark", left, sheet))
        if words and x.scale is Scale.TIME:
            row = next(
                (row for row, end in taken.items() if place - end > MARK_ROOM), min(taken, key=taken.__getitem__)
            )
            taken[row] = place
            top = sheet.rule(f"{left};top:{1.3 * row:.1f}em")
            found.append(
                Markup('<span class="marked number {}" title="{}">{}</span>').format(top, mark.text, n + 1)
            )
        elif words:
            side = sheet.rule(left if place < 0.6 else f"right:{_percent(1 - place)}")
            found.append(
                Markup('<span class="marked{} {}" title="{}">{}</span>').format(
                    "" if place < 0.6 else " left", side, f"{mark.text}, {x.text(mark.at)}", mark.text
                )
            )
    return join(found)


def _listed(marks: Sequence[Mark], x: Axis) -> Markup:
    """What the numbers of the marks of a chart over time stand for."""
    if not marks or x.scale is not Scale.TIME:
        return Markup("")
    items = join(Markup("<li>{}: {}</li>").format(x.text(mark.at), mark.text) for mark in marks)
    return Markup('<ol class="marks">{}</ol>').format(items)


def _legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Names with what they look like."""
    items = (Markup('<li><i class="{}"></i>{}</li>').format(look, name) for name, look in entries)
    return Markup("<ul>{}</ul>").format(join(items)) if entries else Markup("")


def _stretch(x: Axis, stretch: Stretch, look: str, sheet: Sheet) -> Markup:
    place = sheet.rule(_across(x, stretch.start, stretch.end))
    return Markup('<i class="{} {}" title="{}"></i>').format(look, place, stretch.text)


def _across(x: Axis, start: float, end: float) -> str:
    return f"left:{_percent(x.place(start))};right:{_percent(1 - x.place(end))}"


def _element(look: str, declarations: str, sheet: Sheet) -> Markup:
    return Markup('<i class="{} {}"></i>').format(look, sheet.rule(declarations))


def _percent(share: float) -> str:
    return f"{share * 100:.2f}".rstrip("0").rstrip(".") + "%"
