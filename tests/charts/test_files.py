"""Charts as pictures."""

from __future__ import annotations

import csv
import math
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
from PIL import Image

from perfd.charts import files
from perfd.charts.axes import Axis, Scale, shares
from perfd.charts.build import cdf, single_runs
from perfd.charts.model import Bar, Bars, Column, LineChart, Stacks
from tests.support.charts import HOSTILE, every_kind


@pytest.mark.parametrize("form", files.FORMATS)
def test_every_kind_in_every_format(form: str, tmp_path: Path) -> None:
    """Each chart is a picture of the format, with the CSV of its numbers; hostile names are text."""
    charts = every_kind()
    written = files.write(charts, tmp_path / "plots", form)
    assert sorted(written) == sorted((tmp_path / "plots").iterdir())
    magic = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[form]
    assert all(path.read_bytes().startswith(magic) for path in written if path.suffix == f".{form}")
    for chart in charts:
        with (tmp_path / "plots" / f"{chart.name}.csv").open(newline="") as opened:
            rows = list(csv.reader(opened))
        assert rows[0] == list(chart.table.headings)
        assert len(rows) == 1 + len(chart.table.rows)
    if form == "svg":
        text = (tmp_path / "plots" / "distribution.svg").read_text()
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text
    if form == "png":
        with Image.open(tmp_path / "plots" / "series.png") as picture:
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50


def test_shares_are_per_cent_in_numbers_too() -> None:
    """A heading that says % has numbers of per cent below it, as the axis has."""
    distribution = cdf("x", "X", {"a": [1.0, 2.0]}, label="time", unit="s").table
    assert distribution.headings == ("series", "time (s)", "runs (%)", "low", "high")
    assert [row[2] for row in distribution.rows] == [0.0, 50.0, 100.0]
    assert distribution.rows[-1][4] == 100.0
    tail = cdf("x", "X", {"a": [1.0, 2.0]}, label="time", unit="s", tail=True).table
    assert [row[2] for row in tail.rows] == [0.0, 50.0]
    bars = Bars(name="x", title="X", x=shares("failed runs"), bars=(Bar("relay", 0.57, 0.29, 0.875),)).table
    assert (bars.headings[1], bars.rows) == ("failed runs (%)", (("relay", 57.0, 29.0, 87.5, ""),))
    time = Axis(label="", low=0.0, high=60.0, scale=Scale.TIME)
    stacks = Stacks(
        name="x", title="X", x=time, y=shares("failed"), names=("TLS",), columns=(Column(0.0, 60.0, (0.07,)),)
    ).table
    assert (stacks.headings[2], stacks.rows[0][2]) == ("TLS: failed (%)", 7.0)


def test_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="exists"):
        files.write(every_kind(), tmp_path / "file", "png")


def test_a_chart_that_cannot_be_drawn(tmp_path: Path) -> None:
    """The child's failure is told, in words."""
    with pytest.raises(files.DrawingError, match="bmpp"):
        files.write(every_kind()[:1], tmp_path, "bmpp")


def test_distribution() -> None:
    """Failures count: the function ends below 1, and far values don't make the axis long."""
    sample = [n / 100 for n in range(1, 100)] + [50.0]
    chart = cdf("x", "X", {"a": [*sample, *[math.inf] * 100], "none": []}, label="time", unit="s")
    assert isinstance(chart, LineChart)
    (line,) = chart.lines
    assert chart.x.high < 2
    assert line.points[-1].y == pytest.approx(0.495, abs=0.01)
    assert line.name == "a (most failed, n = 200)"
    tail = cdf("x", "X", {HOSTILE: sample}, label="time", unit="s", tail=True)
    assert (tail.x.high, tail.y.high) == (pytest.approx(50, rel=0.05), 0.99)
    assert [tick.text for tick in tail.y.ticks()] == ["0", "50", "90", "99"]


def test_tail_with_failures() -> None:
    """Each of the slowest successes has a step of its own, however many runs failed."""
    sample = [*(1 + n / 10_000 for n in range(10_000)), *[math.inf] * 500]
    (line,) = cdf("x", "X", {"a": sample}, label="time", unit="s", tail=True).lines
    steps = [(point.x, point.y) for point in line.points if point.x > 1.99]
    assert len(steps) == 99
    assert steps[-1] == (pytest.approx(1.9999), pytest.approx(10_000 / 10_500))


def test_tail_of_what_is_slow_where_it_is_low() -> None:
    """Of throughputs: nine of ten runs have at least the tenth part's value, and the slowest are at the top."""
    sample = [float(n) for n in range(1, 101)]
    chart = cdf("x", "X", {"a": sample}, label="throughput", unit="Mbit/s", tail=True, falling=True)
    (line,) = chart.lines
    shares = {point.x: point.y for point in line.points[1:]}
    assert (shares[100.0], shares[91.0], shares[11.0], shares[2.0]) == (0.01, 0.1, 0.9, 0.99)
    assert 1.0 not in shares  # all runs have as much as the slowest: that is beyond the axis
    assert chart.y.title == "runs with at least so much (%)"
    assert line.name == "a (median 50.5 Mbit/s, n = 100)"


def test_long_names_are_whole(tmp_path: Path) -> None:
    """Names of a legend stand below each other, and in lines, where there is no room for them: nothing is cut."""
    names = [f"download-5m [conflux-{n} public]" for n in range(2)]
    short, long = (
        cdf("x", "X", {name: [1.0, 2.0] for name in some}, label="time", unit="s")
        for some in (names, [f"{name} {'and more ' * 12}" for name in names])
    )
    for chart in (short, long, attrs.evolve(short, y=shares(f"by how much {names[0]} is above {names[1]}"))):
        files.write([chart], tmp_path, "png")
        with Image.open(tmp_path / "x.png") as picture:
            width, height = picture.size
            grey = picture.convert("L")
        for edge in ((width - 4, 0, width, height), (0, height - 4, width, height), (0, 0, width, 4)):
            assert grey.crop(edge).getextrema() == (255, 255)


def test_of_many_runs_some_are_drawn() -> None:
    """The highest and evenly of the others, which is said; the table has all. Few are as they are."""
    points = [(float(n), 1 + (n * 7919 % 1000) / 1000 + (n in {123, 4567})) for n in range(9000)]
    chart = single_runs("x", "X", {"a": points, "b": points[:50]}, label="time", unit="s")
    sparse = chart.sparse(1000)
    a, b = (cloud.points for cloud in sparse.clouds)
    assert (450 <= len(a) <= 500, len(b)) == (True, 50)
    assert {points[123], points[4567]} <= {*a}
    gaps = [after - before for (before, _), (after, _) in pairwise(a)]
    assert max(gaps) < 25
    assert sparse.note == (
        f"Each point is a run that ended well. Drawn are {len(a) + 50} of 9,050: the highest of each series, and "
        "evenly of the others."
    )
    assert len(chart.table.rows) == 9050
    assert single_runs("x", "X", {"b": points[:50]}, label="time", unit="s").sparse(1000).note.endswith("well.")
