"""The web site: limits, stamps and errors of all requests, in one place.

Twisted Web does HTTP; the classes here, and those of its connections (``channel``), bound what strangers can do to
it. Connections are counted, and bodies are refused or go to a sink.
Errors are JSON: ``{"error": {"status": 404, "message": "..."}}``.

There is no access log: a stranger must not be able to fill the disk that the measurements are written to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ITransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.error import UnsupportedMethod
from twisted.web.resource import IResource, Resource

from perfd import __version__
from perfd.web.channel import Channel
from perfd.web.errors import SERVER, error_document, refusal
from perfd.web.receiving import Sink
from perfd.web.stamps import Served, ServerStamps

RESERVE = 32
"""Connections beyond the limit, so that strangers cannot keep our own measurements out: others get 503 there."""

TOO_MANY = "too many connections; try again later"

_SWEEP = 1.0  # seconds between two looks for connections past their deadline

_ID_HEADER = b"X-Perfd-Measurement"


class WebError(Exception):
    """A request that cannot be answered; raise it anywhere in a resource to send it as JSON."""

    def __init__(self, status: int, message: str, headers: Mapping[bytes, bytes] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


def json_body(request: http.Request, document: object) -> bytes:
    """``document`` as the body of ``request``'s response, to be returned from ``render_GET``."""
    request.setHeader(b"Content-Type", b"application/json")
    return json.dumps(document).encode() + b"\n"


class Node(Resource):
    """A resource with children. A path that leads nowhere is a JSON error."""

    def getChild(self, path: bytes, request: Request) -> IResource:
        raise WebError(404, f"there is no {request.path.decode('ascii', 'replace')[:100]} here")


class Root(Node):
    """``/``: what there is."""

    def getChild(self, path: bytes, request: Request) -> IResource:
        return super().getChild(path, request) if path else self

    def render_GET(self, request: Request) -> bytes:
        names = sorted(name.decode() for name in self.children if not name.startswith(b"."))
        return json_body(request, {"perfd": __version__, "resources": [f"/{name}" for name in names]})


class Request(server.Request):
    """A request with Perfd's errors and stamps."""

    channel: Channel
    defaultContentType = None
    served: Served | None = None
    sink: Sink | None = None  # where the body went, if there is one

    def gotLength(self, length: int | None) -> None:
        """The head is complete; ``length`` is that of the body, None if it is chunked."""
        self.content = BytesIO()
        if length == 0:
            return
        try:
            self._open_sink(length)
        except WebError as error:
            self.requestHeaders.removeHeader(b"Expect")
            self.channel.refuse(error.status, error.message, error.headers)

    def _open_sink(self, length: int | None) -> None:
        method, resource = self.channel.target()
        if resource is None:
            raise WebError(413, "no request bodies are taken here")
        if method != b"POST":
            raise WebError(405, "only POST can be used here", {b"Allow": b"POST"})
        self._claim()
        if self.served is None and self.channel.is_reserve:
            raise WebError(503, TOO_MANY)
        self.sink = resource.sink(self, length)
        self.channel.receive(self.sink, trusted=self.served is not None)

    def _claim(self) -> None:
        """See whether this is a measurement's request."""
        stamps = self.channel.site.stamps
        if len(stamps):
            ids = self.requestHeaders.getRawHeaders(_ID_HEADER) or (self.args or {}).get(b"id") or [b""]
            self.served = stamps.claim(ids[0].decode("latin-1"))
        if self.served is not None:
            self.served.request = self.channel.received

    def process(self) -> None:
        if self.sink is None:
            self._claim()
        if self.served is not None:
            self.channel.meter.begin(self.served)
        elif self.channel.is_reserve:
            self.channel.persistent = 0
            self.setHeader(b"Connection", b"close")
            self.processingFailed(Failure(WebError(503, TOO_MANY)))
            return
        super().process()

    def render(self, resrc: IResource) -> None:
        self.setHeader(b"Server", SERVER)
        body = resrc.render(self)
        if body is not server.NOT_DONE_YET:
            self.respond(body)

    def processingFailed(self, reason: Failure) -> None:
        """Turn what a resource raised, at once or while it worked on an answer, into the response."""
        error = reason.value
        if isinstance(error, UnsupportedMethod):
            allowed = b", ".join(sorted(error.allowedMethods))
            error = WebError(405, f"only {allowed.decode()} can be used here", {b"Allow": allowed})
        elif not isinstance(error, WebError):
            self._log.failure("Answering {uri!r} failed", failure=reason, uri=self.uri)
            error = WebError(500, "an error in Perfd; its log says more")
        if self._disconnected:
            return
        if self.startedWriting:
            self.channel.transport.abortConnection()
            return
        self.setHeader(b"Server", SERVER)
        self.setResponseCode(error.status)
        for name, value in error.headers.items():
            self.setHeader(name, value)
        self.respond(json_body(self, error_document(error.status, error.message)))

    def respond(self, body: bytes) -> None:
        """Send ``body`` as the whole response.

        For a resource that returned ``NOT_DONE_YET`` and has its answer now, as `processingFailed` is for one that
        failed; both do nothing if the client has gone in between.
        """
        if self._disconnected:
            return
        self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)  # leaves out the body if the method is HEAD
        self.channel.meter.flush()
        self.finish()


