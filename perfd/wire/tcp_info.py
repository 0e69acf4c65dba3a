"""What Linux tells about a TCP connection: the option TCP_INFO of its socket (tcp(7)).

The answer is a ``struct tcp_info`` (linux/tcp.h, in include/uapi), which has grown at its end with time; a kernel
gives as much of it as it has. All of this is the sender's view: of a connection whose other end is on this machine,
such as that to a SOCKS port on loopback, it says nothing about Tor.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import attrs

from perfd.wire.curve import Samples

INTERVAL = 0.1
"""Seconds between the first samples of a connection."""

_SIZE = 256  # bytes to ask for: more than there is, up to Linux 6.12
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")

# Offsets of tcpi_rtt and so on; fixed, since the kernel only appends.
_RTT, _RTTVAR, _CWND, _RETRANSMITS = 68, 72, 80, 100
_MIN_RTT, _DELIVERY_RATE = 148, 160
_UNKNOWN = 0xFFFFFFFF  # the min_rtt of a connection without a sample


@attrs.frozen
class TCPInfo:
    """One look at a connection. None: the kernel is older than the field, or has measured nothing yet."""

    rtt: float | None  # seconds, smoothed (RFC 6298)
    rttvar: float | None  # seconds, its mean deviation
    min_rtt: float | None  # seconds, the smallest of the last minutes; Linux 4.6
    retransmits: int | None  # segments that were sent again, of the whole connection
    cwnd: int | None  # segments
    delivery_rate: int | None  # bytes per second, the latest sample of it; Linux 4.9

    @classmethod
    def parse(cls, data: bytes) -> TCPInfo:
        """What the kernel has answered."""
        rtt, min_rtt = _number(data, _RTT, _U32), _number(data, _MIN_RTT, _U32)
        rttvar = _number(data, _RTTVAR, _U32)
        return cls(
            rtt=rtt / 1e6 if rtt else None,
            rttvar=rttvar / 1e6 if rtt and rttvar is not None else None,
            min_rtt=min_rtt / 1e6 if min_rtt and min_rtt != _UNKNOWN else None,
            retransmits=_number(data, _RETRANSMITS, _U32),
            cwnd=_number(data, _CWND, _U32),
            delivery_rate=_number(data, _DELIVERY_RATE, _U64) or None,
        )


def look(sock: Any) -> TCPInfo | None:
    """What the kernel tells about ``sock`` now; None if it tells nothing, or this is no TCP socket."""
    if not isinstance(sock, socket.socket):
        return None
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return None
    try:
        return TCPInfo.parse(sock.getsockopt(socket.IPPROTO_TCP, option, _SIZE))
    except OSError:  # closed, or of another family
        return None


class TCPSeries:
    """Looks at the connection of ``transport`` now and then, at most `MOST_POINTS` of them, and at its end.

    To be called after the stamp of what happened was taken; a look takes 2 µs.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._samples: Samples[TCPInfo] = Samples(INTERVAL)
        self.last: TCPInfo | None = None  # the last look

    def look(self, stamp: float, *, is_last: bool = False) -> None:
        """Something was sent or has come at the monotonic ``stamp``."""
        if not is_last and not self._samples.is_due(stamp):
            return
        info = look(getattr(self._transport, "socket", None))
        if info is not None:
            self.last = info
            self._samples.add(stamp, info)

    def taken(self) -> list[tuple[float, TCPInfo]]:
        """All looks, each with its stamp."""
        return self._samples.taken()


def _number(data: bytes, offset: int, form: struct.Struct) -> int | None:
    return form.unpack_from(data, offset)[0] if len(data) >= offset + form.size else None
