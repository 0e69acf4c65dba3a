"""A tor for the tests of experiments: what its connections give, and what it tells, is the test's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock as FakeReactor
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from perfd.clock import Clock, Phase, Timeline
from perfd.config import parse_config
from perfd.daemon.sinks import MemorySink
from perfd.experiments.run import Setup, TorExperiment
from perfd.experiments.target import Targets
from perfd.experiments.types import make_experiment
from perfd.experiments.ways import NoWay, elsewhere
from perfd.record import Attach, Curve, Measurement, Stream
from perfd.tor.events.join import Joined
from perfd.web.stamps import ServerStamps

WALL = 1_700_000_000.0
"""The time at which the tests' clocks begin; their monotonic clocks begin at 0."""

STEPS = (Phase.SOCKET, Phase.CONNECT, Phase.NEGOTIATE, Phase.REQUEST, Phase.RESPONSE)


class Transport(StringTransport):
    """A connection in memory that knows how it was closed."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


@implementer(IStreamClientEndpoint)
class Connection:
    """One connection through the tor; it is there when ``open`` is called."""

    events: Events

    def __init__(
        self, number: int, user: str, timeline: Timeline, connected: Callable[[Any], None], *, optimistic: bool
    ) -> None:
        self.user = user
        self.optimistic = optimistic
        self.cancelled = False
        local = IPv4Address("TCP", "127.0.0.1", 40000 + number)
        self.transport = Transport(local, IPv4Address("TCP", "127.0.0.1", 9050))
        self.protocol: Any = None
        self._timeline = timeline
        self._connected = connected
        self.place: tuple[str, int] | None = None  # where it leads
        self._connecting: Deferred[Any] = Deferred(self._cancel)

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        self._factory: Any = factory
        return self._connecting

    def _cancel(self, _: object) -> None:
        self.cancelled = True

    def open(self) -> None:
        for step in STEPS:
            self._timeline.mark(step)
        self._connected(self.transport.hostAddr)
        self.protocol = self._factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self._connecting.callback(self.protocol)

    def refuse(self, reason: Exception) -> None:
        self._connecting.errback(reason)

    def receive(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def respond(self, size: int) -> None:
        """The whole response to a download of ``size`` bytes."""
        self.respond_with(bytes(size))

    def respond_with(self, payload: bytes) -> None:
        """The whole response with a payload."""
        self.receive(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(payload) + payload)

    def lose(self, reason: Exception | None = None) -> None:
        self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    @property
    def measurement(self) -> str:
        """The id by which it was joined to tor's stream."""
        return self.events.joined[self.transport.hostAddr.port]

    @property
    def token(self) -> str:
        """The id that the server was told."""
        lines: list[str] = self.transport.value().decode().split("\r\n")
        return next(line.partition(": ")[2] for line in lines if line.startswith("X-Perfd-Measurement"))


class Events:
    """Tor's control events: ``told`` has what they say of a measurement, by its id."""

    def __init__(self) -> None:
        self.cbt_set: bool | None = True
        self.told: dict[str, Joined] = {}
        self.joined: dict[int, str] = {}  # measurements, by the local port
        self.waits: list[float | None] = []
        self.forgetting: Deferred[bool] | None = None  # None: at once, and it works
        self.finishing: list[Deferred[None]] | None = None  # None: tor's last words come at once
        self.stops: list[str] = []

    def join(self, local: tuple[str, int], since: float, measurement: str) -> str:
        self.joined[local[1]] = measurement
        return measurement

    def forget(self, join: str) -> None:
        assert join in self.joined.values()

    async def finish(self, join: str, anchor: Any, wait: float | None = None) -> Joined:
        assert join in self.joined.values()
        self.waits.append(wait)
        if self.finishing is not None and wait != 0:
            self.finishing.append(waiting := Deferred())
            await waiting
        return self.told.get(join, Joined())

    async def forget_descriptors(self) -> bool:
        return True if self.forgetting is None else await self.forgetting

    def tell(self, measurement: str, *attaches: Attach, new: float = WALL, **changes: Any) -> None:
        """The stream of ``measurement`` was attached so."""
        values: dict[str, Any] = {"id": "s-s1", "source": "test", "tor": "default", "stream_id": 7, **changes}
        stream = Stream(**values, new=new, end=WALL + 99, status="CLOSED", attaches=attaches)
        self.told[measurement] = Joined(stream=stream)


