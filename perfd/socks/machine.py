"""SOCKS clients without I/O: fed with the proxy's bytes, they tell what to send and what happened.

Sources: RFC 1928 (SOCKS 5), RFC 1929 (its user names and passwords), Ying-Da Lee's "SOCKS: A protocol for TCP
proxy across firewalls" (SOCKS 4) and "SOCKS 4A: A Simple Extension to SOCKS 4 Protocol".

A machine reads whole messages off its buffer, one reader for each state. Each message has at most 262 bytes,
and a reader raises as soon as the bytes are wrong, so a proxy can neither fill the memory nor change the
result by the way in which it cuts its bytes into segments. What follows the reply is the application's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any, ClassVar

import attrs

from perfd.socks.errors import (
    ConnectionLostEarly,
    InvalidServerReply,
    InvalidServerVersion,
    LoginAuthenticationFailed,
    MethodsNotAcceptedError,
    NoAcceptableMethods,
    ReplyError,
    SOCKSError,
    StateError,
    UnknownReplyCode,
    socks4ErrorMap,
    socks5ErrorMap,
)

Methods = Mapping[str, Sequence[str | bytes]]
"""SOCKS 5 authentication: ``{"anonymous": ()}``, ``{"login": (user, password)}``, or both."""

ANONYMOUS: Methods = MappingProxyType({"anonymous": ()})


class Command(IntEnum):
    """What a client asks for: a connection, or what Tor has besides (torspec, socks-extensions.txt)."""

    CONNECT = 0x01
    RESOLVE = 0xF0  # the address of a name
    RESOLVE_PTR = 0xF1  # the name of an address


_METHODS = {"anonymous": 0x00, "login": 0x02}
_NO_METHOD = 0xFF


@attrs.frozen
class Reply:
    """The proxy's reply to a granted request: its code and the address that it bound for us.

    Tor, for one, always says 0.0.0.0:0.
    """

    code: int
    host: str
    port: int


@attrs.frozen
class Send:
    """These bytes have to be sent to the proxy."""

    data: bytes


@attrs.frozen
class Negotiated:
    """The authentication is over (SOCKS 5 only); ``method`` is the one that the proxy chose."""

    method: int


@attrs.frozen
class RequestSent:
    """The request is among the bytes given out.

    From here on the application's bytes may follow: those written before `Connected` are optimistic data.
    """


@attrs.frozen
class Connected:
    """The proxy granted the request; ``leftover`` are the application's first bytes."""

    reply: Reply
    leftover: bytes


@attrs.frozen
class Failed:
    """The connection cannot be used; nothing more will be read or sent."""

    error: SOCKSError


Event = Send | Negotiated | RequestSent | Connected | Failed


class State(Enum):
    """What a machine waits for, in words for messages."""

    START = "start"
    METHOD = "method selection"
    LOGIN = "answer to user name and password"
    REPLY = "reply"
    CONNECTED = "nothing, being connected"
    FAILED = "nothing, having failed"


_Step = tuple[int, State, Sequence[Event]]
"""What came of one whole message: its length in bytes, the next state, the events."""


class Machine:
    """What both versions share: the buffer, and the loop over the readers."""

    # The reader of a state takes the buffer, which is not empty, and returns None while its message is incomplete.
    readers: ClassVar[Mapping[State, Callable[[Any, bytes], _Step | None]]]
    reply_size: ClassVar[int]
    """Bytes of a reply that grants the request, with an IPv4 address."""
    asks_at_once: ClassVar[bool] = False
    """Whether the request is the first thing that is sent, and not an answer to the proxy's first bytes."""

    def __init__(self) -> None:
        self.state = State.START
        self._buffer = b""

    def start(self) -> Sequence[Event]:
        """Begin, the connection to the proxy being made."""
        if self.state is not State.START:
            raise StateError("a machine can be started only once")
        self.state, events = self._open()
        return events

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take bytes from the proxy. Those that come after a failure are ignored."""
        if self.state is State.FAILED:
            return ()
        if self.state not in self.readers:
            raise StateError(f"a machine that awaits {self.state.value} takes no bytes")
        self._buffer += data
        events: list[Event] = []
        try:
            while self._buffer and (step := self.readers[self.state](self, self._buffer)) is not None:
                length, self.state, news = step
                self._buffer = self._buffer[length:]
                events += news
        except SOCKSError as error:
            events.append(self._fail(error))
        return events

    def close(self) -> Sequence[Event]:
        """Take note that the proxy closed the connection."""
        if self.state not in self.readers:
            return ()
        return (self._fail(ConnectionLostEarly(f"the proxy closed the connection before its {self.state.value}")),)

    def _fail(self, error: SOCKSError) -> Failed:
        self.state = State.FAILED
        self._buffer = b""
        return Failed(error)

    def _open(self) -> tuple[State, Sequence[Event]]:
        """The first state after the start, and the client's first bytes."""
        raise NotImplementedError


