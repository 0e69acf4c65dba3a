"""Probes: blocks of 16 bytes that come back, by which both ends of ``/echo`` measure round-trip times.

TCP and Tor keep their order, so the n-th probe that comes back is the n-th that was sent. The first byte of a block
says whose it is, for connections on which both ends send probes.
"""

from __future__ import annotations

from collections.abc import Iterator

PROBE = 16
"""Bytes of an exchange; with Tor's headers far less than a cell."""

CLIENTS, SERVERS, STOP = 0, 1, 2
"""The first byte of a block: the client's probe, the server's, or the client's word that the server is to stop.

What the server gets of the client's it sends back, STOP too. So after an echoed STOP the client has had all of the
server's probes, and after another one the server has them back.
"""

RATE_HEADER = "X-Perfd-Probes"
"""With the request for an echo: how many probes a second the server is to send too."""


def probe(whose: int, number: int) -> bytes:
    """The block of a probe."""
    return bytes([whose]) + number.to_bytes(PROBE - 1, "big")


class Blocks:
    """Takes blocks out of bytes as they come."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, data: bytes) -> Iterator[bytes]:
        """The blocks that are whole now."""
        data = self._rest + data
        whole = len(data) - len(data) % PROBE
        self._rest = data[whole:]
        for start in range(0, whole, PROBE):
            yield data[start : start + PROBE]


class Returns:
    """The probes that one end has sent: ``samples`` are when each was sent that came back, and after how long."""

    def __init__(self) -> None:
        self.sent = 0
        self.samples: list[tuple[float, float]] = []
        self._under_way: list[float] = []

    @property
    def lost(self) -> int:
        """Those that have not come back."""
        return self.sent - len(self.samples)

    def send(self, stamp: float) -> int:
        """One is sent at ``stamp``; its number."""
        self._under_way.append(stamp)
        self.sent += 1
        return self.sent - 1

    def came_back(self, stamp: float) -> bool:
        """The next one came back; False if none was under way."""
        if not self._under_way:
            return False
        sent = self._under_way.pop(0)
        self.samples.append((sent, stamp - sent))
        return True
