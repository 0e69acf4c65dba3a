"""``TorService`` against a fake tor: launching, bootstrapping, losing, relaunching, attaching, stopping."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from perfd.clock import Clock
from perfd.tor.control import MOST_LINE, MOST_REPLY, Bootstrap, control_endpoint
from perfd.tor.launch import TorOptions, TorService
from perfd.tor.supervision import LONGEST_PAUSE, NotReadyError
from tests.support.fake_tor import FakeProcess, FakeReactor, FakeTor, bootstrap_phase, refuse

DONE = (100, "done", "Done")


class TorTestCase(SynchronousTestCase):
    """A directory, a reactor, and the log."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="perfd-test-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.reactor = FakeReactor()
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: dict[str, Any]) -> None:
        if event.get("log_format"):
            self.logged.append(event["log_format"].format(**event))

    def service(self, network: Any = None, **options: Any) -> TorService:
        """A service that is not started; the program for tor is one that exists everywhere."""
        given: dict[str, Any] = {
            "name": "default",
            "data_directory": self.directory / "tor",
            "binary": sys.executable,
            "bootstrap_timeout": 60.0,
            **options,
        }
        clock = Clock(wall=self.reactor.seconds, monotonic=self.reactor.seconds)
        service = TorService(self.reactor, TorOptions(**given), network, clock)
        self.addCleanup(self._stop, service)
        return service

    def stop(self, service: TorService) -> Deferred[None]:
        """Begin to stop the service."""
        stopping = service.stopService()
        self.reactor.settle()
        return stopping

    def _stop(self, service: TorService) -> None:
        stopping = self.stop(service)
        for process in self.reactor.processes:
            if not process.ended:
                process.end(0)
        self.reactor.settle()
        self.successResultOf(stopping)

    def start(self, service: TorService) -> FakeProcess:
        """Start the service; the tor that it launched."""
        service.startService()
        self.reactor.settle()
        return self.reactor.process

    def connect(self, **changed: Any) -> FakeTor:
        """Let the launched tor open its control port, and Perfd connect to it."""
        self.reactor.process.open_control()
        self.reactor.advance(0.06)
        tor = FakeTor(self.reactor, **changed)
        tor.accept()
        return tor

    def ready(self, service: TorService) -> FakeTor:
        """Start the service and lead it to readiness."""
        self.start(service)
        tor = self.connect()
        tor.bootstrapped(*DONE)
        return tor


