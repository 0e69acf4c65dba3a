"""When bytes arrived, as the kernel saw it: earlier than when a busy process gets round to reading them.

Linux stamps every packet at its arrival, and tells with a read when the last packet in it came (SO_TIMESTAMPNS,
socket(7); TCP since Linux 4.18). Elsewhere, and for what is no socket, nothing is told. Packets that wait may be
merged, and have the time of the last one then: so a read that comes late can be stamped later than its first byte
came, but never later than it would be without this.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from typing import Any

SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
_TIMESPEC = struct.Struct("@ll")
_ROOM = socket.CMSG_SPACE(_TIMESPEC.size)


class StampedSocket(socket.socket):
    """A socket that knows when the last packet of its latest read arrived."""

    age: float | None = None
    """For how many seconds the packet had been there when it was read; None if the kernel did not tell."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        data, ancillary, _, _ = self.recvmsg(size, _ROOM, flags)
        self.age = None
        for _, kind, value in ancillary:
            if kind == SO_TIMESTAMPNS and len(value) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                # Both by the system's own clock at this moment, so that only a step just now could do harm.
                self.age = time.clock_gettime(time.CLOCK_REALTIME) - (seconds + nanoseconds * 1e-9)
        return data


def stamp_arrivals(transport: Any) -> StampedSocket | None:
    """Let the kernel stamp what ``transport`` reads from now on; None if it cannot."""
    before = getattr(transport, "socket", None)
    if not sys.platform.startswith("linux") or type(before) is not socket.socket:
        return None
    try:
        before.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return None
    stamped = StampedSocket(fileno=before.detach())
    stamped.setblocking(False)
    transport.socket, transport.fileno = stamped, stamped.fileno
    return stamped


def arrival(stamped: StampedSocket | None, now: float, earliest: float) -> float:
    """When what was read from ``stamped`` at ``now`` had arrived (monotonic stamps).

    An age that cannot be, because the wall clock was stepped or it would be before ``earliest``, does not count.
    """
    age = None if stamped is None else stamped.age
    return now - age if age is not None and 0 <= age <= now - earliest else now
