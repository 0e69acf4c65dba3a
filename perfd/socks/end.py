"""One end of a proxied connection."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from perfd.wire.arrival import StampedSocket, arrival, first_arrival, is_exact, stamp_arrivals
from perfd.wire.delivery import deliver


@attrs.frozen
class EndCallbacks:
    """Who is told what happens at an end."""

    connected: Callable[[], None]
    heard: Callable[[bytes], None]  # bytes that came before the end forwards
    closed: Callable[[], None]  # the peer sends no more
    lost: Callable[[Failure], None]


@implementer(IHalfCloseableProtocol)
class End(Protocol):
    """A connection to the client or the other side: it counts what comes from there, and forwards it once it may.

    ``count`` bytes came from the peer for the other side, the first and the last of them at the monotonic
    stamps ``first`` and ``last``. ``over``: the peer sends no more; ``lost``: the connection is gone.
    """

    transport: Any  # ITCPTransport, IHalfCloseableDescriptor, and both sides of back-pressure

    def __init__(self, name: str, now: Callable[[], float], callbacks: EndCallbacks) -> None:
        self.name = name
        self.count = 0
        self.first: float | None = None
        self.last: float | None = None
        self.over = False
        self.lost = False
        self.forward: Callable[[bytes], None] | None = None
        self._now = now
        self._socket: StampedSocket | None = None
        self._callbacks = callbacks

    @property
    def exact(self) -> bool:
        """Whether the kernel stamped all that came."""
        return is_exact(self._socket)

    @property
    def alive(self) -> bool:
        return self.transport is not None and not self.lost

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._socket = stamp_arrivals(self.transport, self._now)
        if self._socket is not None:
            self._socket.wants_first = self.name == "remote"
        self._callbacks.connected()

    def dataReceived(self, data: bytes) -> None:
        if self.forward is None:
            self._callbacks.heard(data)
        else:
            self.note(data)
            self.forward(data)

    def note(self, data: bytes) -> None:
        """Count ``data``, which has just come."""
        self.last = arrival(self._socket, self._now(), -math.inf if self.last is None else self.last)
        if self.first is None:
            self.first = first_arrival(self._socket, self.last)
        self.count += len(data)

    def forward_to(self, other: End) -> None:
        """From now on the other end gets what comes; who sends faster than it takes is not read from."""
        if self.alive and not self.over:
            other.transport.registerProducer(self.transport, streaming=True)
        self.forward = partial(deliver, other.transport)

    def close_writing(self) -> None:
        """Deliver what is to be sent, and tell the peer that it was the last."""
        if self.alive:
            self.transport.unregisterProducer()  # a producer would be resumed instead
            self.transport.loseWriteConnection()

    def close(self) -> None:
        """Deliver what is to be sent, and close."""
        if self.alive:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Close at once; the peer sees a reset."""
        if self.alive:
            self.transport.unregisterProducer()
            self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        self.over = True
        self._callbacks.closed()

    def writeConnectionLost(self) -> None:
        """We closed our side; nothing follows from it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over = self.lost = True
        self._callbacks.lost(reason)
