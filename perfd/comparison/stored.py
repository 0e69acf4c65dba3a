"""Comparisons of records that were stored for other purposes: two sets of them, which are put into strata.

Nobody decided by chance which run belongs to which set, so a difference may come of anything else that differs.
What is known to matter is held equal: only runs of the same experiment, size, way and time are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

import attrs

from perfd.comparison.conclusion import TooLittleError
from perfd.comparison.metrics import COUNTED, METRICS, Run, Samples, samples
from perfd.experiments.run import PAIR

HELD_EQUAL = ("experiment", "type", "filesize", "server", "URL", "tor")
"""What is the same for all runs of a stratum, unless the sets are to differ in it."""

FIELDS = tuple(
    dict.fromkeys(
        ("start", "outcome", "errorcode", PAIR, *HELD_EQUAL, *(f for m in METRICS.values() for f in m.fields))
    )
)
"""What must be known of each run."""

HOUR = 3600.0
WIDTHS = (1, 2, 4, 6, 12, 24)
"""Hours of a stratum: the fewest that hold enough runs of both sets."""

ENOUGH = 6  # runs of each set in the median stratum


@attrs.frozen
class Strata:
    """The runs of each; ``text`` says what they are, ``left_out`` how many runs are in none.

    ``paired``: each block is a pair by its nature, of one run of each set.
    """

    samples: Samples
    text: str
    left_out: int
    not_counted: int  # skipped and cancelled
    paired: bool = False


def strata(a: Sequence[Run], b: Sequence[Run], differing: Collection[str]) -> Strata:
    """Put runs into strata; ``differing`` are the fields in which the sets are asked to differ.

    Raises TooLittleError if no stratum has runs of both.
    """
    equal = tuple(name for name in HELD_EQUAL if name not in differing)
    counted = [[run for run in runs if run["outcome"] in COUNTED] for runs in (a, b)]
    total = sum(map(len, counted))
    if pairs := _pairs(counted):
        return Strata(
            samples(pairs),
            f"{len(pairs)} pairs, each over the same circuit, compared by the signed-rank test",
            total - 2 * len(pairs),
            len(a) + len(b) - total,
            paired=True,
        )
    divisions = _divisions(equal)
    for text, key in divisions if _overlap(counted, equal) else divisions[-1:]:
        groups = _groups(counted, key)
        both = [group for group in groups.values() if group[0] and group[1]]
        if not both or (text != _LAST and _median(min(len(x), len(y)) for x, y in both) < ENOUGH):
            continue
        held = ", ".join(equal).replace("filesize", "size")
        number = f"{len(both)} {'strata' if len(both) > 1 else 'stratum'}"
        return Strata(
            samples(both),
            f"observational: {number}, each of {text}, with the same {held}",
            total - sum(len(x) + len(y) for x, y in both),
            len(a) + len(b) - total,
        )
    raise TooLittleError(
        "the two sets have nothing in common that could be compared: no run of the one has the same "
        f"{', '.join(equal)} as one of the other"
    )


_LAST = "one hour of the day (UTC)"


def _divisions(equal: Sequence[str]) -> list[tuple[str, Callable[[Run], Hashable]]]:
    """The ways to divide time, the finest first; the last one is for sets that do not overlap in time."""

    def by(width: float) -> Callable[[Run], Hashable]:
        return lambda run: (int(run["start"] // (width * HOUR)), *(run[name] for name in equal))

    found = [("one hour" if width == 1 else f"{width} hours", by(width)) for width in WIDTHS]
    return [*found, (_LAST, lambda run: (int(run["start"] % (24 * HOUR) // HOUR), *(run[name] for name in equal)))]


def _overlap(sets: Sequence[Sequence[Run]], equal: Sequence[str]) -> bool:
    """Whether runs that are equal in these fields were made in both sets during the same time.

    If not, only what is next to the moment between the sets would be in a stratum with runs of both.
    """
    groups = _groups(sets, lambda run: tuple(run[name] for name in equal))
    times = [[[run["start"] for run in side] for side in group] for group in groups.values() if all(group)]
    return any(min(a) <= max(b) and min(b) <= max(a) for a, b in times)


def _groups(sets: Sequence[Sequence[Run]], key: Callable[[Run], Hashable]) -> dict[Hashable, tuple[list[Run], ...]]:
    groups: dict[Hashable, tuple[list[Run], ...]] = {}
    for side, runs in enumerate(sets):
        for run in runs:
            groups.setdefault(key(run), ([], []))[side].append(run)
    return groups


def _pairs(sets: Sequence[Sequence[Run]]) -> list[tuple[list[Run], ...]]:
    """The pairs of which the one run is in A and the other in B; none unless most runs are of such."""
    of_pairs = [[run for run in runs if run[PAIR] is not None] for runs in sets]
    groups = _groups(of_pairs, lambda run: run[PAIR])
    found = [group for group in groups.values() if len(group[0]) == len(group[1]) == 1]
    return found if 2 * len(found) > max(map(len, sets)) else []


def _median(values: Any) -> float:
    ordered = sorted(values)
    return float(ordered[len(ordered) // 2])


def kinds_in(runs: Sequence[Run]) -> list[str]:
    """The types of experiment, the most frequent first."""
    return [kind for kind, _ in Counter(run["type"] for run in runs).most_common()]