class _Full(Protocol):
    """A connection too many."""

    transport: ITransport

    def connectionMade(self) -> None:
        self.transport.write(refusal(503, TOO_MANY))
        self.transport.loseConnection()


class Site(server.Site):
    """Perfd's web site; `make_site` makes one."""

    protocol: Any = Channel  # not Twisted's wrapper, which is there for HTTP/2
    noisy = False

    def __init__(
        self,
        root: IResource,
        reactor: IReactorTime,
        stamps: ServerStamps,
        *,
        max_connections: int,
        head_timeout: float,
        idle_timeout: float,
        is_far: bool,
    ) -> None:
        super().__init__(root, requestFactory=Request, reactor=reactor)
        self.is_far = is_far
        self.timeOut = None  # one sweep over all connections takes the place of Twisted's timers
        self.stamps = stamps
        self.monotonic = stamps.monotonic
        self.head_timeout = head_timeout
        self.idle_timeout = idle_timeout
        self._max_connections = max_connections
        self._channels: set[Channel] = set()
        self._sweeping: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        reserve = len(self._channels) - self._max_connections
        if reserve >= RESERVE:
            return _Full()
        channel = super().buildProtocol(addr)
        channel.is_reserve = reserve >= 0
        return channel

    def opened(self, channel: Channel) -> None:
        """``channel`` has a connection; it gets closed when it is overdue."""
        self._channels.add(channel)
        if self._sweeping is None:
            self._sweeping = self.reactor.callLater(_SWEEP, self._sweep)

    def closed(self, channel: Channel) -> None:
        self._channels.discard(channel)

    def startFactory(self) -> None:
        """There is no access log to open."""

    def stopFactory(self) -> None:
        """No more connections are accepted: close those that there are."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for channel in tuple(self._channels):
            channel.transport.abortConnection()

    def log(self, request: http.Request) -> None:
        """There is no access log to write to."""

    def _sweep(self) -> None:
        now = self.monotonic()
        for channel in tuple(self._channels):
            if channel.is_overdue(now):
                channel.expire()
        self._sweeping = self.reactor.callLater(_SWEEP, self._sweep) if self._channels else None


def make_site(
    children: Mapping[str, IResource],
    *,
    reactor: IReactorTime,
    stamps: ServerStamps,
    max_connections: int = 500,
    head_timeout: float = 60.0,
    idle_timeout: float = 300.0,
    is_far: bool = False,
) -> Site:
    """The site with ``children`` (name to resource) under ``/``.

    ``is_far``: its clients are somewhere in the world, though they come from this machine's tor, as those of an
    onion service do.

    Beyond ``max_connections`` a request is answered with 503 and closed, unless it is a measurement's.
    ``head_timeout`` and ``idle_timeout`` are in seconds; the latter must be longer than a measurement may stall.
    """
    root = Root()
    for name, child in children.items():
        root.putChild(name.encode("ascii"), child)
    return Site(
        root,
        reactor,
        stamps,
        max_connections=max_connections,
        head_timeout=head_timeout,
        idle_timeout=idle_timeout,
        is_far=is_far,
    )
