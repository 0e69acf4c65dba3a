"""The web site: limits, stamps and errors of all requests, in one place.

Twisted Web does HTTP; the classes here, and those of its connections (``channel``), bound what strangers can do to
it. Connections are counted, and bodies are refused or go to a sink.
Errors are JSON: ``{"error": {"status": 404, "message": "..."}}``.

There is no access log: a stranger must not be able to fill the disk that the measurements are written to.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web import http, server
from twisted.web.resource import IResource, Resource

from perfd import __version__
from perfd.descriptors import RESERVED
from perfd.pages.layout import STYLE_PATH
from perfd.web.channel import Channel
from perfd.web.connections import Connections
from perfd.web.description import JSON, STRING, Response, Route, array_of, object_of
from perfd.web.request import Described, Node, Request, json_body
from perfd.web.stamps import ServerStamps
from perfd.wire.arrival import KernelClock

BACKLOG = 1024
"""Connections that the kernel may hold until we accept them, all of them before any is read.

Where there is no room, they are tried again after a second, which spoils what many streams at once measure;
Twisted's 50 are too few.
"""

_SWEEP = 1.0  # seconds between two looks for connections past their deadline


class Root(Node):
    """``/``: what there is."""

    def getChild(self, path: bytes, request: Request) -> IResource:
        return super().getChild(path, request) if path else self

    def render_GET(self, request: Request) -> bytes:
        return json_body(request, resources(self))


def resources(root: Resource) -> dict[str, Any]:
    """What there is below the root of a site, ready for JSON; what is hidden is an alias."""
    names = sorted(name.decode() for name in root.children if name and not name.startswith(b"."))
    return {"perfd": __version__, "resources": [f"/{name}" for name in names]}


RESOURCES = object_of({"perfd": STRING, "resources": array_of(STRING)})
"""The schema of ``resources``."""


def describe_site(children: Mapping[str, Described]) -> Iterator[Route]:
    """All routes of a site that has ``children``."""
    if "" not in children:
        yield Route("/", "What there is", {200: Response({JSON: RESOURCES})})
    for name, child in children.items():
        yield from child.describe(f"/{name}")


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
        self.kernel_clock = KernelClock(stamps.monotonic)
        self.head_timeout = head_timeout
        self.idle_timeout = idle_timeout
        self._connections = Connections(max_connections)
        self._channels: set[Channel] = set()
        self._sweeping: IDelayedCall | None = None

    @property
    def has_pages(self) -> bool:
        """Whether there are pages for people; all of them have the same stylesheet."""
        return STYLE_PATH[1:].encode() in self.resource.children

    def admit(self, channel: Channel, *, ours: bool) -> bool:
        return self._connections.admit(channel, ours=ours)

    def answered(self, channel: Channel) -> None:
        self._connections.answered(channel, self.monotonic())

    def opened(self, channel: Channel) -> None:
        """``channel`` has a connection; it gets closed when it is overdue."""
        self._connections.opened(channel, self.monotonic())
        self._channels.add(channel)
        if self._sweeping is None:
            self._sweeping = self.reactor.callLater(_SWEEP, self._sweep)

    def closed(self, channel: Channel) -> None:
        self._connections.closed(channel)
        self._channels.discard(channel)

    def startFactory(self) -> None:
        """There is no access log to open, as Twisted would."""
        self.limit(self._connections.most)

    def serve(self, children: Mapping[str, IResource]) -> None:
        """Let each name under ``/`` be answered by its child from now on."""
        for name, child in children.items():
            self.resource.putChild(name.encode("ascii"), child)

    def limit(self, max_connections: int) -> None:
        """Serve so many strangers at once. Descriptors that nothing else can need are for those who just came."""
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._connections.most = max_connections
        self._connections.spare = max(0, min(BACKLOG, descriptors - 2 * max_connections - RESERVED))

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
        self._connections.sweep(now)
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

    ``max_connections``: see ``connections``. Who keeps them busy beyond that is answered with 503 and closed.
    ``head_timeout`` and ``idle_timeout`` are in seconds; the latter must be longer than a measurement may stall.
    """
    site = Site(
        Root(),
        reactor,
        stamps,
        max_connections=max_connections,
        head_timeout=head_timeout,
        idle_timeout=idle_timeout,
        is_far=is_far,
    )
    site.serve(children)
    return site
