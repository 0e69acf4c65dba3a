"""Charts of delays: round trips idle and loaded, one-way delays, the way there and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import attrs

from perfd.charts.build import parts_of, scatter
from perfd.charts.model import Chart
from perfd.reports.groups import Group
from perfd.reports.runs import Run

CLOUDS = 6
"""In one chart, as many as there are colours."""

Parts = Mapping[str, Sequence[float]]


def round_trips(prefix: str, groups: Sequence[Group], points: int) -> Iterator[Chart]:
    """The charts of the delays of runs of one experiment, for as many of them as are known."""
    measured = {group.name: _with_delays(group) for group in groups}
    ways = {group.name: _ways(group.done) for group in groups}
    for name, title, variants, label in (
        ("rtt", "Round-trip time, idle and loaded", _each(measured, _phases), "median of a run"),
        ("one-way", "One-way delay, idle and loaded", _each(measured, _one_way), "median of a run"),
        ("ways", "The way there and the way back", ways, "request, first byte"),
    ):
        if chart := parts_of(f"{prefix}.{name}", title, variants, label=label, unit="s", points=points):
            yield chart
    yield from _under_loads(f"{prefix}.rtt-load", measured)


def _with_delays(group: Group) -> list[Run]:
    """Mostly few."""
    return [r for r in group.done if r.figures or r.rtt_idle is not None or r.rtt_load is not None]


def _each(measured: Mapping[str, Sequence[Run]], parts: Callable[[Sequence[Run]], Parts]) -> dict[str, Parts]:
    return {variant: parts(runs) for variant, runs in measured.items()}


def _phases(runs: Sequence[Run]) -> Parts:
    return {
        "idle": [r.rtt_idle for r in runs if r.rtt_idle is not None],
        "loaded": [r.rtt_load for r in runs if r.rtt_load is not None],
        "under uploads": figures_of(runs, "RTTUPLOADMEDIAN"),
        "under both": figures_of(runs, "RTTBOTHMEDIAN"),
    }


def _one_way(runs: Sequence[Run]) -> Parts:
    return {
        f"{words}, {when}": figures_of(runs, f"{way}{phase}MEDIAN")
        for phase, when in (("IDLE", "idle"), ("LOAD", "under downloads"), ("UPLOAD", "under uploads"))
        for way, words in (("OWDUP", "to the server"), ("OWDDOWN", "back"))
    }


def _ways(runs: Sequence[Run]) -> Parts:
    return {
        "to the server": [s for r in runs if (s := r.between("datarequest", "serverrequest")) is not None],
        "back": [s for r in runs if (s := r.between("serverresponse", "dataresponse")) is not None],
    }


def _under_loads(name: str, measured: Mapping[str, Sequence[Run]]) -> Iterator[Chart]:
    clouds = {
        (words if len(measured) == 1 else f"{words}: {variant}"): points
        for words, key in (("downloads", "LOAD"), ("uploads", "UPLOAD"), ("both", "BOTH"))
        for variant, runs in measured.items()
        if (points := [(rate / 1e6 * 8, delay) for r in runs for rate, delay in _under_load(r, key)])
    }
    if clouds:
        drawn = scatter(
            name,
            "Round-trip time under a load, by the rate of the load",
            dict(islice(clouds.items(), CLOUDS)),
            x=("rate of the load, both directions together", "Mbit/s"),
            y=("median round-trip time", "s"),
            what="a run",
        )
        left_out = f" These are the first {CLOUDS} of {len(clouds)}." if len(clouds) > CLOUDS else ""
        yield attrs.evolve(drawn, note=f"{drawn.note}{left_out}")


def figures_of(runs: Sequence[Run], key: str) -> list[float]:
    """The known values of one of ``FIGURES``."""
    return [value for r in runs if (value := r.figures.get(key)) is not None]


def _under_load(run: Run, load: str) -> Iterator[tuple[float, float]]:
    """What a load achieved in bytes a second, and the round-trip time under it."""
    delay = run.rtt_load if load == "LOAD" else run.figures.get(f"RTT{load}MEDIAN")
    rates = [run.figures[key] for way in ("DOWN", "UP") if (key := f"RTT{load}{way}RATE") in run.figures]
    if delay is not None and rates:
        yield sum(rates), delay