class SOCKS5Machine(Machine):
    """A SOCKS 5 client for one ``command``: a CONNECT, or one of Tor's, whose answer is the address in the reply.

    ``host`` is sent as a name that the proxy resolves, unless it is an IPv6 literal.
    ``pipelined``: the request is sent together with user name and password, without waiting for the answer to
    these. (The greeting is always sent alone: of a greeting and a login that come together, tor 0.4.9 answers only
    the login.)
    Raises ValueError for a host, port or login that SOCKS 5 cannot carry.
    """

    reply_size = 10

    def __init__(
        self,
        host: str | bytes,
        port: int,
        methods: Methods = ANONYMOUS,
        *,
        command: Command = Command.CONNECT,
        pipelined: bool = False,
    ) -> None:
        super().__init__()
        self._pipelined = pipelined
        self._greeting, self._login = _greeting_and_login(methods)
        self._offered = {bytes((_METHODS[name],)): tuple(given) for name, given in methods.items()}
        address = _socks5_address(_host_bytes(host), literally=command is Command.RESOLVE_PTR)
        place = _port_bytes(port) if command is Command.CONNECT else bytes(2)
        self._request = bytes((5, command, 0)) + address + place

    def _open(self) -> tuple[State, Sequence[Event]]:
        return State.METHOD, (Send(self._greeting),)

    def _read_method(self, data: bytes) -> _Step | None:
        """Read VER METHOD (RFC 1928 section 3)."""
        _check_version(data, 5)
        if len(data) < 2:
            return None
        method = data[1]
        if method == _NO_METHOD:
            raise NoAcceptableMethods(None, self._offered, data[1:2])
        if data[1:2] not in self._offered:
            complaint = f"the proxy chose method 0x{method:02X}, which was not offered"
            raise MethodsNotAcceptedError(complaint, self._offered, data[1:2])
        if method == _METHODS["login"]:
            request = (Send(self._request), RequestSent()) if self._pipelined else ()
            return 2, State.LOGIN, (Send(self._login), *request)
        return 2, State.REPLY, (Negotiated(method), Send(self._request), RequestSent())

    def _read_login(self, data: bytes) -> _Step | None:
        """Read VER STATUS (RFC 1929 section 2)."""
        _check_version(data, 1)
        if len(data) < 2:
            return None
        if (status := data[1]) != 0:
            raise LoginAuthenticationFailed(f"the proxy rejected user name and password (0x{status:02X})", status)
        request = () if self._pipelined else (Send(self._request), RequestSent())
        return 2, State.REPLY, (Negotiated(_METHODS["login"]), *request)

    def _read_reply(self, data: bytes) -> _Step | None:
        """Read VER REP RSV ATYP BND.ADDR BND.PORT (RFC 1928 section 6)."""
        _check_version(data, 5)
        if len(data) < 2:
            return None
        _check_reply(data[1], 0x00, socks5ErrorMap)
        if len(data) < 5:
            return None
        match data[3]:
            case 1:  # IPv4
                start, end = 4, 8
            case 3:  # a name, after its length
                start, end = 5, 5 + data[4]
            case 4:  # IPv6
                start, end = 4, 20
            case other:
                raise InvalidServerReply(f"the proxy's reply has an unknown address type, 0x{other:02X}")
        if len(data) < end + 2:
            return None
        bound = _address_text(data[3], data[start:end])
        reply = Reply(code=data[1], host=bound, port=int.from_bytes(data[end : end + 2], "big"))
        return len(data), State.CONNECTED, (Connected(reply, data[end + 2 :]),)

    readers = {State.METHOD: _read_method, State.LOGIN: _read_login, State.REPLY: _read_reply}


class SOCKS4Machine(Machine):
    """A SOCKS 4 client for one CONNECT.

    An IPv4 literal is sent as SOCKS 4, any other ``host`` as a name in SOCKS 4a.
    Raises ValueError for a host, port or user that SOCKS 4 cannot carry.
    """

    reply_size = 8
    asks_at_once = True

    def __init__(self, host: str | bytes, port: int, user: str | bytes = b"") -> None:
        super().__init__()
        address, name = _socks4_address(_host_bytes(host))
        encoded = _text_bytes("user", user, 0)
        if b"\0" in encoded:
            raise ValueError("user must not contain NUL")
        self._request = bytes((4, Command.CONNECT)) + _port_bytes(port) + address + encoded + b"\0" + name

    def _open(self) -> tuple[State, Sequence[Event]]:
        return State.REPLY, (Send(self._request), RequestSent())

    def _read_reply(self, data: bytes) -> _Step | None:
        """Read VN CD DSTPORT DSTIP (the SOCKS 4 document, "CONNECT"). The reply's version is 0."""
        _check_version(data, 0)
        if len(data) < 2:
            return None
        _check_reply(data[1], 0x5A, socks4ErrorMap)
        if len(data) < 8:
            return None
        reply = Reply(code=data[1], host=socket.inet_ntoa(data[4:8]), port=int.from_bytes(data[2:4], "big"))
        return len(data), State.CONNECTED, (Connected(reply, data[8:]),)

    readers = {State.REPLY: _read_reply}


