"""``TorService`` and ``TestnetService`` with real tor processes: what no fake can promise."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.protocols.policies import WrappingFactory
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from perfd.tor.launch import TorOptions, TorService
from perfd.tor.processes import command_line, find_processes
from perfd.tor.relays import CLIENT_OPTIONS, free_ports

pytestmark = pytest.mark.tor

SIZE = 51200


@attrs.frozen
class FixedNetwork:
    """A network that is ready always; a tor uses it with ``client_options``."""

    client_options: Sequence[str]
    not_ready: str | None = None

    async def when_ready(self) -> None:
        """Return at once."""


def closed_network() -> FixedNetwork:
    """A network whose only authority is not there, so that nobody ever bootstraps."""
    or_port, dir_port = free_ports(2)
    authority = f"DirAuthority nobody orport={or_port} v3ident={'A' * 40} 127.0.0.1:{dir_port} {'B' * 40}"
    return FixedNetwork((*CLIENT_OPTIONS, authority))


class Page(Resource):
    """Bytes to fetch."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return bytes(SIZE)


class TorTestCase(TestCase):
    """A directory for tor's data, and services that are stopped at the end."""

    timeout = 90

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="perfd-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def service(self, network: Any, **options: Any) -> TorService:
        """A started service."""
        options = {
            "name": "default",
            "data_directory": self.directory / "tor",
            "bootstrap_timeout": 60.0,
            **options,
        }
        service = TorService(reactor, TorOptions(**options), network)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for a true value of ``condition`` and return it; the test's timeout ends it."""
        while not (value := condition()):
            await deferLater(reactor, 0.02)
        return value

    def ended(self, service: TorService) -> Callable[[], str | None]:
        """A condition: the reason why the service's tor is to be tried again."""
        return lambda: service.not_ready if "next try" in (service.not_ready or "") else None

    def tors(self) -> list[int]:
        """The tor processes in this test's data directory."""
        return find_processes([self.directory / "tor" / "torrc"])


class OnTheNetwork(TorTestCase):
    """On the private network of this test run."""

    network: FixedNetwork

    @pytest.fixture(autouse=True)
    def _use_testnet(self, testnet: Any) -> None:
        self.network = FixedNetwork(testnet.client_options)

    async def fetch(self, service: TorService) -> str:
        """Fetch a page of this process with curl through tor; return the size of what came."""
        site = WrappingFactory(Site(Page()))
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        try:
            socks = service.socks_endpoint()
            argv = ["-sS", "-o", "/dev/null", "-w", "%{size_download}", "--max-time", "60"]
            argv += ["--socks5-hostname", f"{socks._host}:{socks._port}"]
            argv += [f"http://127.0.0.1:{port.getHost().port}/"]
            output, errors, code = await getProcessOutputAndValue(shutil.which("curl"), argv, env=os.environ)
        finally:
            await port.stopListening()
            await self.until(lambda: not site.protocols)  # the exit has closed its connection
        self.assertEqual((code, errors), (0, b""))
        return output.decode()

    async def test_measures_and_stops(self) -> None:
        """A tor bootstraps, data comes through its SOCKS port, and after the stop there is no process."""
        service = self.service(self.network)
        await service.when_ready()
        self.assertIsNone(service.not_ready)
        self.assertRegex(service.version or "", r"^0\.4\.\d+\.\d+")
        self.assertEqual(await self.fetch(service), str(SIZE))
        self.assertEqual(len(self.tors()), 1)
        await service.stopService()
        self.assertEqual(self.tors(), [])
        self.assertEqual(service.not_ready, "tor default was stopped")

    async def test_killed_tor_comes_back(self) -> None:
        """After a kill -9 the reason is said, and another tor is launched that works."""
        service = self.service(self.network)
        await service.when_ready()
        (before,) = self.tors()
        os.kill(before, signal.SIGKILL)
        self.assertEqual(
            await self.until(self.ended(service)), "tor default stopped: killed by SIGKILL; next try in 1 s"
        )
        await service.when_ready()
        (after,) = self.tors()
        self.assertNotEqual(before, after)
        self.assertEqual(await self.fetch(service), str(SIZE))

    async def test_attaches(self) -> None:
        """A running tor is used and outlives who attached to it; its end is noticed, its return too."""
        owner = self.service(self.network)
        await owner.when_ready()
        (running,) = self.tors()
        attached = self.service(None, name="attached", control=str(self.directory / "tor" / "control.socket"))
        await attached.when_ready()
        self.assertEqual(attached.version, owner.version)
        self.assertEqual(await self.fetch(attached), str(SIZE))
        await attached.stopService()
        self.assertEqual(self.tors(), [running])
        attached.startService()
        await attached.when_ready()
        os.kill(running, signal.SIGKILL)
        self.assertIn("closed its control connection", await self.until(self.ended(attached)))
        await owner.when_ready()
        await attached.when_ready()

    async def test_data_directory_of_any_name(self) -> None:
        """Spaces, quotes, number signs and other letters in its path, and a path too long for a UNIX socket."""
        for name in ('a "b" #c \\ ü', "x" * 120):
            service = self.service(self.network, data_directory=self.directory / name)
            await service.when_ready()
            await service.stopService()


