"""One chart as a picture, by matplotlib. To be imported in a process of its own only (``files``).

Places come from the chart's own axes, so that a picture has the same ticks as a page. Lines differ in colour,
lightness and dashes; what they are is written at their ends where there is room, and above the chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from io import BytesIO
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from PIL import Image

from perfd.charts.axes import Axis, number
from perfd.charts.marking import headed, placed, without_words
from perfd.charts.model import (
    Bars,
    Chart,
    Film,
    HeatMap,
    LineChart,
    Mark,
    Scatter,
    Stacks,
    Strip,
    Tone,
    Waterfall,
    tone,
)

COLOURS = {
    Tone.A: "#1f4fb8",
    Tone.B: "#d9730d",
    Tone.C: "#0a7d62",
    Tone.D: "#9b2d8e",
    Tone.E: "#6b5b00",
    Tone.F: "#4a90c2",
    Tone.OK: "#9fc7b3",
    Tone.FAILED: "#b3122a",
    Tone.TIMEOUT: "#e07b24",
    Tone.SKIPPED: "#b9bec8",
}
DASHES: dict[Tone, Any] = {
    Tone.A: "-",
    Tone.B: (0, (5, 1.2)),
    Tone.C: (0, (2, 1)),
    Tone.D: (0, (6, 1.2, 1.5, 1.2)),
    Tone.E: (0, (9, 1.5)),
    Tone.F: (0, (1, 0.8)),
}
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "oo")

INK, SOFT, RULE = "#1a1d23", "#5b6270", "#e3e6eb"
GAP: Any = {"facecolor": "none", "edgecolor": "#cfd4dc", "hatch": "///", "linewidth": 0}
MOST_POINTS = 3000
"""Of a scatter: a picture of more looks the same, and as SVG is large."""

SHORT = 10
"""Characters of words of a legend that stand in one row."""

HALF = 48
"""Characters of names of a legend of which two have room beside each other."""

NAME = 0.3
"""Inches for the name above a reel."""

HEADING = 0.8
"""The room of a heading among bars, as a multiple of a bar's."""

CROWD = 1000
"""Points from which on they are smaller."""

MARK_LINE = 9.5
"""Points from one line of the words of marks to the next."""

WIDTH = 7.2  # inches
DPI = 150
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "text.color": INK,
    "svg.hashsalt": "perfd",
    "svg.fonttype": "none",
    "hatch.linewidth": 0.4,
    "text.parse_math": False,
}


def draw(chart: Chart, path: Path) -> None:
    """Write the picture; the ending of ``path`` is its format. The same chart gives the same file."""
    if isinstance(chart, Scatter):
        chart = chart.sparse(MOST_POINTS)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, _height(chart)), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        figure.suptitle(_broken(chart.title, 70), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
        if note := f"{chart.note} {without_words(chart)}".strip():
            figure.supxlabel(_broken(note, 110), x=0.012, ha="left", fontsize=7.5, color=SOFT)
        _draw(chart, axes)
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    if path.suffix == ".png":
        # savefig draws everything twice and packs it well, which takes a third of the time of a chart.
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        drawn = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba(), "raw", "RGBA", 0, 1)
        drawn.convert("RGB").save(path, dpi=(DPI, DPI), compress_level=4)
        return
    dated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    figure.savefig(path, metadata=dated[path.suffix])


def _height(chart: Chart) -> float:
    if isinstance(chart, Film):
        return 1.3 + len(chart.reels) * (_height_of_shots(chart) + NAME)
    if isinstance(chart, Bars):
        headings = sum(bool(heading) for _, heading in headed(chart.bars))
        return 1.6 + 0.32 * (len(chart.bars) + HEADING * headings)
    if isinstance(chart, Waterfall):
        return 1.5 + 0.3 * len(chart.rows)
    return {HeatMap: 2.9, Strip: 1.9}.get(type(chart), 4.0)


@singledispatch
def _draw(chart: Chart, axes: Any) -> None:
    raise NotImplementedError(type(chart).__name__)


@_draw.register
def _lines(chart: LineChart, axes: Any) -> None:
    for line in chart.lines:
        colour = COLOURS[line.tone]
        for n, piece in enumerate(line.pieces):
            x = [chart.x.place(point.x) for point in piece]
            banded = [p for p in piece if p.low is not None and p.high is not None]
            axes.fill_between(
                [chart.x.place(p.x) for p in banded],
                [chart.y.place(p.low or 0.0) for p in banded],
                [chart.y.place(p.high or 0.0) for p in banded],
                step="post" if line.stepped else None,
                color=colour,
                alpha=0.16,
                linewidth=0,
            )
            axes.plot(
                x,
                [chart.y.place(p.y or 0.0) for p in piece],
                drawstyle="steps-post" if line.stepped else "default",
                color=colour,
                linestyle=DASHES[line.tone],
                linewidth=1.4,
                marker="." if len(piece) == 1 else None,
                label=line.name if n == 0 else None,
            )
    _axis(axes.xaxis, chart.x)
    _axis(axes.yaxis, chart.y)
    _finish(axes, chart.x, chart.y, chart.marks)
    _legend(axes, len(chart.lines))


