"""HTTP servers on loopback that do what servers must not do, for the tests of the measuring client.

Each behaviour is what the server does to a connection once the request has come. ``EXPECT`` is the size that the
client asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

EXPECT = 20480
HEAD = f"HTTP/1.1 200 OK\r\nContent-Length: {EXPECT}\r\n\r\n".encode()
HALF = b"h" * (EXPECT // 2)
WHOLE = b"w" * EXPECT


class Hostile(Protocol):
    """Does ``behaviour`` when the request is there."""

    transport: Any
    behaviour: Callable[[Hostile], None]
    _request = b""
    _endless: LoopingCall | None = None

    def connectionMade(self) -> None:
        self.factory.connections.add(self)

    def dataReceived(self, data: bytes) -> None:
        self._request += data
        if self._request.endswith(b"\r\n\r\n"):
            self.factory.behaviour(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._endless is not None and self._endless.running:
            self._endless.stop()
        self.factory.connections.discard(self)
        self.factory.idle()

    def send(self, *pieces: bytes) -> None:
        self.transport.write(b"".join(pieces))

    def close(self) -> None:
        self.transport.loseConnection()

    def reset(self) -> None:
        """Let what was sent arrive, then reset the connection."""
        self.factory.reactor.callLater(0.05, self.transport.abortConnection)

    def repeat(self, piece: bytes) -> None:
        """Send ``piece`` until the client goes."""
        self._endless = LoopingCall(self.transport.write, piece)
        self._endless.clock = self.factory.reactor
        self._endless.start(0.001)


def _closes(*pieces: bytes) -> Callable[[Hostile], None]:
    def behave(server: Hostile) -> None:
        server.send(*pieces)
        server.close()

    return behave


def _sends(*pieces: bytes) -> Callable[[Hostile], None]:
    return lambda server: server.send(*pieces)


def _resets(*pieces: bytes) -> Callable[[Hostile], None]:
    def behave(server: Hostile) -> None:
        server.send(*pieces)
        server.reset()

    return behave


BEHAVIOURS: Mapping[str, Callable[[Hostile], None]] = {
    "never answers": _sends(),
    "closes without an answer": _closes(),
    "resets without an answer": _resets(),
    "wrong status": _closes(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found"),
    "redirect": _closes(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    "short body": _closes(b"HTTP/1.1 200 OK\r\nContent-Length: 10240\r\n\r\n", HALF),
    "short body that ends with the connection": _closes(b"HTTP/1.1 200 OK\r\n\r\n", HALF),
    "long body": _closes(b"HTTP/1.1 200 OK\r\nContent-Length: 40960\r\n\r\n", WHOLE, WHOLE),
    "long body that ends with the connection": _closes(b"HTTP/1.0 200 OK\r\n\r\n", WHOLE, b"x"),
    "closes in the body": _closes(HEAD, HALF),
    "resets in the body": _resets(HEAD, HALF),
    "stalls in the body": _sends(HEAD, HALF),
    "stalls in the head": _sends(b"HTTP/1.1 200 OK\r\nServer: slow"),
    "garbage": _sends(bytes(range(256)) * 4),
    "another protocol": _sends(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "endless header": lambda server: server.repeat(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 2000),
    "endless headers": lambda server: server.repeat(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300),
    "endless interim responses": lambda server: server.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "chunked": _sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\n", WHOLE, b"\r\n0\r\n\r\n"),
    "compressed": _sends(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20480\r\n\r\n", WHOLE),
    "two lengths": _sends(b"HTTP/1.1 200 OK\r\nContent-Length: 20480\r\nContent-Length: 1\r\n\r\n", WHOLE),
    "negative length": _sends(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
}


class HostileFactory(Factory):
    """Listens on loopback until ``stop``, which waits for the connections' end."""

    noisy = False
    protocol = Hostile

    def __init__(self, reactor: Any, behaviour: Callable[[Hostile], None]) -> None:
        self.reactor = reactor
        self.behaviour = behaviour
        self.connections: set[Hostile] = set()
        self._waiting: Deferred[None] | None = None
        self._port: IListeningPort = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.port: int = self._port.getHost().port

    def idle(self) -> None:
        if self._waiting is not None and not self.connections:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)

    async def disconnected(self) -> None:
        """Return when the client has closed its connection."""
        if self.connections:
            self._waiting = Deferred()
            await self._waiting

    async def stop(self) -> None:
        await self.disconnected()
        await self._port.stopListening()
