"""What scans found: relays that are slower than the others in their place, or fail more often.

Three things are looked at: how long the circuit took to come to the relay, how long the transfer took, and how
often either failed. A relay is compared with the others that were measured in the same place, from the same
experiment, tor and way; times within each pass alone, so that the time of day counts for nothing. All p-values of
all scans are adjusted together (Benjamini and Hochberg): of the relays that are named, no more than the rate of
false discoveries is expected to be there by chance.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from perfd.analysis.enrichment import hypergeometric_tail
from perfd.analysis.multiplicity import benjamini_hochberg
from perfd.analysis.proportion import exact_interval
from perfd.analysis.standing import Standing, standings
from perfd.record import Error, Outcome

FIELDS = (
    *("experiment", "tor", "server", "URL", "start", "outcome", "errorcode", "datacomplete"),
    *("SCANRELAY", "SCANNICKNAME", "SCANPLACE", "SCANPASS", "CHOSENPATH", "CHOSENTIMES"),
)
"""What must be read of each measurement."""

LEAST = 5
"""Runs over a relay, below which nothing is said of it."""

MARGIN = 0.1
FALSE_DISCOVERY = 0.05

BUILD, TRANSFER, FAILURES = "build", "transfer", "failures"

_FAILED = (Outcome.FAILED.value, Outcome.TIMEOUT.value)


@attrs.frozen(kw_only=True)
class ScanRun:
    """A run of a scan that says something about its relay."""

    group: tuple[str, ...]  # experiment, tor, way and place
    relay: str
    nickname: str
    block: Hashable  # the pass
    build: float | None  # seconds from the relay before it until it was there
    transfer: float | None  # seconds from START to the last byte
    has_failed: bool

    @classmethod
    def of(cls, row: Sequence[Any]) -> ScanRun | None:
        """That of a row with ``FIELDS``; None if nothing was measured, or what failed came before the relay."""
        values = dict(zip(FIELDS, row, strict=True))
        relay, path = values["SCANRELAY"], str(values["CHOSENPATH"] or "").split(",")
        ended = values["outcome"]
        if not relay or relay not in path or ended not in (Outcome.OK.value, *_FAILED):
            return None
        if values["errorcode"] in _NOT_ITS_OWN:
            return None
        hop, times = (
            path.index(relay),
            [float(word) for word in str(values["CHOSENTIMES"] or "").split(",") if word],
        )
        if len(times) < hop:
            return None
        done = values["datacomplete"] if ended == Outcome.OK.value else None
        return cls(
            group=tuple(str(values[name] or "") for name in ("experiment", "tor", "server", "URL", "SCANPLACE")),
            relay=relay,
            nickname=str(values["SCANNICKNAME"] or ""),
            block=values["SCANPASS"],
            build=times[hop] - (times[hop - 1] if hop else 0.0) if len(times) > hop else None,
            transfer=None if done is None else done - values["start"],
            has_failed=ended in _FAILED,
        )


_NOT_ITS_OWN = (Error.NOPATH, Error.INTERNAL, Error.CONNECT)
"""Failures that say nothing about a relay."""


@attrs.frozen(kw_only=True)
class ScannedRelay:
    """A relay in one place. ``failed`` is the share of failures with its exact 95 % interval.

    ``adjusted`` are the p-values of what was tested, adjusted for all relays; ``found`` is what it stands out by.
    """

    group: tuple[str, ...]
    relay: str
    nickname: str
    runs: int
    failures: int
    failed: tuple[float, float]
    build: Standing | None
    transfer: Standing | None
    adjusted: Mapping[str, float]
    found: tuple[str, ...]

    @property
    def place(self) -> str:
        return self.group[-1]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        experiment, tor, server, url, place = self.group
        return {
            "experiment": experiment,
            "tor": tor,
            "server": server,
            "url": url or None,
            "relay": self.relay,
            "nickname": self.nickname,
            "place": place,
            "runs": self.runs,
            "failures": self.failures,
            "failed": [self.failures / self.runs, *self.failed],
            **{name: _standing(each) for name, each in ((BUILD, self.build), (TRANSFER, self.transfer))},
            "adjusted": dict(self.adjusted),
            "found": list(self.found),
        }


def _standing(standing: Standing | None) -> dict[str, Any] | None:
    if standing is None:
        return None
    ratio = [standing.ratio.estimate, standing.ratio.low, standing.ratio.high]
    return {
        "count": standing.count,
        "median": standing.median,
        "change": [value if math.isfinite(value) else None for value in ratio],
    }


def scanned(
    rows: Iterable[Sequence[Any]], margin: float = MARGIN, false_discovery: float = FALSE_DISCOVERY
) -> list[ScannedRelay]:
    """All relays, first those that stand out, then by how likely it is that the others are as they are."""
    groups: dict[tuple[str, ...], list[ScanRun]] = {}
    for run in filter(None, map(ScanRun.of, rows)):
        groups.setdefault(run.group, []).append(run)
    tested = [each for group, runs in sorted(groups.items()) for each in _tested(group, runs, margin)]
    places = [(n, name) for n, (_, p_values) in enumerate(tested) for name in p_values]
    adjusted: list[dict[str, float]] = [{} for _ in tested]
    q_values = benjamini_hochberg([tested[n][1][name] for n, name in places])
    for (n, name), q in zip(places, q_values, strict=True):
        adjusted[n][name] = q
    relays = [
        attrs.evolve(relay, adjusted=q, found=tuple(name for name in q if q[name] <= false_discovery))
        for (relay, _), q in zip(tested, adjusted, strict=True)
    ]
    return sorted(
        relays, key=lambda each: (not each.found, min(each.adjusted.values(), default=2.0), each.nickname)
    )


def _tested(
    group: tuple[str, ...], runs: Sequence[ScanRun], margin: float
) -> Iterable[tuple[ScannedRelay, Mapping[str, float]]]:
    """The relays of a group, each with the p-values of what could be tested."""
    builds = standings(((r.block, r.relay, r.build) for r in runs if r.build), margin, LEAST)
    transfers = standings(((r.block, r.relay, r.transfer) for r in runs if r.transfer), margin, LEAST)
    failures = sum(run.has_failed for run in runs)
    by_relay: dict[str, list[ScanRun]] = {}
    for run in runs:
        by_relay.setdefault(run.relay, []).append(run)
    for name, own in sorted(by_relay.items()):
        failed = sum(run.has_failed for run in own)
        p_values = {key: each[name].p for key, each in ((BUILD, builds), (TRANSFER, transfers)) if name in each}
        if len(own) >= LEAST and len(own) < len(runs):
            p_values[FAILURES] = hypergeometric_tail(failed, len(own), failures, len(runs))
        relay = ScannedRelay(
            group=group,
            relay=name,
            nickname=own[-1].nickname,
            runs=len(own),
            failures=failed,
            failed=exact_interval(failed, len(own)),
            build=builds.get(name),
            transfer=transfers.get(name),
            adjusted={},
            found=(),
        )
        yield relay, p_values
