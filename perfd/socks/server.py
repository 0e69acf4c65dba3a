"""The server side of SOCKS 4, 4a and 5: a machine without I/O, and a protocol that forwards through endpoints.

SOCKS 5 is RFC 1928, its username and password RFC 1929. Only CONNECT is done. Any username and password is
accepted: they keep streams apart (Tor's isolation), they protect nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

NEGOTIATION_TIMEOUT = 10.0
"""Seconds within which a client must have said where it wants to go."""

MOST_CONNECTIONS = 1000

_LONGEST_STRING = 255  # of a SOCKS 4 user or host name, as in SOCKS 5 where the length is one byte

# RFC 1928, section 6.
SUCCEEDED = 0
GENERAL_FAILURE = 1
NETWORK_UNREACHABLE = 3
HOST_UNREACHABLE = 4
CONNECTION_REFUSED = 5
TTL_EXPIRED = 6
COMMAND_NOT_SUPPORTED = 7
ADDRESS_TYPE_NOT_SUPPORTED = 8

_REPLY_OF_ERROR: tuple[tuple[type[Exception], int], ...] = (
    (error.ConnectionRefusedError, CONNECTION_REFUSED),
    (error.NoRouteError, NETWORK_UNREACHABLE),
    (error.TCPTimedOutError, TTL_EXPIRED),
    (error.TimeoutError, TTL_EXPIRED),
    (error.DNSLookupError, HOST_UNREACHABLE),
    (error.UnknownHostError, HOST_UNREACHABLE),
)


@attrs.frozen
class Request:
    """Where a client wants to go. ``host`` is a name or an IP address."""

    version: int  # 4 or 5
    host: str
    port: int
    user: str = ""
    password: str = ""


class SocksRefusedError(Exception):
    """The client cannot be served; ``reply`` is what it must be told before the connection is closed."""

    def __init__(self, reason: str, reply: bytes = b"") -> None:
        super().__init__(reason)
        self.reply = reply


class _IncompleteError(Exception):
    """More bytes are needed."""


class SocksServerMachine:
    """One negotiation. ``feed`` it what arrives, until it gives the request; that ends it."""

    def __init__(self) -> None:
        self.rest = b""
        """What the client sent after its request without waiting for the reply (optimistic data)."""
        self._step: Callable[[], tuple[bytes, Request | None]] = self._greeting
        self._position = 0
        self._login = ("", "")

    def feed(self, data: bytes) -> tuple[bytes, Request | None]:
        """Take ``data``; return what must be sent, and the request once it is complete.

        Raises ``SocksRefusedError``.
        """
        self.rest += data
        to_send = b""
        while True:
            self._position = 0
            try:
                answer, request = self._step()
            except _IncompleteError:
                return to_send, None
            self.rest = self.rest[self._position :]
            to_send += answer
            if request is not None:
                return to_send, request

    def _greeting(self) -> tuple[bytes, Request | None]:
        version = self._byte()
        if version == 4:
            return b"", self._request4()
        if version != 5:
            raise SocksRefusedError(f"version {version} is not SOCKS")
        methods = self._take(self._byte())
        if 2 in methods:
            self._step = self._authentication
            return b"\x05\x02", None
        if 0 in methods:
            self._step = self._request5
            return b"\x05\x00", None
        raise SocksRefusedError("no authentication method is acceptable", b"\x05\xff")

    def _authentication(self) -> tuple[bytes, Request | None]:
        version = self._byte()
        if version != 1:
            raise SocksRefusedError(f"version {version} of authentication is unknown", b"\x01\x01")
        user, password = self._take(self._byte()), self._take(self._byte())
        self._login = (user.decode("latin-1"), password.decode("latin-1"))
        self._step = self._request5
        return b"\x01\x00", None

    def _request5(self) -> tuple[bytes, Request | None]:
        version, command, _, kind = self._take(4)
        if version != 5:
            raise SocksRefusedError(f"version changed to {version}", reply(5, GENERAL_FAILURE))
        if kind == 1:
            host = str(ipaddress.IPv4Address(self._take(4)))
        elif kind == 4:
            host = str(ipaddress.IPv6Address(self._take(16)))
        elif kind == 3:
            host = _host_name(5, self._take(self._byte()))
        else:
            raise SocksRefusedError(f"address type {kind} is unknown", reply(5, ADDRESS_TYPE_NOT_SUPPORTED))
        port = int.from_bytes(self._take(2), "big")
        if command != 1:
            raise SocksRefusedError(f"command {command} is not CONNECT", reply(5, COMMAND_NOT_SUPPORTED))
        return b"", Request(5, host, port, *self._login)

    def _request4(self) -> Request:
        command = self._byte()
        port = int.from_bytes(self._take(2), "big")
        address = self._take(4)
        user = self._string()
        if address[:3] == b"\0\0\0" and address[3]:  # SOCKS 4a
            host = _host_name(4, self._string())
        else:
            host = str(ipaddress.IPv4Address(address))
        if command != 1:
            raise SocksRefusedError(f"command {command} is not CONNECT", reply(4, COMMAND_NOT_SUPPORTED))
        return Request(4, host, port, user.decode("latin-1"))

    def _take(self, length: int) -> bytes:
        end = self._position + length
        if len(self.rest) < end:
            raise _IncompleteError
        taken = self.rest[self._position : end]
        self._position = end
        return taken

    def _byte(self) -> int:
        return self._take(1)[0]

    def _string(self) -> bytes:
        """The bytes up to the next NUL, which is taken too."""
        end = self.rest.find(b"\0", self._position)
        if (end if end >= 0 else len(self.rest)) - self._position > _LONGEST_STRING:
            raise SocksRefusedError("a name is too long", reply(4, GENERAL_FAILURE))
        if end < 0:
            raise _IncompleteError
        return self._take(end + 1 - self._position)[:-1]


def _host_name(version: int, raw: bytes) -> str:
    if not raw or not all(0x21 <= byte <= 0x7E for byte in raw):
        raise SocksRefusedError("the host name is empty or not ASCII", reply(version, HOST_UNREACHABLE))
    return raw.decode("ascii")


def reply(version: int, code: int) -> bytes:
    """The reply to a request, for a ``code`` of SOCKS 5; SOCKS 4 knows only granted and rejected."""
    if version == 4:
        return b"\0" + bytes([90 if code == SUCCEEDED else 91]) + bytes(6)
    return bytes([5, code, 0, 1]) + bytes(6)


class SocksServerProtocol(Protocol):
    """Negotiates with one client, connects where it wants to go, and then copies in both directions.

    The copying is back-pressured: who sends faster than the other side takes is not read from.
    """

    transport: Any  # ITCPTransport and both sides of back-pressure

    def __init__(self, server: SocksServerFactory) -> None:
        self._server = server
        self._machine = SocksServerMachine()
        self._outgoing: _Outgoing | None = None
        self._connecting: Deferred[Any] = succeed(None)
        self._request: Request | None = None
        self._overdue: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._server.connections.add(self)
        self._overdue = self._server.reactor.callLater(NEGOTIATION_TIMEOUT, self.transport.abortConnection)

    def dataReceived(self, data: bytes) -> None:
        if self._outgoing is not None:
            self._outgoing.transport.write(data)
            return
        if self._request is not None:  # was on its way when reading was paused
            self._machine.rest += data
            return
        try:
            to_send, self._request = self._machine.feed(data)
        except SocksRefusedError as refused:
            self._refuse(refused.reply)
            return
        if to_send:
            self.transport.write(to_send)
        if self._request is not None:
            self._connect(self._request)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._in_time()
        self._server.connections.discard(self)
        self._connecting.cancel()
        if self._outgoing is not None:
            self._outgoing.end(reason)

    def end(self, reason: Failure) -> None:
        """The other side is gone: deliver what it sent last, and close; or break off as it did."""
        _end(self.transport, reason)

    def abort(self) -> None:
        """Break off both connections."""
        self.transport.abortConnection()
        if self._outgoing is not None:
            self._outgoing.transport.abortConnection()

    def _connect(self, request: Request) -> None:
        self._in_time()
        self.transport.pauseProducing()
        factory = Factory.forProtocol(lambda: _Outgoing(self))
        factory.noisy = False
        self._connecting = self._server.endpoint_for(request).connect(factory)
        self._connecting.addCallbacks(
            self._connected, self._failed, callbackArgs=(request,), errbackArgs=(request,)
        )

    def _connected(self, outgoing: Any, request: Request) -> None:
        self._outgoing = outgoing
        self.transport.write(reply(request.version, SUCCEEDED))
        if self._machine.rest:
            outgoing.transport.write(self._machine.rest)
            self._machine.rest = b""
        outgoing.transport.registerProducer(self.transport, streaming=True)
        self.transport.registerProducer(outgoing.transport, streaming=True)
        self.transport.resumeProducing()

    def _failed(self, failure: Failure, request: Request) -> None:
        if not failure.check(CancelledError, error.ConnectingCancelledError):
            self._refuse(reply(request.version, reply_code(failure)))

    def _refuse(self, answer: bytes) -> None:
        self._in_time()
        self.transport.write(answer)
        self.transport.loseConnection()

    def _in_time(self) -> None:
        if self._overdue is not None and self._overdue.active():
            self._overdue.cancel()


class _Outgoing(Protocol):
    """The connection to where the client wanted to go."""

    transport: Any  # ITCPTransport and both sides of back-pressure

    def __init__(self, incoming: SocksServerProtocol) -> None:
        self._incoming = incoming

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self._incoming.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._incoming.end(reason)

    def end(self, reason: Failure) -> None:
        _end(self.transport, reason)


def _end(transport: Any, reason: Failure) -> None:
    transport.unregisterProducer()
    if reason.check(error.ConnectionDone):
        transport.loseConnection()
    else:
        transport.abortConnection()


def reply_code(failure: Failure) -> int:
    """The SOCKS 5 code that says why a destination could not be connected to."""
    for kind, code in _REPLY_OF_ERROR:
        if failure.check(kind):
            return code
    return GENERAL_FAILURE


class SocksServerFactory(Factory):
    """Serves SOCKS to clients on this machine; ``endpoint_for`` says how a request's destination is reached."""

    noisy = False

    def __init__(self, reactor: IReactorTime, endpoint_for: Callable[[Request], IStreamClientEndpoint]) -> None:
        self.reactor = reactor
        self.endpoint_for = endpoint_for
        self.connections: set[SocksServerProtocol] = set()

    def buildProtocol(self, addr: Any) -> Any:
        """A protocol; None, which closes the connection, for clients elsewhere, and when there are too many."""
        local = isinstance(addr, (IPv4Address, IPv6Address)) and ipaddress.ip_address(addr.host).is_loopback
        if not local or len(self.connections) >= MOST_CONNECTIONS:
            return None
        return SocksServerProtocol(self)

    def abort_all(self) -> None:
        """Break off all connections."""
        for connection in list(self.connections):
            connection.abort()
