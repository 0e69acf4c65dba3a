"""``perfd proxy``: the measuring proxy for any program, with a JSON object per connection."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError

from perfd.cli.foreground import run_reactor
from perfd.cli.networks import overrides as using
from perfd.cli.output import complain
from perfd.cli.privileges import work_as_owner
from perfd.cli.standalone import (
    FREE_PORT,
    NotReadyError,
    default_path,
    own_instance,
    patience,
    prepare,
    private_network,
)
from perfd.clock import Clock
from perfd.config import Config, ConfigError, load_config, parse_config
from perfd.config.values import Address, SOCKSAddress
from perfd.daemon.order import StartError
from perfd.instance import InstanceError
from perfd.interfaces import Tor
from perfd.laboratory import Laboratory
from perfd.proxy import MeasuringProxy, ProxyConnection
from perfd.reactor import Reactor, installed_reactor
from perfd.tor.embedded import OutsideSocks
from perfd.tor.endpoints import CONNECT_TIMEOUT
from perfd.tor.events.listener import ControlEvents
from perfd.tor.events.sink import NullEventSink
from perfd.tor.launch import TorOptions, TorService

NAME = "perfd-proxy"
"""Of the experiment for which tors are launched."""


@attrs.frozen(kw_only=True)
class ProxyOptions:
    """What to be. ``socks`` and ``control`` name a running tor; without them there is one as for measurements."""

    listen: Address
    socks: SOCKSAddress | None
    control: str | None
    control_password: str | None = attrs.field(repr=False)
    network: str | None
    tor: str
    optimistic: bool
    log: str  # a file, to be added to; - is standard output
    testnet: Path | None = None  # the directory of a private network
    keep: str | None = None  # for how long one that was started stays when nobody uses it


@attrs.frozen
class _Way:
    """What the connections go through; ``service`` runs it, ``patience`` are the seconds until it must be ready."""

    name: str
    tor: Tor
    events: ControlEvents | None
    service: Service
    patience: float


def proxy(path: Path | None, wanted: ProxyOptions) -> int:
    """Run the proxy until SIGINT or SIGTERM; 0 if it had begun to listen. ``path`` is a perfd.conf or None.

    Raises ConfigError and InstanceError.
    """
    reactor = installed_reactor()
    running = _Running(reactor, wanted)
    try:
        with _log(wanted.log) as log, _way(reactor, path, wanted) as way:
            run_reactor(reactor, lambda _: running.run(way, log), way.service.stopService)
    except CannotListenError as error:
        raise InstanceError(f"cannot listen on {wanted.listen}: {error.socketError}") from None
    except (StartError, NotReadyError) as error:
        raise InstanceError(str(error)) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InstanceError(f"{wanted.log}: cannot be written: {error.strerror}") from None
    except CancelledError:
        return 0 if running.listens else 1
    return 0


class _Running:
    """The proxy at work."""

    def __init__(self, reactor: Reactor, wanted: ProxyOptions) -> None:
        self.listens = False
        self._reactor = reactor
        self._wanted = wanted
        self._broken: Deferred[None] = Deferred()  # the log cannot be written

    async def run(self, way: _Way, log: TextIO) -> None:
        """Be a proxy, until cancelled or the log cannot be written."""
        wanted = self._wanted
        way.service.startService()
        await prepare(self._reactor, partial(getattr, way.tor, "not_ready"), way.patience)
        proxy = MeasuringProxy(self._reactor, Clock(), way.tor.socks_port, way.events)
        opened = proxy.open(
            host=wanted.listen.host,
            port=wanted.listen.port,
            optimistic=wanted.optimistic,
            finished=lambda record: self._write(record, log),
        )
        self.listens = True
        version = f", version {way.tor.version}" if way.tor.version is not None else ""
        complain(f"the proxy listens on {wanted.listen}, in front of {way.name}{version}")
        try:
            await self._broken
        finally:
            await opened.close()
            if opened.turned_away:
                complain(f"{opened.turned_away} connections were turned away: there were too many")

    def _write(self, record: ProxyConnection, log: TextIO) -> None:
        try:
            log.write(json.dumps(record.as_dict()) + "\n")
            log.flush()
        except OSError as error:
            if not self._broken.called:
                self._broken.errback(error)


@contextmanager
def _log(name: str) -> Iterator[TextIO]:
    """The log, open for writing at its end. Raises OSError."""
    if name == "-":
        yield sys.stdout
        return
    with Path(name).open("a", encoding="utf-8") as file:
        yield file


@contextmanager
def _way(reactor: Reactor, path: Path | None, wanted: ProxyOptions) -> Iterator[_Way]:
    """What to go through; an instance of its own is locked meanwhile, if it needs one."""
    if wanted.socks is not None:
        where, version, login = wanted.socks.address, wanted.socks.version, wanted.socks.login
        outside = OutsideSocks(reactor, "default", where.host, where.port, version, login)
        yield _Way(f"the SOCKS port {wanted.socks}", outside, None, Service(), CONNECT_TIMEOUT)
    elif wanted.control is not None:
        options = TorOptions(
            name="default",
            data_directory=Path(),
            control=wanted.control,
            control_password=wanted.control_password,
        )
        attached = TorService(reactor, options)
        events = ControlEvents(reactor, Clock(), source="proxy", tor=options.name, sink=NullEventSink())
        attached.subscribe(events.connected, events.disconnected)
        yield _Way(f"the tor at {wanted.control}", attached, events, attached, options.bootstrap_timeout)
    else:
        config = _prepared(path, wanted)
        with own_instance(config):
            laboratory = Laboratory(reactor, Clock(), config, {}, NullEventSink())
            is_client = any(each.name == wanted.tor for each in config.clients)
            name = f"the client {wanted.tor}" if is_client else f"tor {wanted.tor}"
            name = name if is_client or config.network != "socks" else "the SOCKS proxy"
            tor = laboratory.tors[wanted.tor]
            yield _Way(name, tor, laboratory.events.get(wanted.tor), laboratory, patience(config))


def _prepared(path: Path | None, wanted: ProxyOptions) -> Config:
    """The configuration for this one tor, in a directory of its own, so that a running daemon is left alone."""
    # An experiment that never runs: what it needs is launched, and nothing else.
    changes = {**using(wanted.testnet, wanted.keep), f"experiment:{NAME}": {"interval": "366 d"}}
    if path is None:
        config = parse_config("", default_path(), changes, NAME)
    else:
        config = load_config(path, changes, NAME)
        work_as_owner(config)
    network = wanted.network or config.network
    tors = ["default"] if network == "socks" else [tor.name for tor in config.tors]
    names = [*tors, *(client.name for client in config.clients)]
    if wanted.tor not in names:
        raise ConfigError([f"{config.path}: no tor is named {wanted.tor!r}; there is {', '.join(names)}"])
    directory = config.directory / "proxy"
    return attrs.evolve(
        config,
        network=network,
        directory=directory,
        testnet=private_network(config, wanted.testnet, directory),
        experiments=(attrs.evolve(config.experiments[0], tors=(wanted.tor,)),),
        comparisons=(),
        tors=config.tors if network != "socks" else (),
        server=attrs.evolve(config.server, listen=FREE_PORT, public_address=FREE_PORT, page_ports=()),
    )