@_draw.register
def _scatter(chart: Scatter, axes: Any) -> None:
    size = 2.2 if sum(len(cloud.points) for cloud in chart.clouds) > CROWD else 3.5
    for n, cloud in enumerate(chart.clouds):
        colour = COLOURS[cloud.tone]
        axes.plot(
            [chart.x.place(x) for x, _ in cloud.points],
            [chart.y.place(y) for _, y in cloud.points],
            "oDs^vP"[n % 6],
            color=colour,
            alpha=0.6,
            markersize=size,
            markeredgecolor="none",
            label=cloud.name,
        )
        axes.plot(
            [chart.x.place(x) for x, _ in cloud.outline],
            [chart.y.place(y) for _, y in cloud.outline],
            color=colour,
            linestyle=DASHES[cloud.tone],
            linewidth=1.4,
        )
    _axis(axes.xaxis, chart.x)
    _axis(axes.yaxis, chart.y)
    _finish(axes, chart.x, chart.y, chart.marks)
    _legend(axes, len(chart.clouds), markers=4.5 / size)


@_draw.register
def _stacks(chart: Stacks, axes: Any) -> None:
    for start, end in chart.gaps:
        axes.axvspan(chart.x.place(start), chart.x.place(end), **GAP)
    for column in chart.columns:
        left, right = chart.x.place(column.start), chart.x.place(column.end)
        for place, begins, ends in chart.parts(column):
            low, high = chart.y.place(begins), chart.y.place(ends)
            axes.add_patch(_box(left, right - (right - left) * 0.08, low, high, tone(place), HATCHES[place % 6]))
    handles = [
        Patch(facecolor=COLOURS[tone(n)], hatch=HATCHES[n % 6], edgecolor="white", label=name)
        for n, name in enumerate(chart.names)
    ]
    _axis(axes.xaxis, chart.x)
    _axis(axes.yaxis, chart.y)
    _finish(axes, chart.x, chart.y, chart.marks)
    _legend(axes, len(handles), handles)


@_draw.register
def _strip(chart: Strip, axes: Any) -> None:
    heights = {Tone.OK: 0.45, Tone.SKIPPED: 0.2}
    for each in chart.stretches:
        left, right = chart.x.place(each.start), chart.x.place(each.end)
        axes.add_patch(_box(left, right, 0, heights.get(each.tone, 1.0), each.tone))
    _axis(axes.xaxis, chart.x)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    _finish(axes, chart.x, None, chart.marks)
    used = [each for each in Tone if any(s.tone is each for s in chart.stretches)]
    _legend(axes, len(used), [Patch(color=COLOURS[each], label=each.value) for each in used])


@_draw.register
def _waterfall(chart: Waterfall, axes: Any) -> None:
    count = len(chart.rows)
    for n, row in enumerate(chart.rows):
        for span in row.spans:
            left, right = chart.x.place(span.start), max(chart.x.place(span.end), chart.x.place(span.start) + 0.003)
            axes.add_patch(_box(left, right, count - n - 0.8, count - n - 0.2, span.tone))
        took = sum(span.end - span.start for span in row.spans)
        axes.text(1.02, count - n - 0.5, chart.x.text(took), va="center", color=SOFT)
    axes.set_ylim(0, count)
    axes.set_yticks([count - n - 0.5 for n in range(count)], [row.name for row in chart.rows], color=INK)
    axes.tick_params(axis="y", length=0)
    _axis(axes.xaxis, chart.x)
    _finish(axes, chart.x, None, chart.marks)
    kinds = [Patch(color=COLOURS[each], label=text) for text, each in chart.kinds.items()]
    _legend(axes, len(kinds), kinds)


@_draw.register
def _bars(chart: Bars, axes: Any) -> None:
    y, names = 0.0, {}
    for bar, heading in headed(chart.bars):
        if heading:
            axes.text(0.012, y + 0.55, heading, va="center", fontweight="bold")
            y += HEADING
        colour = COLOURS[bar.tone]
        axes.plot(
            [chart.x.place(bar.low), chart.x.place(bar.high)], [y + 0.5] * 2, color=colour, alpha=0.5, linewidth=3
        )
        shape = "oDs^vP"[list(COLOURS).index(bar.tone) % 6]
        axes.plot([chart.x.place(bar.value)], [y + 0.5], shape, color=colour, markersize=6, markeredgecolor="white")
        said = _broken(f"{chart.interval(bar)}\n{bar.text}", 60)
        axes.text(1.02, y + 0.5, said, va="center", color=SOFT, fontsize=7.5)
        names[y + 0.5] = _broken(bar.name, 32)
        y += 1
    axes.set_ylim(y, 0)
    axes.set_yticks([*names], names.values(), color=INK)
    axes.tick_params(axis="y", length=0)
    _axis(axes.xaxis, chart.x, 6)
    _finish(axes, chart.x, None, chart.marks)


