"""The requests of a page load as a waterfall, of its HAR document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import attrs

from perfd.charts.axes import Axis
from perfd.charts.model import Mark, Row, Stretch, Tone, Waterfall

LONGEST = 86400.0
"""Seconds of a load."""

LONGEST_NAME = 40

PHASES = (
    *(("blocked", Tone.SKIPPED), ("connect", Tone.B), ("send", Tone.C), ("wait", Tone.E), ("receive", Tone.F)),
)
"""HAR's timings that there are, in their order; ``dns`` is -1 behind a proxy, ``ssl`` is within connect.

Neighbours are light and dark by turns, so that they differ in grey.
"""

MARKS = (("_firstContentfulPaint", "paint"), ("onLoad", "load"))


@attrs.frozen
class Request:
    """A request; times are in seconds from the begin of the page."""

    entry: Mapping[str, Any]
    begin: float
    took: float

    @property
    def name(self) -> str:
        url = urlsplit(str(self.entry["request"]["url"]))
        name = url.path.rpartition("/")[2] or url.netloc or "?"
        return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."

    @property
    def circuit(self) -> str:
        found = (self.entry.get("_tor") or {}).get("circuit")
        return "" if found is None else str(found)

    def spans(self) -> Iterator[Stretch]:
        at = self.begin
        for phase, tone in PHASES:
            took = _seconds(max(0.0, float(self.entry["timings"].get(phase, -1))))
            if took:
                yield Stretch(at, at + took, tone, phase)
            at += took


WRONG = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)
"""What a document of somebody else's may raise."""


def requests_of(log: Mapping[str, Any]) -> list[Request]:
    """Those of a HAR document's ``log``. Raises one of WRONG."""
    origin = datetime.fromisoformat(log["pages"][0]["startedDateTime"]).timestamp()
    return [
        Request(
            entry,
            _seconds(1000 * max(0.0, datetime.fromisoformat(entry["startedDateTime"]).timestamp() - origin)),
            _seconds(entry["time"]),
        )
        for entry in log["entries"]
    ]


def waterfall(
    log: Mapping[str, Any], most: int, name: str = "requests", title: str = "Requests of the page"
) -> Waterfall | None:
    """The first ``most`` requests, with first paint and load; None without any. Raises one of WRONG."""
    found = requests_of(log)
    if not found:
        return None
    timings = log["pages"][0]["pageTimings"]
    marks = [Mark(_seconds(at), words) for key, words in MARKS if (at := timings.get(key)) not in (None, -1)]
    reach = max(*(request.begin + request.took for request in found), *(mark.at for mark in marks), 0.001)
    more = len(found) - most
    return Waterfall(
        name=name,
        title=title,
        note=f"There are {more:,} more." if more > 0 else "",
        x=Axis(label="since navigation", low=0.0, high=reach * 1.02, unit="s"),
        rows=tuple(Row(request.name, tuple(request.spans())) for request in found[:most]),
        marks=tuple(marks),
    )


def _seconds(milliseconds: Any) -> float:
    """Raises ValueError and TypeError for what no load can take."""
    found = float(milliseconds) / 1000
    if not 0 <= found < LONGEST:
        raise ValueError(f"{milliseconds} ms")
    return found
