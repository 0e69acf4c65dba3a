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
        done = [(run, run.complete) for run in group.done if run.complete is not None and run.path]
        if done:
            limit = of_sorted(sorted(time for _, time in done), SLOW)
            slow += [(run, time > limit) for run, time in done]
        failing += [(run, run.has_failed) for run in group.runs if run.path and (run.is_ok or run.has_failed)]
    return Relays(tuple(_findings(slow)), tuple(_findings(failing)))


def _findings(runs: Sequence[tuple[Run, bool]]) -> Iterable[RelayFinding]:
    counts: dict[str, dict[str, _Count]] = {place: {} for place in PLACES}
    for run, hit in runs:
        for place, hop in _hops(len(run.path)):
            of_place, fingerprint = counts[place], run.path[hop]
            count = of_place.get(fingerprint)
            if count is None:
                count = of_place[fingerprint] = _Count(run, hop)
            count.hits += hit
            count.count += 1
            count.last, count.hop = run, hop
    known = {f"{place} {name}": count for place, of_place in counts.items() for name, count in of_place.items()}
    parts = {key: (count.hits, count.count) for key, count in known.items() if count.count >= LEAST}
    found = enrichments(parts, sum(hit for _, hit in runs), len(runs))
    return [_finding(each, known[each.name]) for each in found]


@attrs.define
class _Count:
    """Runs over a relay at a place, the last of them, and which of its hops that is."""

    last: Run
    hop: int
    hits: int = 0
    count: int = 0


def _finding(found: Enrichment, count: _Count) -> RelayFinding:
    place, fingerprint = found.name.split(" ")
    nickname, weight = (_word(words, count.hop) for words in (count.last.nicknames, count.last.weights))
    return RelayFinding(place, fingerprint, nickname, weight, found)


def _word(words: str, place: int) -> str:
    found = words.split(",")
    return found[place] if place < len(found) else ""


def _hops(length: int) -> Sequence[tuple[str, int]]:
    """The relays of a path by what they are there for; of circuits to onion services, too, the last is the exit."""
    return (("guard", 0), ("middle", 1), ("exit", length - 1)) if length > 2 else _SHORT[length]


_SHORT = ((), (("guard", 0),), (("guard", 0), ("exit", 1)))
