"""``TorService`` and the private network with real tor processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from perfd.config.testnet import TestnetConfig
from perfd.processes.programs import command_line, find_processes, find_program, run_program
from perfd.tor.launch import TorOptions, TorService
from perfd.tor.testnet.network import Testnet, network_status
from perfd.tor.testnet.relays import State, TestnetError
from tests.conftest import TestnetFixture
from tests.support.instance import TestInstance, free_port, is_alive, wait_for
from tests.support.network import RealCase
from tests.support.places import CHECKOUT

pytestmark = pytest.mark.tor

BODY = b"x" * 51200

INSTANCE = """
[perfd]
source = test
network = testnet
testnet = network
[server]
listen = 127.0.0.1:{port}
[experiment:small]
size = 50 KiB
interval = 60 s
timeout = 30 s
"""

# A daemon in small: argv is the kind, a directory, and the torrc lines.
DAEMON = """
import os, sys
from pathlib import Path
from twisted.internet import reactor
from perfd.config.testnet import TestnetConfig
from perfd.tor.launch import TorOptions, TorService
from perfd.tor.testnet.network import Testnet
from perfd.tor.testnet.service import TestnetService
kind, directory, torrc = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
if kind == "tor":
    service = TorService(reactor, TorOptions(name="default", data_directory=directory, torrc=torrc))
else:
    service = TestnetService(reactor, Testnet(directory, config=TestnetConfig(relays=2), owner=os.getpid))
service.startService()
reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
reactor.run()
"""


class Page(Protocol):
    """An HTTP server with one page, which closes after it."""

    transport: Any

    def __init__(self) -> None:
        self._request = b""

    def dataReceived(self, data: bytes) -> None:
        self._request += data
        if self._request.endswith(b"\r\n\r\n"):
            self.transport.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
            self.transport.loseConnection()


async def until(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    """Return when ``condition`` holds; fail if it does not for so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await deferLater(reactor, 0.05)


class DaemonCase(RealCase):
    """Services in processes of their own, which end with the test."""

    def daemon(self, kind: str, directory: Path, torrc: str = "") -> subprocess.Popen[bytes]:
        """A process that runs a service."""
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        process = subprocess.Popen([sys.executable, "-c", DAEMON, kind, str(directory), torrc], env=environment)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process


