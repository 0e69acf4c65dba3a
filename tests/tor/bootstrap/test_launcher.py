"""``Launcher`` and ``FreshTor`` against a fake tor, which checks what it is asked."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from perfd.clock import Clock
from perfd.socks.local_ports import LocalPorts
from perfd.tor.bootstrap.fresh import FreshTor
from perfd.tor.bootstrap.launcher import Launcher, Life
from perfd.tor.events.listener import ControlEvents
from perfd.tor.events.sink import NullEventSink
from perfd.tor.launch import TorOptions
from tests.support.fake_tor import FakeReactor, FakeTor


class LauncherTests(SynchronousTestCase):
    """One launch after the other."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="perfd-test-")).resolve()
        self.addCleanup(shutil.rmtree, self.directory)
        self.reactor = FakeReactor()
        self.patch(Launcher, "_in_thread", self.in_thread)
        self.held: list[tuple[Deferred[None], Callable[[], None]]] | None = None
        self.launcher = self.make()
        self.launcher.startService()

    def in_thread(self, work: Callable[[], None]) -> Deferred[None]:
        """At once, or when ``held`` is let go."""
        if self.held is None:
            return maybeDeferred(work)
        self.held.append((Deferred(), work))
        return self.held[-1][0]

    def make(self, torrc: str = "", network: Any = None) -> Launcher:
        clock = Clock(wall=self.reactor.seconds, monotonic=self.reactor.seconds)
        reactor: Any = self.reactor

        def listen(tor: FreshTor) -> ControlEvents:
            return ControlEvents(reactor, clock, source="s", tor=str(tor.name), sink=NullEventSink())

        options = TorOptions(name="x", data_directory=self.directory / "no", binary=sys.executable, torrc=torrc)
        return Launcher(reactor, options, network, clock, LocalPorts(clock), self.data, listen)

    @property
    def data(self) -> Path:
        return self.directory / "bootstrap" / "x"

    def launch(self, data: Path | None = None) -> Life:
        life = self.successResultOf(Deferred.fromCoroutine(self.launcher.launch(data)))
        self.reactor.settle()
        return life

    def connect(self, **changed: Any) -> FakeTor:
        self.reactor.process.open_control()
        self.reactor.advance(0.06)
        tor = FakeTor(self.reactor, **changed)
        tor.accept()
        return tor

    def end(self, life: Life) -> None:
        """End it; nothing is left."""
        ending = self.launcher.end(life)
        self.reactor.settle()
        self.assertNoResult(ending)
        self.assertEqual(self.reactor.process.signals, ["TERM"])
        self.assertTrue(life.directory.is_dir())
        self.reactor.process.end()
        self.reactor.settle()
        self.successResultOf(ending)
        self.assertFalse((self.directory / "bootstrap").exists())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_phases(self) -> None:
        """Its network is off until it is watched; each phase has its time and its bytes."""
        life = self.launch()
        self.assertEqual(life.directory.stat().st_mode & 0o777, 0o700)
        self.assertIn("DisableNetwork 1", self.reactor.process.torrc)
        self.assertNotIn("CountPrivateBandwidth 1", self.reactor.process.torrc)
        self.reactor.advance(1.0)
        tor = self.connect()
        events = next(n for n, line in enumerate(tor.commands) if line.startswith("SETEVENTS") and "BW" in line)
        self.assertLess(events, tor.commands.index("SETCONF DisableNetwork=0"))
        self.reactor.advance(2.0)
        tor.traffic = (700, 300)
        tor.bootstrapped(5, "conn", "Connecting")
        tor.event("CIRC", "1 LAUNCHED BUILD_FLAGS=ONEHOP_TUNNEL")
        tor.traffic = (9000, 4000)
        tor.bootstrapped(100, "done", "Done")
        phases = life.tor.phases
        self.assertEqual(phases.bytes, {"conn": (700, 300), "done": (9000, 4000)})
        assert phases.launched is not None
        assert phases.network is not None
        self.assertEqual(phases.reached["conn"] - phases.network, 2.0)
        self.assertGreaterEqual(phases.network - phases.launched, 1.0)
        self.successResultOf(Deferred.fromCoroutine(life.tor.when_ready()))
        counted = Deferred.fromCoroutine(life.tor.when_counted())
        self.assertNoResult(counted)
        tor.event("BW", "1 2")
        tor.event("CIRC_BW", "ID=1 READ=509 WRITTEN=1018")
        self.successResultOf(counted)
        self.assertEqual((phases.directory.read, phases.directory.written), (509, 1018))
        self.end(life)

    def test_private_connections_counted(self) -> None:
        """A tor that counts private connections counts ours, too: that is taken off again."""
        self.launcher = self.make(torrc="ClientTransportPlugin obfs4 exec /bin/true")
        self.launcher.startService()
        life = self.launch()
        self.assertIn("CountPrivateBandwidth 1", self.reactor.process.torrc)
        sizes = [0, 0]

        class Counting(FakeTor):
            """Counts what goes over its control connection, and 10000 bytes of others."""

            others = (0, 0)

            def received(self, data: bytes) -> None:
                sizes[0] += len(data)
                self.traffic = (sizes[0] + self.others[0], sizes[1] + self.others[1])
                super().received(data)

            def send(self, *lines: str) -> None:
                whole = "".join(f"{line}\r\n" for line in lines).encode("ascii")
                sizes[1] += len(whole)
                self._protocol.dataReceived(whole)

        self.reactor.process.open_control()
        self.reactor.advance(0.06)
        tor = Counting(self.reactor)
        tor.accept()
        tor.others = (10000, 5000)
        tor.bootstrapped(5, "conn", "Connecting")
        self.assertEqual(life.tor.phases.bytes, {"conn": (10000, 5000)})
        self.end(life)

    def test_tor_ends(self) -> None:
        """A tor that ends by itself is not launched again, if its life is ended then."""
        life = self.launch()
        self.reactor.process.say("[err] Reading config failed--see warnings above.", "[warn] No space left")
        self.reactor.process.end(1)
        self.reactor.settle()
        how = self.successResultOf(life.tor.ended)
        self.assertRegex(how, "^stopped: exit code 1: .*No space left")
        ending = self.launcher.end(life)
        self.reactor.settle()
        self.successResultOf(ending)
        self.assertEqual(len(self.reactor.processes), 1)
        self.assertFalse((self.directory / "bootstrap").exists())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_copy(self) -> None:
        """A data directory that is given is copied, without what belongs to the tor that runs in it."""
        given = self.directory / "given"
        (given / "keys").mkdir(parents=True)
        for name in ("state", "lock", "torrc", "control-port", "cached-microdesc-consensus", "keys/k"):
            (given / name).write_text(name, encoding="ascii")
        os.mkfifo(given / "control.socket")
        life = self.launch(given)
        copied = {str(path.relative_to(life.directory)) for path in life.directory.rglob("*") if path.is_file()}
        self.assertEqual(copied, {"state", "cached-microdesc-consensus", "keys/k", "torrc"})
        self.assertIn("DisableNetwork 1", (life.directory / "torrc").read_text(encoding="utf-8"))
        self.assertEqual((given / "torrc").read_text(encoding="ascii"), "torrc")
        self.end(life)

    def test_data_is_gone(self) -> None:
        """What cannot be copied is told, and nothing stays."""
        launching = Deferred.fromCoroutine(self.launcher.launch(self.directory / "gone"))
        self.reactor.settle()
        self.failureResultOf(launching, OSError)
        self.assertFalse(self.data.exists())
        self.assertEqual(self.reactor.processes, [])

    def test_cancelled_while_copying(self) -> None:
        """What a thread still makes goes as soon as it is made; stopping waits for that."""
        self.held = []
        launching = Deferred.fromCoroutine(self.launcher.launch(None))
        launching.cancel()
        self.failureResultOf(launching, CancelledError)
        stopping = self.launcher.stopService()
        self.assertNoResult(stopping)
        for _ in range(2):  # the directory is made, and removed
            made, work = self.held.pop()
            work()
            made.callback(None)
        self.successResultOf(stopping)
        self.assertFalse((self.directory / "bootstrap").exists())

    def test_stopped(self) -> None:
        """With the launcher all end, and their directories go."""
        lives = [self.launch(), self.launch()]
        stopping = self.launcher.stopService()
        self.reactor.settle()
        self.assertNoResult(stopping)
        for process in self.reactor.processes:
            self.assertEqual(process.signals, ["TERM"])
            process.end()
        self.reactor.settle()
        self.successResultOf(stopping)
        self.assertFalse(any(life.directory.exists() for life in lives))
        self.assertRegex(self.launcher.not_ready or "", "stopped")

    def test_leftovers(self) -> None:
        """What a Perfd that was killed left goes at the start."""
        (self.data / "old" / "keys").mkdir(parents=True)
        other = self.make()
        other.startService()
        self.reactor.settle()
        self.assertFalse((self.directory / "bootstrap").exists())
