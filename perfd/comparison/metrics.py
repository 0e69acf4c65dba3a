"""What is compared: the metrics, which are all times, so that less is better."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from perfd.analysis.blocks import Block
from perfd.config.kinds import UPLOAD
from perfd.record import Measurement, Outcome

COUNTED = (Outcome.OK.value, Outcome.FAILED.value, Outcome.TIMEOUT.value)
"""How a run ends that says something about its arm; skipped and cancelled ones do not."""


ARRIVAL = ("UPLOADFIRST", "UPLOADLAST")
"""When the payload of an upload came to the server: its answer comes after it, and says nothing of the rate."""


@attrs.frozen(kw_only=True)
class Metric:
    """The time from one step of a run to another.

    ``first`` and ``last`` are fields of the record, or keys of its ``extra`` in capitals; without ``first`` the
    value of ``last`` itself is in seconds.
    """

    name: str
    doc: str
    first: str | None = "start"
    last: str
    per_byte: bool = False  # of the payload: the inverse of a throughput
    kinds: tuple[str, ...] = ()  # of experiment that have it; none named: all
    lacking: tuple[str, ...] = ()  # of experiment that do not
    is_onion: bool = False  # only over an onion service
    of_tor: bool = False  # known from a tor's control port alone

    @property
    def fields(self) -> tuple[str, ...]:
        """What it needs to know of a record."""
        of_payload = ("payloadbytes", "type", *ARRIVAL) if self.per_byte else ()
        return tuple(name for name in (self.first, self.last, *of_payload) if name is not None)

    def value(self, run: Mapping[str, Any]) -> float | None:
        """Seconds of a run whose ``outcome`` counts; infinite if it ended before, None if it has no such time."""
        begin, end = ARRIVAL if self.per_byte and run["type"] == UPLOAD.name else (self.first, self.last)
        first = 0.0 if begin is None else run[begin]
        last = run[end]
        if first is None or last is None:
            return None if run["outcome"] == Outcome.OK.value else math.inf
        seconds = float(last) - float(first)
        if self.per_byte:
            payload = run["payloadbytes"]
            seconds = seconds / payload if payload and run["outcome"] == Outcome.OK.value else math.inf
        return seconds if seconds > 0 else None


def run_of(m: Measurement) -> dict[str, Any]:
    """A measurement as metrics want it."""
    found: dict[str, Any] = {
        field: m.extra.get(field) if field.isupper() else getattr(m, field)
        for metric in METRICS.values()
        for field in metric.fields
    }
    return found | {"outcome": m.outcome.value, "errorcode": m.errorcode}


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="complete", doc="from the start to the last byte of the payload", last="datacomplete"),
        Metric(
            name="first-byte",
            doc="from the start to the first byte of the answer",
            last="dataresponse",
            lacking=("series",),
        ),
        Metric(
            name="circuit",
            doc="from the SOCKS request to its reply",
            first="request",
            last="response",
            lacking=("series",),
        ),
        Metric(
            name="throughput",
            doc="from the first byte of the payload to the last, for each of them",
            first="dataresponse",
            last="datacomplete",
            per_byte=True,
            lacking=("series", "rtt", "bootstrap"),
        ),
        Metric(
            name="first-paint",
            doc="of a page, until something is painted",
            last="FIRSTCONTENTFULPAINT",
            kinds=("pageload",),
        ),
        Metric(name="load", doc="of a page, until its load event", last="LOAD", kinds=("pageload",)),
        Metric(
            name="fully-loaded",
            doc="of a page, until nothing more is requested",
            last="FULLYLOADED",
            kinds=("pageload",),
        ),
        Metric(
            name="rtt-idle",
            doc="the median round trip of an idle circuit",
            first=None,
            last="RTTIDLEMEDIAN",
            kinds=("rtt",),
        ),
        Metric(
            name="rtt-load",
            doc="the median round trip under load",
            first=None,
            last="RTTLOADMEDIAN",
            kinds=("rtt",),
        ),
        Metric(
            name="onion-descriptor",
            doc="of an onion service, until its descriptor is there",
            first="HSDESCREQUESTED",
            last="HSDESCRECEIVED",
            is_onion=True,
            of_tor=True,
        ),
        Metric(
            name="onion-rendezvous",
            doc="until an onion service came to the rendezvous",
            last="HSRENDJOINED",
            is_onion=True,
            of_tor=True,
        ),
    )
}
"""All metrics by name; the first is the primary one unless another is declared."""

PRIMARY = "complete"


Run = Mapping[str, Any]
"""What metrics must know of a run, its ``outcome``, and its ``errorcode``."""


@attrs.frozen
class Samples:
    """The blocks of each metric by name; in those of ``outcomes`` runs that failed are infinite, and others 1.

    ``errors``: how many runs failed by each error code.
    """

    metrics: Mapping[str, Sequence[Block]]
    outcomes: Sequence[Block]
    errors: Mapping[str, int] = attrs.field(factory=dict)


def samples(groups: Iterable[Sequence[Sequence[Run]]]) -> Samples:
    """Those of the runs of A and B in each group, whose outcomes all count."""
    kept = [*groups]
    failed = [run for group in kept for side in group for run in side if run["outcome"] != Outcome.OK.value]
    return Samples(
        {
            name: [
                Block(*([value for run in side if (value := metric.value(run)) is not None] for side in group))
                for group in kept
            ]
            for name, metric in METRICS.items()
        },
        [Block(*([_outcome(run) for run in side] for side in group)) for group in kept],
        Counter(run["errorcode"] or run["outcome"] for run in failed),
    )


def _outcome(run: Run) -> float:
    return 1.0 if run["outcome"] == Outcome.OK.value else math.inf
