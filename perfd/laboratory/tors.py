"""The tors and other clients that experiments measure with, and the private network that they are in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

import attrs
from twisted.internet.defer import DeferredLock

from perfd.clock import Clock
from perfd.config import Config, ExperimentConfig, TorConfig
from perfd.config.records import ClientConfig
from perfd.config.values import GuardPolicy
from perfd.daemon.order import OrderedServices, ParallelServices
from perfd.experiments.target import onion_clients
from perfd.experiments.ways import MeasuredTor
from perfd.instance import Instance
from perfd.interfaces import WayToServer
from perfd.laboratory.wanted import all_experiments, is_launching, is_onion_wanted, publishes
from perfd.reactor import Reactor
from perfd.socks.local_ports import LocalPorts
from perfd.tor.bootstrap.fresh import FreshTor
from perfd.tor.bootstrap.launcher import Launcher
from perfd.tor.circuits.chosen import Circuits
from perfd.tor.clients.plain import plain_socks
from perfd.tor.clients.service import ClientService
from perfd.tor.events.listener import ControlEvents
from perfd.tor.events.sink import EventSink
from perfd.tor.guards.keeper import Guards
from perfd.tor.launch import Network, TorOptions, TorService
from perfd.tor.onion import OnionService
from perfd.tor.onion_client import ClientKey, OnionClient
from perfd.tor.service_metrics import ServiceMetrics
from perfd.tor.testnet.network import Testnet
from perfd.tor.testnet.service import OverBridges, TestnetService

HS_METRICS = "HS_METRICS"
"""The keyword of what is no event of tor's: what the onion service's MetricsPort says."""

MARKER = "streams-left"
"""The file that remembers of a tor that somebody else runs that it leaves streams to us."""


@attrs.frozen
class OurOnion:
    """Our onion service, and the key of its clients."""

    service: OnionService
    client_key: ClientKey


class Tors:
    """Those that the experiments of ``config`` use, as services of ``parent``; all of them without an experiment.

    ``servers`` are the ways to our own server, ``onion`` our onion service, None if no experiment measures it.
    """

    def __init__(
        self,
        reactor: Reactor,
        clock: Clock,
        config: Config,
        parent: OrderedServices,
        *,
        servers: Mapping[str, WayToServer],
        onion: OurOnion | None,
        event_sink: EventSink,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._config = config
        self._parent = parent
        self._servers = servers
        self._onion = onion
        self._event_sink = event_sink
        self._instance = Instance(config.directory)
        self._ports = LocalPorts(clock)  # of all tors together
        self._network: TestnetService | None = None
        self._fresh: dict[str, MeasuredTor] = {}  # those that are launched for each run
        self.measured: Mapping[str, MeasuredTor] = self._make()

    def of(self, experiment: ExperimentConfig) -> Mapping[str, MeasuredTor]:
        """The tors over which an experiment can be measured."""
        return self._fresh if is_launching(experiment) else self.measured

    def links(self) -> str | None:
        """What the links of the private network are like now; None without one."""
        return self._network.links if self._network is not None else None

    def _make(self) -> dict[str, MeasuredTor]:
        config = self._config
        experiments = all_experiments(config)
        launching = any(is_launching(each) for each in experiments)
        used = {name for each in experiments if not is_launching(each) for name in each.tors}
        used |= {config.server.onion_tor} if is_onion_wanted(config) else set()
        tors = [each for each in config.tors if not experiments or each.name in used]
        clients = [each for each in config.clients if not experiments or each.name in used]
        if config.network == "testnet" and (tors or launching or any(each.is_our_arti for each in clients)):
            self._network = self._make_network()
        (services := ParallelServices()).setServiceParent(self._parent)
        ways = {each.name: self._make_client(each, services) for each in clients}
        if config.network == "tor" or self._network is not None:
            (launchers := ParallelServices()).setServiceParent(self._parent)  # with the names that tors have too
            launched = [each for each in config.tors if each.control is None]
            self._fresh = {each.name: self._make_launcher(each, launchers) for each in launched}
        if config.network == "socks" and (not experiments or "default" in used):
            ways["default"] = MeasuredTor(plain_socks(self._reactor, config.socks_proxy, self._parent))
        return {tor.name: self._make_tor(tor, services) for tor in tors} | ways

    def _make_network(self) -> TestnetService:
        testnet = Testnet(
            self._config.testnet,
            self._config.tors[0].binary,
            config=self._config.private_network,
            owner=os.getpid,
            clock=self._clock,
        )
        service = TestnetService(self._reactor, testnet, self._clock)
        service.setServiceParent(self._parent)
        return service

    def _make_tor(self, tor: TorConfig, services: ParallelServices) -> MeasuredTor:
        service = TorService(self._reactor, self._options(tor), self._network_of(tor), self._clock, self._ports)
        events = self._listen(service)
        if self._onion is not None and publishes(self._config, tor.name):
            service.subscribe(self._onion.service.connected, self._onion.service.disconnected)
            if self._config.server.onion_metrics is not None:
                interval = self._config.server.onion_metrics
                metrics = ServiceMetrics(self._reactor, interval, partial(events.tell, HS_METRICS))
                service.subscribe(metrics.connected, metrics.disconnected)
        self._subscribe_onion_clients(service)
        # Guards and experiments take turns on the tor, since a change of guards ends circuits.
        turn = DeferredLock()
        guards = self._make_guards(tor, turn)
        if guards is not None:
            service.subscribe(guards.connected, guards.disconnected)
        circuits = Circuits(
            self._reactor,
            self._clock,
            tor=tor.name,
            apart=self._config.network != "testnet",
            marker=None if tor.control is None else self._instance.tor_data(tor.name) / MARKER,
        )
        service.subscribe(circuits.connected, circuits.disconnected)
        service.setServiceParent(services)
        return MeasuredTor(
            service,
            turn,
            events=events,
            circuits=circuits,
            guards=guards,
            transport=tor.transport,
            told_transport=lambda: service.transport,
        )

    def _make_launcher(self, tor: TorConfig, services: ParallelServices) -> MeasuredTor:
        def listen(fresh: FreshTor) -> ControlEvents:
            events = self._listen(fresh)
            self._subscribe_onion_clients(fresh)
            return events

        launcher = Launcher(
            self._reactor,
            attrs.evolve(self._options(tor), single_onion=False),
            self._network_of(tor),
            self._clock,
            self._ports,
            self._instance.fresh_tors(tor.name),
            listen,
        )
        launcher.setServiceParent(services)
        return MeasuredTor(launcher, transport=tor.transport, launcher=launcher)

    def _network_of(self, tor: TorConfig) -> Network | None:
        if self._network is not None and tor.uses_testnet_bridges and tor.transport is not None:
            return OverBridges(self._network, tor.transport)
        return self._network

    def _listen(self, service: TorService) -> ControlEvents:
        events = ControlEvents(
            self._reactor,
            self._clock,
            source=self._config.source,
            tor=str(service.name),
            sink=self._event_sink,
            directory=lambda: service.data_directory,
        )
        service.subscribe(events.connected, events.disconnected)
        return events

    def _options(self, tor: TorConfig) -> TorOptions:
        return TorOptions(
            name=tor.name,
            data_directory=self._instance.tor_data(tor.name),
            binary=tor.binary,
            torrc="\n".join(tor.torrc_lines),
            bootstrap_timeout=tor.bootstrap_timeout,
            control=tor.control,
            control_password=tor.control_password,
            single_onion=self._config.server.single_onion and publishes(self._config, tor.name),
        )

    def _subscribe_onion_clients(self, service: TorService) -> None:
        """Let the tor know the keys of the onion services that it visits."""
        onion = self._onion
        clients = onion_clients(all_experiments(self._config), str(service.name))
        if onion is not None and self._config.server.onion_auth:
            clients.append(OnionClient(onion.service, onion.client_key, tor=str(service.name)))
        for client in clients:
            service.subscribe(client.connected, client.disconnected)

    def _make_guards(self, tor: TorConfig, turn: DeferredLock) -> Guards | None:
        if tor.guards == GuardPolicy() and tor.drop_guards is None:
            return None
        return Guards(
            self._reactor,
            tor.guards,
            tor=tor.name,
            clock=self._clock,
            turn=turn,
            drop_every=tor.drop_guards,
            restore=tor.control is not None,
        )

    def _make_client(self, client: ClientConfig, services: ParallelServices) -> MeasuredTor:
        data = self._instance.client_data(client.name)
        service = ClientService(self._reactor, client, self._servers, data, self._network, self._clock)
        service.setServiceParent(services)
        return MeasuredTor(service, client=client.kind)
