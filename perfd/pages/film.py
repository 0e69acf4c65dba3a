"""What a page looked like while it was loaded: the pictures of one load, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
from markupsafe import Markup

from perfd.charts.axes import number
from perfd.charts.html import join
from perfd.pages import elements
from perfd.pages.records import View
from perfd.record import Outcome
from perfd.store.filmstrips import times_of
from perfd.store.filters import Filter
from perfd.store.page_files import FILMSTRIP, file_of, is_id
from perfd.store.reader import StoreReader

MOST_PICTURES = 8
"""Of a load; the first and the last are among them."""

MOST_LOADS = 1000
"""The newest of a period, whose median is shown."""

MOST_LOOKED_AT = 20
"""Loads next to the median, of which one must have its file still."""


@attrs.frozen
class Load:
    """A page load that had a filmstrip; ``took`` are the seconds to LOAD."""

    id: str
    start: float
    took: float


def film(path: Path, measurement: str) -> Markup:
    """The pictures in a filmstrip, the n-th of which is at ``frames/N`` of the measurement; nothing without any."""
    times = times_of(path)
    if not times:
        return Markup("")
    last = len(times) - 1
    count = min(MOST_PICTURES, len(times))
    shown = sorted({round(n * last / max(1, count - 1)) for n in range(count)})
    picture = Markup(
        '<div><img src="/results/{}/frames/{}" alt="The page after {}" loading="lazy"><small>{}</small></div>'
    )
    words = [f"{number(times[n] / 1000)} s" for n in shown]
    frames = (picture.format(measurement, n + 1, said, said) for n, said in zip(shown, words, strict=True))
    return Markup('<div class="film">{}</div>\n').format(join(frames))


def median_film(
    reader: StoreReader, name: str, since: float, until: float, files: Path, view: View
) -> list[Markup]:
    """That of the page load of an experiment whose LOAD is nearest to the median; nothing where there is none."""
    for load in _by_distance(_loads(reader, name, since, until))[:MOST_LOOKED_AT]:
        path = file_of(files, load.start, load.id, FILMSTRIP)
        if pictures := film(path, load.id):
            link = elements.link(view.link(f"/results/{load.id}"), f"The load that took {number(load.took)} s")
            said = elements.paragraph(Markup("{}, which is the median, or next to it").format(link), "soft")
            return [elements.section("The median page load", [said, pictures])]
    return []


def _loads(reader: StoreReader, name: str, since: float, until: float) -> list[Load]:
    wanted = Filter(
        since=since, until=until, experiment=name, type="pageload", outcome=Outcome.OK, limit=MOST_LOADS
    )
    rows = reader.rows(("id", "start", "LOAD", "FILMSTRIP"), wanted)
    return [
        Load(record, start, load - start)
        for record, start, load, pictures in rows
        if pictures and load is not None and is_id(record)
    ]


def _by_distance(loads: Sequence[Load]) -> list[Load]:
    """Those next to the median first."""
    if not loads:
        return []
    middle = sorted(load.took for load in loads)[len(loads) // 2]
    return sorted(loads, key=lambda load: abs(load.took - middle))