class LaunchTests(TorTestCase):
    """From the start to readiness."""

    def test_torrc(self) -> None:
        """Options of the user come as they are, repeated ones too; Perfd's own come last."""
        torrc = "Bridge 192.0.2.1:1\nBridge 192.0.2.2:2\nDataDirectory /elsewhere\n# a comment\nRunAsDaemon 1"
        process = self.start(self.service(torrc=torrc))
        lines = process.torrc
        self.assertEqual([line for line in lines if line.startswith("Bridge")], torrc.splitlines()[:2])
        self.assertIn("SocksPort 127.0.0.1:auto IsolateSOCKSAuth ExtendedErrors", lines)
        directories = [line for line in lines if line.startswith("DataDirectory")]
        self.assertEqual(directories[-1], f'DataDirectory "{self.directory / "tor"}"')
        self.assertGreater(lines.index("RunAsDaemon 0"), lines.index("RunAsDaemon 1"))

    def test_torrc_with_socks_port(self) -> None:
        """A SocksPort of the user replaces Perfd's."""
        process = self.start(self.service(torrc="  socksport 9999 OnionTrafficOnly"))
        ports = [line for line in process.torrc if "socksport" in line.lower()]
        self.assertEqual(ports, ["  socksport 9999 OnionTrafficOnly"])

    def test_command_line(self) -> None:
        """Tor gets our torrc, no system-wide one, and the process with which it ends; its directory is private."""
        process = self.start(self.service())
        self.assertEqual(process.executable, sys.executable)
        self.assertEqual(process.option("-f"), str(self.directory / "tor" / "torrc"))
        self.assertFalse(Path(process.option("--defaults-torrc")).exists())
        self.assertEqual(process.option("--__OwningControllerProcess"), str(os.getpid()))
        self.assertEqual((self.directory / "tor").stat().st_mode & 0o777, 0o700)
        self.assertTrue(process.stdin_closed)

    def test_long_path(self) -> None:
        """A directory too deep for a socket's path gets a control port on TCP, found by a file of tor's."""
        service = self.service(data_directory=self.directory / ("x" * 120))
        process = self.start(service)
        self.assertIn('ControlPort "127.0.0.1:auto"', process.torrc)
        self.assertEqual(process.open_control(), "127.0.0.1:4321")

    def test_bootstrap(self) -> None:
        """Every step is in the log and in the reason, and the last one makes it ready."""
        service = self.service()
        self.assertEqual(service.not_ready, "tor default is not running")
        waiting = Deferred.fromCoroutine(service.when_ready())
        self.start(service)
        self.assertEqual(service.not_ready, "tor default is starting")
        tor = self.connect()
        self.assertEqual(service.not_ready, "tor default is bootstrapping: 0 % (starting)")
        tor.bootstrapped(45, "loading_descriptors", "Loading relay descriptors")
        self.assertEqual(service.not_ready, "tor default is bootstrapping: 45 % (loading_descriptors)")
        self.assertIn(
            "tor default bootstrapped to 45 % (loading_descriptors): Loading relay descriptors", self.logged
        )
        self.assertNoResult(waiting)
        tor.bootstrapped(*DONE)
        self.successResultOf(waiting)
        self.assertIsNone(service.not_ready)
        self.assertEqual(service.version, "0.4.9.11")
        self.assertIn("tor default was ready: version 0.4.9.11, SOCKS port 127.0.0.1:9050", self.logged)

    def test_bootstrap_percent(self) -> None:
        """The last percentage that was told; none without a control connection."""
        service = self.service()
        self.start(service)
        self.assertIsNone(service.bootstrap_percent)
        tor = self.connect()
        self.assertEqual(service.bootstrap_percent, 0)
        tor.bootstrapped(45, "loading_descriptors", "Loading relay descriptors")
        self.assertEqual(service.bootstrap_percent, 45)
        tor.bootstrapped(*DONE)
        self.assertEqual(service.bootstrap_percent, 100)
        self.reactor.process.end(1)
        self.reactor.settle()
        self.assertIsNone(service.bootstrap_percent)

    def test_ownership(self) -> None:
        """Tor is told to end with the connection before anything else is asked."""
        self.start(self.service())
        commands = self.connect().commands
        self.assertEqual(commands[commands.index("USEFEATURE EXTENDED_EVENTS") + 1], "TAKEOWNERSHIP")

    def test_fast_bootstrap(self) -> None:
        """A tor that finished before anybody listened is ready."""
        service = self.service()
        self.start(service)
        self.connect(phase=bootstrap_phase(*DONE))
        self.assertIsNone(service.not_ready)

    def test_socks_endpoint(self) -> None:
        """The endpoint is tor's first TCP listener; there is none while tor is not there."""
        service = self.service()
        self.assertRaises(RuntimeError, service.socks_port)
        self.start(service)
        self.connect(socks='"unix:/run/tor/socks" "0.0.0.0:9150" "127.0.0.1:9151"')
        endpoint = service.socks_port().endpoint.free
        self.assertIsInstance(endpoint, TCP4ClientEndpoint)
        self.assertEqual((endpoint._host, endpoint._port), ("127.0.0.1", 9150))

    def test_socks_endpoint_ipv6(self) -> None:
        """A listener on IPv6 will do."""
        service = self.service()
        self.start(service)
        self.connect(socks='"[::]:9150"')
        endpoint = service.socks_port().endpoint.free
        self.assertIsInstance(endpoint, TCP6ClientEndpoint)
        self.assertEqual(endpoint._host, "::1")

    def test_no_socks_port(self) -> None:
        """A tor without a SocksPort on TCP is not used, and the reason says so."""
        service = self.service(torrc="SocksPort 0")
        self.start(service)
        self.connect(socks="")
        self.reactor.process.end(0)
        self.reactor.settle()
        self.assertEqual(
            service.not_ready,
            "tor default has no SocksPort on TCP that can be reached from here; it needs one in its torrc; "
            "next try in 1 s",
        )

    def test_single_onion(self) -> None:
        """A tor for single onion services is launched without anonymity and without a SOCKS port, and is ready."""
        service = self.service(single_onion=True)
        process = self.start(service)
        self.connect(socks="").bootstrapped(*DONE)
        self.assertIsNone(service.not_ready)
        self.assertRaises(RuntimeError, service.socks_port)
        self.assertEqual([line for line in process.torrc if line.startswith("SocksPort")], ["SocksPort 0"])
        self.assertIn("HiddenServiceNonAnonymousMode 1", process.torrc)

    def test_control_port_too_early(self) -> None:
        """A control port that refuses at first is tried again."""
        service = self.service()
        process = self.start(service)
        process.open_control()
        self.reactor.advance(0.06)
        refuse(self.reactor)
        self.reactor.advance(0.06)
        tor = FakeTor(self.reactor, phase=bootstrap_phase(*DONE))
        tor.accept()
        self.assertIsNone(service.not_ready)

    def test_missing_binary(self) -> None:
        """A tor that is not installed is a reason with the package that has it."""
        service = self.service(binary="no-such-tor")
        service.startService()
        self.reactor.settle()
        self.assertEqual(
            service.not_ready,
            "tor default cannot be launched: the program no-such-tor was not found; it is in the Debian package "
            "tor; next try in 1 s",
        )

    def test_binary_not_executable(self) -> None:
        """A path that is no program is a reason."""
        plain = self.directory / "plain"
        plain.touch(mode=0o600)
        service = self.service(binary=str(plain))
        service.startService()
        self.reactor.settle()
        self.assertEqual(
            service.not_ready, f"tor default cannot be launched: {plain} cannot be executed; next try in 1 s"
        )

    def test_unusable_directory(self) -> None:
        """A file in the place of the data directory is a reason."""
        (self.directory / "file").touch()
        service = self.service(data_directory=self.directory / "file" / "tor")
        service.startService()
        self.reactor.settle()
        self.assertRegex(service.not_ready or "", "^tor default cannot be launched: .*Not a directory")


