"""Fakes for tests of code that meets Perfd's peers. They check every byte that they are given.

A fake raises `ProtocolViolationError` where the peer under test breaks the protocol; in a reactor that ends the
connection and is logged as an error, which makes trial fail the test.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.test import iosim
from zope.interface import implementer


class ProtocolViolationError(AssertionError):
    """The peer under test sent what the protocol does not allow."""


def _require(condition: bool, complaint: str) -> None:
    if not condition:
        raise ProtocolViolationError(complaint)


@attrs.frozen
class SOCKSAnswers:
    """What a fake SOCKS proxy answers. The default grants every request.

    A refusal (of the methods, the login or the request) is followed by closing the connection.
    """

    method: int | None = None
    """The SOCKS 5 method to choose. None: user name and password if offered, else no authentication."""

    login_status: int = 0x00
    code: int | None = None
    """The reply code. None grants the request: 0x00 in SOCKS 5, 0x5A in SOCKS 4."""

    bound: tuple[str, int] = ("0.0.0.0", 0)
    """The bound address in the reply; the host can be an IPv4 or IPv6 literal or, in SOCKS 5, a name."""

    raw: dict[str, bytes] = attrs.Factory(dict)
    """Bytes to send, as they are, in place of the ``method``, the ``login`` or the ``reply`` answer."""

    close_after: str | None = None
    """The answer (``method``, ``login`` or ``reply``) after which the connection is closed."""

    optimistic: bool = False
    """Whether the application's bytes may come with the request, before the reply."""

    payload: bytes = b""
    """The first bytes from behind the proxy, sent in the same segment as the reply."""

    piece: int = 0
    """How many bytes to send at a time; 0 sends an answer whole."""


@attrs.frozen
class SOCKSRequest:
    """What a client asked a fake SOCKS proxy for."""

    version: int
    kind: str
    """How the host was sent: ``ipv4``, ``ipv6`` or ``name``."""

    host: str
    port: int
    user: bytes | None = None
    password: bytes | None = None
    command: int = 1
    """CONNECT, or in SOCKS 5 Tor's RESOLVE (0xF0) or RESOLVE_PTR (0xF1)."""


class _IncompleteError(Exception):
    """More bytes are needed."""


