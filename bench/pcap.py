"""Reads the TCP segments out of a packet capture: classic pcap files (draft-ietf-opsawg-pcap), IPv4 only."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import attrs

MAGIC = {0xA1B2C3D4: 1e-6, 0xA1B23C4D: 1e-9}
"""The first word of a file, and the unit of the second half of its times."""

LINK_HEADER = {0: 4, 1: 14, 12: 0, 14: 0, 101: 0, 228: 0}
"""Bytes before the IP header by link type: BSD loopback, Ethernet (Linux's loopback too), and plain IP."""

TCP = 6
SYN = 0x02


@attrs.frozen
class Segment:
    """A TCP segment as it was captured."""

    time: float  # seconds since the epoch
    source: int  # the port that it came from
    port: int  # where it went
    sequence: int  # the number of its first byte
    length: int  # of its payload
    is_syn: bool
    payload: bytes  # as much of it as was captured


def segments(data: bytes) -> Iterator[Segment]:
    """The TCP segments in the file ``data``, in their order. Raises ValueError if it is no pcap file."""
    order = next((order for order in "<>" if struct.unpack_from(order + "I", data)[0] in MAGIC), None)
    if order is None:
        raise ValueError("this is not a pcap file")
    unit = MAGIC[struct.unpack_from(order + "I", data)[0]]
    link = LINK_HEADER[struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF]
    position = 24
    while position + 16 <= len(data):
        seconds, fraction, kept, _ = struct.unpack_from(order + "IIII", data, position)
        packet = data[position + 16 + link : position + 16 + kept]
        position += 16 + kept
        segment = _segment(seconds + fraction * unit, packet)
        if segment is not None:
            yield segment


def _segment(time: float, packet: bytes) -> Segment | None:
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != TCP:
        return None
    start = (packet[0] & 0xF) * 4
    if len(packet) < start + 20:
        return None
    source, port, sequence = struct.unpack_from(">HHI", packet, start)
    head = start + (packet[start + 12] >> 4) * 4
    total = int.from_bytes(packet[2:4], "big")
    return Segment(time, source, port, sequence, total - head, bool(packet[start + 13] & SYN), packet[head:])