class FakeNetwork:
    """A private network that is ready when the test says so."""

    client_options = ("TestingTorNetwork 1", "DirAuthority a 127.0.0.1:1 A", "DirAuthority b 127.0.0.1:2 B")

    def __init__(self) -> None:
        self.not_ready: str | None = "the private network is starting"
        self.trouble: str | None = None
        self._waiting: Deferred[None] = Deferred()

    async def when_ready(self) -> None:
        await self._waiting

    def begin(self) -> None:
        self.not_ready = None
        self._waiting.callback(None)


class NetworkTests(TorTestCase):
    """A tor of the private network."""

    def test_waits(self) -> None:
        """Tor is launched when the network is ready, with its options, and without memories of an earlier one."""
        (self.directory / "tor").mkdir()
        for name in ("cached-microdescs.new", "state", "keep"):
            (self.directory / "tor" / name).touch()
        network = FakeNetwork()
        service = self.service(network)
        service.startService()
        self.reactor.settle()
        self.assertEqual(self.reactor.processes, [])
        waits = "tor default waits for the private network: "
        self.assertEqual(service.not_ready, f"{waits}the private network is starting")
        network.not_ready = "the private network could not be started: no tor-gencert; next try in 1 s"
        self.assertEqual(service.not_ready, waits + network.not_ready)
        network.begin()
        self.reactor.settle()
        self.assertEqual(service.not_ready, "tor default is starting")
        authorities = [line for line in self.reactor.process.torrc if line.startswith("DirAuthority")]
        self.assertEqual(authorities, list(network.client_options[1:]))
        self.assertEqual({p.name for p in (self.directory / "tor").iterdir()}, {"keep", "torrc"})

    def test_network_in_trouble(self) -> None:
        """The trouble of a network that is waited for is that of its tor."""
        network = FakeNetwork()
        service = self.service(network)
        service.startService()
        self.assertIsNone(service.trouble)
        network.trouble = "the private network could not be started: no ports"
        self.assertEqual(service.trouble, network.trouble)

    def test_stop_while_waiting(self) -> None:
        """Stopping does not wait for the network."""
        service = self.service(FakeNetwork())
        service.startService()
        self.successResultOf(self.stop(service))
        self.assertEqual(service.not_ready, "tor default was stopped")


