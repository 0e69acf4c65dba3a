"""The server side of SOCKS 4, 4a and 5 without I/O: fed with a client's bytes, it tells what to answer.

SOCKS 5 is RFC 1928, its username and password RFC 1929. CONNECT is understood, and Tor's RESOLVE and RESOLVE_PTR
(torspec, socks-extensions.txt; in SOCKS 4a only the first). Any username and password is accepted: they keep
streams apart (Tor's isolation), they protect nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection

import attrs
from twisted.internet import error
from twisted.python.failure import Failure

from perfd.socks.machine import Command

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
class ClientRequest:
    """Where a client wants to go. ``host`` is a name or an IP address."""

    version: int  # 4 or 5
    host: str
    port: int
    user: str = ""
    password: str = ""
    command: Command = Command.CONNECT


class RequestRefusedError(Exception):
    """The client cannot be served; ``reply`` is what it must be told before the connection is closed."""

    def __init__(self, reason: str, reply: bytes = b"") -> None:
        super().__init__(reason)
        self.reply = reply


class _IncompleteError(Exception):
    """More bytes are needed."""


class SOCKSServerMachine:
    """One negotiation. ``feed`` it what arrives, until it gives the request; that ends it."""

    def __init__(self) -> None:
        self.rest = b""
        """What the client sent after its request without waiting for the reply (optimistic data)."""
        self._step: Callable[[], tuple[bytes, ClientRequest | None]] = self._greeting
        self._position = 0
        self._login = ("", "")

    def feed(self, data: bytes) -> tuple[bytes, ClientRequest | None]:
        """Take ``data``; return what must be sent, and the request once it is complete.

        Raises ``RequestRefusedError``.
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

    def _greeting(self) -> tuple[bytes, ClientRequest | None]:
        """VER NMETHODS METHODS (RFC 1928 section 3), or a request of SOCKS 4 after its version."""
        version = self._byte()
        if version == 4:
            return b"", self._request4()
        if version != 5:
            raise RequestRefusedError(f"version {version} is not SOCKS")
        methods = self._take(self._byte())
        if 2 in methods:
            self._step = self._authentication
            return b"\x05\x02", None
        if 0 in methods:
            self._step = self._request5
            return b"\x05\x00", None
        raise RequestRefusedError("no authentication method is acceptable", b"\x05\xff")

    def _authentication(self) -> tuple[bytes, ClientRequest | None]:
        """VER ULEN UNAME PLEN PASSWD (RFC 1929 section 2)."""
        version = self._byte()
        if version != 1:
            raise RequestRefusedError(f"version {version} of authentication is unknown", b"\x01\x01")
        user, password = self._take(self._byte()), self._take(self._byte())
        self._login = (user.decode("latin-1"), password.decode("latin-1"))
        self._step = self._request5
        return b"\x01\x00", None

    def _request5(self) -> tuple[bytes, ClientRequest | None]:
        """VER CMD RSV ATYP DST.ADDR DST.PORT (RFC 1928 section 4)."""
        version, command, _, kind = self._take(4)
        if version != 5:
            raise RequestRefusedError(f"version changed to {version}", reply(5, GENERAL_FAILURE))
        if kind == 1:
            host = str(ipaddress.IPv4Address(self._take(4)))
        elif kind == 4:
            host = str(ipaddress.IPv6Address(self._take(16)))
        elif kind == 3:
            host = _host_name(5, self._take(self._byte()))
        else:
            raise RequestRefusedError(f"address type {kind} is unknown", reply(5, ADDRESS_TYPE_NOT_SUPPORTED))
        port = int.from_bytes(self._take(2), "big")
        asked = _command(5, command, tuple(Command))
        if asked is Command.RESOLVE_PTR and kind == 3:
            raise RequestRefusedError("RESOLVE_PTR is for addresses", reply(5, ADDRESS_TYPE_NOT_SUPPORTED))
        return b"", ClientRequest(5, host, port, *self._login, asked)

    def _request4(self) -> ClientRequest:
        """CD DSTPORT DSTIP USERID NULL, and in SOCKS 4a the name and NULL."""
        command = self._byte()
        port = int.from_bytes(self._take(2), "big")
        address = self._take(4)
        user = self._string()
        if address[:3] == b"\0\0\0" and address[3]:  # SOCKS 4a
            host = _host_name(4, self._string())
        else:
            host = str(ipaddress.IPv4Address(address))
        asked = _command(4, command, (Command.CONNECT, Command.RESOLVE))
        return ClientRequest(4, host, port, user.decode("latin-1"), command=asked)

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
            raise RequestRefusedError("a name is too long", reply(4, GENERAL_FAILURE))
        if end < 0:
            raise _IncompleteError
        return self._take(end + 1 - self._position)[:-1]


def _command(version: int, number: int, known: Collection[int]) -> Command:
    if number not in known:
        raise RequestRefusedError(f"command {number} is not supported", reply(version, COMMAND_NOT_SUPPORTED))
    return Command(number)


def _host_name(version: int, raw: bytes) -> str:
    if not raw or not all(0x21 <= byte <= 0x7E for byte in raw):
        raise RequestRefusedError("the host name is empty or not ASCII", reply(version, HOST_UNREACHABLE))
    return raw.decode("ascii")


def reply(version: int, code: int, host: str = "0.0.0.0") -> bytes:
    """The reply to a request, for a ``code`` of SOCKS 5; SOCKS 4 knows only granted and rejected.

    ``host`` is the answer of a RESOLVE (an address) or RESOLVE_PTR (a name). Raises ValueError if the version has
    no such reply.
    """
    if version == 4:
        address = ipaddress.IPv4Address(host).packed
        return b"\0" + bytes([90 if code == SUCCEEDED else 91]) + bytes(2) + address
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        return bytes([5, code, 0, 3, len(name)]) + name + bytes(2)
    return bytes([5, code, 0, 1 if found.version == 4 else 4]) + found.packed + bytes(2)


def reply_code(failure: Failure) -> int:
    """The SOCKS 5 code that says why a destination could not be connected to."""
    for kind, code in _REPLY_OF_ERROR:
        if failure.check(kind):
            return code
    return GENERAL_FAILURE
