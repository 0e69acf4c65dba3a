"""All that a measurement needs, put together from the configuration: our web server, the network and its tors.

The daemon is a laboratory with a schedule and sinks; ``perfd measure`` is one without.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.web.resource import IResource
from twisted.web.server import Site

from perfd.clock import Clock
from perfd.config import Address, Config, ExperimentConfig
from perfd.experiments.download import Download
from perfd.instance import Instance
from perfd.interfaces import Tor
from perfd.tor.embedded import EmbeddedSocks, OutsideSocks
from perfd.tor.launch import TorOptions, TorService
from perfd.tor.testnet import Testnet
from perfd.tor.testnet_service import TestnetService
from perfd.web.random import random_resources
from perfd.web.site import make_site
from perfd.web.stamps import ServerStamps


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


class Laboratory(OrderedServices):
    """The web server, with ``pages`` besides the random bytes, and the tors that ``config`` asks for."""

    def __init__(self, reactor: Any, clock: Clock, config: Config, pages: Mapping[str, IResource]) -> None:
        super().__init__()
        self._reactor = reactor
        self._clock = clock
        self._config = config
        self._stamps = ServerStamps(clock.monotonic)
        site = make_site(
            {**random_resources(config.server.max_size), **pages},
            reactor=reactor,
            stamps=self._stamps,
            max_connections=config.server.max_connections,
        )
        self._web = WebServer(reactor, site, config.server.listen)
        self._web.setServiceParent(self)
        self.tors: dict[str, Tor] = {tor.name: tor for tor in self._make_tors()}
        self._turns = {name: DeferredLock() for name in self.tors}

    @property
    def address(self) -> Address:
        """Where the far end of Tor reaches the web server; known from the configuration or once it listens."""
        address = self._config.server.public_address
        return address if address.port else Address(address.host, self._web.port)

    def download(self, experiment: ExperimentConfig, tor: str, server: str) -> Download:
        """The variant of ``experiment`` over one tor and one way to the server."""
        return Download(
            name=experiment.name,
            source=self._config.source,
            network=self._config.network,
            server=server,
            address=self.address,
            size=experiment.size,
            timeout=experiment.timeout,
            tor=self.tors[tor],
            turn=self._turns[tor],
            stamps=self._stamps,
            clock=self._clock,
            reactor=self._reactor,
        )

    def _make_tors(self) -> list[Tor]:
        config = self._config
        if config.network == "socks":
            return [self._make_socks(config.socks_proxy)]
        instance = Instance(config.directory)
        network = None
        if config.network == "testnet":
            testnet = Testnet(config.testnet, config.tors[0].binary, owner=os.getpid(), clock=self._clock)
            network = TestnetService(self._reactor, testnet, self._clock)
            network.setServiceParent(self)
        tors: list[Tor] = []
        for tor in config.tors:
            options = TorOptions(
                name=tor.name,
                data_directory=instance.tor_data(tor.name),
                binary=tor.binary,
                torrc=tor.torrc,
                bootstrap_timeout=tor.bootstrap_timeout,
                control=tor.control,
            )
            service = TorService(self._reactor, options, network, self._clock)
            service.setServiceParent(self)
            tors.append(service)
        return tors

    def _make_socks(self, proxy: Address | None) -> Tor:
        if proxy is not None:
            return OutsideSocks("default", TCP4ClientEndpoint(self._reactor, proxy.host, proxy.port))
        embedded = EmbeddedSocks(self._reactor, "default")
        embedded.setServiceParent(self)
        return embedded