class RelaunchTests(TorTestCase):
    """What ends is begun again."""

    def test_exits_at_once(self) -> None:
        """A tor that does not like its options: exit code, its complaint and not its standing warnings."""
        service = self.service()
        process = self.start(service)
        process.say(
            "[warn] You are running Tor as root. You don't need to, and you probably shouldn't.",
            "[warn] Failed to parse/validate config: Unknown option 'Foo'.  Failing.",
            "[err] Reading config failed--see warnings above.",
        )
        process.end(1)
        self.reactor.settle()
        self.assertEqual(
            service.not_ready,
            "tor default stopped: exit code 1: Failed to parse/validate config: Unknown option 'Foo'.  Failing.; "
            "next try in 1 s",
        )
        self.assertIn(service.not_ready, self.logged)

    def test_trouble(self) -> None:
        """A try that failed is told until a later one made it ready, also while that is under way."""
        service = self.service()
        process = self.start(service)
        self.assertIsNone(service.trouble)
        process.say("[warn] No.")
        process.end(1)
        self.reactor.settle()
        self.assertEqual(service.trouble, "tor default stopped: exit code 1: No.")
        self.reactor.advance(1)
        self.reactor.settle()
        self.assertEqual(service.not_ready, "tor default is starting")
        self.assertEqual(service.trouble, "tor default stopped: exit code 1: No.")
        self.connect(phase=bootstrap_phase(*DONE))
        self.assertEqual((service.not_ready, service.trouble), (None, None))

    def test_growing_pauses(self) -> None:
        """Each try waits twice as long as the one before, up to five minutes."""
        service = self.service()
        self.start(service)
        expected = 1.0
        for _ in range(11):
            launched = len(self.reactor.processes)
            self.reactor.process.end(1)
            self.reactor.settle()
            self.assertIn(f"next try in {expected:g} s", service.not_ready or "")
            self.reactor.advance(expected - 0.01)
            self.assertEqual(len(self.reactor.processes), launched)
            self.reactor.advance(0.02)
            self.assertEqual(len(self.reactor.processes), launched + 1)
            expected = min(2 * expected, LONGEST_PAUSE)
        self.assertEqual(expected, LONGEST_PAUSE)

    def test_pauses_begin_again(self) -> None:
        """After a healthy minute the pause is short again; after less it is not."""
        service = self.service()
        self.ready(service)
        for healthy, pause in ((54.0, 1), (54.0, 2), (60.0, 1)):
            self.reactor.advance(healthy)
            self.reactor.process.end(-9)
            self.reactor.settle()
            self.assertIn(f"next try in {pause} s", service.not_ready or "")
            self.reactor.advance(pause)
            self.reactor.settle()
            self.connect(phase=bootstrap_phase(*DONE))

    def test_killed(self) -> None:
        """A killed tor is not ready at once, comes back, and whoever waits meanwhile is told."""
        service = self.service()
        self.ready(service)
        self.reactor.process.end(-9)
        self.reactor.settle()
        self.assertEqual(service.not_ready, "tor default stopped: killed by SIGKILL; next try in 1 s")
        self.assertEqual((service.version, service.protocol), (None, None))
        self.assertRaises(RuntimeError, service.socks_port)
        waiting = Deferred.fromCoroutine(service.when_ready())
        self.reactor.advance(1)
        self.reactor.settle()
        self.connect(phase=bootstrap_phase(*DONE))
        self.successResultOf(waiting)
        self.assertIsNone(service.not_ready)

    def test_hangs(self) -> None:
        """A tor that no longer answers is not ready within 20 s, and killed and launched anew within a minute."""
        service = self.service()
        tor = self.ready(service)
        for _ in range(100):
            self.reactor.advance(1)
        self.assertIsNone(service.not_ready)
        tor.hangs = True
        for _ in range(20):
            self.reactor.advance(1)
        self.assertEqual(service.not_ready, "tor default does not answer on its control port")
        self.assertEqual(service.trouble, service.not_ready)
        for _ in range(10):
            self.reactor.advance(1)
        process = self.reactor.process
        self.assertEqual(process.signals, ["TERM"])
        self.reactor.advance(5)
        self.assertEqual(process.signals, ["TERM", "KILL"])
        process.end(-9)
        self.reactor.settle()
        how = "tor default did not answer on its control port for 20 s; next try in 1 s"
        self.assertEqual(service.not_ready, how)
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.processes), 2)

    def test_answers_late(self) -> None:
        """One that was only slow is ready again, and goes on."""
        service = self.service()
        tor = self.ready(service)
        tor.hangs = True
        for _ in range(20):
            self.reactor.advance(1)
        self.assertIsNotNone(service.not_ready)
        tor.wake()
        for _ in range(60):
            self.reactor.advance(1)
        self.assertEqual((service.not_ready, self.reactor.process.signals), (None, []))

    def test_held_up_ourselves(self) -> None:
        """If it was Perfd that stood still, the answer that was not read yet counts."""
        service = self.service()
        tor = self.ready(service)
        tor.hangs = True
        self.reactor.advance(3600)
        tor.wake()
        for _ in range(30):
            self.reactor.advance(1)
        self.assertEqual((service.not_ready, self.reactor.process.signals), (None, []))

    def test_hangs_in_its_bootstrap(self) -> None:
        """A tor that is slow in its bootstrap keeps its deadline."""
        service = self.service()
        self.start(service)
        tor = self.connect()
        tor.bootstrapped(5, "conn", "Connecting to a relay")
        tor.hangs = True
        for _ in range(20):
            self.reactor.advance(1)
        tor.wake()
        self.reactor.advance(10)
        self.assertEqual(service.not_ready, "tor default is bootstrapping: 5 % (conn)")
        self.reactor.advance(31)
        self.assertEqual(self.reactor.process.signals, ["TERM"])

    def test_control_lost(self) -> None:
        """A tor that lives without its control connection is not ready, and replaced."""
        service = self.service()
        tor = self.ready(service)
        tor.hang_up()
        self.reactor.settle()
        self.assertEqual(service.not_ready, "tor default closed its control connection")
        self.reactor.advance(1)
        self.assertEqual(self.reactor.process.signals, ["TERM"])
        self.reactor.process.end(0)
        self.reactor.settle()
        self.assertEqual(service.not_ready, "tor default closed its control connection; next try in 1 s")
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.processes), 2)

    def test_control_lost_before_end(self) -> None:
        """A tor that ends right after its control connection closed is said to have ended."""
        service = self.service()
        self.ready(service).hang_up()
        self.reactor.settle()
        self.reactor.process.say("[notice] Catching signal TERM, exiting cleanly.")
        self.reactor.process.end(0)
        self.reactor.settle()
        self.assertEqual(
            service.not_ready,
            "tor default stopped: exit code 0: Catching signal TERM, exiting cleanly.; next try in 1 s",
        )

    def test_deadline(self) -> None:
        """A tor that does not get on is ended at the deadline, with where it stood and what it said last."""
        service = self.service()
        process = self.start(service)
        tor = self.connect()
        more = 'WARNING="Connection refused" REASON=CONNECTREFUSED COUNT=4 RECOMMENDATION=ignore'
        tor.bootstrapped(5, "conn", "Connecting to a relay", more)
        process.say("[warn] Problem bootstrapping. Stuck at 5% (conn): Connecting to a relay.")
        self.reactor.advance(60)
        self.assertEqual(process.signals, ["TERM"])
        process.end(0)
        self.reactor.settle()
        self.assertEqual(
            service.not_ready,
            "tor default did not bootstrap within 60 s: 5 % (conn): Connecting to a relay: Connection refused; "
            "its last message: Problem bootstrapping. Stuck at 5% (conn): Connecting to a relay.; next try in 1 s",
        )

    def test_deadline_without_control(self) -> None:
        """A tor that never opens its control port is ended at the deadline too."""
        service = self.service()
        process = self.start(service)
        self.reactor.pump([1.0] * 61)
        process.end(0)
        self.reactor.settle()
        self.assertEqual(
            service.not_ready,
            "tor default did not bootstrap within 60 s: no control connection; its last message: it said nothing; "
            "next try in 1 s",
        )

    def test_no_deadline_when_ready(self) -> None:
        """The deadline is for the bootstrap only."""
        service = self.service()
        self.ready(service)
        self.reactor.advance(100_000)
        self.assertIsNone(service.not_ready)

    def test_mistake(self) -> None:
        """An exception that nobody expected is logged, and does not end the service."""
        service = self.service(FakeNetwork())
        service._network.not_ready = None  # type: ignore[union-attr,misc]
        service._network = object()  # type: ignore[assignment]
        service.startService()
        self.reactor.settle()
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.assertRegex(service.not_ready or "", "^tor default met a mistake in Perfd: .*; next try in 1 s$")

    def test_endless_line(self) -> None:
        """Output without line ends, or with bytes of no known encoding, is neither kept whole nor an error."""
        process = self.start(self.service())
        for _ in range(100):
            process.protocol.childDataReceived(1, b"\xff" * 10_000)
        process.protocol.childDataReceived(1, b"\n")
        self.assertLessEqual(sum(map(len, process.protocol.lines)), 1000)


