"""Our web server, the tors and the browsers, and what experiments get of them.

The daemon is a laboratory with a schedule and sinks; ``perfd measure`` is one without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from perfd import routes
from perfd.clock import Clock
from perfd.config import Config, ExperimentConfig
from perfd.config.records import ELSEWHERE, NO_TOR
from perfd.config.values import Address
from perfd.daemon.hold_ups import HoldUps
from perfd.daemon.order import OrderedServices, finish
from perfd.descriptors import most, strangers
from perfd.experiments import curves
from perfd.experiments.pageload import BrowsedWay, Material, MeasuredPage, NoUse
from perfd.experiments.run import Setup, TorExperiment
from perfd.experiments.target import Targets, is_onion, onion_keys
from perfd.experiments.transfer import ip_address
from perfd.experiments.types import make_experiment, make_page_load
from perfd.experiments.ways import NoTor, OnionAddress, PublicAddress, WayIn, authority, elsewhere
from perfd.instance import Instance
from perfd.interfaces import Tor, WayToServer
from perfd.laboratory.browsers import Browsers
from perfd.laboratory.circuits import Scans, chosen, no_scans
from perfd.laboratory.tors import OurOnion, Tors
from perfd.laboratory.wanted import all_experiments, is_onion_wanted, is_page_wanted
from perfd.proxy import MeasuringProxy
from perfd.reactor import Reactor
from perfd.tor.events.listener import ControlEvents
from perfd.tor.events.sink import EventSink
from perfd.tor.onion import VIRTUAL_PORT, OnionService
from perfd.tor.onion_client import ClientKey
from perfd.web.request import Described
from perfd.web.server import SiteServers
from perfd.web.stamps import ServerStamps
from perfd.web.targets.page_plan import page_size, page_version
from perfd.web.targets.rate import StrangersRate


class Laboratory(OrderedServices):
    """The web server, with ``pages`` besides the random bytes, and the tors that ``config`` asks for.

    ``event_sink`` takes the records of circuits, streams and other control events, ``material`` what page loads
    leave besides their records, ``record_curve`` the curves of what is measured; ``scans`` tells how far scans are.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        clock: Clock,
        config: Config,
        pages: Mapping[str, Described],
        event_sink: EventSink,
        material: Material | None = None,
        record_curve: curves.Record = curves.ignore,
        scans: Scans = no_scans,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._clock = clock
        self._config = config
        self._hold_ups = HoldUps(reactor, clock.monotonic)
        self._stamps = ServerStamps(clock.monotonic)
        self._rate = StrangersRate(reactor, clock.monotonic, config.server.max_rate)
        self._resources = {**self._measured_resources(), **pages}
        self._is_page_served = is_page_wanted(config) or not config.server.page_ports
        self._sites: list[SiteServers] = []
        self._public = self._make_servers(config.server.listen, config.server.page_ports)
        self._servers: dict[str, WayToServer] = {"public": self._public_address()}
        onion = self._make_onion() if is_onion_wanted(config) else None
        self._begun_with = all_experiments(config)
        servers = self._servers
        self._network = Tors(reactor, clock, config, self, servers=servers, onion=onion, event_sink=event_sink)
        self._tors = self._network.measured
        self._browsers = Browsers(reactor, clock, config.directory, config.browsers)
        self._material = material
        self._record_curve = record_curve
        self._scans = scans
        self._no_use = NoUse()
        self._targets = Targets(reactor, clock)
        self._direct_turn = DeferredLock()  # measurements without Tor do not disturb each other either

    @property
    def tors(self) -> dict[str, Tor]:
        return {name: measured.tor for name, measured in self._tors.items()}

    @property
    def sent(self) -> int:
        """The bytes that the web server has sent."""
        return self._stamps.sent

    @property
    def held_up(self) -> float:
        """For how many seconds in all the reactor was held up during measurements."""
        return self._hold_ups.seconds

    @property
    def events(self) -> dict[str, ControlEvents]:
        """The control events of each tor that has them."""
        return {name: measured.events for name, measured in self._tors.items() if measured.events is not None}

    def experiments(self, config: ExperimentConfig) -> list[TorExperiment]:
        """The variants of an experiment: one for each of its tors, ways to the server, and browsers."""
        ways = self._ways(config)
        if config.browsers:
            return [self._page_load(config, *each) for each in product(config.tors, ways, config.browsers)]
        return [make_experiment(config, self._setup(config, *each)) for each in product(config.tors, ways)]

    def _ways(self, config: ExperimentConfig) -> Sequence[WayToServer]:
        if config.servers == (ELSEWHERE,):
            return elsewhere(config)
        return [self._servers[server] for server in config.servers]

    def lacks(self, config: ExperimentConfig) -> str | None:
        """What is not there for an experiment, in words; None if it can be measured.

        Tors, the onion service and ports are there from the start, or not at all.
        """
        for tor in config.tors:
            if tor != NO_TOR and tor not in self._network.of(config):
                return f"needs the tor {tor}, which was not launched"
            if not onion_keys([config], tor).items() <= onion_keys(self._begun_with, tor).items():
                return f"needs keys to onion services, which the tor {tor} was not given"
        if "onion" in config.servers and "onion" not in self._servers:
            return "needs the onion service, which was not started"
        if config.browsers and config.url is None and not self._is_page_served:
            return "needs the ports of the page (page-ports), which were not bound"
        return None

    def change(self, config: Config) -> None:
        """Go on as ``config`` says, of which nothing is different that needs a restart (``daemon.changes``).

        What is in flight ends as it began. Whoever is to be measured at another address, or with another browser,
        has to get new ``experiments``.
        """
        before, self._config = self._config, config
        self._servers["public"] = self._public_address()
        self._browsers.change(config.browsers)
        for site in self._sites:
            site.limit(strangers(config, most()))
        self._rate.limit(config.server.max_rate)
        if before.server.max_size != config.server.max_size:
            resources = self._measured_resources()
            for site in self._sites:
                site.serve(resources)
                # Describing a site takes 20 ms, which are not the reactor's.
                describe = partial(routes.description, site.children)
                pool = self._reactor.getThreadPool()
                described = deferToThreadPool(self._reactor, pool, describe)
                described.addCallback(partial(_serve, site))
                described.addErrback(lambda failure: self._log.failure("the site is not described", failure))

    def _measured_resources(self) -> dict[str, Described]:
        return routes.measured(self._config.server.max_size, self._clock, self._rate)

    def _public_address(self) -> PublicAddress:
        address = self._config.server.public_address
        return PublicAddress(address.host, address.port, self._public.web)

    def _page_load(self, config: ExperimentConfig, tor: str, way: WayToServer, browser: str) -> TorExperiment:
        measured = self._browsers.browser(browser)
        size = page_size(config.options["page"]) if config.url is None else 0
        setup = attrs.evolve(self._setup(config, tor, BrowsedWay(way, measured)), size=size)
        socks = None if isinstance(setup.tor, NoTor) else setup.tor.tor.socks_port
        proxy = MeasuringProxy(self._reactor, self._clock, socks, setup.tor.events)
        variant = config.options["page"]
        # Both are asked for at each load: ports are known when they are bound, an onion's name when it has a key.
        path = "/page/" if variant == "canonical" else f"/page/{variant}/"
        page = MeasuredPage(
            url=lambda: config.url or f"http://{authority(way).removesuffix(':80')}{path}",
            label=lambda: config.url or page_version(variant, self._public.origins),
            quiet=config.options["quiet"],
            screenshot=config.options["screenshot"],
            filmstrip=config.options["filmstrip"],
            insecure=config.options["insecure"],
        )
        return make_page_load(
            config,
            setup,
            browser=measured,
            proxy=proxy,
            page=page,
            material=self._material,
            no_use=self._no_use,
        )

    def _setup(self, config: ExperimentConfig, tor: str, server: WayToServer) -> Setup:
        # One turn for all that go without Tor: they must not disturb each other either.
        ways: dict[str, WayIn] = {**self._network.of(config), NO_TOR: NoTor(self._reactor, self._direct_turn)}
        return Setup(
            name=config.name,
            type=config.type,
            source=self._config.source,
            network=self._config.network,
            links=self._network.links,
            source_address=ip_address(self._config.server.public_address.host),
            server=server,
            target=self._targets.target(server, self._config.contact),
            size=config.size,
            timeout=config.timeout,
            fresh_circuits=config.fresh_circuits,
            skip_until_cbt=config.skip_until_cbt,
            fresh_descriptor=config.fresh_descriptor and is_onion(server),
            tor=ways[tor],
            stamps=self._stamps,
            clock=self._clock,
            reactor=self._reactor,
            hold_ups=self._hold_ups,
            record_curve=self._record_curve,
            chosen=chosen(config, ways[tor], server, self._scans),
        )

    def stopService(self) -> Deferred[None]:
        for events in self.events.values():
            events.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._browsers.close()
        guards = [measured.guards for measured in self._tors.values() if measured.guards is not None]
        await finish(each.stop for each in guards)
        await super().stopService()

    def _make_servers(
        self,
        listen: Address,
        page_ports: Sequence[int],
        *,
        is_far: bool = False,
        origins: Sequence[int] | None = None,
    ) -> SiteServers:
        site = SiteServers(
            self._reactor,
            self,
            partial(routes.of_site, self._resources, self._rate),
            self._stamps,
            max_connections=strangers(self._config, most()),
            listen=listen,
            page_ports=page_ports if is_page_wanted(self._config) else (),
            is_far=is_far,
            origins=origins,
        )
        self._sites.append(site)
        return site

    def _make_onion(self) -> OurOnion:
        instance, server = Instance(self._config.directory), self._config.server
        # A port of its own tells the clients of the onion service from those of this machine.
        origins = tuple(VIRTUAL_PORT + number for number in range(1, 1 + len(server.page_ports)))
        far = self._make_servers(Address("127.0.0.1", 0), [0] * len(origins), is_far=True, origins=origins)
        key = ClientKey(instance.onion_client_key)
        onion = OnionService(
            instance.onion_key,
            lambda: far.web.port,
            more_ports={
                port: partial(lambda number: far.page_ports[number], number)
                for number, port in enumerate(origins)
                if is_page_wanted(self._config)
            },
            single_onion=server.single_onion,
            client_key=key if server.onion_auth else None,
            proof_of_work=server.onion_pow,
        )
        self._servers["onion"] = OnionAddress(onion)
        return OurOnion(onion, key)


def _serve(site: SiteServers, description: Described) -> None:
    site.serve({"openapi.json": description})
