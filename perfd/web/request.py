"""Requests and the resources that answer them: Perfd's errors, stamps, and bodies that go to a sink.

What a resource raises as ``WebError`` is sent as JSON. A request that names a measurement of our own gets its
stamps, and is answered also where strangers are not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from io import BytesIO

from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.error import UnsupportedMethod
from twisted.web.resource import IResource, Resource

from perfd.pages.layout import error_document as error_page
from perfd.pages.layout import policy
from perfd.store.parameters import Parameter
from perfd.web.channel import Channel
from perfd.web.description import Route
from perfd.web.errors import SERVER, WebError, error_document
from perfd.web.receiving import Sink
from perfd.web.stamps import Served
from perfd.wire.arrival import is_exact
from perfd.wire.delivery import flush
from perfd.wire.pieces import Pieces

TOO_MANY = "too many connections; try again later"

FORWARDED = (
    *(b"Forwarded", b"Via", b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"X-Forwarded-Server"),
    *(b"X-Real-IP", b"CF-Connecting-IP", b"True-Client-IP"),
)
"""By these a reverse proxy says for whom it asks (RFC 7239; RFC 9110, section 7.6.3)."""

_ID_HEADER = b"X-Perfd-Measurement"

FORMAT = Parameter(
    "format", "`html` or `json`, whatever Accept says", str, {"type": "string", "enum": ["html", "json"]}
)
"""An argument of all that people can read too."""


def json_body(request: http.Request, document: object) -> bytes:
    """``document`` as the body of ``request``'s response, to be returned from ``render_GET``."""
    request.setHeader(b"Content-Type", b"application/json")
    return json.dumps(document).encode() + b"\n"


class Described(Resource):
    """A resource that says what can be asked of it."""

    is_vital = False  # this machine is answered however many strangers there are

    def describe(self, path: str) -> Iterator[Route]:
        """The routes of this resource, which is found at ``path``, and of those below it."""
        raise NotImplementedError


class Node(Described):
    """A resource with children. A path that leads nowhere is a JSON error."""

    def getChild(self, path: bytes, request: Request) -> IResource:
        raise WebError(404, f"there is no {request.path.decode('ascii', 'replace')[:100]} here")


class Request(server.Request):
    """A request with Perfd's errors and stamps."""

    channel: Channel
    defaultContentType = None
    served: Served | None = None
    sink: Sink | None = None  # where the body went, if there is one

    def header(self, name: bytes) -> str:
        """The value of a header, its bytes as ISO-8859-1 (RFC 9110, section 5.5); empty if there is none."""
        return (self.getHeader(name) or b"").decode("latin-1")

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
        if not isinstance(resource, BodyResource):
            raise WebError(413, "no request bodies are taken here")
        if method != b"POST":
            raise WebError(405, "only POST can be used here", {b"Allow": b"POST"})
        self._claim()
        self._admit(resource)
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
            self.served.exact = is_exact(self.channel.socket)

    @property
    def wants_page(self) -> bool:
        """Whether the client is somebody's browser, which takes HTML rather than JSON."""
        if not self.channel.site.has_pages:
            return False
        asked = (self.args or {}).get(b"format", [b""])[-1]
        if asked in (b"html", b"json"):
            return bool(asked == b"html")
        accepted = self.header(b"accept").lower()
        return _weight(accepted, "text/html") > max(_weight(accepted, "application/json"), 0)

    @property
    def is_local(self) -> bool:
        """Whether it is from a program of this machine, and not from one here that passes on what others ask.

        A proxy says for whom it asks, or speaks HTTP/1.0 as nginx does if nothing else is said.
        """
        if not self.channel.is_local or self.clientproto != b"HTTP/1.1":
            return False
        return not any(map(self.requestHeaders.hasHeader, FORWARDED))

    def _admit(self, resource: object) -> None:
        """Raises WebError if there are too many strangers, and this is one."""
        vital = isinstance(resource, Described) and resource.is_vital and self.is_local
        if not vital and not self.channel.site.admit(self.channel, ours=self.served is not None):
            raise WebError(503, TOO_MANY)

    def process(self) -> None:
        if self.sink is None:
            self._claim()
            try:
                self._admit(self.channel.resource(self.path))
            except WebError:
                self.channel.persistent = 0
                self.setHeader(b"Connection", b"close")
                self.processingFailed(Failure())
                return
        if self.served is not None:
            self.served.exact = is_exact(self.channel.socket)
            self.channel.meter.begin(self.served)
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
        self.respond(self._error_body(error))

    def _error_body(self, error: WebError) -> bytes:
        if not self.wants_page:
            return json_body(self, error_document(error.status, error.message))
        self.setHeader(b"Content-Type", b"text/html; charset=utf-8")
        self.setHeader(b"Content-Security-Policy", policy().encode())
        return error_page(error.status, HTTPStatus(error.status).phrase, error.message)

    def respond(self, body: bytes) -> None:
        """Send ``body`` as the whole response.

        For a resource that returned ``NOT_DONE_YET`` and has its answer now, as `processingFailed` is for one that
        failed; both do nothing if the client has gone in between.
        """
        if self._disconnected:
            return
        self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)  # leaves out the body if the method is HEAD
        flush(self.channel.transport)
        self.finish()

    def stream(
        self,
        size: int,
        take: Callable[[int], bytes],
        closed: Callable[[], None] = lambda: None,
        *,
        through: IConsumer | None = None,
    ) -> None:
        """Send ``size`` bytes as the whole response, each piece when the socket has taken the one before.

        ``take(n)`` gives the next bytes, at most ``n``; if it gives none before the end, the connection is broken
        off, so that the client sees that the rest is missing. ``closed`` is called when no more will be taken.
        The pieces can go ``through`` a consumer that hands them on to this request.
        """
        self.setHeader(b"Content-Length", b"%d" % size)
        self.write(b"")

        def ended(complete: bool) -> None:
            closed()
            if complete:
                self.finish()
            else:
                self.channel.transport.abortConnection()

        Pieces(through or self, take, 0 if self.method == b"HEAD" else size, ended).start()


class BodyResource(Described):
    """A resource at the site's root that takes the bodies of POST requests. All others are refused."""

    def sink(self, request: Request, size: int | None) -> Sink:
        """Where the body of ``request`` goes, which has ``size`` bytes; None: it does not say how many.

        Called when the head is complete. Raises WebError to refuse the body.
        """
        raise NotImplementedError


def _weight(accepted: str, media_type: str) -> float:
    """How much an Accept header, in lower case, wants this very type (RFC 9110, section 12.5.1); 0: not at all."""
    for wanted in accepted.split(","):
        name, *parameters = (part.strip() for part in wanted.split(";"))
        if name == media_type:
            weights = (re.fullmatch(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)", each) for each in parameters)
            return next((float(weight[1]) for weight in weights if weight), 1.0)
    return 0.0