class SubscriberTests(TorTestCase):
    """Consumers of control events."""

    def test_order(self) -> None:
        """A subscriber is called before readiness, again for each connection, and when one is lost."""
        service = self.service()
        happened: list[str] = []

        async def connected(protocol: Any) -> None:
            happened.append(f"connected {protocol.version} {service.not_ready}")
            await protocol.add_event_listener("CIRC", happened.append)

        service.subscribe(connected, lambda: happened.append("disconnected"))
        tor = self.ready(service)
        tor.event("CIRC", "1 BUILT")
        self.assertEqual(happened, ["connected 0.4.9.11 tor default is starting", "1 BUILT"])
        self.reactor.process.end(-9)
        self.reactor.settle()
        self.assertEqual(happened.pop(), "disconnected")
        self.reactor.advance(1)
        self.connect()
        self.assertEqual(len(happened), 3)

    def test_failure(self) -> None:
        """A subscriber that fails is logged, and does not keep the tor from being ready."""
        service = self.service()

        async def connected(protocol: Any) -> None:
            raise LookupError("no")

        def disconnected() -> None:
            raise LookupError("no")

        service.subscribe(connected, disconnected)
        self.ready(service)
        self.reactor.process.end(-9)
        self.reactor.settle()
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 2)

    def test_lost_meanwhile(self) -> None:
        """A connection that is lost while a subscriber asks something is no failure of the subscriber."""
        service = self.service()

        async def connected(protocol: Any) -> None:
            asking = protocol.queue_command("GETINFO version")
            protocol.transport.loseConnection()
            await asking

        service.subscribe(connected)
        self.start(service)
        self.connect(phase=bootstrap_phase(*DONE))
        self.reactor.process.end(0)
        self.reactor.settle()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertIn("tor default stopped: exit code 0", service.not_ready or "")

    def test_hanging(self) -> None:
        """A subscriber that hangs is bounded by the deadline."""
        service = self.service()

        async def connected(protocol: Any) -> None:
            await Deferred()

        service.subscribe(connected)
        self.start(service)
        self.connect(phase=bootstrap_phase(*DONE))
        self.assertEqual(service.not_ready, "tor default is starting")
        self.reactor.advance(60)
        self.reactor.process.end(0)
        self.reactor.settle()
        self.assertRegex(service.not_ready or "", "did not bootstrap within 60 s")


