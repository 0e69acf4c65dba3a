"""The measuring HTTP client: one request over any endpoint, with every step stamped and nothing kept.

`fetch` opens a fresh connection, hands over the request, and counts and drops what comes back. Every read is
stamped once, by the first statement of ``_Client.dataReceived``: all that is derived from a read has that stamp.
There are no redirects, no decompression, no pool and no buffering. Network trouble is a result, never an exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import attrs
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from perfd import __version__
from perfd.clock import Phase, Timeline
from perfd.record import DECILES, EMPTY, PARTIALS, Error, Outcome

HEAD_LIMIT = 16 * 1024
"""The most bytes that a response's head may have, interim responses included."""

STALL_AFTER = 30.0
"""Seconds without a byte after which a run that meets its deadline stalled; half of its time if that is less."""

_READ_SIZE = 128 * 1024  # at a time; twice Twisted's, which costs a third less on a fast path

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_LENGTH = re.compile(rb"[0-9]{1,15}")


class Ending(NamedTuple):
    """How an exchange ended: for the record's fields ``outcome``, ``errorcode`` and ``reason``."""

    outcome: Outcome
    errorcode: str | None = None
    reason: str | None = None


@attrs.frozen(kw_only=True)
class Exchange:
    """What one exchange gave. The names are those of `perfd.record.Measurement`; the steps are in the timeline.

    Progress is kept however the exchange ended. The counts are None if it never got a connection.
    """

    outcome: Outcome
    errorcode: str | None = None
    reason: str | None = None
    status: int | None = None
    dataperc: Mapping[int, float] = EMPTY
    partial: Mapping[int, float] = EMPTY
    writebytes: int | None = None
    readbytes: int | None = None
    payloadbytes: int | None = None
    local: IAddress | None = None  # our end of the connection
    remote: IAddress | None = None  # its other end: the SOCKS port, or the server