class ScriptedTor:
    """Takes the place of a ``MeasuredTor``."""

    def __init__(self) -> None:
        self.name = "default"
        self.version = "0.4.9.11"
        self.transport = None
        self.guards = None
        self.keys: dict[str, str] = {}
        self.not_ready: str | None = None
        self.is_lost = False  # there is no way through it any more
        self.events = Events()
        self.turn = DeferredLock()
        self.connections: list[Connection] = []

    def endpoint(
        self, host: str, port: int, user: str, *, timeline: Timeline, connected: Any, optimistic: bool
    ) -> Connection | NoWay:
        if self.is_lost:
            return NoWay(self.not_ready or "tor default was lost")
        connection = Connection(len(self.connections), user, timeline, connected, optimistic=optimistic)
        connection.events = self.events
        connection.place = (host, port)
        self.connections.append(connection)
        return connection


@attrs.define
class Server:
    """The way to our server."""

    name: str = "public"
    not_ready: str | None = None
    host: str = "192.0.2.1"
    port: int = 8080


class ScriptedHoldUps:
    """Hold-ups of a second each at the ``moments``; nothing is known where nobody watched."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self._watching = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._watching += 1
        yield
        self._watching -= 1

    def between(self, since: float, until: float) -> float:
        assert self._watching
        return float(sum(since <= moment <= until for moment in self.moments))


class Bench:
    """What an experiment works with, all of it in memory."""

    def __init__(self) -> None:
        self.reactor = FakeReactor()
        self.clock = Clock(wall=lambda: WALL + self.reactor.seconds(), monotonic=self.reactor.seconds)
        self.tor = ScriptedTor()
        self.server = Server()
        self.stamps = ServerStamps(self.reactor.seconds)
        self.parts = MemorySink()
        self.curves: list[Curve] = []
        self.hold_ups = ScriptedHoldUps()
        self.targets = Targets(self.reactor, self.clock)

    def setup(self, **changes: Any) -> Setup:
        values: dict[str, Any] = {
            "name": "x",
            "type": "download",
            "source": "test",
            "network": "tor",
            "source_address": "192.0.2.1",
            "server": self.server,
            "size": 1000,
            "timeout": 60.0,
            "tor": self.tor,
            "stamps": self.stamps,
            "clock": self.clock,
            "reactor": self.reactor,
            "hold_ups": self.hold_ups,
            "record_curve": self.curves.append,
        }
        return Setup(**{**values, **changes})

    def experiment(self, options: str, **changes: Any) -> TorExperiment:
        """The experiment that perfd.conf would give with ``options``."""
        text = f"[perfd]\nnetwork = socks\n[experiment:x]\n{options}"
        (config,) = parse_config(text, Path("perfd.conf")).experiments
        values: dict[str, Any] = {"type": config.type, "size": config.size, "timeout": config.timeout}
        for way in elsewhere(config):
            values |= {"server": way, "target": self.targets.target(way, "me@example.org")}
        return make_experiment(config, self.setup(**{**values, **changes}))

    def run(self, experiment: Any, slot: float | None = None) -> Deferred[Measurement]:
        """The last record of a run; the others are, as they come, in ``parts``."""
        return Deferred.fromCoroutine(self._run(experiment, slot))

    async def _run(self, experiment: Any, slot: float | None) -> Measurement:
        await experiment.run(slot, self.parts.record)
        return self.parts.measurements.pop()
