"""What page loads have left, for ``perfd analyze``: their requests, and their pictures, which are made small."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from itertools import groupby
from pathlib import Path

import attrs

from perfd.charts.model import Chart, Film, Shot, Waterfall
from perfd.reports.figures import MOST_WATERFALLS, slug
from perfd.reports.films import MOST_REELS, Load, columns_of, film, name_of, near_median, seen
from perfd.reports.groups import Group
from perfd.reports.requests import WRONG, waterfall
from perfd.store.filmstrips import read_picture, times_of
from perfd.store.har import read_har
from perfd.store.page_files import FILMSTRIP, HAR, file_of, is_id

WIDTH = 240
"""Of a picture in a report, in pixels."""

QUALITY = 72
MOST_PIXELS = 50_000_000
"""Larger pictures are not decoded."""

MOST_REQUESTS = 40
"""Of a chart; HAR documents have all."""

Found = tuple[Load, Path]


def of_page_loads(groups: Sequence[Group], directory: Path) -> Mapping[str, list[Chart]]:
    """For each experiment with page loads the charts of what these left in ``directory``."""
    films = films_of(groups, directory)
    found: dict[str, list[Chart]] = {}
    for experiment, some in groupby(groups, lambda group: group.experiment):
        made: list[Chart] = list(_waterfalls(slug(experiment), list(some), directory))
        found[experiment] = [*made, *([films[experiment]] if experiment in films else [])]
    return found


def _waterfalls(prefix: str, groups: Sequence[Group], directory: Path) -> Iterator[Waterfall]:
    """Of each variant the requests of the load next to its median whose document is there."""
    for number, group in enumerate(groups[:MOST_WATERFALLS], 1):
        title = f"Requests of a page load: {group.name}"
        for run in near_median(group):
            log = read_har(file_of(directory, run.start, run.id, HAR)) if is_id(run.id) else None
            try:
                made = log and waterfall(log, MOST_REQUESTS, f"{prefix}.requests-{number}", title)
            except WRONG:
                continue
            if made:
                yield attrs.evolve(made, note=f"{name_of(group, run)}. {made.note}".strip())
                break


def films_of(groups: Sequence[Group], directory: Path) -> Mapping[str, Film]:
    """For each experiment with page loads the film of its variants; ``directory`` has the files of loads.

    Without Pillow there are none.
    """
    found: dict[str, Film] = {}
    if find_spec("PIL") is None:
        return found
    for experiment, some in groupby(groups, lambda group: group.experiment):
        loads = list(filter(None, (_load(group, directory) for group in some)))[:MOST_REELS]
        made = _film(f"{slug(experiment)}.film", loads) if loads else None
        if made is not None:
            found[experiment] = made
    return found


def _load(group: Group, directory: Path) -> Found | None:
    """The load next to the median whose pictures are there."""
    for run in near_median(group):
        if not is_id(run.id):
            continue
        path = file_of(directory, run.start, run.id, FILMSTRIP)
        times = times_of(path)
        if times and times == sorted(times):
            return Load(name_of(group, run), tuple(time / 1000 for time in times)), path
    return None


def _film(name: str, loads: Sequence[Found]) -> Film | None:
    step, columns = columns_of([load for load, _ in loads])
    size: tuple[int, int] | None = None
    reels = []
    for load, path in loads:
        known: dict[int, Shot | None] = {}
        shots: list[Shot | None] = []
        for place in seen(load, step, columns):
            if place not in known:
                small = _small(path, place + 1, size)
                size = size or (small and small[1])
                known[place] = Shot(load.times[place], small[0]) if small else None
            shots.append(known[place])
        if any(shots):
            reels.append((load, shots))
    return film(name, reels, step, size[1] / size[0]) if reels and size else None


def _small(path: Path, number: int, size: tuple[int, int] | None) -> tuple[bytes, tuple[int, int]] | None:
    """A picture as JPEG of ``size`` (white where it is narrower), and that; None if it cannot be read."""
    from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: PLC0415 - most reports have no page loads

    picture = read_picture(path, number)
    if picture is None:
        return None
    try:
        with Image.open(BytesIO(picture[1])) as image:
            if image.width * image.height > MOST_PIXELS:
                return None
            size = size or (WIDTH, max(1, min(2 * WIDTH, round(WIDTH * image.height / image.width))))
            made = ImageOps.pad(image.convert("RGB"), size, color="white", centering=(0.5, 0.0))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError):
        return None
    written = BytesIO()
    made.save(written, "JPEG", quality=QUALITY)
    return written.getvalue(), size
