"""All that a measurement needs, put together from the configuration: our web server, the network and its tors.

The daemon is a laboratory with a schedule and sinks; ``perfd measure`` is one without.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.web.resource import IResource
from twisted.web.server import Site

from perfd.clock import Clock
from perfd.config import Config, ExperimentConfig, TorConfig
from perfd.experiments.download import Download, ip_address
from perfd.experiments.tor import MeasuredTor
from perfd.instance import Instance
from perfd.interfaces import Tor, WayToServer
from perfd.tor.embedded import EmbeddedSocks, OutsideSocks
from perfd.tor.events import ControlEvents
from perfd.tor.eventsink import EventSink
from perfd.tor.guards import Guards
from perfd.tor.launch import TorOptions, TorService
from perfd.tor.onion import VIRTUAL_PORT, OnionService
from perfd.tor.testnet import Testnet
from perfd.tor.testnet_service import TestnetService
from perfd.values import Address, GuardPolicy
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


class Laboratory(OrderedServices):
    """The web server, with ``pages`` besides the random bytes, and the tors that ``config`` asks for.

    ``event_sink`` takes the records of circuits, streams and other control events.
    """

    def __init__(
        self, reactor: Any, clock: Clock, config: Config, pages: Mapping[str, IResource], event_sink: EventSink
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._clock = clock
        self._config = config
        self._event_sink = event_sink
        self._stamps = ServerStamps(clock.monotonic)
        self._children = {**random_resources(config.server.max_size), **pages}
        self._web = self._make_web(config.server.listen, is_far=False)
        self._servers: dict[str, WayToServer] = {
            "public": PublicAddress(config.server.public_address.host, config.server.public_address.port, self._web)
        }
        self._tors = self._make_tors()

    @property
    def tors(self) -> dict[str, Tor]:
        return {name: measured.tor for name, measured in self._tors.items()}

    @property
    def sent(self) -> int:
        """The bytes that the web server has sent."""
        return self._stamps.sent

    @property
    def events(self) -> dict[str, ControlEvents]:
        """The control events of each tor that has them."""
        return {name: measured.events for name, measured in self._tors.items() if measured.events is not None}

    def download(self, experiment: ExperimentConfig, tor: str, server: str) -> Download:
        """The variant of ``experiment`` over one tor and one way to the server."""
        measured = self._tors[tor]
        return Download(
            name=experiment.name,
            source=self._config.source,
            network=self._config.network,
            source_address=ip_address(self._config.server.public_address.host),
            server=self._servers[server],
            size=experiment.size,
            timeout=experiment.timeout,
            fresh_circuits=experiment.fresh_circuits,
            skip_until_cbt=experiment.skip_until_cbt,
            tor=measured,
            stamps=self._stamps,
            clock=self._clock,
            reactor=self._reactor,
        )

    def stopService(self) -> Deferred[None]:
        for events in self.events.values():
            events.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for measured in self._tors.values():
            if measured.guards is not None:
                await measured.guards.stop()
        await super().stopService()

    def _make_web(self, listen: Address, *, is_far: bool) -> WebServer:
        site = make_site(
            self._children,
            reactor=self._reactor,
            stamps=self._stamps,
            max_connections=self._config.server.max_connections,
            is_far=is_far,
        )
        web = WebServer(self._reactor, site, listen)
        web.setServiceParent(self)
        return web

    def _make_tors(self) -> dict[str, MeasuredTor]:
        config = self._config
        if config.network == "socks":
            return {"default": MeasuredTor(self._make_socks(config.socks_proxy))}
        network = self._make_testnet() if config.network == "testnet" else None
        used = {name for experiment in config.experiments for name in experiment.tors}
        if self._is_onion_wanted():
            used.add(config.server.onion_tor)
        return {tor.name: self._make_tor(tor, network) for tor in config.tors if not used or tor.name in used}

    def _make_testnet(self) -> TestnetService:
        testnet = Testnet(self._config.testnet, self._config.tors[0].binary, owner=os.getpid, clock=self._clock)
        service = TestnetService(self._reactor, testnet, self._clock)
        service.setServiceParent(self)
        return service

    def _make_tor(self, tor: TorConfig, network: TestnetService | None) -> MeasuredTor:
        instance = Instance(self._config.directory)
        options = TorOptions(
            name=tor.name,
            data_directory=instance.tor_data(tor.name),
            binary=tor.binary,
            torrc="\n".join(tor.torrc_lines),
            bootstrap_timeout=tor.bootstrap_timeout,
            control=tor.control,
        )
        service = TorService(self._reactor, options, network, self._clock)
        events = ControlEvents(
            self._reactor, self._clock, source=self._config.source, tor=tor.name, sink=self._event_sink
        )
        service.subscribe(events.connected, events.disconnected)
        if tor.name == self._config.server.onion_tor and self._is_onion_wanted():
            # A port of its own tells the clients of the onion service from those of this machine.
            far = self._make_web(Address("127.0.0.1", 0), is_far=True)
            onion = OnionService(instance.onion_key, lambda: far.port)
            service.subscribe(onion.connected, onion.disconnected)
            self._servers["onion"] = OnionAddress(onion)
        turn = DeferredLock()
        guards = None
        if tor.guards != GuardPolicy() or tor.drop_guards is not None:
            guards = Guards(
                self._reactor,
                tor.guards,
                tor=tor.name,
                clock=self._clock,
                turn=turn,
                drop_every=tor.drop_guards,
                restore=tor.control is not None,
            )
            service.subscribe(guards.connected, guards.disconnected)
        service.setServiceParent(self)
        return MeasuredTor(service, turn, events=events, guards=guards, transport=tor.transport)

    def _is_onion_wanted(self) -> bool:
        return any("onion" in experiment.servers for experiment in self._config.experiments)

    def _make_socks(self, proxy: Address | None) -> Tor:
        if proxy is not None:
            return OutsideSocks("default", TCP4ClientEndpoint(self._reactor, proxy.host, proxy.port))
        embedded = EmbeddedSocks(self._reactor, "default")
        embedded.setServiceParent(self)
        return embedded
