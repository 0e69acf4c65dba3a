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
    def name(self) -> str:
        """Its nickname, or where that is not known the begin of its fingerprint."""
        return self.nickname or self.fingerprint[:9]

    @property
    def label(self) -> str:
        """Its name, the begin of its fingerprint, since others may have the same nickname, and its place."""
        return f"{' '.join(filter(None, (self.nickname, self.fingerprint[:9])))} ({self.place})"


@attrs.frozen(kw_only=True)
class Relays:
    """All relays with enough runs, those first that are least likely to be there by chance.

    The shares are those of all runs that have a path; None without any.
    """

    slow: tuple[RelayFinding, ...]
    failing: tuple[RelayFinding, ...]
    share_slow: float | None
    share_failing: float | None


def relays(groups: Sequence[Group]) -> Relays:
    """What runs say of the relays of their circuits. p-values are adjusted for all relays and places together.

    Runs of a relay are compared with others of their group alone: where one kind of runs fails more often, or is
    slow, relays that it uses more than others are not at fault.
    """
    slow, failing = _Tally(), _Tally()
    for group in groups:
        done = [(run, run.complete) for run in group.done if run.complete is not None and run.path]
        if done:
            limit = of_sorted(sorted(time for _, time in done), SLOW)
            slow.add((run, time > limit) for run, time in done)
        failing.add((run, run.has_failed) for run in group.runs if run.path and (run.is_ok or run.has_failed))
    return Relays(
        slow=tuple(slow.findings()),
        failing=tuple(failing.findings()),
        share_slow=slow.share,
        share_failing=failing.share,
    )


class _Tally:
    """Runs by relay and place, and how many of them were hits: of each group by itself."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, _Count]] = {place: {} for place in PLACES}
        self._groups: list[tuple[int, int]] = []

    def add(self, runs: Iterable[tuple[Run, bool]]) -> None:
        """Those of one more group."""
        hits = number = 0
        group = len(self._groups)
        for run, hit in runs:
            hits += hit
            number += 1
            for place, hop in _hops(len(run.path)):
                of_place, fingerprint = self._counts[place], run.path[hop]
                count = of_place.get(fingerprint)
                if count is None:
                    count = of_place[fingerprint] = _Count(run, hop)
                if count.group != group:
                    count.open(group)
                count.hits += hit
                count.number += 1
                count.last, count.hop = run, hop
        self._groups.append((hits, number))

    @property
    def share(self) -> float | None:
        """That of the hits among all runs; None without any."""
        number = sum(number for _, number in self._groups)
        return sum(hits for hits, _ in self._groups) / number if number else None

    def findings(self) -> Iterable[RelayFinding]:
        known = {f"{place} {name}": count for place, some in self._counts.items() for name, count in some.items()}
        parts = {key: count.by_group() for key, count in known.items()}
        parts = {key: part for key, part in parts.items() if sum(number for _, number in part.values()) >= LEAST}
        return [_finding(each, known[each.name]) for each in enrichments(parts, self._groups)]


@attrs.define
class _Count:
    """Runs over a relay at a place, the last of them, and which of its hops that is.

    ``hits`` and ``number`` are of the group that is counted now, ``earlier`` those of the groups before it.
    """

    last: Run
    hop: int
    group: int = -1
    hits: int = 0
    number: int = 0
    earlier: dict[int, tuple[int, int]] = attrs.field(factory=dict)

    def open(self, group: int) -> None:
        """Count runs of another group from now on."""
        self.earlier = self.by_group()
        self.group, self.hits, self.number = group, 0, 0

    def by_group(self) -> dict[int, tuple[int, int]]:
        """Hits and runs of each group in which the relay is."""
        return self.earlier | ({self.group: (self.hits, self.number)} if self.number else {})


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
