"""A small SOCKS 4, 4a and 5 server (RFC 1928, 1929): CONNECT only, any login, with back-pressure both ways.

``Handshake`` is the server's half of SOCKS without I/O; ``SocksServer`` is one connection of a client.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError, TimeoutError  # noqa: A004
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

HANDSHAKE_TIMEOUT = 30.0
CONNECT_TIMEOUT = 30.0
HANDSHAKE_LIMIT = 1024  # bytes; the longest legal one is shorter

GRANTED = 0x00
GENERAL_FAILURE = 0x01
HOST_UNREACHABLE = 0x04
REFUSED = 0x05
TTL_EXPIRED = 0x06
COMMAND_NOT_SUPPORTED = 0x07
ADDRESS_NOT_SUPPORTED = 0x08


class HandshakeError(Exception):
    """The client does not speak SOCKS as it must; ``answer`` is what to send before closing."""

    def __init__(self, message: str, answer: bytes = b"") -> None:
        super().__init__(message)
        self.answer = answer


@attrs.frozen
class Target:
    """Where the client wants to be connected to."""

    version: int
    host: str
    port: int


class Handshake:
    """What a client sends until it has asked for a target. ``early`` is what it sent beyond that."""

    def __init__(self) -> None:
        self._buffer = b""
        self._read: Callable[[bytes], tuple[bytes, bytes] | None] = self._greeting
        self.target: Target | None = None

    @property
    def early(self) -> bytes:
        return self._buffer

    def receive(self, data: bytes) -> bytes:
        """Take bytes, give the answer. Raises HandshakeError."""
        self._buffer += data
        answers = b""
        while self.target is None:
            step = self._read(self._buffer) if self._buffer else None
            if step is None:
                if len(self._buffer) > HANDSHAKE_LIMIT:
                    raise HandshakeError("the handshake is too long")
                return answers
            self._buffer, answer = step
            answers += answer
        return answers

    # Each step takes the buffer and gives what is left of it and the answer, or None if it is not complete.

    def _greeting(self, data: bytes) -> tuple[bytes, bytes] | None:
        if data[0] == 4:
            return self._request4(data)
        if data[0] != 5:
            raise HandshakeError(f"version {data[0]} is not SOCKS")
        if len(data) < 2 or len(data) < 2 + data[1]:
            return None
        methods = data[2 : 2 + data[1]]
        rest = data[2 + data[1] :]
        if 2 in methods:
            self._read = self._login
            return rest, b"\x05\x02"
        if 0 in methods:
            self._read = self._request5
            return rest, b"\x05\x00"
        raise HandshakeError("no method that is known", b"\x05\xff")

    def _login(self, data: bytes) -> tuple[bytes, bytes] | None:
        if data[0] != 1:
            raise HandshakeError("not a login of RFC 1929", b"\x01\x01")
        if len(data) < 2 or len(data) < 3 + data[1]:
            return None
        end = 3 + data[1] + data[2 + data[1]]
        if len(data) < end:
            return None
        self._read = self._request5
        return data[end:], b"\x01\x00"

    def _request5(self, data: bytes) -> tuple[bytes, bytes] | None:
        if len(data) < 5:
            return None
        version, command, _, kind = data[:4]
        if version != 5 or command != 1:
            raise HandshakeError("only CONNECT is known", reply(5, COMMAND_NOT_SUPPORTED))
        if kind not in (1, 3, 4):
            raise HandshakeError("not a kind of address", reply(5, ADDRESS_NOT_SUPPORTED))
        start, length = (5, data[4]) if kind == 3 else (4, {1: 4, 4: 16}[kind])
        end = start + length + 2
        if len(data) < end:
            return None
        raw = data[start : start + length]
        host = _name(raw, 5) if kind == 3 else str(ipaddress.ip_address(raw))
        self.target = Target(5, host, int.from_bytes(data[end - 2 : end], "big"))
        return data[end:], b""

    def _request4(self, data: bytes) -> tuple[bytes, bytes] | None:
        end = data.find(b"\0", 8)
        if end < 0:
            return None
        command, port, raw = struct.unpack("!BH4s", data[1:8])
        if command != 1:
            raise HandshakeError("only CONNECT is known", reply(4, GENERAL_FAILURE))
        host = str(ipaddress.ip_address(raw))
        if raw[:3] == b"\0\0\0" and raw[3]:  # SOCKS 4a: the name follows the user
            start, end = end + 1, data.find(b"\0", end + 1)
            if end < 0:
                return None
            host = _name(data[start:end], 4)
        self.target = Target(4, host, port)
        return data[end + 1 :], b""


def _name(raw: bytes, version: int) -> str:
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        name = ""
    if not name or not name.isprintable():
        raise HandshakeError("not a host name", reply(version, GENERAL_FAILURE))
    return name


def reply(version: int, code: int) -> bytes:
    """The reply to a request, without an address: nobody needs it."""
    if version == 4:
        return bytes([0, 0x5A if code == GRANTED else 0x5B]) + bytes(6)
    return bytes([5, code, 0, 1]) + bytes(6)


def endpoint(reactor: Any, target: Target) -> IStreamClientEndpoint:
    """How to connect to ``target``; an address is not looked up."""
    try:
        address = ipaddress.ip_address(target.host)
    except ValueError:
        return HostnameEndpoint(reactor, target.host, target.port, timeout=CONNECT_TIMEOUT)
    kind = TCP4ClientEndpoint if address.version == 4 else TCP6ClientEndpoint
    return kind(reactor, target.host, target.port, timeout=CONNECT_TIMEOUT)


class SocksServer(Protocol):
    """One client. ``closed`` is called when its connection has ended."""

    transport: ITCPTransport

    def __init__(self, reactor: Any, closed: Callable[[SocksServer], None]) -> None:
        self._reactor = reactor
        self._closed = closed
        self._handshake = Handshake()
        self._peer: _Relay | None = None
        self._connecting: Deferred[Any] | None = None
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        if not ipaddress.ip_address(self.transport.getPeer().host).is_loopback:  # type: ignore[attr-defined]
            self.abort()
            return
        self.transport.setTcpNoDelay(True)
        self._deadline = self._reactor.callLater(HANDSHAKE_TIMEOUT, self.abort)

    def dataReceived(self, data: bytes) -> None:
        if self._peer is not None:
            self._peer.transport.write(data)
            return
        if self._connecting is not None:
            self._refuse(GENERAL_FAILURE)  # data before the reply: nobody who measures sends it
            return
        try:
            answer = self._handshake.receive(data)
        except HandshakeError as error:
            self.transport.write(error.answer)
            self.transport.loseConnection()
            return
        if answer:
            self.transport.write(answer)
        if self._handshake.target is not None:
            self._connect(self._handshake.target)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_waiting()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._peer is not None:
            self._peer.finish(reason)
        self._closed(self)

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abortConnection()

    def _stop_waiting(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    def _connect(self, target: Target) -> None:
        self._stop_waiting()
        factory = Factory.forProtocol(lambda: _Relay(self))
        factory.noisy = False
        self._connecting = endpoint(self._reactor, target).connect(factory)
        self._connecting.addCallbacks(self._connected, self._not_connected)

    def _connected(self, peer: _Relay) -> None:
        self._peer = peer
        peer.transport.setTcpNoDelay(True)
        version = self._handshake.target.version if self._handshake.target is not None else 5
        self.transport.write(reply(version, GRANTED))
        self.transport.registerProducer(peer.transport, True)
        peer.transport.registerProducer(self.transport, True)
        if self._handshake.early:
            peer.transport.write(self._handshake.early)

    def _not_connected(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        for kind, code in _CODES:
            if failure.check(kind):
                self._refuse(code)
                return
        self._refuse(GENERAL_FAILURE)

    def _refuse(self, code: int) -> None:
        version = self._handshake.target.version if self._handshake.target is not None else 5
        self.transport.write(reply(version, code))
        self.transport.loseConnection()


_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ConnectionRefusedError, REFUSED),
    (TimeoutError, TTL_EXPIRED),
    (DNSLookupError, HOST_UNREACHABLE),
    (ConnectError, HOST_UNREACHABLE),
    (socket.gaierror, HOST_UNREACHABLE),
)


class _Relay(Protocol):
    """The connection to the target."""

    transport: ITCPTransport

    def __init__(self, client: SocksServer) -> None:
        self._client = client

    def dataReceived(self, data: bytes) -> None:
        self._client.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        close(self._client.transport, reason)

    def finish(self, reason: Failure) -> None:
        """The client has gone."""
        close(self.transport, reason)


def close(transport: ITCPTransport, reason: Failure) -> None:
    """Close a connection as its other half was closed: orderly after all was sent, or with a reset."""
    transport.unregisterProducer()  # type: ignore[attr-defined]
    if reason.check(type(connectionDone.value)):
        transport.loseConnection()
    else:
        transport.abortConnection()
