"""The parts of a laboratory that listen: our web server, the ways to it, and the order of services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import attrs
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.web.resource import IResource
from twisted.web.server import Site

from perfd.config.values import Address
from perfd.reactor import Reactor
from perfd.tor.onion import VIRTUAL_PORT, OnionService
from perfd.web.site import make_site
from perfd.web.stamps import ServerStamps
from perfd.web.targets.page import page_resource

BACKLOG = 1024
"""Connections that the kernel may hold until we accept them. Where there is no room, they are tried again after a
second, which spoils what many streams at once measure; Twisted's 50 are too few.
"""


class StartError(Exception):
    """The daemon cannot start; the message is for the operator."""


class OrderedServices(MultiService):
    """Services that start one after the other, and stop in the opposite order, each when the one before is done."""

    _log = Logger()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop_all())

    async def _stop_all(self) -> None:
        for service in reversed(list(self)):
            await maybeDeferred(service.stopService).addErrback(
                lambda failure: self._log.failure("stopping failed", failure)
            )


class WebServer(Service):
    """Listens with ``site``; privileged ports too, if it is started privileged."""

    def __init__(self, reactor: Reactor, site: Site, listen: Address) -> None:
        self._reactor = reactor
        self._site = site
        self._listen = listen
        self._port: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        try:
            self._port = self._reactor.listenTCP(
                self._listen.port,
                self._site,  # type: ignore[arg-type]
                backlog=BACKLOG,
                interface=self._listen.host,
            )
        except CannotListenError as error:
            raise StartError(f"cannot listen on {self._listen}: {error.socketError}") from None

    def startService(self) -> None:
        super().startService()
        if self._port is None:
            self.privilegedStartService()

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        port, self._port = self._port, None
        return None if port is None else port.stopListening()

    @property
    def port(self) -> int:
        """The port that is listened on, also when any free one was asked for."""
        assert self._port is not None
        return int(self._port.getHost().port)  # type: ignore[attr-defined]


class Front:
    """Our site on its own port, and on those of the canonical page's other origins.

    ``origins`` are the ports by which clients know the latter, if not by their own. ``is_far``: see ``make_site``.
    """

    def __init__(
        self,
        reactor: Reactor,
        parent: MultiService,
        children: Mapping[str, IResource],
        stamps: ServerStamps,
        *,
        max_connections: int,
        listen: Address,
        page_ports: Sequence[int],
        is_far: bool = False,
        origins: Sequence[int] | None = None,
    ) -> None:
        self._origins = origins
        site = make_site(
            {**children, "page": page_resource(lambda: self.origins)},
            reactor=reactor,
            stamps=stamps,
            max_connections=max_connections,
            is_far=is_far,
        )
        self.web = WebServer(reactor, site, listen)
        self._others = [WebServer(reactor, site, Address(listen.host, port)) for port in page_ports]
        for web in (self.web, *self._others):
            web.setServiceParent(parent)

    @property
    def page_ports(self) -> tuple[int, ...]:
        """The ports of the page's other origins."""
        return tuple(web.port for web in self._others)

    @property
    def origins(self) -> Sequence[int]:
        """The same, as clients know them."""
        return self.page_ports if self._origins is None else self._origins


@attrs.frozen
class PublicAddress:
    """The way to our server over an exit: its public address; the port is known when it is bound."""

    name: str = attrs.field(default="public", init=False)
    not_ready: str | None = attrs.field(default=None, init=False)
    host: str
    configured_port: int
    web: WebServer

    @property
    def port(self) -> int:
        return self.configured_port or self.web.port


@attrs.frozen
class OnionAddress:
    """The way to our server over its onion service."""

    name: str = attrs.field(default="onion", init=False)
    port: int = attrs.field(default=VIRTUAL_PORT, init=False)
    service: OnionService

    @property
    def not_ready(self) -> str | None:
        return self.service.not_ready

    @property
    def host(self) -> str:
        return self.service.host


@attrs.frozen
class Elsewhere:
    """In the place of a way to our server, for pages that are not ours."""

    name: str = attrs.field(default="url", init=False)
    not_ready: None = attrs.field(default=None, init=False)
    host: str
    port: int


def elsewhere(url: str) -> Elsewhere:
    """Where the page ``url`` is."""
    parts = urlsplit(url)
    return Elsewhere(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
