"""How a payload came, as a curve of few points; and what else there is to sample of a connection while it lasts."""

from __future__ import annotations

from array import array
from itertools import compress
from typing import Generic, TypeVar

MOST_POINTS = 200
"""Points of a finished curve, and samples of a series."""

ROOM = 1000
"""Points that wait in memory. One thinning of so many takes some 0.5 ms."""

S = TypeVar("S")


class ArrivalCurve:
    """How many bytes had come when: a step for each read, of which the most telling stay.

    What a step says, once it is dropped, is in doubt by the rectangle of bytes and time between its neighbours.
    Those with the smallest rectangles go, so an even flow keeps even steps, and a silence its begin and its end;
    the first and the last always stay. Any number of reads takes the same memory.
    """

    def __init__(self) -> None:
        self._stamps = array("d")
        self._counts = array("q")

    def reached(self, count: int, stamp: float) -> None:
        """``count`` bytes in all had come at ``stamp``; no step if that is what had come before."""
        if self._counts and self._counts[-1] == count:
            return
        self._stamps.append(stamp)
        self._counts.append(count)
        if len(self._stamps) >= ROOM:
            self._thin(ROOM * 3 // 4)

    def points(self) -> list[tuple[float, int]]:
        """At most `MOST_POINTS` pairs of a monotonic stamp and the bytes by then; both never fall."""
        while (excess := len(self._stamps) - MOST_POINTS) > 0:
            self._thin(excess)
        return list(zip(self._stamps, self._counts, strict=True))

    def _thin(self, candidates: int) -> None:
        """Drop what can be dropped of so many ``candidates``: of two neighbours only one."""
        stamps, counts = self._stamps, self._counts
        areas = [
            (later - earlier) * (more - less)
            for earlier, later, less, more in zip(stamps, stamps[2:], counts, counts[2:], strict=False)
        ]
        kept = bytearray(b"\1" * len(stamps))
        for n in sorted(range(len(areas)), key=areas.__getitem__)[:candidates]:
            if kept[n] and kept[n + 2]:
                kept[n + 1] = 0
        self._stamps = array("d", compress(stamps, kept))
        self._counts = array("q", compress(counts, kept))


class Samples(Generic[S]):
    """Samples of something, at most ``most`` however long it takes: ``interval`` seconds apart at first.

    When there are too many, every other one goes, and the interval is twice what it was. The samples of the
    beginning and of the end of what is sampled are taken in any case.
    """

    def __init__(self, interval: float, most: int = MOST_POINTS) -> None:
        self._interval = interval
        self._most = most
        self._due = 0.0
        self._samples: list[tuple[float, S]] = []

    def is_due(self, stamp: float) -> bool:
        """Whether it is time for the next one."""
        return stamp >= self._due

    def add(self, stamp: float, sample: S) -> None:
        """Keep ``sample``, taken at ``stamp``."""
        if len(self._samples) >= self._most:
            del self._samples[1::2]
            self._interval *= 2
        self._samples.append((stamp, sample))
        self._due = stamp + self._interval

    def taken(self) -> list[tuple[float, S]]:
        """All of them, each with its stamp, in their order."""
        return list(self._samples)