def get_request(host: str, path: str, headers: Mapping[str, str] = EMPTY) -> bytes:
    """The bytes of a GET request for ``path`` at ``host`` (as the Host header has it: name or name:port).

    Raises ValueError for what cannot stand in a request's head.
    """
    lines = {"Host": host, "User-Agent": f"perfd/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
    lines |= {"Connection": "close", **headers}
    if not (path.startswith("/") and _VALUE.fullmatch(path)) or " " in path:
        raise ValueError(f"{path!r} is not a path")
    for name, value in lines.items():
        if not _VALUE.fullmatch(value) or not _TOKEN.fullmatch(name.encode()):
            raise ValueError(f"{name}: {value!r} is not a header")
    head = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    return ("\r\n".join(head) + "\r\n\r\n").encode("ascii")


class ResponseError(Exception):
    """The response is not what was asked for; ``errorcode`` is one of `perfd.record.Error`."""

    def __init__(self, errorcode: str, reason: str) -> None:
        super().__init__(reason)
        self.errorcode = errorcode


class Response:
    """An HTTP/1.1 response that should carry ``expect`` bytes, fed in pieces as they were read.

    Does no input or output. Only the head is kept, and only until it is complete. ``ended`` is true once the whole
    response is there.
    """

    def __init__(self, expect: int) -> None:
        self.expect = expect
        self.status: int | None = None
        self.payload = 0  # bytes of the body so far, of a response with status 200
        self.ended = False
        self._head: bytearray | None = bytearray()  # None: the head is complete
        self._head_room = HEAD_LIMIT
        self._length: int | None = None  # Content-Length; None: the body ends with the connection

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises `ResponseError`; progress up to there is kept."""
        body = len(data) if self._head is None else self._feed_head(self._head, data)
        if body is None:
            return
        self.payload += body
        if self._length is not None and self.payload >= self._length:
            self.payload = self._length  # what follows the response on its connection is not payload
            self._end()
        elif self.payload > self.expect:
            raise ResponseError(Error.LONG, f"more than the {self.expect} bytes that were asked for")

    def close(self) -> None:
        """The server closed the connection. Raises `ResponseError` if the response was not complete."""
        if self._head is not None:
            raise ResponseError(Error.CLOSED, "the connection was closed before the response's head was complete")
        if self._length is not None:
            raise ResponseError(
                Error.CLOSED, f"the connection was closed after {self.payload} of {self._length} bytes"
            )
        self._end()

    def _end(self) -> None:
        self.ended = True
        if self.payload != self.expect:
            raise ResponseError(Error.SHORT, f"the whole response has {self.payload} of {self.expect} bytes")

    def _feed_head(self, head: bytearray, data: bytes) -> int | None:
        """Take bytes of the head. Returns how many of the body came with its end, None if it goes on."""
        seen = max(0, len(head) - 3)
        head += data
        while True:
            end = head.find(b"\r\n\r\n", seen, self._head_room)
            if end < 0:
                if not head.startswith(b"HTTP/1."[: len(head)]):
                    raise ResponseError(
                        Error.HTTP, f"the response starts with {bytes(head[:16])!r}, not with HTTP/1.1"
                    )
                if len(head) >= self._head_room:
                    raise ResponseError(Error.HTTP, f"the response's head is over {HEAD_LIMIT} bytes")
                return None
            status = self._read_head(bytes(head[:end]))
            del head[: end + 4]
            if status >= 200:
                self._head = None
                return len(head)
            # An interim response (RFC 9110 section 15.2): the real one follows.
            self._head_room -= end + 4
            seen = 0

    def _read_head(self, head: bytes) -> int:
        first, *lines = head.split(b"\r\n")
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            raise ResponseError(Error.HTTP, f"{first[:64]!r} is not an HTTP/1.1 status line")
        status = int(match.group(1))
        if status < 200:
            return status
        self.status = status
        if status != 200:
            raise ResponseError(Error.STATUS, f"HTTP status {status}")
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not _TOKEN.fullmatch(name):
                raise ResponseError(Error.HTTP, f"{line[:64]!r} is not an HTTP header")
            self._read_header(name.lower(), value.strip(b" \t"))
        if self._length is not None and self._length > self.expect:
            raise ResponseError(Error.LONG, f"Content-Length is {self._length}, {self.expect} bytes asked for")
        return status

    def _read_header(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            if not _LENGTH.fullmatch(value) or self._length not in (None, int(value)):
                raise ResponseError(Error.HTTP, f"Content-Length {value[:32]!r} is not one number")
            self._length = int(value)
        elif name == b"transfer-encoding":
            raise ResponseError(Error.HTTP, f"Transfer-Encoding {value[:32]!r}: only plain bytes can be measured")
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise ResponseError(Error.HTTP, f"Content-Encoding {value[:32]!r} was not asked for")


class Progress:
    """When each DATAPERCn and PARTIALn of ``expect`` bytes was reached, as monotonic stamps."""

    def __init__(self, expect: int) -> None:
        self.dataperc: dict[int, float] = {}
        self.partial: dict[int, float] = {}
        steps = [(max(1, -(-expect * n // 100)), self.dataperc, n) for n in DECILES if expect]
        steps += [(n, self.partial, n) for n in PARTIALS if n <= expect]
        self._steps = sorted(steps, key=lambda step: step[0], reverse=True)

    def reached(self, payload: int, stamp: float) -> None:
        """``payload`` bytes had come at ``stamp``."""
        while self._steps and payload >= self._steps[-1][0]:
            _, stamps, n = self._steps.pop()
            stamps[n] = stamp


_ENDINGS: tuple[tuple[tuple[type[BaseException], ...], Outcome, str], ...] = (
    ((CancelledError, error.ConnectingCancelledError), Outcome.CANCELLED, Error.STOPPED),
    ((error.ConnectionLost, error.ConnectionAborted), Outcome.FAILED, Error.RESET),
    ((error.ConnectionDone,), Outcome.FAILED, Error.CLOSED),
    ((error.ConnectError, OSError), Outcome.FAILED, Error.CONNECT),
)


def classify(failure: Failure) -> Ending:
    """How an exchange ends whose connection failed or was lost with ``failure``.

    An exception can bring its own error code, as a str in the attribute ``errorcode``. Another with an attribute
    ``code`` is an error of the SOCKS proxy.
    """
    value = failure.value
    reason = " ".join(str(value).split()) or type(value).__name__
    errorcode = getattr(value, "errorcode", None)
    if isinstance(errorcode, str):
        return Ending(Outcome.FAILED, errorcode, reason)
    if hasattr(value, "code"):
        return Ending(Outcome.FAILED, Error.SOCKS, reason)
    for classes, outcome, errorcode in _ENDINGS:
        if isinstance(value, classes):
            return Ending(outcome, errorcode, reason)
    return Ending(Outcome.FAILED, Error.INTERNAL, f"{type(value).__name__}: {reason}")


class _Client(Protocol):
    """One exchange on one connection, from before the connection is made until the exchange has ended."""

    transport: Any  # None, then an ITCPTransport
    _log = Logger()

    def __init__(self, request: bytes, expect: int, timeline: Timeline) -> None:
        self._request = request
        self._timeline = timeline
        self._response = Response(expect)
        self._progress = Progress(expect)
        self._connecting: Deferred[IProtocol] | None = None
        self._addresses: tuple[IAddress, IAddress] | None = None
        self._read = 0
        self._last_read = 0.0
        self.ended: Deferred[Exchange] = Deferred(lambda _: self.stop())

    def connect(self, endpoint: IStreamClientEndpoint) -> None:
        factory = Factory.forProtocol(lambda: self)
        factory.noisy = False
        self._connecting = maybeDeferred(endpoint.connect, factory)
        self._connecting.addErrback(self._failed)

    def connectionMade(self) -> None:
        if self.ended.called:
            self.transport.abortConnection()
            return
        self.transport.bufferSize = _READ_SIZE
        self._addresses = self.transport.getHost(), self.transport.getPeer()
        self._timeline.mark(Phase.DATAREQUEST)
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        stamp = self._timeline.now()
        if self.ended.called:
            return
        self._timeline.mark(Phase.DATARESPONSE, stamp)
        self._last_read = stamp
        self._read += len(data)
        self._advance(self._response.feed, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.ended.called:
            return
        if reason.check(error.ConnectionDone):
            self._advance(self._response.close)
        else:
            self._end(classify(reason))

    def expire(self) -> None:
        """The deadline has passed."""
        self._end(self._expired(self._timeline.now()))

    def stop(self) -> None:
        """The operator has stopped the run."""
        self._end(Ending(Outcome.CANCELLED, Error.STOPPED, "stopped"))

    def _advance(self, take: Callable[..., None], *data: bytes) -> None:
        """Let the response ``take`` what happened, and see how far it got."""
        ending = None
        try:
            take(*data)
        except ResponseError as problem:
            ending = Ending(Outcome.FAILED, problem.errorcode, str(problem))
        self._progress.reached(self._response.payload, self._last_read)
        if self._response.ended:
            self._timeline.mark(Phase.DATACOMPLETE, self._last_read)
            ending = ending or Ending(Outcome.OK)
        if ending is not None:
            self._end(ending)

    def _failed(self, failure: Failure) -> None:
        """The connection was not made."""
        if self.ended.called:
            return
        ending = classify(failure)
        if ending.errorcode == Error.INTERNAL:
            self._log.failure("Connecting failed in an unexpected way", failure=failure)
        self._end(ending)

    def _expired(self, now: float) -> Ending:
        requested = self._timeline.stamps.get(Phase.DATAREQUEST)
        if requested is None:
            return Ending(Outcome.TIMEOUT, Error.TIMEOUT, "no connection before the deadline")
        if not self._read:
            return Ending(Outcome.TIMEOUT, Error.TIMEOUT, "no response before the deadline")
        silence = now - self._last_read
        progress = f"{self._response.payload} of {self._response.expect} bytes before the deadline"
        if silence >= min(STALL_AFTER, (now - requested) / 2):
            return Ending(Outcome.TIMEOUT, Error.STALL, f"{progress}, and none in its last {silence:.1f} s")
        return Ending(Outcome.TIMEOUT, Error.TIMEOUT, progress)

    def _end(self, ending: Ending) -> None:
        """Report how it ended and close the connection, orderly only if all is well."""
        connected = self._addresses is not None
        local, remote = self._addresses or (None, None)
        epoch = self._timeline.anchor.epoch
        exchange = Exchange(
            outcome=ending.outcome,
            errorcode=ending.errorcode,
            reason=ending.reason,
            status=self._response.status,
            dataperc={n: epoch(stamp) for n, stamp in self._progress.dataperc.items()},
            partial={n: epoch(stamp) for n, stamp in self._progress.partial.items()},
            writebytes=len(self._request) if connected else None,
            readbytes=self._read if connected else None,
            payloadbytes=self._response.payload if connected else None,
            local=local,
            remote=remote,
        )
        self.ended.callback(exchange)
        if self.transport is None:
            if self._connecting is not None:
                self._connecting.cancel()
        elif ending.outcome is Outcome.OK:
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()


async def fetch(
    reactor: IReactorTime,
    endpoint: IStreamClientEndpoint,
    request: bytes,
    *,
    expect: int,
    timeline: Timeline,
    timeout: float,
) -> Exchange:
    """Send ``request`` over a fresh connection to ``endpoint`` and measure the response.

    The response must be a plain HTTP/1.1 response with status 200 and ``expect`` bytes of payload. ``timeline``
    gets DATAREQUEST when the request is handed to the transport, DATARESPONSE with the first byte that comes
    back, and DATACOMPLETE with the read that ended the payload (also of a complete response that is too
    short). The one deadline is ``timeout`` seconds after the timeline's START.

    Never raises for what the network does. Cancelling it closes the connection and gives the outcome ``cancelled``.
    """
    client = _Client(request, expect, timeline)
    remaining = timeline.stamps[Phase.START] + timeout - timeline.now()
    deadline = reactor.callLater(max(0.0, remaining), client.expire)
    try:
        client.connect(endpoint)
        return await client.ended
    finally:
        if deadline.active():
            deadline.cancel()
