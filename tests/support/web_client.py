"""A site and its clients in memory, for the tests of the web server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet import main
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource
from zope.interface import implementer

from perfd.web.site import Site, make_site
from perfd.web.stamps import ServerStamps
from perfd.web.targets.random import random_resources

GIB = 2**30
LIMIT = 2 * GIB


@implementer(ITCPTransport)
class Socket(FileDescriptor):
    """Twisted's own buffering over a socket in memory, which takes at most ``room`` bytes and then nothing."""

    room = LIMIT * 2
    aborted = False
    shut = False  # the server has said all that it will say
    broken = False  # sending fails

    def __init__(self, reactor: Any, keep: bool = True, peer: str = "127.0.0.1") -> None:
        super().__init__(reactor)
        self.connected = 1
        self.taken = 0  # bytes
        self.most_buffered = 0
        self.received = bytearray()  # what the client has, if it keeps it
        self._keep = keep
        self._peer = peer
        self.protocol: Any = None
        self.startReading()

    def receive(self, data: bytes) -> None:
        """The client has sent ``data``; that stays unread if the server does not want to read."""
        if self in self.reactor.readers:
            self.protocol.dataReceived(data)

    def writeSomeData(self, data: bytes) -> int | BaseException:
        if self.broken:
            return main.CONNECTION_LOST
        count = min(self.room, len(data), self.SEND_LIMIT)
        self.room -= count
        self.taken += count
        if self._keep:
            self.received += data[:count]
        return count

    def flush(self, turns: int = 1_000_000) -> None:
        """Let the reactor write as long as there is something to write and room for it."""
        while turns and self.connected and self in self.reactor.writers and self.room:
            self.most_buffered = max(self.most_buffered, len(self.dataBuffer) + self._tempDataLen)
            reason = self.doWrite()
            if reason is not None:
                self.reactor.removeWriter(self)
                self.connectionLost(Failure(reason))
            turns -= 1

    def shut_down(self) -> None:
        """The client has said all that it will say."""
        self.reactor.removeReader(self)
        self.protocol.readConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        if self.connected:
            super().connectionLost(reason)
            self.protocol.connectionLost(reason)

    def abortConnection(self) -> None:
        self.aborted = True
        self.connectionLost(Failure(ConnectionAborted()))

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8080)

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", self._peer, 50000)

    def _closeWriteConnection(self) -> None:
        self.shut = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: example.com", *headers, "", ""]).encode()


class SiteTestCase(SynchronousTestCase):
    """A site and its clients in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.stamps = ServerStamps(self.reactor.seconds)
        self.site = self.make()

    def children(self) -> dict[str, IResource]:
        """What the site has, by name."""
        return {**random_resources(LIMIT)}

    def make(self, children: Mapping[str, IResource] | None = None, **limits: Any) -> Site:
        return make_site(children or self.children(), reactor=self.reactor, stamps=self.stamps, **limits)

    def open(self, keep: bool = True, peer: str = "127.0.0.1") -> Socket:
        """A client has connected."""
        socket = Socket(self.reactor, keep, peer)
        socket.protocol = self.site.buildProtocol(socket.getPeer())
        socket.protocol.makeConnection(socket)
        return socket

    def ask(self, *request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the response to a request on a connection of its own."""
        socket = self.open()
        for piece in request:
            socket.receive(piece)
        socket.flush()
        return self.read(socket)

    def read(self, socket: Socket) -> tuple[int, dict[str, str], bytes]:
        head, _, body = bytes(socket.received).partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body

    def fails(self, request: bytes, status: int) -> str:
        """The message of the error with which the request is answered."""
        answered, headers, body = self.ask(request)
        self.assertEqual(answered, status)
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertEqual(int(headers["Content-Length"]), len(body))
        document = json.loads(body)
        self.assertEqual(list(document), ["error"])
        self.assertEqual(document["error"]["status"], status)
        return document["error"]["message"]