class StopTests(TorTestCase):
    """The end of the service."""

    def test_ready(self) -> None:
        """The Deferred fires when the process is gone, and not before."""
        service = self.service()
        self.ready(service)
        stopping = self.stop(service)
        self.assertEqual(service.not_ready, "tor default was stopped")
        self.assertEqual(self.reactor.process.signals, ["TERM"])
        self.assertNoResult(stopping)
        self.reactor.process.end(0)
        self.successResultOf(stopping)
        self.reactor.settle()
        self.assertEqual(service.not_ready, "tor default was stopped")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_bootstrapping(self) -> None:
        """Stopping in the middle of a bootstrap; whoever waits for readiness is told."""
        service = self.service()
        waiting = Deferred.fromCoroutine(service.when_ready())
        self.start(service)
        self.connect()
        stopping = self.stop(service)
        self.failureResultOf(waiting, NotReadyError)
        self.reactor.process.end(0)
        self.successResultOf(stopping)
        self.reactor.settle()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_deaf(self) -> None:
        """A tor that does not listen to SIGTERM gets SIGKILL after five seconds."""
        service = self.service()
        process = self.start(service)
        stopping = self.stop(service)
        self.reactor.advance(4.9)
        self.assertEqual(process.signals, ["TERM"])
        self.reactor.advance(0.2)
        self.assertEqual(process.signals, ["TERM", "KILL"])
        process.end(-9)
        self.successResultOf(stopping)

    def test_impatient(self) -> None:
        """Who cancels the stopping does not cut it short, and a second stop does no harm."""
        service = self.service()
        process = self.start(service)
        self.stop(service).addErrback(lambda _: None).cancel()
        process.end(0)
        self.successResultOf(self.stop(service))

    def test_stopped_by_who_waited(self) -> None:
        """Who waited for readiness may stop the service there and then."""
        service = self.service()
        stopping = Deferred.fromCoroutine(service.when_ready()).addCallback(lambda _: service.stopService())
        self.ready(service)
        self.assertEqual(self.reactor.process.signals, ["TERM"])
        self.reactor.process.end(0)
        self.successResultOf(stopping)

    def test_pausing(self) -> None:
        """Stopping between two tries is immediate."""
        service = self.service()
        self.start(service).end(1)
        self.reactor.settle()
        self.successResultOf(self.stop(service))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_again(self) -> None:
        """A service that was stopped can be started again."""
        service = self.service()
        self.ready(service)
        stopping = self.stop(service)
        self.reactor.process.end(0)
        self.successResultOf(stopping)
        self.ready(service)

    def test_waiter_that_gave_up(self) -> None:
        """A wait that was cancelled is forgotten."""
        service = self.service()
        waiting = Deferred.fromCoroutine(service.when_ready())
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.ready(service)