@_draw.register
def _heat_map(chart: HeatMap, axes: Any) -> None:
    values = [[float("nan") if value is None else value for value in row] for row in chart.values]
    shown = axes.imshow(values, aspect="auto", cmap="cividis_r")
    axes.set_facecolor("#f2f3f5")
    axes.set_yticks(range(len(chart.rows)), chart.rows)
    step = max(1, round(len(chart.columns) / 12))
    axes.set_xticks(range(0, len(chart.columns), step), chart.columns[::step])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks([n + 0.5 for n in range(len(chart.columns) - 1)], minor=True)
    axes.set_yticks([n + 0.5 for n in range(len(chart.rows) - 1)], minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    bar = axes.figure.colorbar(shown, ax=axes, pad=0.015, aspect=14, format=lambda value, _: number(value))
    bar.outline.set_visible(False)
    bar.set_label(f"{chart.label} ({chart.unit})" if chart.unit else chart.label)


@_draw.register
def _film(chart: Film, axes: Any) -> None:
    count = len(chart.reels)
    height = _height_of_shots(chart)
    share = height / (height + NAME)  # of a reel's room, that of its pictures
    for n, reel in enumerate(chart.reels):
        low = count - n - 1
        axes.text(0, low + share + 0.03, _broken(reel.name, 100), va="bottom", fontsize=8.5)
        for column, shot, is_new in chart.changed(reel):
            left, right = (column + 0.02) / chart.columns, (column + 0.98) / chart.columns
            with Image.open(BytesIO(shot.image)) as image:
                axes.imshow(
                    image, extent=(left, right, low, low + share), aspect="auto", interpolation="antialiased"
                )
            edge = Rectangle((left, low), right - left, share, fill=False, linewidth=0.8 if is_new else 0.5)
            edge.set_edgecolor(INK if is_new else "#c3c8d0")
            axes.add_patch(edge)
    axes.set_ylim(-0.06, count)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    places = [column / chart.columns for column in range(chart.columns)]
    axes.xaxis.set_ticks(places, [number(chart.start(column)) for column in range(chart.columns)])
    axes.xaxis.set_label_text(chart.x.title)
    axes.set_xlim(0, 1)


def _height_of_shots(chart: Film) -> float:
    """In inches."""
    return 0.93 * WIDTH / chart.columns * chart.aspect


def _box(left: float, right: float, low: float, high: float, colour: Tone, hatch: str = "") -> Rectangle:
    edge = "white" if hatch else "none"
    return Rectangle(
        (left, low), right - left, high - low, facecolor=COLOURS[colour], edgecolor=edge, hatch=hatch, linewidth=0
    )


def _axis(side: Any, axis: Axis, most: int = 0) -> None:
    is_x = side.axis_name == "x"
    ticks = axis.ticks(most or (7 if is_x else 5))
    side.set_ticks([axis.place(tick.value) for tick in ticks], [tick.text for tick in ticks])
    side.set_label_text(_broken(axis.title, 90 if is_x else 42))


def _finish(axes: Any, x: Axis, y: Axis | None, marks: Sequence[Mark]) -> None:
    """Limits, a grid behind all, and the marks."""
    axes.set_xlim(0, 1)
    if y is not None:
        axes.set_ylim(0, 1)
    axes.set_axisbelow(True)
    axes.grid(axis="both" if y is not None else "x", color=RULE, linewidth=0.6)
    axes.tick_params(length=2.5)
    for place, words in placed(marks, x, y):
        axes.axvline(place, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
        if words is None:
            continue
        axes.annotate(
            "\n".join(words.lines),
            (place, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3 if words.is_right else -3, -2 - MARK_LINE * words.row),
            textcoords="offset points",
            ha="left" if words.is_right else "right",
            va="top",
            fontsize=7.5,
            linespacing=1.1,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
        )


def _legend(axes: Any, count: int, handles: Sequence[Patch] | None = None, markers: float = 1.0) -> None:
    if not count:
        return
    shown = list(axes.get_legend_handles_labels()[0] if handles is None else handles)
    names = [str(each.get_label()) for each in shown]
    longest = max(map(len, names), default=0)
    are_short = handles is not None and longest < SHORT
    has_columns = longest <= HALF and (count <= 3 or handles is not None)
    axes.legend(
        shown,
        [_broken(name, 2 * HALF) for name in names],
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=count if are_short else min(count, 2) if has_columns else 1,
        frameon=False,
        fontsize=8,
        handlelength=2.6,
        markerscale=markers,
        borderaxespad=0.2,
    )


def _broken(text: str, width: int) -> str:
    """In lines; nothing of what strangers wrote is read as mathematics."""
    return "\n".join(line for part in text.split("\n") for line in wrap(part, width))