# What both versions check in what they read.


def _check_version(data: bytes, expected: int) -> None:
    if data[0] != expected:
        raise InvalidServerVersion(f"the proxy answered with version {data[0]}, not {expected}", data[0])


def _check_reply(code: int, granted: int, errors: Mapping[int, type[ReplyError]]) -> None:
    if code == granted:
        return
    if (refusal := errors.get(code)) is not None:
        raise refusal
    raise UnknownReplyCode(f"the proxy answered with the unknown reply code 0x{code:02X}", code)


def _address_text(address_type: int, raw: bytes) -> str:
    match address_type:
        case 1:
            return socket.inet_ntoa(raw)
        case 4:
            return socket.inet_ntop(socket.AF_INET6, raw)
    return raw.decode("ascii", "backslashreplace")


# What the client sends. Everything is checked here, before there is a connection.


def _text_bytes(what: str, text: str | bytes, shortest: int) -> bytes:
    """``text`` as bytes that fit behind a length byte or before a NUL."""
    encoded = text.encode() if isinstance(text, str) else text
    if not shortest <= len(encoded) <= 255:
        raise ValueError(f"{what} must have {shortest} to 255 bytes, not {len(encoded)}")
    return encoded


def _host_bytes(host: str | bytes) -> bytes:
    if isinstance(host, str) and not host.isascii():
        host = host.encode("idna")  # UnicodeError is a ValueError
    encoded = _text_bytes("host", host, 1)
    if b"\0" in encoded:
        raise ValueError("host must not contain NUL")
    return encoded


def _port_bytes(port: int) -> bytes:
    if not 1 <= port <= 65535:
        raise ValueError(f"port must be 1 to 65535, not {port}")
    return port.to_bytes(2, "big")


def _packed(family: socket.AddressFamily, host: bytes) -> bytes | None:
    """The address that ``host`` is a literal of, None if it is a name."""
    try:
        return socket.inet_pton(family, host.decode("ascii"))
    except (OSError, UnicodeDecodeError):
        return None


def _greeting_and_login(methods: Methods) -> tuple[bytes, bytes]:
    """VER NMETHODS METHODS (RFC 1928 section 3), and VER ULEN UNAME PLEN PASSWD (RFC 1929 section 2)."""
    if not methods:
        raise ValueError("no authentication method is given")
    if unknown := set(methods) - set(_METHODS):
        raise ValueError(f"unknown authentication method: {', '.join(sorted(unknown))}")
    if methods.get("anonymous"):
        raise ValueError("anonymous authentication takes an empty tuple")
    login = b""
    if "login" in methods:
        if len(methods["login"]) != 2:
            raise ValueError("login authentication takes a user name and a password")
        user, password = methods["login"]
        user, password = _text_bytes("user name", user, 0), _text_bytes("password", password, 0)
        login = bytes((1, len(user))) + user + bytes((len(password),)) + password
    return bytes((5, len(methods), *(_METHODS[name] for name in methods))), login


def _socks5_address(host: bytes, *, literally: bool) -> bytes:
    """ATYP DST.ADDR (RFC 1928 sections 4 and 5).

    An IPv4 literal is sent as a name, as txsocksx did, and every proxy understands it. An IPv6 literal is not: many
    cannot tell its colons from the port's. ``literally``: what is no address is refused.
    """
    if literally and (ipv4 := _packed(socket.AF_INET, host)) is not None:
        return b"\x01" + ipv4
    if (ipv6 := _packed(socket.AF_INET6, host)) is not None:
        return b"\x04" + ipv6
    if literally:
        raise ValueError(f"{host!r} is not an address")
    return bytes((3, len(host))) + host


def _socks4_address(host: bytes) -> tuple[bytes, bytes]:
    """DSTIP and what follows the user: nothing in SOCKS 4, the name and NUL in SOCKS 4a."""
    ipv4 = _packed(socket.AF_INET, host)
    if ipv4 is None:
        return bytes((0, 0, 0, 1)), host + b"\0"
    if ipv4[:3] == bytes(3) and ipv4[3] != 0:
        raise ValueError("SOCKS 4a reserves the addresses 0.0.0.1 to 0.0.0.255")
    return ipv4, b""