@pytest.mark.usefixtures("with_testnet")
class TorTests(DaemonCase):
    """Tor on the private network of the test run."""

    testnet: TestnetFixture

    def service(self, name: str = "default", torrc: str | None = None, **options: Any) -> TorService:
        lines = "\n".join(self.testnet.client_options) if torrc is None else torrc
        given = TorOptions(name=name, data_directory=self.directory / name, torrc=lines, **options)
        service = TorService(reactor, given)
        self.addCleanup(service.stopService)
        return service

    def processes(self, name: str = "default") -> list[int]:
        return find_processes([self.directory / name / "torrc"])

    async def fetch(self, service: TorService) -> None:
        """Fetch our page through the service's SOCKS port with curl."""
        port = reactor.listenTCP(0, Factory.forProtocol(Page), interface="127.0.0.1")  # type: ignore[attr-defined]
        try:
            host, socks = service._socks or ("", 0)
            url = f"http://127.0.0.1:{port.getHost().port}/"
            argv = [find_program("curl"), "-sS", "-o", str(self.directory / "page"), "--max-time", "60"]
            for number in range(20):  # the private network has moments in which tor sees no exit
                user = f"user{number}:b"
                finished = await run_program(reactor, [*argv, "--socks5-hostname", f"{user}@{host}:{socks}", url])
                if finished.code == 0:
                    break
                await deferLater(reactor, 2.0)
        finally:
            await port.stopListening()
        self.assertEqual((finished.code, finished.output), (0, ""))
        self.assertEqual((self.directory / "page").read_bytes(), BODY)

    async def test_life(self) -> None:
        """Bootstrap and fetch; kill -9 and fetch again; stop, and nothing is left."""
        service = self.service()
        happened: list[str] = []

        async def connected(protocol: Any) -> None:
            happened.append(await protocol.get_info_single("version"))

        service.subscribe(connected, lambda: happened.append("disconnected"))
        service.startService()
        await service.when_ready()
        self.assertRegex(service.version or "", r"^\d+\.\d+\.\d+\.\d+")
        await self.fetch(service)
        (pid,) = self.processes()
        self.assertEqual((self.directory / "default").stat().st_mode & 0o777, 0o700)

        os.kill(pid, signal.SIGKILL)
        await until(lambda: service.not_ready is not None)
        await service.when_ready()
        self.assertNotEqual(self.processes(), [pid])
        await self.fetch(service)
        self.assertEqual([event == "disconnected" for event in happened], [False, True, False])

        await service.stopService()
        self.assertEqual(self.processes(), [])

    async def test_deep_directory(self) -> None:
        """A path too long for a socket, with a space, a quote, a letter beyond ASCII, and bytes of no text."""
        name = os.fsdecode('ä "b" #'.encode() + b"\xff\xe4" + b"c" * 98)
        service = self.service(name)
        service.startService()
        await service.when_ready()
        await service.stopService()
        self.assertEqual(self.processes(name), [])

    async def test_attach(self) -> None:
        """A running tor is used over its control socket and port, left alone, and found again after it was away."""
        control = free_port()
        options = [*self.testnet.client_options, f"ControlPort 127.0.0.1:{control}"]
        host = self.service("host", "\n".join(options))
        host.startService()
        await host.when_ready()
        over_tcp = self.service("tcp", control=f"127.0.0.1:{control}")
        over_socket = self.service("socket", control=str(self.directory / "host" / "control.socket"))
        for attached in (over_tcp, over_socket):
            attached.startService()
            await attached.when_ready()
            self.assertEqual(attached.version, host.version)
        assert over_tcp.protocol is not None
        self.assertTrue(over_tcp.protocol.transport.getTcpKeepAlive())
        await self.fetch(over_tcp)
        await over_tcp.stopService()
        self.assertIsNone(host.not_ready)

        os.kill(self.processes("host")[0], signal.SIGKILL)
        await until(lambda: over_socket.not_ready is not None)
        await over_socket.when_ready()
        await self.fetch(over_socket)

    async def test_bad_option(self) -> None:
        """A tor that ends at once: its exit code and its complaint."""
        service = self.service(torrc="Frobnicate 1")
        service.startService()
        await until(lambda: "next try" in (service.not_ready or ""))
        self.assertEqual(
            service.not_ready,
            "tor default stopped: exit code 1: Failed to parse/validate config: Unknown option 'Frobnicate'.  "
            "Failing.; next try in 1 s",
        )

    async def test_never_bootstraps(self) -> None:
        """A network that does not answer: where tor stood at the deadline, and what it said; then it is ended."""
        line = f"DirAuthority a orport={free_port()} v3ident={'A' * 40} 127.0.0.1:{free_port()} {'B' * 40}"
        service = self.service(torrc=f"TestingTorNetwork 1\n{line}", bootstrap_timeout=4.0)
        service.startService()
        await until(lambda: "next try" in (service.not_ready or ""))
        self.assertRegex(
            service.not_ready or "",
            r"^tor default did not bootstrap within 4 s: \d+ % \(\w+\): .*; its last message: .*; next try in 1 s$",
        )
        self.assertEqual(self.processes(), [])

    async def test_two_in_one_directory(self) -> None:
        """A second Perfd does not end the tor of one that lives; one that was killed leaves none."""
        directory = self.directory / "default"
        daemon = self.daemon("tor", directory, "\n".join(self.testnet.client_options))
        await until(self.processes)
        service = self.service()
        service.startService()
        await until(lambda: "next try" in (service.not_ready or ""))
        self.assertRegex(
            service.not_ready or "", f"^tor default cannot be launched: process {daemon.pid} runs a tor in "
        )
        await until((directory / "control_auth_cookie").exists)
        (orphan,) = self.processes()
        daemon.kill()
        await until(lambda: not command_line(orphan))
        await service.when_ready()


