"""How far a payload had come after how long: the median and the quartiles of each way of measuring."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs

from perfd.analysis.quantiles import quartiles
from perfd.charts.axes import Axis, Scale, covering
from perfd.charts.model import Line, LineChart, Point, tone
from perfd.record import Outcome
from perfd.reports.figures import LINES, slug
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader
from perfd.variant import Variant, names

MOST = 1000
"""Runs that are looked at, the latest."""

_VARIANT = tuple(field.metadata.get("key", field.name) for field in attrs.fields(Variant))


def progress(reader: StoreReader, name: str, since: float, until: float) -> Iterator[LineChart]:
    """A chart of the successes of an experiment; nothing of those that have no DATAPERC."""
    wanted = Filter(since=since, until=until, experiment=name, outcome=Outcome.OK, requests=False, limit=MOST)
    reached: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for start, text, *values in reader.rows(("start", "dataperc", *_VARIANT), wanted):
        parts = reached.setdefault(tuple(values), {})
        for part, at in (json.loads(text) if text else {}).items():
            parts.setdefault(part, []).append(at - start)
    shown = [(Variant(*values), parts) for values, parts in reached.items() if len(parts) > 2][:LINES]
    if not shown:
        return
    named = names(name, [variant for variant, _ in shown])
    lines, reach = [], [0.0]
    for n, (variant, parts) in enumerate(shown):
        points = []
        for part, seconds in sorted((int(part), seconds) for part, seconds in parts.items()):
            low, middle, high = quartiles(seconds)
            reach.append(high)
            points.append(Point(part / 100, middle, low, high))
        lines.append(Line(name=named[variant], points=tuple(points), tone=tone(n)))
    yield LineChart(
        name=f"{slug(name)}.progress",
        title="How the payload went on",
        x=Axis(label="of the payload", low=0.0, high=1.0, scale=Scale.SHARE),
        y=covering(reach, "since the start", "s", zero=True),
        lines=tuple(lines),
        note="Median and quartiles of the time at which each share of it had come.",
        band="quartiles",
    )
