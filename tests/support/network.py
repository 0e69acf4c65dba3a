"""A real tor on the private network whose events are heard."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase
from twisted.web.server import Site
from twisted.web.static import Data

from perfd.clock import Clock, Timeline
from perfd.processes.programs import find_processes
from perfd.tor.events.join import Joined, error_fields, tor_fields
from perfd.tor.events.listener import ControlEvents
from perfd.tor.guards.keeper import GuardPolicy, Guards
from perfd.tor.launch import TorOptions, TorService
from tests.support.instance import free_port
from tests.support.tor_recording import MemoryEventSink

SIZE = 300 * 1024


@attrs.frozen
class RunningNetwork:
    """The private network of this test run, for a tor."""

    client_options: Sequence[str]
    not_ready: str | None = None
    trouble: str | None = None

    async def when_ready(self) -> None:
        """It is already."""


class StampedLock(DeferredLock):
    """A tor's turn that knows when (wall clock) it was asked for."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.asked: list[float] = []

    def acquire(self) -> Deferred[Any]:
        self.asked.append(self._clock.wall())
        return super().acquire()


class RealCase(TestCase):
    """Real programs: each test has a directory of its own for what they write."""

    timeout = 240

    def setUp(self) -> None:
        # Without symbolic links, and short: the path of a control socket may have no more than 107 characters.
        self.directory = Path(tempfile.mkdtemp(prefix="perfd-")).resolve()
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)


class NetworkCase(RealCase):
    """The private network of this test run, and the fingerprints of its relays."""

    network: RunningNetwork
    testnet: Path
    fingerprints: list[str]

    @pytest.fixture(autouse=True)
    def _use_testnet(self, testnet: Any) -> None:
        self.testnet = Path(testnet.directory)
        self.network = RunningNetwork(testnet.client_options)
        files = sorted(file for file in self.testnet.glob("*/fingerprint") if "bridge" not in file.parent.name)
        self.fingerprints = [file.read_text(encoding="ascii").split()[1] for file in files]


class WithEvents(NetworkCase):
    """A tor on the private network whose events are heard, and a web server for it to fetch from."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.turn = StampedLock(self.clock)
        self.sink = MemoryEventSink()
        self.events = self.hear()
        self.server = self.serve(SIZE)

    def serve(self, size: int) -> str:
        """The URL of so many bytes."""
        data = Data(bytes(size), "application/octet-stream")
        data.isLeaf = True
        port = reactor.listenTCP(0, Site(data), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"http://127.0.0.1:{port.getHost().port}/"

    def hear(self) -> ControlEvents:
        directory = self.directory / "tor"
        return ControlEvents(
            reactor, self.clock, source="here", tor="default", sink=self.sink, directory=lambda: directory
        )

    def tor(self, *guards: Guards, torrc: str = "MaxCircuitDirtiness 60 seconds") -> TorService:
        """A tor that was told to start; ``guards`` look after its guards."""
        directory = self.directory / "tor"
        options = TorOptions(name="default", data_directory=directory, torrc=torrc, bootstrap_timeout=120.0)
        service = TorService(reactor, options, self.network)
        service.subscribe(self.events.connected, self.events.disconnected)
        for each in guards:
            service.subscribe(each.connected, each.disconnected)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def tors(self) -> list[int]:
        """The tor processes in this test's data directory."""
        return find_processes([self.directory / "tor" / "torrc"])

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until ``condition`` holds; the test's timeout ends it."""
        while not condition():
            await deferLater(reactor, 0.02)

    def guards(self, policy: str, drop_every: float | None = None, restore: bool = False) -> Guards:
        return Guards(
            reactor,
            GuardPolicy.parse(policy),
            tor="default",
            clock=self.clock,
            turn=self.turn,
            drop_every=drop_every,
            restore=restore,
        )

    async def fetch(self, service: TorService, user: str, url: str = "", wait: float = 2.0) -> tuple[int, Joined]:
        """curl through tor, from a port known beforehand: its exit code, and what tor told about it."""
        port = free_port()
        timeline = Timeline(self.clock)
        join = self.events.join(("127.0.0.1", port), timeline.now(), user)
        socks = service.socks_port().endpoint.free
        argv = ["-sS", "--fail", "-o", "/dev/null", "--max-time", "30", "--local-port", str(port)]
        argv += ["--socks5-hostname", f"{user}:perfd@{socks._host}:{socks._port}", url or self.server]
        _output, _errors, code = await getProcessOutputAndValue(shutil.which("curl"), argv, env=os.environ)
        return code, await self.events.finish(join, timeline.anchor, wait)

    async def fields(self, service: TorService, user: str) -> dict[str, Any]:
        """The fields of a fetch that succeeded; the private network has moments in which tor sees no exit."""
        code, joined = await self.fetch(service, user)
        for _ in range(40):
            if (code, error_fields(joined)) == (0, None):
                break
            await deferLater(reactor, 2.0)
            code, joined = await self.fetch(service, user)
        self.assertEqual((code, error_fields(joined)), (0, None))
        (stream,) = [stream for stream in self.sink.streams if stream.id == joined.stream.id]
        self.assertEqual(stream.measurement, user)
        return tor_fields(joined)
