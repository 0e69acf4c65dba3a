"""Perfd's one clock, and the stamps that a run takes with it.

Every part of Perfd (client, web server, control events) stamps with the same monotonic clock of the
same process. A run reads the wall clock once, at its start, so a step of the wall clock can shift a whole
record but never bend a duration.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from enum import Enum

import attrs


class Phase(str, Enum):
    """A step of a run. The names are Torperf's (reference: the ``@type torperf`` format)."""

    START = "START"  # the run starts
    SOCKET = "SOCKET"  # the socket to the SOCKS port was created
    CONNECT = "CONNECT"  # it was connected
    NEGOTIATE = "NEGOTIATE"  # SOCKS 5 authentication was negotiated (no such step in SOCKS 4)
    REQUEST = "REQUEST"  # the SOCKS request was sent
    RESPONSE = "RESPONSE"  # the SOCKS reply was received
    DATAREQUEST = "DATAREQUEST"  # the HTTP request was sent
    DATARESPONSE = "DATARESPONSE"  # the first byte of the HTTP response was received
    DATACOMPLETE = "DATACOMPLETE"  # the last byte of the payload was received


@attrs.frozen
class Anchor:
    """One moment read on both clocks; turns monotonic stamps into times since the epoch."""

    wall: float
    monotonic: float

    def epoch(self, stamp: float) -> float:
        """Seconds since the epoch (UTC) of the monotonic ``stamp``, to the microsecond."""
        return round(self.wall + (stamp - self.monotonic), 6)


@attrs.frozen
class Clock:
    """The two time sources, as arguments: ``wall`` for the date, ``monotonic`` for every difference."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    def anchor(self) -> Anchor:
        return Anchor(wall=self.wall(), monotonic=self.monotonic())


def stamped_by(exact: Iterable[bool | None]) -> str | None:
    """By whom arrivals were stamped: ``kernel``, when they came, if all are ``exact``; else ``user``, when we read.

    None is for an end at which nothing arrived; if that is so of all, nobody stamped anything.
    """
    known = [each for each in exact if each is not None]
    return ("kernel" if all(known) else "user") if known else None


class Timeline:
    """The stamps of one run.

    A phase keeps its first stamp: the first byte of a response stays the first byte, however many
    follow. All stamps inside are raw monotonic seconds; ``epoch`` gives them out as seconds since the
    epoch.
    """

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self.anchor = clock.anchor()
        self._stamps: dict[Phase, float] = {Phase.START: self.anchor.monotonic}

    def now(self) -> float:
        """The monotonic clock, in seconds."""
        return self._monotonic()

    def mark(self, phase: Phase, stamp: float | None = None) -> None:
        """Record that ``phase`` was reached at ``stamp`` (now, if not given)."""
        if phase not in self._stamps:
            self._stamps[phase] = self._monotonic() if stamp is None else stamp

    @property
    def stamps(self) -> Mapping[Phase, float]:
        return self._stamps

    def epoch(self, phase: Phase) -> float | None:
        """Seconds since the epoch at which ``phase`` was reached, None if it never was."""
        stamp = self._stamps.get(phase)
        return None if stamp is None else self.anchor.epoch(stamp)
