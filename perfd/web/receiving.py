"""Request bodies: they go to a sink as they are read, never into memory, and must come fast enough."""

from __future__ import annotations

from typing import Protocol

GRACE = 60.0
"""Seconds that a body has, however little comes."""

LONGEST = 3600.0
"""Seconds that the body of a stranger may take in all."""

SLOWEST = 1000
"""Bytes per second that it must have on average from then on."""

DRAIN = 256 * 1024
"""Bytes that are still read after a request was refused: closing with unread bytes would destroy the answer."""

DRAIN_TIMEOUT = 10.0
"""Seconds that this may take."""


class Sink(Protocol):
    """Where a body goes."""

    @property
    def left(self) -> int:
        """The bytes that are still to come."""

    def take(self, data: bytes, stamp: float) -> None:
        """The next bytes, at most ``left``, whose read had returned at ``stamp``."""


class Receiving:
    """A body on its way to ``sink``. ``deadline`` is when it ends in failure, on the clock of the stamps.

    Something must come within ``idle_timeout`` seconds. Unless it is ``trusted``, which one of our own measurements
    is, it must also have the slowest speed after its grace.
    """

    def __init__(self, sink: Sink, begun: float, idle_timeout: float, *, trusted: bool) -> None:
        self._sink = sink
        self._begun = begun
        self._idle_timeout = idle_timeout
        self._trusted = trusted
        self._count = 0
        self.deadline = self._next(begun)

    @property
    def is_complete(self) -> bool:
        return not self._sink.left

    def take(self, data: bytes, stamp: float) -> bytes:
        """The next bytes, whose read had returned at ``stamp``. Gives those that are beyond the body."""
        count = min(len(data), self._sink.left)
        self._sink.take(data[:count], stamp)
        self._count += count
        self.deadline = self._next(stamp)
        return data[count:]

    def _next(self, now: float) -> float:
        idle = now + self._idle_timeout
        if self._trusted:
            return idle
        return min(idle, self._begun + GRACE + self._count / SLOWEST, self._begun + LONGEST)