class AttachTests(TorTestCase):
    """A tor that somebody else runs."""

    def test_bridges(self) -> None:
        """A tor that is attached to tells the transport of its bridges; one that does not tell has none."""
        for bridges, expected in (
            (["UseBridges=0", "Bridge"], None),
            (["UseBridges=1", "Bridge=obfs4 192.0.2.1:443 AA cert=x"], "obfs4"),
            (["UseBridges=1", "Bridge=192.0.2.1:443", "Bridge=obfs4 192.0.2.1:1"], "vanilla"),
            (["UseBridges=0", "Bridge=obfs4 192.0.2.1:443"], None),
            ([], None),
        ):
            service = self.attach()
            tor = FakeTor(self.reactor)
            tor.bridges = bridges
            tor.accept()
            self.assertEqual(service.transport, expected)
            self.stop(service)
            self.assertIsNone(service.transport)

    def attach(self, **options: Any) -> TorService:
        options = {"control": "/run/tor/control", **options}
        service = self.service(name="alpha", **options)
        service.startService()
        self.reactor.settle()
        return service

    def test_ready(self) -> None:
        """It is used, and neither owned nor ended."""
        service = self.attach()
        tor = FakeTor(self.reactor, phase=bootstrap_phase(*DONE))
        tor.accept()
        self.assertIsNone(service.not_ready)
        self.assertNotIn("TAKEOWNERSHIP", tor.commands)
        self.successResultOf(self.stop(service))
        self.assertFalse(tor.connected)
        self.assertEqual(self.reactor.processes, [])

    def test_refused(self) -> None:
        """A control port that nobody listens on is a reason, and tried again with growing pauses."""
        service = self.attach()
        for pause in (1, 2, 4):
            refuse(self.reactor)
            self.assertEqual(
                service.not_ready,
                "tor alpha cannot be reached at /run/tor/control: Connection was refused by other side; "
                f"next try in {pause} s",
            )
            self.reactor.advance(pause)
        self.assertEqual(len(self.reactor.unixClients), 4)

    def test_lost(self) -> None:
        """A lost connection is made again."""
        service = self.attach()
        FakeTor(self.reactor, phase=bootstrap_phase(*DONE)).accept()
        tor = FakeTor(self.reactor, phase=bootstrap_phase(*DONE))
        service.protocol.transport.loseConnection()  # type: ignore[union-attr]
        self.reactor.settle()
        self.assertEqual(service.not_ready, "tor alpha closed its control connection; next try in 1 s")
        self.reactor.advance(1)
        tor.accept()
        self.assertIsNone(service.not_ready)

    def test_deadline(self) -> None:
        """Its warnings are what it said last."""
        service = self.attach()
        tor = FakeTor(self.reactor)
        tor.accept()
        tor.event("WARN", "Your clock is wrong. Größenordnung: Jahre")
        self.reactor.advance(60)
        self.reactor.settle()
        self.assertEqual(
            service.not_ready,
            "tor alpha did not bootstrap within 60 s: 0 % (starting): Starting; its last message: "
            "Your clock is wrong. Gr\\xf6\\xdfenordnung: Jahre; next try in 1 s",
        )

    def test_unready_again(self) -> None:
        """A tor whose network is switched off and on is not ready in between."""
        service = self.attach()
        tor = FakeTor(self.reactor, phase=bootstrap_phase(*DONE))
        tor.accept()
        tor.bootstrapped(0, "starting", "Starting")
        self.assertEqual(service.not_ready, "tor alpha is bootstrapping: 0 % (starting)")
        tor.bootstrapped(*DONE)
        self.assertIsNone(service.not_ready)

    def test_no_socks_port(self) -> None:
        """Without a SocksPort it cannot be used, and nothing is changed in it."""
        service = self.attach()
        FakeTor(self.reactor, socks="").accept()
        self.assertEqual(
            service.not_ready,
            "tor alpha has no SocksPort on TCP that can be reached from here; it needs one in its torrc; "
            "next try in 1 s",
        )

    def test_socks_port_of_another_host(self) -> None:
        """It is where the control port is."""
        service = self.attach(control="192.0.2.1:9051")
        FakeTor(self.reactor, socks='"0.0.0.0:9050"', own="192.0.2.2", phase=bootstrap_phase(*DONE)).accept()
        endpoint = service.socks_port().endpoint.free
        self.assertEqual((endpoint._host, endpoint._port), ("192.0.2.1", 9050))  # type: ignore[attr-defined]

    def test_socks_port_of_another_hosts_loopback(self) -> None:
        """It cannot be reached, and what is on our own must not take its place."""
        service = self.attach(control="192.0.2.1:9051")
        FakeTor(self.reactor, own="192.0.2.2").accept()
        self.assertIn("no SocksPort on TCP that can be reached from here", service.not_ready or "")

    def test_password(self) -> None:
        """A password is used where one is asked for."""
        service = self.attach(control_password="secret")
        FakeTor(self.reactor, password="secret", phase=bootstrap_phase(*DONE)).accept()
        self.assertIsNone(service.not_ready)

    def test_password_rather_than_a_cookie(self) -> None:
        """A password that is given is used, whatever file the other end names."""
        service = self.attach(control_password="secret")
        options = {"methods": "COOKIE,SAFECOOKIE,HASHEDPASSWORD", "cookie_file": self.directory / "none"}
        FakeTor(self.reactor, password="secret", phase=bootstrap_phase(*DONE), **options).accept()
        self.assertIsNone(service.not_ready)

    def test_safe_cookie(self) -> None:
        """The cookie is proved to be known, by the other end first; it is never sent."""
        cookie = self.directory / "cookie"
        cookie.write_bytes(bytes(range(32, 64)))
        service = self.attach(control_password="not asked for")
        tor = FakeTor(self.reactor, methods="COOKIE,SAFECOOKIE", cookie_file=cookie, phase=bootstrap_phase(*DONE))
        tor.accept()
        self.assertIsNone(service.not_ready)
        self.assertNotIn(cookie.read_bytes().hex(), "".join(tor.commands).lower())

    def test_whoever_names_a_file(self) -> None:
        """Somebody who does not know what is in a file is told nothing of it."""
        secret = self.directory / "secret"
        secret.write_bytes(b"x" * 32)
        fifo = self.directory / "fifo"
        os.mkfifo(fifo)
        for methods, file, reason in (
            ("COOKIE", secret, "it offers COOKIE to authenticate, of which none can be used: it takes SAFECOOKIE"),
            ("COOKIE,HASHEDPASSWORD", secret, "it offers COOKIE,HASHEDPASSWORD to authenticate, of which none can"),
            ("SAFECOOKIE", secret, "it does not know what is in the cookie file that it names"),
            ("SAFECOOKIE", fifo, "fifo is no authentication cookie"),
            ("SAFECOOKIE", Path("/dev/zero"), "/dev/zero is no authentication cookie"),
            ("SAFECOOKIE", self.directory / "none", "No such file"),
        ):
            self.reactor = FakeReactor()
            service = self.attach()
            tor = FakeTor(self.reactor, methods=methods, cookie_file=file, cookie=bytes(32))
            tor.accept()
            self.assertIn(reason, service.not_ready or "")
            self.assertNotIn((b"x" * 32).hex(), "".join(tor.commands).lower())
            self.assertNotRegex(service.not_ready or "", "[0-9A-Fa-f]{32}")
            self.assertFalse([line for line in tor.commands if line.startswith("AUTHENTICATE")])
            self.successResultOf(self.stop(service))

    def test_endless_replies(self) -> None:
        """A reply, an event or a line without an end ends the connection, before it takes memory or time."""
        for lines, reason in (
            (["250-" + "x" * 1000] * (MOST_REPLY // 1000 + 2), f"its reply has more than {MOST_REPLY} bytes"),
            (["250+x=", *["y" * 1000] * (MOST_REPLY // 1000 + 2)], f"its reply has more than {MOST_REPLY} bytes"),
            (["650-" + "x" * 1000] * (MOST_REPLY // 1000 + 2), f"its reply has more than {MOST_REPLY} bytes"),
            (["250-" + "x" * MOST_LINE], f"a line of its reply has more than {MOST_LINE} bytes"),
        ):
            self.reactor = FakeReactor()
            service = self.attach()
            tor = FakeTor(self.reactor, endless=lines)
            tor.accept()
            self.assertIn(reason, service.not_ready or "")
            self.assertFalse(tor.connected)
            self.successResultOf(self.stop(service))

    def test_wrong_password(self) -> None:
        """A wrong password is a reason."""
        service = self.attach(control_password="wrong")
        tor = FakeTor(self.reactor, password="secret")
        tor.accept()
        self.assertRegex(service.not_ready or "", "it refused our authentication: Authentication failed")
        self.assertFalse(tor.connected)

    def test_silence(self) -> None:
        """A peer that says nothing is given up."""
        service = self.attach()
        tor = FakeTor(self.reactor)
        tor.received = lambda data: None  # type: ignore[method-assign]
        tor.accept()
        self.reactor.advance(20)
        self.reactor.settle()
        self.assertEqual(
            service.not_ready,
            "tor alpha cannot be reached at /run/tor/control: no answer within 20 s; next try in 1 s",
        )
        self.assertFalse(tor.connected)

    def test_not_a_tor(self) -> None:
        """A peer that speaks something else is recognized, without a traceback."""
        for nonsense in (
            "HTTP/1.1 400 Bad Request",
            "",
            "220",
            "650",
            "250+x",
            "999 what",
            "250 " + "x" * (1 << 21),
        ):
            service = self.attach()
            tor = FakeTor(self.reactor)
            tor._answer = lambda line, nonsense=nonsense: [nonsense]  # type: ignore[method-assign]
            tor.accept()
            if tor.connected:
                self.reactor.advance(20)
                self.reactor.settle()
            self.assertRegex(service.not_ready or "", "^tor alpha cannot be reached at", nonsense[:20])
            self.assertFalse(tor.connected)
            self.successResultOf(self.stop(service))

    def test_bad_address(self) -> None:
        """An address that is none is a reason."""
        service = self.service(control="9051")
        service.startService()
        self.reactor.settle()
        self.assertRegex(service.not_ready or "", "control must be host:port or the path of a socket, not '9051'")


class ParsingTests(SynchronousTestCase):
    """What tor says about its bootstrap, and where its control port is."""

    def test_bootstrap(self) -> None:
        """Quoted and bare words, and a warning."""
        text = (
            'WARN BOOTSTRAP PROGRESS=10 TAG=conn_done SUMMARY="Connected to a relay" WARNING="no \\"way\\"" COUNT=1'
        )
        parsed = Bootstrap.parse(text)
        self.assertEqual(parsed, Bootstrap(10, "conn_done", "Connected to a relay", 'no \\"way\\"'))

    def test_other_events(self) -> None:
        """Other events of the same kind, and damaged ones, are nothing."""
        for text in ("NOTICE CIRCUIT_ESTABLISHED", "", "NOTICE BOOTSTRAP", "NOTICE BOOTSTRAP PROGRESS=x TAG=a"):
            self.assertIsNone(Bootstrap.parse(text), text)

    def test_control_endpoint(self) -> None:
        """Paths and addresses are told apart; anything else is an error."""
        reactor = FakeReactor()
        for good in ("/run/tor/control", "unix:/run/tor/control", "127.0.0.1:9051", "[::1]:9051", "localhost:9051"):
            control_endpoint(reactor, good)
        for bad in ("", "9051", "host:", ":9051", "host:0", "host:65536", "host:x", "relative/path"):
            self.assertRaises(ValueError, control_endpoint, reactor, bad)
