"""What a circuit carries, and how its congestion control does meanwhile, as its CIRC_BW events tell it."""

from __future__ import annotations

from functools import lru_cache

import attrs

from perfd.tor.events.lines import Congestion, UnparsedError
from perfd.wire.curve import Samples

INTERVAL = 0.1
"""Seconds between the first samples of a run: tor tells once a second, of a Conflux set's second leg more often."""

_MOST_DIGITS = 18


@attrs.frozen
class CircuitSample:
    """What was known of a circuit at one moment."""

    read: int  # bytes of cells that it had brought since it was first seen, with all that Tor adds
    written: int  # those that it had taken
    congestion: Congestion


class Carried:
    """Of one circuit. There may be thousands of events a second: each costs 1 µs, and a sample 10 µs."""

    def __init__(self) -> None:
        self.read = 0
        self.written = 0
        self._samples: Samples[CircuitSample] | None = None  # while it is measured

    def begin(self) -> None:
        """A measurement begins on it, and nobody measured on it before."""
        self._samples = Samples(INTERVAL)

    def came(self, stamp: float, text: str) -> None:
        """A CIRC_BW event came; READ and WRITTEN count from the one before (control-spec 4.1.22)."""
        words = text.split(" ", 3)
        if len(words) < 3:
            return
        self.read += _count(words[1], "READ=")
        self.written += _count(words[2], "WRITTEN=")
        if self._samples is not None and self._samples.is_due(stamp):
            try:
                congestion = Congestion.parse(text)
            except UnparsedError:
                return
            self._samples.add(stamp, CircuitSample(self.read, self.written, congestion))

    def samples(self, since: float) -> list[tuple[float, CircuitSample]]:
        """Those from the monotonic stamp ``since`` on, each with its stamp."""
        taken = [] if self._samples is None else self._samples.taken()
        return [(stamp, sample) for stamp, sample in taken if stamp >= since]


@lru_cache(maxsize=1024)  # nearly all are 0 or the bytes of one cell
def _count(word: str, key: str) -> int:
    digits = word.removeprefix(key)
    is_number = digits is not word and digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS
    return int(digits) if is_number else 0
