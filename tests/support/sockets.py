"""Two ends of a TCP connection on this machine."""

from __future__ import annotations

import socket
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

from perfd.wire.arrival import SO_TIMESTAMPNS
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


def let_kernel_stamp(case: TestCase) -> None:
    """From now until the end of the test the kernel stamps packets.

    It begins to a little after the first socket asked for it, and ends when the last one is closed.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    speaker = socket.create_connection(listening.getsockname())
    hearer, _ = listening.accept()
    for each in (listening, speaker, hearer):
        case.addCleanup(each.close)
    while True:
        speaker.send(b"a")
        _, ancillary, _, _ = hearer.recvmsg(1, 100)
        if ancillary:
            return
        time.sleep(0.001)
