"""Why a SOCKS connection failed: one exception class for each reason.

The class names are txsocksx's. All derive from `SOCKSError`, so one ``except`` catches them. ``code`` is the
raw number that the proxy sent, None where it sent none; ``message`` says it in words.

Reply codes: RFC 1928 section 6 (SOCKS 5), the SOCKS 4 document ("CD"), and the onion-service codes that tor
sends when its SocksPort has the flag ``ExtendedErrors`` (tor(1); Tor proposal 304).
"""
# ruff: noqa: N818 (txsocksx chose these names, and code written for it catches them)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone, ConnectionLost, NoProtocol


class SOCKSError(Exception):
    """A SOCKS connection failed."""

    code: int | None = None
    message: str = "SOCKS connection failed"

    def __init__(self, message: str | None = None, code: int | None = None) -> None:
        if message is not None:
            self.message = message
        if code is not None:
            self.code = code
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


class StateError(SOCKSError):
    """A machine was used out of turn. This is a mistake of the program, not of the proxy."""


class NoApplication(SOCKSError, NoProtocol, CancelledError):
    """The application's factory built no protocol, so the connection was closed.

    It is Twisted's error for that, and what txsocksx failed with: it cancelled the connection.
    """

    message = "the application's factory built no protocol"


# The proxy went away, or does not speak SOCKS.


class ConnectionError(SOCKSError):  # noqa: A001
    """The connection to the proxy failed."""


class ConnectionLostEarly(ConnectionError, ConnectionDone, ConnectionLost):
    """The proxy closed the connection before its reply was complete.

    ``__cause__`` is Twisted's reason. It is also both of Twisted's own classes for a closed connection,
    because txsocksx passed on one of them in its place.
    """


class ParsingError(SOCKSError):
    """The proxy sent bytes that are not SOCKS."""


class InvalidServerVersion(ParsingError):
    """The proxy answered with the wrong version; ``code`` is the version byte."""


class ProxyVersionError(ParsingError):
    """The proxy does not speak the version of SOCKS that it is spoken to in; the message says what to do."""


class InvalidServerReply(ParsingError):
    """The proxy's reply has the right version, but cannot be read."""


# The proxy refused the client.


class MethodsNotAcceptedError(SOCKSError):
    """The proxy chose an authentication method that was not offered; ``code`` is the method.

    ``args`` are txsocksx's: the message, what was offered (by the byte of each method, its arguments), and the byte
    that the proxy chose.
    """

    def __init__(
        self, message: str | None = None, methods: Mapping[bytes, Sequence[Any]] | None = None, method: bytes = b""
    ) -> None:
        super().__init__(message, method[0] if method else None)
        self.args = (self.message, dict(methods or {}), method)


class NoAcceptableMethods(MethodsNotAcceptedError):
    """The proxy accepts none of the offered authentication methods (RFC 1928 section 3: X'FF')."""

    code = 0xFF
    message = "the proxy accepts none of the offered authentication methods"


class LoginAuthenticationFailed(SOCKSError):
    """The proxy rejected user name and password; ``code`` is its status."""


# The proxy refused the request.


class ReplyError(SOCKSError):
    """The proxy answered the request with a refusal; ``code`` is its reply code.

    The connection to the proxy is fine, so this is a failure inside Tor. ``errorcode`` is its name in results:
    ``TOR/`` and the reply in capitals (ERRORCODE of the ``@type torperf`` format).
    """

    errorcode = "TOR"


class UnknownReplyCode(ReplyError):
    """The proxy answered with a reply code that no document defines."""

    errorcode = "TOR/UNKNOWN_REPLY"


class ServerFailure(ReplyError):
    """SOCKS 5 reply 0x01."""

    code = 0x01
    message = "general SOCKS server failure"
    errorcode = "TOR/GENERAL_FAILURE"


class ConnectionNotAllowed(ReplyError):
    """SOCKS 5 reply 0x02."""

    code = 0x02
    message = "connection not allowed by ruleset"
    errorcode = "TOR/NOT_ALLOWED"


class NetworkUnreachable(ReplyError):
    """SOCKS 5 reply 0x03."""

    code = 0x03
    message = "network unreachable"
    errorcode = "TOR/NETWORK_UNREACHABLE"


class HostUnreachable(ReplyError):
    """SOCKS 5 reply 0x04."""

    code = 0x04
    message = "host unreachable"
    errorcode = "TOR/HOST_UNREACHABLE"


