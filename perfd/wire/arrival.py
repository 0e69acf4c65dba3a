"""When bytes arrived, as the kernel saw it: earlier than when a busy process gets round to reading them.

Linux stamps every packet at its arrival, and tells with a read when the last packet in it came (SO_TIMESTAMPNS,
socket(7); TCP since Linux 4.18). Elsewhere, and for what is no TCP socket, nothing is told. Packets that wait may
be merged, and have the time of the last one then: so a read that comes late can be stamped later than its first
byte came, but never later than it would be without this.
"""

from __future__ import annotations

import math
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
_TIMESPEC = struct.Struct("@ll")
_ROOM = socket.CMSG_SPACE(_TIMESPEC.size)


class KernelClock:
    """Turns the kernel's stamps, which are by the wall clock, into those of the ``monotonic`` clock.

    Both clocks run at the same speed, also when that is being adjusted, so their difference changes only when the
    wall clock is stepped. What had come before a step was noticed has no stamp.
    """

    TOLERANCE = 20e-6
    """Seconds by which the difference may vary, because it takes time to look at both clocks."""

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._difference = self._measure()
        self._stepped = -math.inf  # when a step was last noticed

    def monotonic(self, stamp: float) -> float | None:
        """The moment that the kernel stamped as ``stamp``, in the past; None if that cannot be told."""
        now = self._monotonic()
        if abs(self._wall() - now - self._difference) > self.TOLERANCE:
            measured = self._measure()
            if abs(measured - self._difference) > self.TOLERANCE:
                self._difference, self._stepped = measured, now
        moment = stamp - self._difference
        return min(moment, now) if self._stepped < moment <= now + self.TOLERANCE else None

    def _measure(self) -> float:
        """The wall clock's difference to the monotonic one, by the quickest of some looks."""
        looks = []
        for _ in range(5):
            before = self._monotonic()
            wall = self._wall()
            after = self._monotonic()
            looks.append((after - before, wall - (before + after) / 2))
        return min(looks)[1]


class StampedSocket(socket.socket):
    """A socket that knows when the packets of its latest read arrived."""

    clock: KernelClock
    last: float | None = None
    """When the last packet of the latest read had arrived, as a monotonic stamp; None: the kernel did not tell."""
    first: float | None = None
    """When the first one had, if ``wants_first`` was set before the read; else None."""
    wants_first = False
    is_exact = True
    """No read so far was stamped later than by the kernel."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.first = None
        if self.wants_first:
            _, ancillary, _, _ = self.recvmsg(1, _ROOM, flags | socket.MSG_PEEK)
            self.first = self._arrived(ancillary)
            self.wants_first = False
        data, ancillary, _, _ = self.recvmsg(size, _ROOM, flags)
        self.last = self._arrived(ancillary)
        return data

    def _arrived(self, ancillary: Sequence[tuple[int, int, bytes]]) -> float | None:
        for _, kind, value in ancillary:
            if kind == SO_TIMESTAMPNS and len(value) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                return self.clock.monotonic(seconds + nanoseconds * 1e-9)
        return None


def stamp_accepted(listening: Any) -> None:
    """Let the kernel stamp what arrives on connections to the port ``listening`` from their beginning.

    Otherwise what came before Twisted accepted them would have no stamp. Does nothing where that cannot be.
    """
    sock = getattr(listening, "socket", None)
    if isinstance(sock, socket.socket):
        _ask_kernel(sock)


def stamp_arrivals(
    transport: Any, monotonic: Callable[[], float], clock: KernelClock | None = None
) -> StampedSocket | None:
    """Let the kernel stamp what ``transport`` reads from now on; None if it cannot.

    ``clock`` is for a connection that there was before this call: only a clock from before what it is asked about
    knows whether the wall clock was stepped since then.
    """
    # The transport's own: one that wraps another shows the other's, which must not be taken from under it.
    before = getattr(transport, "__dict__", {}).get("socket")
    if isinstance(before, StampedSocket):
        return before
    if type(before) is not socket.socket or not _ask_kernel(before):
        return None
    stamped = StampedSocket(before.family, before.type, before.proto, fileno=before.detach())
    stamped.setblocking(False)
    stamped.clock = clock or KernelClock(monotonic)
    transport.socket, transport.fileno = stamped, stamped.fileno
    return stamped


def arrival(stamped: StampedSocket | None, now: float, earliest: float = -math.inf) -> float:
    """When the last of what was read from ``stamped`` at ``now`` had arrived (monotonic stamps).

    That is ``now`` if the kernel did not tell, or told what cannot be: before ``earliest``.
    """
    if stamped is None:
        return now
    if stamped.last is None or not earliest <= stamped.last <= now:
        stamped.is_exact = False
        return now
    return stamped.last


def first_arrival(stamped: StampedSocket | None, last: float, earliest: float = -math.inf) -> float:
    """When the first of what was read had arrived, of which the last did at ``last``."""
    first = None if stamped is None else stamped.first
    return first if first is not None and earliest <= first <= last else last


def is_exact(stamped: StampedSocket | None) -> bool:
    """Whether all that was read has the kernel's stamps."""
    return stamped is not None and stamped.is_exact


def _ask_kernel(sock: socket.socket) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True
