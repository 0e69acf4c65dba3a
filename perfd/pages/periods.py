"""The period that a page is about, and its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from perfd.analysis.periods import DAY
from perfd.charts.html import join
from perfd.pages import elements
from perfd.pages.records import View
from perfd.reports.runs import FIELDS, Run, RunReader
from perfd.store.filters import Filter
from perfd.store.parameters import Parameter
from perfd.store.reader import StoreReader

PERIODS: Mapping[str, float] = {"day": DAY, "week": 7 * DAY, "month": 30 * DAY, "year": 365 * DAY}
"""Seconds until now."""

USUAL = "week"


def _read(text: str) -> str:
    if text not in PERIODS:
        raise ValueError(f"there are {', '.join(PERIODS)}")
    return text


PERIOD = Parameter("period", "how far back: `day`, `week`, `month` or `year`", _read, {"enum": list(PERIODS)})


def runs_of(reader: StoreReader, now: float, period: str, **wanted: Any) -> list[Run]:
    """The runs of a period, the oldest first; ``wanted`` are filters."""
    read = RunReader()
    rows = reader.rows(FIELDS, Filter(since=now - PERIODS[period], until=now, requests=False, **wanted))
    return [read.run(row) for row in rows]


def choice(view: View, period: str) -> Markup:
    """Links to the other periods."""
    links = [
        Markup('<strong aria-current="true">{}</strong>').format(each)
        if each == period
        else elements.link(view.here(period=each), each)
        for each in PERIODS
    ]
    return Markup('<nav class="pages" aria-label="Period">{}</nav>\n').format(join(links))
