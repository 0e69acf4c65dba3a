"""Charts on pages: less fine than in files, so that pages are short."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from perfd.charts.html import Sheet, figure, join
from perfd.charts.model import Chart

POINTS = 64
"""Of a distribution function."""

PERIODS = 60
"""Of a line over time."""

MOST_NUMBERS = 100
"""Of the table below a chart."""


def charts_of(charts: Iterable[Chart], sheet: Sheet) -> Markup:
    """Charts beside each other where there is room."""
    drawn = join(figure(chart, sheet, MOST_NUMBERS) for chart in charts)
    return Markup('<div class="charts">{}</div>\n').format(drawn) if drawn else Markup("")
