"""What a connection's socket takes, and when."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from perfd.wire.delivery import unsent


class Meter:
    """Watches the bytes of one connection on their way from the transport into the socket.

    ``took`` is told how many bytes the socket took, a monotonic stamp, and how many of those that were given to it
    or wait behind them it has yet to take. The stamp is of the moment before: on one machine the peer may have the
    bytes when ``send`` returns, and nothing may be received before it was sent.

    Twisted calls ``send`` in ``writeSomeData``, which is replaced until `remove`. A transport in memory has none:
    there, what is written counts as sent.
    """

    def __init__(
        self, transport: Any, monotonic: Callable[[], float], took: Callable[[int, float, int], None]
    ) -> None:
        self.last_sent = -math.inf  # when the socket last took anything
        self._transport = transport
        self._monotonic = monotonic
        self._took = took
        if hasattr(transport, "writeSomeData"):
            self._send: Callable[[bytes], int | BaseException] = transport.writeSomeData
            transport.writeSomeData = self._send_some
        else:
            self._write: Callable[[bytes], None] = transport.write
            transport.write = self._write_all
            transport.writeSequence = lambda pieces: self._write_all(b"".join(pieces))

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the socket has not taken."""
        return unsent(self._transport)

    def remove(self) -> None:
        """Leave the transport as it was."""
        for name in ("write", "writeSequence", "writeSomeData"):
            self._transport.__dict__.pop(name, None)

    def _send_some(self, data: bytes) -> int | BaseException:
        stamp = self._monotonic()
        count = self._send(data)
        if isinstance(count, int) and count > 0:
            self.last_sent = stamp
            # What is sent at once never was in the transport's buffer; the rest of it goes there afterwards.
            self._took(count, stamp, max(self.unsent, len(data)) - count)
        return count

    def _write_all(self, data: bytes) -> None:
        self.last_sent = self._monotonic()
        self._write(data)
        self._took(len(data), self.last_sent, 0)
