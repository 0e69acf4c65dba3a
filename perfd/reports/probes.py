"""Charts of the probes of one measurement of round-trip times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perfd.charts.build import cdf, scatter
from perfd.charts.model import Chart

PHASES = {"IDLE": "idle", "LOAD": "under downloads", "UPLOAD": "under uploads", "BOTH": "under both"}


A_DAY = 86400e3
"""In milliseconds."""


def probes(extra: Mapping[str, str | int | float]) -> Iterator[Chart]:
    """The round-trip times of each phase, and each probe by both of its ways; of a record's ``extra``."""
    times = {words: _listed(extra.get(f"RTT{phase}MS")) for phase, words in PHASES.items()}
    if any(times.values()):
        yield cdf("rtt", "Round-trip times", times, label="round-trip time of a probe", unit="ms")
    ways = {
        words: list(
            zip(_listed(extra.get(f"OWDUP{phase}MS")), _listed(extra.get(f"OWDDOWN{phase}MS")), strict=False)
        )
        for phase, words in PHASES.items()
    }
    if any(ways.values()):
        yield scatter(
            "one-way",
            "The way there and the way back",
            ways,
            x=("to the server", "ms"),
            y=("back", "ms"),
            what="a probe",
        )


def _listed(text: object) -> list[float]:
    """A comma list; nothing of one that others wrote and that has no times."""
    try:
        found = [float(each) for each in str(text).split(",")] if text else []
    except ValueError:
        return []
    return found if all(abs(each) < A_DAY for each in found) else []
