"""The measuring HTTP client: one request over any endpoint, with every step stamped and nothing kept.

`fetch` opens a fresh connection, hands over the request, and counts and drops what comes back. Every read is
stamped once, by the first statement of ``Client.dataReceived``: all that is derived from a read has that stamp. It
is the time at which the kernel got the last packet of the read (`perfd.wire.arrival`), as far as it tells;
DATARESPONSE is that of the first packet.
A redirect is an ending like others. There is no decompression, no pool and no buffering. Network trouble is a
result, never an exception.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import attrs
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from perfd import __version__
from perfd.client.expected import Expected, ForeignResponse
from perfd.client.response import TOKEN, Response, ResponseError
from perfd.client.tls import TLS_ERRORS, Session, TLSServer, under_tls, words
from perfd.clock import Phase, Timeline
from perfd.record import EMPTY, Error, Outcome
from perfd.wire.arrival import StampedSocket, arrival, first_arrival, is_exact, stamp_arrivals
from perfd.wire.curve import ArrivalCurve
from perfd.wire.delivery import deliver, flush
from perfd.wire.marks import Marks
from perfd.wire.meter import Meter
from perfd.wire.tcp_info import TCPSeries

STALL_AFTER = 30.0
"""Seconds without a byte after which a run that meets its deadline stalled; half of its time if that is less."""

_READ_SIZE = 128 * 1024  # at a time; twice Twisted's, which costs a third less on a fast path

_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


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
    location: str | None = None  # where a redirect leads
    session: Session | None = None  # of TLS
    exact: bool | None = None  # the kernel stamped all that arrived; None: nothing did
    local: IAddress | None = None  # our end of the connection
    remote: IAddress | None = None  # its other end: the SOCKS port, or the server
    curve: ArrivalCurve | None = None  # of the payload; None: nothing of a response came
    tcp: TCPSeries | None = None  # looks at our end of the connection


def get_request(host: str, path: str, headers: Mapping[str, str] = EMPTY) -> bytes:
    """The bytes of a GET request for ``path`` at ``host`` (as the Host header has it: name or name:port).

    Raises ValueError for what cannot stand in a request's head.
    """
    return request_head("GET", host, path, headers)


def request_head(method: str, host: str, path: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request that asks for a plain response and the end of the connection.

    Raises ValueError for what cannot stand there.
    """
    lines = {"Host": host, "User-Agent": f"perfd/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
    lines |= {"Connection": "close", **headers}
    if not (path.startswith("/") and _VALUE.fullmatch(path)) or " " in path:
        raise ValueError(f"{path!r} is not a path")
    for name, value in lines.items():
        if not _VALUE.fullmatch(value) or not TOKEN.fullmatch(name.encode()):
            raise ValueError(f"{name}: {value!r} is not a header")
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    return ("\r\n".join(head) + "\r\n\r\n").encode("ascii")


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
    if isinstance(value, TLS_ERRORS):
        return Ending(Outcome.FAILED, Error.TLS, words(value))
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


@implementer(IHandshakeListener)
class Client(Protocol):
    """One exchange on one connection, from before the connection is made until the exchange has ended.

    Here is what every exchange has; a subclass says what it sends and what it makes of what comes back. The
    endpoint of a ``tls`` server is one that starts TLS; the request waits until its handshake is over.
    """

    transport: Any  # None, then an ITCPTransport, or TLS over one
    _log = Logger()

    def __init__(
        self, request: bytes, response: Response, timeline: Timeline, tls: TLSServer | None = None
    ) -> None:
        self.request = request
        self.response = response
        self.timeline = timeline
        self.last_read = 0.0
        self._connecting: Deferred[IProtocol] | None = None
        self._addresses: tuple[IAddress, IAddress] | None = None
        self._read = 0
        self._socket: StampedSocket | None = None
        self.meter: Meter | None = None
        self._tls = tls
        self._session: Session | None = None
        self._tcp = TCPSeries(None)
        self.ended: Deferred[Any] = Deferred(lambda _: self.stop())

    async def exchange(self, reactor: IReactorTime, endpoint: IStreamClientEndpoint, timeout: float) -> Any:
        """The exchange over ``endpoint``, with the one deadline ``timeout`` seconds after the timeline's START."""
        remaining = self.timeline.stamps[Phase.START] + timeout - self.timeline.now()
        deadline = reactor.callLater(max(0.0, remaining), self.expire)
        try:
            factory = Factory.forProtocol(lambda: self)
            factory.noisy = False
            self._connecting = maybeDeferred(endpoint.connect, factory)
            self._connecting.addErrback(self._failed)
            return await self.ended
        finally:
            if deadline.active():
                deadline.cancel()

    def connectionMade(self) -> None:
        if self.ended.called:
            self.transport.abortConnection()
            return
        carrier = under_tls(self.transport)
        self._socket = stamp_arrivals(carrier, self.timeline.now)
        self._expect_first()
        carrier.bufferSize = _READ_SIZE
        self._tcp = TCPSeries(carrier)
        self._addresses = self.transport.getHost(), self.transport.getPeer()
        if ITCPTransport.providedBy(carrier):
            carrier.setTcpNoDelay(True)  # the body does not wait until the head is acknowledged
        if self._tls is None:
            self._begin()
        else:
            self._session = Session(begun=self.timeline.now())

    def handshakeCompleted(self) -> None:
        """TLS is agreed on; the certificate's chain is in order, but whose it is is yet to be seen."""
        if self.ended.called or self._tls is None or self._session is None:
            return
        try:
            self._session = self._tls.completed(self._session, self.transport.getHandle(), self.timeline.now())
        except TLS_ERRORS as error:
            self.end(Ending(Outcome.FAILED, Error.TLS, words(error)))
            return
        self._expect_first()
        self._begin()

    def _begin(self) -> None:
        self.meter = Meter(under_tls(self.transport), self.timeline.now, self.took)
        self.send()

    def send(self) -> None:
        """Hand over the request."""
        deliver(self.transport, self.request)
        if self._tls is not None:
            flush(under_tls(self.transport))

    def took(self, count: int, stamp: float, left: int) -> None:
        """The socket took ``count`` bytes at ``stamp``. See `Meter`."""
        self.timeline.mark(Phase.DATAREQUEST, stamp)

    def dataReceived(self, data: bytes) -> None:
        now = self.timeline.now()
        if self.ended.called:
            return
        # With optimistic data the proxy's reply, after the request, can come in one packet with what follows it.
        earliest = max(self.last_read, *self.timeline.stamps.values())
        self.last_read = arrival(self._socket, now, earliest)
        self._read += len(data)
        self.received(first_arrival(self._socket, self.last_read, earliest))
        self._advance(self.response.feed, data)
        self._tcp.look(now)

    def _expect_first(self) -> None:
        """The next read begins the response."""
        if self._socket is not None:
            self._socket.wants_first = True

    @property
    def last_moved(self) -> float:
        """When the socket last gave or took something that shows progress; 0 if it never did."""
        return self.last_read

    def received(self, stamp: float) -> None:
        """Something was read whose first byte had come at ``stamp``; the response has not seen it yet."""
        self.timeline.mark(Phase.DATARESPONSE, stamp)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.ended.called:
            return
        if reason.type is error.ConnectionDone:  # not a subclass, which is an error of the SOCKS proxy
            self._advance(self.response.close)
        else:
            self.end(classify(reason))

    def expire(self) -> None:
        """The deadline has passed."""
        self.end(self._expired(self.timeline.now()))

    def stop(self) -> None:
        """The operator has stopped the run."""
        self.end(Ending(Outcome.CANCELLED, Error.STOPPED, "stopped"))

    def _advance(self, take: Callable[..., None], *data: bytes) -> None:
        """Let the response ``take`` what happened, and see how far it got."""
        ending = None
        try:
            take(*data)
        except ResponseError as problem:
            ending = Ending(Outcome.FAILED, problem.errorcode, str(problem))
        self.taken()
        if self.response.ended:
            self.timeline.mark(Phase.DATACOMPLETE, self.last_read)
            ending = ending or self.completed()
        if ending is not None:
            self.end(ending)

    def taken(self) -> None:
        """The response has seen all that was read."""

    def completed(self) -> Ending:
        """The whole response is there, and it is what was asked for as far as `Response` can tell."""
        return Ending(Outcome.OK)

    def _failed(self, failure: Failure) -> None:
        """The connection was not made."""
        if self.ended.called:
            return
        ending = classify(failure)
        if ending.errorcode == Error.INTERNAL:
            self._log.failure("Connecting failed in an unexpected way", failure=failure)
        self.end(ending)

    def _expired(self, now: float) -> Ending:
        if self._addresses is None:
            return Ending(Outcome.TIMEOUT, Error.TIMEOUT, "no connection before the deadline")
        if not self.last_moved:
            return Ending(Outcome.TIMEOUT, Error.TIMEOUT, "no response before the deadline")
        silence = now - self.last_moved
        progress = f"{self.progress()} before the deadline"
        requested = self.timeline.stamps.get(Phase.DATAREQUEST)
        if requested is not None and silence >= min(STALL_AFTER, (now - requested) / 2):
            return Ending(Outcome.TIMEOUT, Error.STALL, f"{progress}, and none in its last {silence:.1f} s")
        return Ending(Outcome.TIMEOUT, Error.TIMEOUT, progress)

    def progress(self) -> str:
        """How far it got, in words."""
        total = self.response.total
        return f"{self.response.payload} bytes" if total is None else f"{self.response.payload} of {total} bytes"

    def end(self, ending: Ending) -> None:
        """Report how it ended and close the connection, orderly only if all is well."""
        self._tcp.look(self.last_read or self.timeline.now(), is_last=True)
        self.ended.callback(self.result(self._account(ending)))
        if self.meter is not None:
            self.meter.remove()
        if self.transport is None:
            if self._connecting is not None:
                self._connecting.cancel()
        elif ending.outcome is Outcome.OK:
            self.transport.loseConnection()
            under_tls(self.transport).loseConnection()  # TLS would wait until the server says goodbye as well
        else:
            self.transport.abortConnection()

    def result(self, account: dict[str, Any]) -> Exchange:
        """What the exchange gave. ``account`` is what every exchange has, as the arguments of `Exchange`."""
        return Exchange(**account)

    def _account(self, ending: Ending) -> dict[str, Any]:
        connected = self._addresses is not None
        local, remote = self._addresses or (None, None)
        return {
            **ending._asdict(),
            "status": self.response.status,
            "writebytes": len(self.request) if connected else None,
            "readbytes": self._read if connected else None,
            "payloadbytes": self.response.payload if connected else None,
            "location": getattr(self.response, "location", None),
            "session": self._session,
            "exact": is_exact(self._socket) if self._read else None,
            "local": local,
            "remote": remote,
            "tcp": self._tcp,
        }


class _Download(Client):
    """A request without a body, and the progress of what comes back."""

    _marks: Marks | None = None  # while the size of the payload is not known
    _curve: ArrivalCurve | None = None

    def taken(self) -> None:
        if self._marks is None and self.response.has_head:
            self._marks, self._curve = Marks(self.response.total), ArrivalCurve()
        if self._marks is not None and self._curve is not None:
            self._marks.reached(self.response.payload, self.last_read)
            self._curve.reached(self.response.payload, self.last_read)

    def result(self, account: dict[str, Any]) -> Exchange:
        if self._marks is None:
            return Exchange(**account)
        epoch = self.timeline.anchor.epoch
        return Exchange(
            **account,
            dataperc={n: epoch(stamp) for n, stamp in self._marks.dataperc.items()},
            partial={n: epoch(stamp) for n, stamp in self._marks.partial.items()},
            curve=self._curve,
        )


def fetch(
    reactor: IReactorTime,
    endpoint: IStreamClientEndpoint,
    request: bytes,
    *,
    expect: int | Expected,
    timeline: Timeline,
    timeout: float,
    tls: TLSServer | None = None,
) -> Awaitable[Exchange]:
    """Send ``request`` over a fresh connection to ``endpoint`` and measure the response.

    The response must be a plain HTTP/1.1 response with status 200 and ``expect`` bytes of payload, or what is
    `Expected` of another server. ``timeline``
    gets DATAREQUEST when the socket is given the request, DATARESPONSE with the first byte that comes
    back, and DATACOMPLETE with the read that ended the payload (also of a complete response that is too
    short). The one deadline is ``timeout`` seconds after the timeline's START. ``tls`` is as in `Client`.

    Never raises for what the network does. Cancelling it closes the connection and gives the outcome ``cancelled``.
    """
    response = ForeignResponse(expect) if isinstance(expect, Expected) else Response(expect)
    return _Download(request, response, timeline, tls).exchange(reactor, endpoint, timeout)