class WithoutNetwork(TorTestCase):
    """Where there is nothing to bootstrap from."""

    async def test_unknown_option(self) -> None:
        """An option that tor does not know is named in the reason."""
        service = self.service(closed_network(), torrc="NoSuchOption 1")
        reason = await self.until(self.ended(service))
        self.assertIn("stopped: exit code 1: ", reason)
        self.assertIn("NoSuchOption", reason)
        self.assertEqual(self.tors(), [])

    async def test_never_bootstraps(self) -> None:
        """At the deadline the reason says how far tor came and what it said last; that tor is ended."""
        service = self.service(closed_network(), bootstrap_timeout=3.0)
        reason = await self.until(self.ended(service))
        self.assertRegex(
            reason, r"^tor default did not bootstrap within 3 s: \d+ % \(\w+\): .*last message: .+; next"
        )
        self.assertEqual(self.tors(), [])

    async def test_exits_at_once(self) -> None:
        """A program that ends at once is no tor; what it said is the reason."""
        program = self.directory / "not-tor"
        program.write_text("#!/bin/sh\necho 'cannot work here' >&2\nexit 3\n")
        program.chmod(0o755)
        service = self.service(closed_network(), binary=str(program))
        self.assertEqual(
            await self.until(self.ended(service)),
            "tor default stopped: exit code 3: cannot work here; next try in 1 s",
        )

    async def test_not_executable(self) -> None:
        """A tor that is missing, or no program, is named."""
        plain = self.directory / "plain"
        plain.write_text("")
        for binary, complaint in ((plain, "cannot be executed"), (self.directory / "none", "was not found")):
            service = self.service(closed_network(), binary=str(binary))
            self.assertIn(complaint, await self.until(self.ended(service)))


TOR_OWNER = """
import sys
from pathlib import Path
from twisted.internet import reactor
from perfd.tor.launch import TorOptions, TorService
from tests.test_tor_real import closed_network
directory = Path(sys.argv[1])
service = TorService(reactor, TorOptions(name="default", data_directory=directory), closed_network())
service.subscribe(lambda protocol: (directory / "connected").touch())
reactor.callWhenRunning(service.startService)
reactor.run()
"""

NETWORK_OWNER = """
import os, sys
from pathlib import Path
from twisted.internet import reactor
from perfd.tor.testnet import Testnet
from perfd.tor.testnet_service import TestnetService
testnet = Testnet(Path(sys.argv[1]), authorities=1, exits=1, owner=os.getpid())
reactor.callWhenRunning(TestnetService(reactor, testnet).startService)
reactor.run()
"""


class Orphans(TorTestCase):
    """A Perfd that is killed cannot clean up; its tors must end by themselves."""

    @contextlib.contextmanager
    def child(self, program: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A process that owns tors in ``directory``."""
        with subprocess.Popen(
            [sys.executable, "-c", program, str(directory)],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    async def test_no_orphans(self) -> None:
        """Killed before or after it has a control connection, or with a private network: no tor is left."""
        early, late, network = self.directory / "early", self.directory / "late", self.directory / "network"
        with self.child(TOR_OWNER, early) as child:
            orphans = await self.until(lambda: find_processes([early / "torrc"]))
            child.kill()
        with self.child(TOR_OWNER, late) as child:
            await self.until((late / "connected").exists)
            orphans += find_processes([late / "torrc"])
            child.kill()
        torrcs = [network / name / "torrc" for name in ("auth1", "exit1")]
        with self.child(NETWORK_OWNER, network) as child:
            await self.until(lambda: all((path.parent / "tor.pid").exists() for path in torrcs))
            orphans += find_processes(torrcs)
            child.kill()
        self.assertEqual(len(orphans), 4)
        try:
            await self.until(lambda: not any(map(command_line, orphans)))
        finally:
            for pid in filter(command_line, orphans):
                os.kill(pid, signal.SIGKILL)
