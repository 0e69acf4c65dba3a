"""The connections of the web site: deadlines, bodies, and what is refused before there is a whole request.

A request's head has a deadline that trickled bytes do not move, a client that takes nothing is dropped, a body goes
to its sink or is drained, and pipelined requests end the connection instead of queueing their answers in memory.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from twisted.web import http, http_headers
from twisted.web.resource import Resource
from zope.interface import implementer

from perfd.web.errors import refusal
from perfd.web.receiving import DRAIN, DRAIN_TIMEOUT, Receiving, Sink
from perfd.web.stamps import ResponseMeter, ServerStamps
from perfd.wire.arrival import KernelClock, arrival, stamp_arrivals
from perfd.wire.delivery import flush

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
"""The absolute form of a request's target, which any server must take (RFC 9112, section 3.2.2)."""

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
"""uri-host and port (RFC 3986, sections 3.2.2 and 3.2.3)."""


MOST_EMPTY_LINES = 8
"""Empty lines in front of a request, which are passed over."""


def is_loopback(address: object) -> bool:
    """Whether a peer's address is this machine's own; IPv4 also as IPv6 has it (RFC 4291, section 2.5.5.2)."""
    return _is_loopback(getattr(address, "host", ""))


@lru_cache(4096)  # a tenth of the time that an accepted connection takes
def _is_loopback(text: str) -> bool:
    try:
        host = ipaddress.ip_address(text)
    except ValueError:
        return False
    return (getattr(host, "ipv4_mapped", None) or host).is_loopback


def is_host_valid(hosts: Sequence[bytes], *, is_needed: bool) -> bool:
    """Whether the Host headers of a request are as they must be (RFC 9112, section 3.2)."""
    return len(hosts) <= 1 and (bool(hosts) or not is_needed) and all(_HOST.fullmatch(host) for host in hosts)


class Limits(Protocol):
    """What the connections of a site share: its root, its clock, its deadlines in seconds, and who is connected."""

    resource: Resource  # the root
    stamps: ServerStamps
    reactor: Any  # IReactorTime; Twisted's site has no type for it
    monotonic: Callable[[], float]
    kernel_clock: KernelClock
    head_timeout: float
    idle_timeout: float
    is_far: bool  # the clients are not on this machine, though the connections are
    has_pages: bool  # for people

    def opened(self, channel: Channel) -> None:
        """``channel`` has a connection."""

    def closed(self, channel: Channel) -> None:
        """It has none any more."""

    def admit(self, channel: Channel, *, ours: bool) -> bool:
        """Whether a request is answered whose head is complete; ``ours`` is."""

    def answered(self, channel: Channel) -> None:
        """The answer to it was written."""


