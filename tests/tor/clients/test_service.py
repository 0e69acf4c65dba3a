"""``ClientService``: launched programs that become ready, end, hang or lie, over real sockets and processes."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from perfd.clock import Clock, Timeline
from perfd.config import parse_config
from perfd.config.records import ClientConfig
from perfd.socks import Hooks, LoginAuthenticationFailed, ServerFailure, diagnosis
from perfd.tor.clients import service
from perfd.tor.clients.service import ClientService
from perfd.tor.embedded import EmbeddedSocks
from perfd.web.site import make_site
from perfd.web.stamps import ServerStamps
from perfd.web.targets.random import random_resources
from tests.support import fake_arti
from tests.support.instance import free_port, processes_in

reactor: Any = global_reactor
FAKE = f"{shlex.quote(sys.executable)} {shlex.quote(fake_arti.__file__)}"


@attrs.frozen
class Place:
    """Where our server is."""

    port: int
    host: str = "127.0.0.1"


class SpeaksFirst(Protocol):
    """Says something as soon as it may."""

    def __init__(self) -> None:
        self.lost: Deferred[Exception] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(reason.value)  # type: ignore[arg-type]


class ClientServiceTests(TestCase):
    """Each with a server that has a byte to fetch."""

    timeout = 60

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        stamps = ServerStamps(Clock().monotonic)
        site = make_site(random_resources(1024), reactor=reactor, stamps=stamps)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.server = Place(port.getHost().port)
        self.patch(service, "PAUSE", 0.05)

    def config(self, text: str) -> ClientConfig:
        (client,) = parse_config(f"[client:it]\n{text}\n", self.directory / "perfd.conf").clients
        return client

    def start(self, text: str, server: Place | None = None) -> ClientService:
        """Started, and stopped at the end."""
        servers = {"public": server or self.server}
        client = ClientService(reactor, self.config(text), servers, self.directory / "data")
        client.startService()
        self.addCleanup(client.stopService)
        return client

    async def until(self, client: ClientService, words: str) -> str:
        """What is said of it once that has ``words``."""
        while words not in (said := f"{client.not_ready} / {client.trouble}"):
            await deferLater(reactor, 0.02)
        return said

    async def socks(self) -> int:
        """A SOCKS server of our own."""
        socks = EmbeddedSocks(reactor, "socks")
        socks.startService()
        self.addCleanup(socks.stopService)
        return int(socks.socks_port().endpoint._port)  # type: ignore[attr-defined]

    async def test_somebody_elses(self) -> None:
        """It is ready when a byte came through it, and has no version that nobody told."""
        client = self.start(f"socks = socks5://127.0.0.1:{await self.socks()}")
        stopped = ClientService(reactor, client._config, {"public": self.server}, self.directory)
        self.assertRaises(RuntimeError, stopped.socks_port)
        await client.when_ready()
        self.assertEqual((client.version, client.trouble, client.socks_port().is_tors), (None, None, False))

    async def test_nothing_there(self) -> None:
        """Who lets no byte through within the time is told, with what the SOCKS client says, and tried again."""
        client = self.start(f"socks = socks5://127.0.0.1:{free_port()}\nbootstrap-timeout = 1 s")
        self.assertIn("refused", (await self.until(client, "is starting: ")).lower())
        self.assertIn("let no byte through within 1 s", await self.until(client, "let no byte"))
        self.assertIsNotNone(client.not_ready)

    async def test_no_server(self) -> None:
        """A proxy that works towards a server that does not answer is no better."""
        await self.until(
            self.start(
                f"socks = socks5://127.0.0.1:{await self.socks()}\nbootstrap-timeout = 1 s", Place(free_port())
            ),
            "let no byte through within 1 s",
        )

    async def test_ends_at_once(self) -> None:
        """A program that ends is told with its exit code; one that does not exist with its name."""
        port = free_port()
        client = self.start(f"socks = 127.0.0.1:{port}\ncommand = sh -c 'echo no licence; exit 7'")
        self.assertIn("7", await self.until(client, "stopped"))
        absent = self.start(f"socks = 127.0.0.1:{port}\ncommand = ./absent")
        self.assertIn(f"{self.directory}/absent", await self.until(absent, "cannot be launched"))

    async def test_hangs(self) -> None:
        """One that listens nowhere, and ignores SIGTERM, is ended with all that it started."""
        program = self.directory / "hangs.sh"
        program.write_text("trap '' TERM\nsleep 1000 &\necho half way\nwhile :; do sleep 0.1; done\n")
        client = self.start(f"socks = 127.0.0.1:{free_port()}\nbootstrap-timeout = 1 s\ncommand = sh {program}")
        self.assertIn("half way", await self.until(client, "let no byte"))
        await client.stopService()
        self.assertEqual(processes_in(program), [])
        self.assertIn("stopped", client.not_ready or "")

    async def test_hangs_later(self) -> None:
        """One that was ready, and takes connections without a word, is ended and launched anew."""
        self.patch(service, "LOOK", 0.2)
        self.patch(diagnosis, "PROBE_TIMEOUT", 0.5)
        port = free_port()
        twistd = Path(sys.executable).with_name("twistd")
        command = f"{twistd} -n --pidfile= --rundir={self.directory} -l- socks --port {port} --interface 127.0.0.1"
        client = self.start(f"socks = socks4://127.0.0.1:{port}\ncommand = {command}")
        await client.when_ready()
        (pid,) = self.programs()
        os.kill(pid, signal.SIGSTOP)
        self.assertIn("SOCKS port any more; next try", await self.until(client, "does not answer on its"))
        await client.when_ready()
        self.assertNotIn(pid, self.programs())

    def programs(self) -> list[int]:
        """The servers, without what ends them with us, whose command line has theirs."""
        found = processes_in(Path(f"--rundir={self.directory}"))
        return [pid for pid in found if b"bound" not in Path(f"/proc/{pid}/cmdline").read_bytes()]

    async def test_version(self) -> None:
        """The first number with a dot in what the command writes; nothing holds the client up."""
        port = await self.socks()
        for command, version in (
            ("echo 'thing 3.1.4-rc2 (abc)'", "3.1.4-rc2"),
            ("echo none", None),
            ("sh -c 'echo 1.2; exit 1'", None),
            ("./absent --version", None),
        ):
            client = self.start(f"socks = 127.0.0.1:{port}\nversion-command = {command}")
            await client.when_ready()
            self.assertEqual(client.version, version, command)

    async def test_arti(self) -> None:
        """Ours is told where to keep its files, and says where it listens; no Arti goes to loopback unasked."""
        client = self.start(
            f"kind = arti\ncommand = {FAKE}\nversion-command = {FAKE} --version\nbootstrap-timeout = 2 s"
        )
        self.assertIn("the SOCKS port works", await self.until(client, "let no byte"))
        self.assertEqual(client.version, "2.5.1")

    async def test_strict_arti(self) -> None:
        """What Arti refuses, and we must never do: data before the reply, user names that begin its own way."""
        data = self.directory / "data"
        client = ClientService(
            reactor, self.config(f"kind = arti\ncommand = {FAKE}"), {"public": self.server}, data
        )
        client.startService()
        self.addCleanup(client.stopService)
        while (port := client._find_port()) is None:
            await deferLater(reactor, 0.02)
        (data / "arti.toml").read_text().index("disused_circuit_timeout")
        far = ("192.0.2.1", 9)
        refused = port.through(*far, ("<torS0X>0", "a"), Hooks(Timeline(Clock())))
        self.assertIsInstance(await self.failure(refused), LoginAuthenticationFailed)
        early = port.through(*far, ("a", "a"), Hooks(Timeline(Clock())), optimistic=True)
        self.assertIsInstance(await self.failure(early), ServerFailure)

    async def failure(self, endpoint: IStreamClientEndpoint) -> Exception:
        """Why no connection came of it, to a protocol that speaks first."""
        factory = Factory.forProtocol(SpeaksFirst)
        try:
            protocol = await endpoint.connect(factory)
        except Exception as error:  # noqa: BLE001 - it is what is asked for
            return error
        assert isinstance(protocol, SpeaksFirst)
        return await protocol.lost
