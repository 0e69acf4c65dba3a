"""Charts of delays: round trips idle and loaded, one-way delays, the way there and the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perfd.charts.build import cdf, scatter
from perfd.charts.model import Chart
from perfd.reports.groups import Group
from perfd.reports.runs import Run


def round_trips(prefix: str, groups: Sequence[Group], points: int) -> Iterator[Chart]:
    """The charts of the delays of runs of one experiment, for as many of them as are known."""
    every = [r for group in groups for r in group.done]
    runs = [r for r in every if r.figures or r.rtt_idle is not None or r.rtt_load is not None]  # mostly few
    phases = {
        "idle": [r.rtt_idle for r in runs if r.rtt_idle is not None],
        "loaded": [r.rtt_load for r in runs if r.rtt_load is not None],
        "under uploads": figures_of(runs, "RTTUPLOADMEDIAN"),
        "under both": figures_of(runs, "RTTBOTHMEDIAN"),
    }
    delays = {
        f"{words}, {when}": figures_of(runs, f"{way}{phase}MEDIAN")
        for phase, when in (("IDLE", "idle"), ("LOAD", "under downloads"), ("UPLOAD", "under uploads"))
        for way, words in (("OWDUP", "to the server"), ("OWDDOWN", "back"))
    }
    for name, title, of_phases in (
        ("rtt", "Round-trip time, idle and loaded", phases),
        ("one-way", "One-way delay, idle and loaded", delays),
    ):
        if any(of_phases.values()):
            yield cdf(f"{prefix}.{name}", title, of_phases, label="median of a run", unit="s", points=points)
    clouds = {
        words: [(rate / 1e6 * 8, delay) for r in runs for rate, delay in _under_load(r, key)]
        for words, key in (("downloads", "LOAD"), ("uploads", "UPLOAD"), ("both", "BOTH"))
    }
    if any(clouds.values()):
        yield scatter(
            f"{prefix}.rtt-load",
            "Round-trip time under a load, by the rate of the load",
            clouds,
            x=("rate of the load, both directions together", "Mbit/s"),
            y=("median round-trip time", "s"),
            what="a run",
        )
    ways = {
        "to the server": [s for r in every if (s := r.between("datarequest", "serverrequest")) is not None],
        "back": [s for r in every if (s := r.between("serverresponse", "dataresponse")) is not None],
    }
    if any(ways.values()):
        title = "The way there and the way back"
        yield cdf(f"{prefix}.ways", title, ways, label="request, first byte", unit="s", points=points)


def figures_of(runs: Sequence[Run], key: str) -> list[float]:
    """The known values of one of ``FIGURES``."""
    return [value for r in runs if (value := r.figures.get(key)) is not None]


def _under_load(run: Run, load: str) -> Iterator[tuple[float, float]]:
    """What a load achieved in bytes a second, and the round-trip time under it."""
    delay = run.rtt_load if load == "LOAD" else run.figures.get(f"RTT{load}MEDIAN")
    rates = [run.figures[key] for way in ("DOWN", "UP") if (key := f"RTT{load}{way}RATE") in run.figures]
    if delay is not None and rates:
        yield sum(rates), delay