@implementer(IHalfCloseableProtocol)
class Channel(http.HTTPChannel):
    """One connection."""

    site: Limits
    transport: Any  # a TCP connection
    delimiter = b"\n"  # CR before it is ignored (RFC 9112, section 2.2)
    maxHeaders = 50
    totalHeadersSize = MAX_LENGTH = 8192

    _HTTPChannel__first_line: int  # Twisted's own: true where a request begins
    echo: Callable[[bytes], None] | None = None  # takes all further bytes, once the connection was upgraded

    def connectionMade(self) -> None:
        super().connectionMade()
        self.meter = ResponseMeter(self.transport, self.site.stamps)
        # A measurement is expected before it connects; where none is, a stranger does not pay for its stamps.
        stamped = len(self.site.stamps) > 0
        self.socket = (
            stamp_arrivals(self.transport, self.site.monotonic, self.site.kernel_clock) if stamped else None
        )
        self._arrived = -math.inf  # when what was last read had arrived
        self.received = self.site.monotonic()  # the same; before that, the connection
        self.is_local = not self.site.is_far and is_loopback(self.transport.getPeer())
        self.is_answered = False  # the answer to the last request was written
        self._asked = self.received  # when the last request was complete
        self._deadline = self.received + self.site.head_timeout
        self._receiving: Receiving | None = None  # the request's body is on its way
        self._drain: int | None = None  # bytes that may still come after a refusal
        self._empty_lines = 0
        self.site.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.closed(self)
        self.meter.remove()
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        self.received = self._arrived = arrival(self.socket, self.site.monotonic(), self._arrived)
        if self.echo is not None:
            self.echo(data)
        else:
            super().dataReceived(data)

    def readConnectionLost(self) -> None:
        """The client has said all that it will say. If that is a whole request, it gets its whole answer."""
        if self.echo is None and self.requests and self._handlingRequest:
            self.persistent = 0
        else:
            if self._receiving is not None:
                self._receiving = None
                self.transport.write(refusal(400, "the request's body has ended before it was complete"))
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """We have said all that we will say; see ``refuse``."""

    def lineReceived(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        if not line and self._HTTPChannel__first_line and self._empty_lines < MOST_EMPTY_LINES:
            self._empty_lines += 1  # before a request (RFC 9112, section 2.2)
            return
        if line:
            self._empty_lines = 0
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(431, "a line of the request's head is too long")

    def headerReceived(self, line: bytes) -> bool:
        try:
            return bool(super().headerReceived(line))
        except ValueError:  # a Content-Length of more digits than Python reads
            self._respondToBadRequestAndDisconnect()
            return False

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Twisted's own answer says nothing."""
        self.refuse(400, "the request's head cannot be understood")

    def allHeadersReceived(self) -> None:
        headers = self.requests[-1].requestHeaders
        hosts = headers.getRawHeaders(b"Host", [])
        if not is_host_valid(hosts, is_needed=self._version == b"HTTP/1.1"):
            self.refuse(400, "the request must have one Host header, with a host and at most a port")
            return
        absolute = _ABSOLUTE.fullmatch(self._path)
        if absolute is not None:
            authority, path = absolute.groups()
            if not authority or not _HOST.fullmatch(authority):
                self.refuse(400, "the request's target has no host")
                return
            headers.setRawHeaders(b"Host", [authority])
            self._path = path if path.startswith(b"/") else b"/" + path
        super().allHeadersReceived()
        flush(self.transport)  # 100 Continue, which is no part of the response that is stamped

    def read(self) -> None:
        """Take what has come, without waiting for the reactor's turn, in which many may be accepted first."""
        if isinstance(self.transport, Connection):
            self.transport.doRead()  # an error of the connection is met again in that turn

    def target(self) -> tuple[bytes, object]:
        """The method of the request whose head is complete, and the resource at the site's root that it names."""
        # Twisted gives these to the request only when its body is complete.
        return self._command, self.resource(self._path)

    def resource(self, path: bytes) -> object:
        """The resource at the site's root that ``path`` names."""
        return self.site.resource.getStaticEntity(path.partition(b"?")[0][1:])

    def receive(self, sink: Sink, *, trusted: bool) -> None:
        """The body that follows goes to ``sink``. ``trusted``: it is a measurement's, which ends by itself."""
        self._receiving = Receiving(sink, self.received, self.site.idle_timeout, trusted=trusted)

    def allContentReceived(self) -> None:
        """A request is complete.

        Pipelined requests are not answered, because their answers would pile up in memory if the client does not
        read them: the connection ends with the answer before.
        """
        if self._drain is not None:  # the head was refused, and it has no body
            return
        if self.meter.unsent:
            self.loseConnection()
            return
        self.is_answered = False
        self._asked = self.received
        self._deadline = self.received + self.site.idle_timeout
        if self.clearLineBuffer():
            self._answer_and_close()
        super().allContentReceived()

    def _answer_and_close(self) -> None:
        self.persistent = 0
        self.requests[-1].setHeader(b"Connection", b"close")

    def rawDataReceived(self, data: bytes) -> None:
        if self._drain is not None:
            self._drain -= len(data)
            if self._drain < 0:
                self.transport.abortConnection()
        elif self._receiving is None:
            self.persistent = 0
        else:
            pipelined = self._receiving.take(data, self.received)
            if self._receiving.is_complete:
                self._receiving = None
                if pipelined:
                    self._answer_and_close()
                self.allContentReceived()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: http_headers.Headers) -> None:
        """Write the head in one piece: Twisted's way, in some thirty, takes a tenth of a small response's time."""
        lines = [b"%b %b %b" % (version, code, reason)]
        lines += [b"%b: %b" % (name, value) for name, values in headers.getAllRawHeaders() for value in values]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n")

    def requestDone(self, request: http.Request) -> None:
        self.meter.end()
        self.is_answered = True
        self.site.answered(self)
        super().requestDone(request)

    def refuse(self, status: int, message: str, headers: Mapping[bytes, bytes] | None = None) -> None:
        """Answer before the request is complete, and close the connection when the client has, or soon after."""
        self._receiving = None
        self._drain = DRAIN
        self._deadline = self.received + DRAIN_TIMEOUT
        self.transport.write(refusal(status, message, headers))
        self.transport.loseWriteConnection()
        self.setRawMode()

    def silent_since(self) -> float | None:
        """Since when the client of a request lets us wait; None if it is we who let it wait."""
        if self._receiving is not None:
            return self.received
        return max(self._asked, self.meter.last_sent) if self.meter.unsent else None

    def is_overdue(self, now: float) -> bool:
        """Whether a deadline has passed.

        The first request's head has ``head_timeout`` from the start of the connection. From then on, the socket
        must take something, or the next head be complete, within ``idle_timeout``. A body has its own deadline.
        """
        if self._receiving is not None:
            return now >= self._receiving.deadline
        sent = self.meter.last_sent
        if self._drain is not None or not sent:
            return now >= self._deadline
        return now >= max(self._deadline, sent + self.site.idle_timeout)

    def expire(self) -> None:
        """A deadline has passed: say so if a body is too slow, close the connection in all other cases."""
        if self._receiving is None:
            self.transport.abortConnection()
        else:
            self.received = self.site.monotonic()
            self.refuse(408, "the request's body comes too slowly")