class ConnectionRefused(ReplyError):
    """SOCKS 5 reply 0x05."""

    code = 0x05
    message = "connection refused"
    errorcode = "TOR/CONNECTION_REFUSED"


class TTLExpired(ReplyError):
    """SOCKS 5 reply 0x06. Tor also sends it when a circuit or stream timed out."""

    code = 0x06
    message = "TTL expired"
    errorcode = "TOR/TTL_EXPIRED"


class CommandNotSupported(ReplyError):
    """SOCKS 5 reply 0x07."""

    code = 0x07
    message = "command not supported"
    errorcode = "TOR/COMMAND_NOT_SUPPORTED"


class AddressNotSupported(ReplyError):
    """SOCKS 5 reply 0x08."""

    code = 0x08
    message = "address type not supported"
    errorcode = "TOR/ADDRESS_NOT_SUPPORTED"


class OnionServiceDescriptorNotFound(ReplyError):
    """Tor's extended reply 0xF0."""

    code = 0xF0
    message = "onion service descriptor can not be found"
    errorcode = "TOR/ONION_DESCRIPTOR_NOT_FOUND"


class OnionServiceDescriptorInvalid(ReplyError):
    """Tor's extended reply 0xF1."""

    code = 0xF1
    message = "onion service descriptor is invalid"
    errorcode = "TOR/ONION_DESCRIPTOR_INVALID"


class OnionServiceIntroductionFailed(ReplyError):
    """Tor's extended reply 0xF2."""

    code = 0xF2
    message = "onion service introduction failed"
    errorcode = "TOR/ONION_INTRODUCTION_FAILED"


class OnionServiceRendezvousFailed(ReplyError):
    """Tor's extended reply 0xF3."""

    code = 0xF3
    message = "onion service rendezvous failed"
    errorcode = "TOR/ONION_RENDEZVOUS_FAILED"


class OnionServiceMissingAuthorization(ReplyError):
    """Tor's extended reply 0xF4."""

    code = 0xF4
    message = "onion service client authorization is missing"
    errorcode = "TOR/ONION_MISSING_AUTHORIZATION"


class OnionServiceWrongAuthorization(ReplyError):
    """Tor's extended reply 0xF5."""

    code = 0xF5
    message = "onion service client authorization is wrong"
    errorcode = "TOR/ONION_WRONG_AUTHORIZATION"


class OnionServiceInvalidAddress(ReplyError):
    """Tor's extended reply 0xF6."""

    code = 0xF6
    message = "onion service address is invalid"
    errorcode = "TOR/ONION_INVALID_ADDRESS"


class OnionServiceIntroductionTimedOut(ReplyError):
    """Tor's extended reply 0xF7."""

    code = 0xF7
    message = "onion service introduction timed out"
    errorcode = "TOR/ONION_INTRODUCTION_TIMED_OUT"


class RequestRejectedOrFailed(ReplyError):
    """SOCKS 4 reply 0x5B (91)."""

    code = 0x5B
    message = "request rejected or failed"
    errorcode = "TOR/REJECTED_OR_FAILED"


class IdentdUnreachable(ReplyError):
    """SOCKS 4 reply 0x5C (92)."""

    code = 0x5C
    message = "request rejected because the proxy cannot connect to identd on the client"
    errorcode = "TOR/IDENTD_UNREACHABLE"


class IdentdMismatch(ReplyError):
    """SOCKS 4 reply 0x5D (93)."""

    code = 0x5D
    message = "request rejected because identd reports a different user"
    errorcode = "TOR/IDENTD_MISMATCH"


def _by_code(*classes: type[ReplyError]) -> Mapping[int, type[ReplyError]]:
    return {each.code: each for each in classes if each.code is not None}


socks5ErrorMap = _by_code(  # noqa: N816
    ServerFailure,
    ConnectionNotAllowed,
    NetworkUnreachable,
    HostUnreachable,
    ConnectionRefused,
    TTLExpired,
    CommandNotSupported,
    AddressNotSupported,
    OnionServiceDescriptorNotFound,
    OnionServiceDescriptorInvalid,
    OnionServiceIntroductionFailed,
    OnionServiceRendezvousFailed,
    OnionServiceMissingAuthorization,
    OnionServiceWrongAuthorization,
    OnionServiceInvalidAddress,
    OnionServiceIntroductionTimedOut,
)

socks4ErrorMap = _by_code(RequestRejectedOrFailed, IdentdUnreachable, IdentdMismatch)  # noqa: N816
