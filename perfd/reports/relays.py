"""Relays that are slow, or fail, more often than the others do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from perfd.analysis.enrichment import Enrichment, enrichments
from perfd.analysis.quantiles import of_sorted
from perfd.reports.groups import Group
from perfd.reports.runs import Run

SLOW = 0.9
"""A run is slow that takes longer than this quantile of its group."""

LEAST = 5
"""Runs over a relay, below which nothing is said of it."""

PLACES = ("guard", "middle", "exit")


@attrs.frozen
class RelayFinding:
    """A relay at a place of circuits, and how often runs over it were slow, or failed."""

    place: str
    fingerprint: str
    nickname: str
    weight: str  # in the consensus, when it was used last
    found: Enrichment

    @property
    def label(self) -> str:
        return f"{self.nickname or self.fingerprint[:9]} ({self.place})"


@attrs.frozen
class Relays:
    """All relays with enough runs, those first that are least likely to be there by chance."""

    slow: tuple[RelayFinding, ...]
    failing: tuple[RelayFinding, ...]


def relays(groups: Sequence[Group]) -> Relays:
    """What runs say of the relays of their circuits. p-values are adjusted for all relays and places together."""
    slow: list[tuple[Run, bool]] = []
    failing: list[tuple[Run, bool]] = []
    for group in groups:
        done = [(run, run.complete) for run in group.runs if run.is_ok and run.complete is not None and run.path]
        if done:
            limit = of_sorted(sorted(time for _, time in done), SLOW)
            slow += [(run, time > limit) for run, time in done]
        failing += [(run, run.has_failed) for run in group.runs if run.path and (run.is_ok or run.has_failed)]
    return Relays(tuple(_findings(slow)), tuple(_findings(failing)))


def _findings(runs: Sequence[tuple[Run, bool]]) -> Iterable[RelayFinding]:
    counts: dict[str, list[int]] = {}
    known: dict[str, tuple[str, str]] = {}
    for run, hit in runs:
        for n, (place, fingerprint) in enumerate(_places(run)):
            key = f"{place} {fingerprint}"
            count = counts.setdefault(key, [0, 0])
            count[0] += hit
            count[1] += 1
            hop = n if n < 2 else len(run.path) - 1
            nickname = run.nicknames[hop] if hop < len(run.nicknames) else ""
            weight = run.weights[hop] if hop < len(run.weights) else ""
            known[key] = nickname, weight
    parts = {key: (hits, count) for key, (hits, count) in counts.items() if count >= LEAST}
    found = enrichments(parts, sum(hit for _, hit in runs), len(runs))
    return [_finding(each, *known[each.name]) for each in found]


def _finding(found: Enrichment, nickname: str, weight: str) -> RelayFinding:
    place, fingerprint = found.name.split(" ")
    return RelayFinding(place, fingerprint, nickname, weight, found)


def _places(run: Run) -> list[tuple[str, str]]:
    """The relays of a run by what they are there for; of circuits to onion services, too, the last is the exit."""
    path = run.path
    found = [("guard", path[0])]
    if len(path) > 1:
        found.append(("middle", path[1]) if len(path) > 2 else ("exit", path[1]))
    if len(path) > 2:
        found.append(("exit", path[-1]))
    return found