class DaemonTests(DaemonCase):
    """What a daemon leaves behind."""

    @pytest.mark.long
    async def test_killed_testnet(self) -> None:
        """The relays of a daemon end with it, also after kill -9: tor looks every 15 seconds."""
        daemon = self.daemon("testnet", self.directory / "network")
        relays = [self.directory / "network" / name / "torrc" for name in ("auth1", "exit1")]
        await until(lambda: len(find_processes(relays)) == 2)
        await until(lambda: network_status(self.directory / "network").running)
        daemon.kill()
        daemon.wait()  # a zombie counts as living
        await until(lambda: not find_processes(relays))

    @pytest.mark.long
    async def test_terminated_testnet(self) -> None:
        """SIGTERM ends the relays before the daemon ends, in the middle of a start too."""
        daemon = self.daemon("testnet", self.directory / "network")
        relays = [self.directory / "network" / name / "torrc" for name in ("auth1", "exit1")]
        await until(lambda: find_processes(relays))
        daemon.terminate()
        await until(lambda: daemon.poll() is not None)
        self.assertEqual(find_processes(relays), [])


@pytest.mark.long
def test_daemonized_testnet(tmp_path: Path) -> None:
    """The relays belong to the daemon itself, not to the process that twistd forked it from, and end with it."""
    instance = TestInstance(tmp_path, INSTANCE)
    network = tmp_path / "network"
    try:
        instance.start()
        wait_for(lambda: network_status(network).running, "the relays")
        status = network_status(network)
        relays = status.state.relays if status.state is not None else ()
        lines = [command_line(pid) for pid in status.pids if pid is not None]
        owners = [line[line.index("--__OwningControllerProcess") + 1] for line in lines]
        assert is_alive(instance.pid)
        assert owners == [str(instance.pid)] * 6
        wait_for(lambda: network_status(network).ready, "a network that is ready")
    finally:
        stopped = instance.perfd("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert find_processes([relay.torrc for relay in relays]) == []


class NetworkTests(DaemonCase):
    """A private network of its own."""

    async def test_no_consensus(self) -> None:
        """A consensus that does not come in time: the error names a relay, its log and its last message."""
        network = Testnet(self.directory / "network", config=TestnetConfig(relays=2))
        with self.assertRaises(TestnetError) as raised:
            await network.start(reactor, deadline=1.0)
        self.assertRegex(
            str(raised.exception),
            r"^there was no consensus within 1 s; auth1 said last: .+ \(log: .*/auth1/tor.log\)$",
        )
        self.assertTrue(network.status().stopped)

    @pytest.mark.long
    async def test_restart(self) -> None:
        """Keys are kept; a port that is taken leads to new ones; a relay that ended is started again."""
        directory = self.directory / "network"
        network = Testnet(directory, config=TestnetConfig(relays=2))
        starting = Deferred.fromCoroutine(network.start(reactor))
        await until(lambda: network_status(directory).running)
        starting.cancel()
        await starting.addErrback(lambda _: None)
        before = network.status()
        self.assertTrue(before.stopped)
        first = before.state or State(())

        with_listener = reactor.listenTCP(  # type: ignore[attr-defined]
            first.relays[1].or_port, Factory.forProtocol(Page), interface="127.0.0.1"
        )
        self.addCleanup(with_listener.stopListening)
        steps: list[str] = []
        self.assertTrue(await network.start(reactor, progress=lambda *step: steps.append(step[2]), deadline=180))
        self.addCleanup(network.stop, reactor)
        second = network.status().state or State(())
        self.assertEqual(steps[-1], "all relays know each other")
        self.assertEqual(
            [line.split()[-1] for line in second.dir_authorities],
            [line.split()[-1] for line in first.dir_authorities],
        )
        self.assertNotIn(first.relays[1].or_port, [port for relay in second.relays for port in relay.ports])
        self.assertFalse(await network.start(reactor))

        exit1 = network.status().pids[1] or 0
        os.kill(exit1, signal.SIGKILL)
        await until(lambda: not command_line(exit1))
        self.assertRegex(await network.restart_dead_relay(reactor) or "", "^exit1 ended: ")
        self.assertTrue(network.status().running)
        self.assertTrue(await network.stop(reactor))
        self.assertTrue(network.status().stopped)