class _Cursor:
    """Reads a message off the front of a buffer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length]
        if len(taken) < length:
            raise _IncompleteError
        self._at += length
        return taken

    def number(self, length: int = 1) -> int:
        return int.from_bytes(self.take(length), "big")

    def text(self) -> bytes:
        """Bytes up to a NUL, which is dropped."""
        end = self._data.find(b"\0", self._at)
        _require((len(self._data) if end < 0 else end) - self._at <= 255, "a string has more than 255 bytes")
        if end < 0:
            raise _IncompleteError
        return self.take(end + 1 - self._at)[:-1]

    def rest(self) -> bytes:
        return self._data[self._at :]


class FakeSOCKSServer:
    """A SOCKS 4, 4a and 5 proxy without I/O: takes the client's bytes, gives the scripted answers.

    ``asked`` is what the client asked for last (``method``, ``login`` or ``reply``), ``request`` its request.
    ``connected`` is true once that was granted, ``closing`` once the connection has to be closed, and ``received``
    holds the application's bytes.
    """

    def __init__(self, answers: SOCKSAnswers | None = None) -> None:
        self.answers = SOCKSAnswers() if answers is None else answers
        self.asked: str | None = None
        self.offered: tuple[int, ...] = ()
        self.request: SOCKSRequest | None = None
        self.connected = False
        self.closing = False
        self.received = b""
        self._login: tuple[bytes, bytes] | None = None
        self._buffer = b""
        self._read: Callable[[_Cursor], bytes] = self._read_first

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the client; returns the bytes to send back."""
        if self.connected:
            self.received += data
            return b""
        _require(not self.closing or self.answers.optimistic, f"the client goes on after a refusal with {data!r}")
        self._buffer += data
        cursor = _Cursor(self._buffer)
        try:
            answer = self._read(cursor)
        except _IncompleteError:
            return b""
        self._buffer = cursor.rest()
        if self.request is not None and self.answers.optimistic:
            self.received, self._buffer = self._buffer, b""
        _require(not self._buffer, f"the client did not wait for the answer, but sent {self._buffer!r}")
        return answer

    def _read_first(self, cursor: _Cursor) -> bytes:
        version = cursor.number()
        _require(version in (4, 5), f"version is {version}")
        return self._read_socks4(cursor) if version == 4 else self._read_greeting(cursor)

    def _read_socks4(self, cursor: _Cursor) -> bytes:
        """VN CD DSTPORT DSTIP USERID NULL, and in SOCKS 4a the name and NULL."""
        _require(cursor.number() == 1, "the command is not CONNECT")
        port, address, user = cursor.number(2), cursor.take(4), cursor.text()
        if address[:3] == bytes(3) and address[3] != 0:
            kind, host = "name", _name(cursor.text())
            _require(not _is_ipv4(host), f"an IPv4 literal is sent as a name: {host}")
        else:
            kind, host = "ipv4", str(ipaddress.IPv4Address(address))
        self.request = SOCKSRequest(4, kind, host, _port(port), user)
        code = 0x5A if self.answers.code is None else self.answers.code
        bound_host, bound_port = self.answers.bound
        reply = bytes((0, code)) + bound_port.to_bytes(2, "big") + ipaddress.IPv4Address(bound_host).packed
        return self._reply(reply, code == 0x5A)

    def _read_greeting(self, cursor: _Cursor) -> bytes:
        """VER NMETHODS METHODS."""
        self.offered = tuple(cursor.take(cursor.number()))
        _require(bool(self.offered), "no method is offered")
        _require(len(set(self.offered)) == len(self.offered), f"a method is offered twice: {self.offered}")
        _require(set(self.offered) <= {0x00, 0x02}, f"an unknown method is offered: {self.offered}")
        method = self.answers.method
        if method is None:
            method = max(self.offered)
        self._read = self._read_login if method == 0x02 else self._read_request
        return self._answer("method", bytes((5, method)), method == 0xFF)

    def _read_login(self, cursor: _Cursor) -> bytes:
        """VER ULEN UNAME PLEN PASSWD."""
        version = cursor.number()
        _require(version == 1, f"version of the login is {version}")
        user, password = cursor.take(cursor.number()), cursor.take(cursor.number())
        self._login = user, password
        self._read = self._read_request
        status = self.answers.login_status
        return self._answer("login", bytes((1, status)), status != 0)

    def _read_request(self, cursor: _Cursor) -> bytes:
        """VER CMD RSV ATYP DST.ADDR DST.PORT."""
        version = cursor.number()
        _require(version == 5, f"version of the request is {version}")
        command = cursor.number()
        _require(command in (1, 0xF0, 0xF1), "the command is not CONNECT")
        _require(cursor.number() == 0, "the reserved byte is not 0")
        match cursor.number():
            case 1:
                kind, host = "ipv4", str(ipaddress.IPv4Address(cursor.take(4)))
            case 3:
                kind, host = "name", _name(cursor.take(cursor.number()))
                _require(":" not in host, f"an IPv6 literal is sent as a name: {host}")
            case 4:
                kind, host = "ipv6", str(ipaddress.IPv6Address(cursor.take(16)))
            case other:
                raise ProtocolViolationError(f"address type is {other}")
        user, password = self._login or (None, None)
        _require(command != 0xF1 or kind != "name", "RESOLVE_PTR is for addresses")
        port = cursor.number(2)
        self.request = SOCKSRequest(5, kind, host, _port(port) if command == 1 else port, user, password, command)
        code = self.answers.code or 0x00
        bound_host, bound_port = self.answers.bound
        return self._reply(
            bytes((5, code, 0)) + _socks5_address(bound_host) + bound_port.to_bytes(2, "big"), code == 0x00
        )

    def _reply(self, reply: bytes, granted: bool) -> bytes:
        answer = self._answer("reply", reply, not granted)
        self.connected = not self.closing
        return answer + (self.answers.payload if granted else b"")

    def _answer(self, name: str, answer: bytes, refused: bool) -> bytes:
        self.asked = name
        self.closing = refused or self.answers.close_after == name
        return self.answers.raw.get(name, answer)


def _name(raw: bytes) -> str:
    """A host name as it was sent."""
    _require(bool(raw), "the host name is empty")
    _require(raw.isascii(), f"the host name is not ASCII: {raw!r}")
    return raw.decode("ascii")


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _port(port: int) -> int:
    _require(port != 0, "the port is 0")
    return port


def _socks5_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bytes((3, len(host))) + host.encode("ascii")
    return bytes((1 if address.version == 4 else 4,)) + address.packed


