"""The parts of a laboratory that listen: our web server, the ways to it, and the order of services."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.web.server import Site

from perfd.tor.onion import VIRTUAL_PORT, OnionService
from perfd.values import Address


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

    def __init__(self, reactor: Any, site: Site, listen: Address) -> None:
        self._reactor = reactor
        self._site = site
        self._listen = listen
        self._port: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        try:
            self._port = self._reactor.listenTCP(self._listen.port, self._site, interface=self._listen.host)
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
