"""Two ends of a TCP connection on this machine."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory

from tests.support.loopback import Collector, LoopbackCase

SMALL_BUFFER = 8192
"""Bytes that the kernel is asked to keep, so that a peer that does not read is soon noticed."""


class SocketCase(LoopbackCase):
    """Makes connections."""

    async def connect(self) -> tuple[Collector, Collector]:
        """The end that listened, and the one that connected; both collect what comes."""
        accepted: Deferred[Collector] = Deferred()

        class Accepted(Collector):
            def connectionMade(self) -> None:
                accepted.callback(self)

        number, _ = await self.listen(Factory.forProtocol(Accepted))
        theirs = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", number), Collector())
        ours = await accepted
        self.addCleanup(lambda: theirs.lost)
        self.addCleanup(theirs.transport.abortConnection)
        return ours, theirs

    def narrow(self, *ends: Any) -> None:
        """Let the kernel keep little between these ends."""
        for end in ends:
            sock = end.transport.getHandle()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