_PAUSE = 2**-10
"""Seconds between two pieces, so that each arrives by itself (a power of two, which a fake clock adds exactly)."""


class FakeSOCKSPeer(Protocol):
    """A connection to a fake SOCKS proxy.

    ``server`` tells what the client asked for, ``closed`` fires when the connection is lost.
    """

    transport: ITransport

    def __init__(self, proxy: FakeSOCKSFactory) -> None:
        self.server = FakeSOCKSServer(proxy.answers)
        self.closed: Deferred[None] = Deferred()
        self._proxy = proxy
        self._unsent = b""
        self._application: IProtocol | None = None

    def dataReceived(self, data: bytes) -> None:
        if self._application is not None:
            self._application.dataReceived(data)
        else:
            self._unsent += self.server.receive(data)
            self._send()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._unsent = b""
        if self._application is not None:
            self._application.connectionLost(reason)
        self.closed.callback(None)

    def _send(self) -> None:
        size = self.server.answers.piece or len(self._unsent)
        piece, self._unsent = self._unsent[:size], self._unsent[size:]
        if piece:
            self.transport.write(piece)
        if self._unsent and self._proxy.clock is not None:
            self._proxy.clock.callLater(_PAUSE, self._send)
        elif self.server.closing:
            self.transport.loseConnection()
        elif self.server.connected and self._application is None:
            self._connect_application()

    def _connect_application(self) -> None:
        if self._proxy.application is None:
            return
        self._application = self._proxy.application.buildProtocol(self.transport.getPeer())
        if self._application is not None:
            self._application.makeConnection(self.transport)
            if self.server.received:
                self._application.dataReceived(self.server.received)


@implementer(IProtocolFactory)
class FakeSOCKSFactory:
    """Makes the connections of a fake SOCKS proxy: listen with it, or give it to a `MemoryEndpoint`.

    ``application`` makes the protocols that the granted requests reach, whatever host they name; without one
    the bytes are kept in each peer's ``server.received``. ``peers`` are the connections so far. ``clock`` is
    needed to send in pieces.
    """

    def __init__(
        self,
        answers: SOCKSAnswers | None = None,
        application: IProtocolFactory | None = None,
        clock: IReactorTime | None = None,
    ) -> None:
        self.answers = SOCKSAnswers() if answers is None else answers
        self.application = application
        self.clock = clock
        self.peers: list[FakeSOCKSPeer] = []
        if self.answers.piece and clock is None:
            raise ValueError("to send in pieces takes a clock")

    def buildProtocol(self, addr: IAddress | None) -> FakeSOCKSPeer:
        peer = FakeSOCKSPeer(self)
        self.peers.append(peer)
        return peer

    def doStart(self) -> None:
        """Nothing has to be started."""

    def doStop(self) -> None:
        """Nothing has to be stopped."""


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects at once and in memory to the protocols of ``serverFactory``; `flush` moves the bytes.

    The local port counts up from 40001 with each connection.
    """

    def __init__(self, serverFactory: IProtocolFactory, clock: MemoryReactorClock | None = None) -> None:
        self.pumps: list[iosim.IOPump] = []
        self._server_factory = serverFactory
        self._clock = MemoryReactorClock() if clock is None else clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; fails with `NoProtocol` if either factory builds none."""
        near = IPv4Address("TCP", "127.0.0.1", 40001 + len(self.pumps))
        far = IPv4Address("TCP", "127.0.0.1", 9050)
        client, server = protocolFactory.buildProtocol(far), self._server_factory.buildProtocol(near)
        if client is None or server is None:
            return fail(NoProtocol())
        pump = iosim.connect(
            server,
            iosim.FakeTransport(server, isServer=True, hostAddress=far, peerAddress=near),
            client,
            iosim.FakeTransport(client, isServer=False, hostAddress=near, peerAddress=far),
            greet=False,
            clock=self._clock,
        )
        self.pumps.append(pump)
        return succeed(client)

    def flush(self) -> None:
        """Move all bytes between all clients and servers until they are silent, also those sent in pieces."""
        while any(pump.flush() for pump in self.pumps) or self._waited():
            pass

    def _waited(self) -> bool:
        """Pass the pause between two pieces, if something is due within it."""
        now = self._clock.seconds()
        due = any(call.getTime() - now <= _PAUSE for call in self._clock.getDelayedCalls())
        if due:
            self._clock.advance(_PAUSE)
        return due
