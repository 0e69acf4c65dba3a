"""The private network: what it keeps on disk, and how it starts and stops programs; tor is a shell script."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from perfd.clock import Clock
from perfd.config.testnet import TestnetConfig, nicknames
from perfd.processes import programs
from perfd.processes.modules import module_command, module_environment
from perfd.processes.programs import (
    ProgramMissingError,
    command_line,
    end_processes,
    find_processes,
    find_program,
    recorded_process,
    run_program,
)
from perfd.tor.messages import last_words, message_of
from perfd.tor.process import DirectoryInUseError, TorDirectory
from perfd.tor.testnet import authorities, relays, users
from perfd.tor.testnet.consensus import Consensus, parse_consensus
from perfd.tor.testnet.network import NetworkEndedError, Testnet, network_status
from perfd.tor.testnet.relays import Relay, State, TestnetError
from perfd.tor.testnet.service import CHECK_INTERVAL, TestnetService
from perfd.tor.testnet.voting import Voting
from perfd.whole import scratch_name
from tests.support.instance import processes_in

CONSENSUS = """network-status-version 3 microdesc
valid-after 2026-11-23 12:00:00
fresh-until 2026-11-23 12:00:10
valid-until 2026-11-23 12:00:20
r auth1 AAAA 2038-01-01 00:00:00 127.0.0.1 5001 7001
s Authority Exit Fast Guard Running Stable V2Dir Valid
r auth2 BBBB 2038-01-01 00:00:00 127.0.0.1 5002 7002
s Authority Fast Guard Stable V2Dir Valid
r exit1 CCCC 2038-01-01 00:00:00 127.0.0.1 5003 0
s Exit Running
directory-footer
directory-signature sha256 DDDD EEEE
"""

# What a relay says, knows and does is written into files beside the script; see FakeTorTestCase.
FAKE_TOR = """#!/bin/sh
case "$*" in
*--list-fingerprint*)
    while [ "$1" != --DataDirectory ]; do shift; done
    echo "$4 0123456789ABCDEF0123456789ABCDEF01234567" > "$2/fingerprint"
    ;;
*)
    while [ "$1" != -f ]; do shift; done
    directory=${2%/torrc}
    echo "$*" >> "BIN/started"
    if [ -e "BIN/output" ]; then cat "BIN/output"; exit 1; fi
    echo 'while :; do sleep 0.2; done' > "BIN/waits.$$"
    mv "BIN/waits.$$" "BIN/tor-waits"
    sh "BIN/tor-waits" "$@" > /dev/null 2>&1 &
    echo "Nov 23 12:00:00.000 [notice] Bootstrapped 0% (starting): Starting" > "$directory/tor.log"
    if [ -e "BIN/consensus" ]; then
        cp "BIN/consensus" "$directory/cached-microdesc-consensus"
        printf 'onion-key\\nonion-key\\n' > "$directory/cached-microdescs.new"
    fi
    echo $! > "$directory/tor.pid"
    ;;
esac
"""

FAKE_GENCERT = """#!/bin/sh
echo "$*" >> "BIN/gencert"
while [ $# -gt 0 ]; do
    case "$1" in
    -i | -s) echo key > "$2" ;;
    -c)
        echo "fingerprint AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" > "$2"
        echo "dir-key-expires $(cat "BIN/expires")" >> "$2"
        ;;
    esac
    shift
done
"""


async def until(condition: Callable[[], Any]) -> None:
    """Return when ``condition`` holds; fail if that takes very long."""
    for _ in range(1000):
        if condition():
            return
        await deferLater(reactor, 0.02)
    raise AssertionError("waited in vain")


class DirectoryTestCase(SynchronousTestCase):
    """A directory that does not outlive the test."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="perfd-test-")).resolve()
        self.addCleanup(shutil.rmtree, self.directory)


class PlanTests(DirectoryTestCase):
    """Ports: kept, or new."""

    def test_first(self) -> None:
        """A new network has different ports for everything."""
        state = relays.plan(self.directory, nicknames(5), None)
        self.assertEqual([relay.nickname for relay in state.relays], ["auth1", "auth2", "auth3", "exit1", "exit2"])
        ports = [port for relay in state.relays for port in relay.ports]
        self.assertEqual(len(ports), 8)
        self.assertEqual(len(set(ports)), 8)
        self.assertEqual([relay.dir_port is not None for relay in state.relays], [True, True, True, False, False])

    def test_kept(self) -> None:
        """Ports that are free still are used again."""
        first = relays.plan(self.directory, nicknames(2), None)
        self.assertEqual(relays.plan(self.directory, nicknames(2), first).relays, first.relays)

    def test_taken(self) -> None:
        """If one port is taken meanwhile, all are chosen anew."""
        first = relays.plan(self.directory, nicknames(2), None)
        with socket.socket() as other:
            other.bind(("127.0.0.1", first.relays[1].or_port))
            other.listen()
            second = relays.plan(self.directory, nicknames(2), first)
        self.assertEqual([relay.nickname for relay in second.relays], ["auth1", "exit1"])
        self.assertNotIn(first.relays[1].or_port, [port for relay in second.relays for port in relay.ports])

    def test_other_size(self) -> None:
        """A network of another size is planned anew."""
        first = relays.plan(self.directory, nicknames(2), None)
        self.assertEqual(len(relays.plan(self.directory, nicknames(3), first).relays), 3)


class StateTests(DirectoryTestCase):
    """What is remembered in testnet.json."""

    def test_round_trip(self) -> None:
        """What was saved is loaded."""
        planned = relays.plan(self.directory, nicknames(3), None)
        state = State(planned.relays, ("DirAuthority a", "DirAuthority b"), owner=42)
        state.save(self.directory)
        self.assertEqual(State.load(self.directory), state)
        self.assertEqual(state.client_options[-2:], ("DirAuthority a", "DirAuthority b"))
        self.assertIn("TestingTorNetwork 1", state.client_options)

    def test_nothing(self) -> None:
        """A directory without a network."""
        self.assertIsNone(State.load(self.directory))
        self.assertTrue(network_status(self.directory).stopped)
        self.assertFalse(network_status(self.directory / "missing").ready)
        self.assertRaisesRegex(
            TestnetError, "there is no private network in", lambda: Testnet(self.directory).client_options
        )

    def assertRaisesRegex(self, kind: type[Exception], pattern: str, function: Any) -> None:
        self.assertRegex(str(self.assertRaises(kind, function)), pattern)

    def test_damaged(self) -> None:
        """A file that is damaged, or would lead out of the directory, is an error that names it."""
        state = relays.plan(self.directory, ["auth1"], None)
        state.save(self.directory)
        path = self.directory / "testnet.json"
        good = json.loads(path.read_text())
        bad_relay = {**good["relays"][0], "nickname": "../../etc"}
        for bad in ("", "[]", "null", '{"version": 2}', json.dumps({**good, "relays": [bad_relay]})):
            path.write_text(bad)
            self.assertRaisesRegex(TestnetError, str(path), lambda: State.load(self.directory))


class RelayTests(DirectoryTestCase):
    """One relay's directory."""

    def setUp(self) -> None:
        super().setUp()
        self.relay = Relay(self.directory / "auth1", authority=True, or_port=5001, dir_port=7001)

    def test_clear(self) -> None:
        """All that a former run left is removed, but the keys."""
        self.relay.keys.mkdir(parents=True)
        (self.relay.keys / "secret_id_key").touch()
        (self.relay.directory / "diff-cache").mkdir()
        (self.relay.directory / "diff-cache" / "0").touch()
        (self.relay.directory / "cached-consensus").touch()
        (self.relay.directory / "link").symlink_to(self.directory)
        relays.clear(self.relay)
        self.assertEqual([path.name for path in self.relay.directory.iterdir()], ["keys"])
        self.assertTrue((self.relay.keys / "secret_id_key").exists())
        self.assertEqual(self.relay.directory.stat().st_mode & 0o777, 0o700)

    def test_torrc(self) -> None:
        """Paths are quoted, everything is on loopback, and an exit is no authority."""
        odd = Relay(Path(os.fsdecode(b'/tmp/with "#" \\, space and \xe4/exit1')), authority=False, or_port=5003)
        lines = relays.torrc(odd, ["DirAuthority a", "DirAuthority b"], Voting()).splitlines()
        self.assertIn(r'DataDirectory "/tmp/with \042#\042 \134, space and \344/exit1"', lines)
        self.assertIn("ORPort 127.0.0.1:5003", lines)
        self.assertIn("ExitPolicy accept *:*", lines)
        self.assertEqual(
            [line for line in lines if line.startswith("DirAuthority")], ["DirAuthority a", "DirAuthority b"]
        )
        self.assertNotIn("AuthoritativeDirectory 1", lines)
        lines = relays.torrc(self.relay, [], Voting()).splitlines()
        self.assertIn("DirPort 127.0.0.1:7001", lines)
        self.assertIn("AuthoritativeDirectory 1", lines)
        self.assertNotIn("ExitPolicy accept *:*", lines)

    def test_certificate(self) -> None:
        """A certificate is used until a month before it expires, and only if all keys are there."""
        now = 1_795_435_200.0  # 2026-11-23 12:00:00
        self.assertFalse(authorities.certificate_is_usable(self.relay, now))
        self.relay.keys.mkdir(parents=True)
        certificate = self.relay.keys / "authority_certificate"
        certificate.write_text("fingerprint A\ndir-key-expires 2026-12-25 12:00:00\n")
        self.assertFalse(authorities.certificate_is_usable(self.relay, now))
        for name in ("authority_identity_key", "authority_signing_key"):
            (self.relay.keys / name).touch()
        self.assertTrue(authorities.certificate_is_usable(self.relay, now))
        self.assertFalse(authorities.certificate_is_usable(self.relay, now + 3 * 86400))
        certificate.write_text("dir-key-expires 2026-13-25 12:00:00\n")
        self.assertFalse(authorities.certificate_is_usable(self.relay, now))

    def test_dir_authority(self) -> None:
        """The line for clients has both fingerprints and both ports; damaged keys are an error."""
        self.relay.keys.mkdir(parents=True)
        (self.relay.keys / "authority_certificate").write_text(f"x\nfingerprint {'A' * 40}\n")
        (self.relay.directory / "fingerprint").write_text(f"auth1 {'B' * 40}\n")
        self.assertEqual(
            authorities.dir_authority_line(self.relay),
            f"DirAuthority auth1 orport=5001 v3ident={'A' * 40} 127.0.0.1:7001 {'B' * 40}",
        )
        (self.relay.directory / "fingerprint").write_text("")
        self.assertRaises(TestnetError, authorities.dir_authority_line, self.relay)

    def test_knows_all(self) -> None:
        """A relay is informed when its consensus lists all relays, and it has a microdescriptor of each."""
        exit1 = Relay(self.directory / "exit1", authority=False, or_port=5003)
        state = State((self.relay, exit1))
        self.relay.directory.mkdir()
        self.assertFalse(relays.knows_all(self.relay, state))
        (self.relay.directory / "cached-microdesc-consensus").write_text(CONSENSUS)
        self.assertFalse(relays.knows_all(self.relay, state))
        (self.relay.directory / "cached-microdescs.new").write_text("onion-key\nonion-key\n")
        self.assertTrue(relays.knows_all(self.relay, state))
        not_running = Relay(self.directory / "auth2", authority=True, or_port=5002)
        self.assertFalse(relays.knows_all(self.relay, State((self.relay, not_running))))


class ConsensusTests(SynchronousTestCase):
    """Reading a consensus."""

    def test_parse(self) -> None:
        """Times, and relays by their flags."""
        expected = Consensus(
            1795435200.0, 1795435220.0, frozenset({"auth1", "exit1"}), frozenset({"auth1", "exit1"})
        )
        self.assertEqual(parse_consensus(CONSENSUS), expected)

    def test_incomplete(self) -> None:
        """A consensus that is not written to its end is none."""
        self.assertIsNone(parse_consensus(CONSENSUS[: CONSENSUS.index("directory-signature")]))
        self.assertIsNone(parse_consensus(""))

    @given(st.text())
    def test_anything(self, text: str) -> None:
        """No text is an exception."""
        parse_consensus(text)
        parse_consensus(CONSENSUS + text)


class MessageTests(SynchronousTestCase):
    """What tor says last."""

    def test_message(self) -> None:
        """A message without time and severity; a line of another form is left as it is."""
        self.assertEqual(
            message_of("Nov 23 12:00:00.000 [notice] Bootstrapped 0% [x]: y"), "Bootstrapped 0% [x]: y"
        )
        self.assertEqual(message_of("sh: tor: not found\n"), "sh: tor: not found")

    def test_last_words(self) -> None:
        """The last two different complaints that are not standing ones, else the last line that tells something."""
        warn = "Nov 23 12:00:00.000 [warn] "
        self.assertEqual(last_words([]), "it said nothing")
        self.assertEqual(last_words([warn + "You are running Tor as root. No.", "x [notice] Hello"]), "Hello")
        ours = [f"x [notice] {message}" for message in ("Opened Socks listener", "New control connection opened.")]
        self.assertEqual(last_words(["x [notice] Bootstrapped 5% (conn)", *ours]), "Bootstrapped 5% (conn)")
        self.assertEqual(last_words(ours), "New control connection opened.")
        self.assertEqual(last_words([warn + "a", warn + "b", warn + "b", "x [notice] c"]), "b")
        self.assertEqual(last_words([warn + "a", warn + "b", "x [err] c"]), "b; c")


class TimeTests(SynchronousTestCase):
    """When relays may come up."""

    def test_window(self) -> None:
        """Between 3 and 5 s of every 5 s at once, else when the next such time begins."""
        waits = {wall: Voting().until_good_time(wall) for wall in (100.0, 101.5, 102.9, 103.0, 104.9)}
        for wall, wait in waits.items():
            self.assertAlmostEqual(wait, max(0.0, 103.0 - wall))


class VotingTests(SynchronousTestCase):
    """When authorities vote whose links have delay."""

    def test_short(self) -> None:
        """The links of most networks change nothing."""
        self.assertEqual(Voting.over(0.045), Voting())

    def test_long(self) -> None:
        """A vote comes within half of its time, and relays are ready before one begins; tor takes the intervals."""
        for delay in (0.15, 0.3, 0.5):
            voting = Voting.over(delay)
            self.assertLess(10 * delay, voting.exchange / 2)
            begins = voting.first - 2 * voting.exchange
            self.assertGreaterEqual(begins, 1)
            self.assertGreater(begins + 2, 10 * delay)
            self.assertLess(2 * voting.exchange, voting.interval // 2)
            for interval in (voting.first, voting.interval):
                self.assertEqual(1800 % interval, 0)
            self.assertEqual(voting.until_good_time(100 * voting.first), voting.first - 2)


class ProcessTests(TestCase):
    """Finding, recognizing and ending programs."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="perfd-test-")).resolve()
        self.addCleanup(shutil.rmtree, self.directory)
        self.torrc = self.directory / "torrc"
        self.form = ("--defaults-torrc", "/none", "-f", str(self.torrc))

    def spawn(
        self, *arguments: str, code: str = "import time; time.sleep(60)", user: int | None = None
    ) -> subprocess.Popen[bytes]:
        # Another user may not be able to run the Python of the tests.
        command = [sys.executable, "-c", code] if user is None else ["/bin/sh", "-c", "sleep 60; exit"]
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, user=user)
        self.addCleanup(process.stdout.close)  # type: ignore[union-attr]
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        while not command_line(process.pid):  # for a moment while it begins
            time.sleep(0.001)
        return process

    def test_find_program(self) -> None:
        """Programs are found beyond PATH; a missing one is an error with its package."""
        self.patch(os, "environ", {"PATH": str(self.directory)})
        self.assertEqual(os.path.basename(find_program("ldconfig", "libc-bin")), "ldconfig")
        error = self.assertRaises(ProgramMissingError, find_program, "no-such-program", "tor")
        self.assertEqual(str(error), "the program no-such-program was not found; it is in the Debian package tor")

    async def test_run(self) -> None:
        """Output, input and exit code."""
        finished = await run_program(reactor, ["/bin/sh", "-c", "cat; echo error >&2; exit 3"], stdin=b"in\n")
        self.assertEqual((finished.code, finished.output), (3, "in\nerror\n"))

    async def test_run_too_long(self) -> None:
        """A program that does not end is killed, and much output is not kept."""
        finished = await run_program(reactor, ["/bin/sh", "-c", "yes | head -c 1000000; sleep 60"], timeout=1.0)
        self.assertEqual(finished.code, -signal.SIGKILL)
        self.assertEqual(len(finished.output), 65536)

    def test_stale_pid_file(self) -> None:
        """A pid file counts only if that process runs our torrc."""
        pid_file = self.directory / "tor.pid"
        for content in ("", "x", "0", "-1", "99999999", str(os.getpid())):
            pid_file.write_text(content)
            self.assertIsNone(recorded_process(pid_file, self.torrc), content)
        process = self.spawn(*self.form)
        pid_file.write_text(f"{process.pid}\n")
        self.assertEqual(recorded_process(pid_file, self.torrc), process.pid)

    async def test_without_proc(self) -> None:
        """Where there is no /proc, the lock in its data directory tells that the process in a pid file is tor."""
        self.patch(programs, "has_proc", lambda: False)
        pid_file = self.directory / programs.PID_FILE
        stranger = self.spawn()
        pid_file.write_text(f"{stranger.pid}\n")
        self.assertIsNone(recorded_process(pid_file, self.torrc))
        locking = (
            "import fcntl,sys,time; f=open(sys.argv[1],'w'); fcntl.flock(f,2); print(1,flush=True); time.sleep(60)"
        )
        tor = self.spawn(str(self.directory / "lock"), code=locking)
        tor.stdout.readline()  # type: ignore[union-attr]
        pid_file.write_text(f"{tor.pid}\n")
        self.assertEqual(recorded_process(pid_file, self.torrc), tor.pid)
        self.assertEqual(find_processes([self.torrc, self.directory / "other" / "torrc"]), [tor.pid])
        self.assertEqual(await end_processes(reactor, [self.torrc]), 1)
        self.assertEqual((tor.wait(), stranger.poll()), (-signal.SIGTERM, None))
        self.assertIsNone(recorded_process(pid_file, self.torrc))

    async def test_end(self) -> None:
        """Exactly the processes with our torrc are ended, also one that ignores SIGTERM."""
        deaf = "import signal,time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
        ours = [self.spawn(*self.form), self.spawn(*self.form, code=deaf)]
        others = [
            self.spawn(*self.form[:3], str(self.torrc) + "-other"),
            self.spawn("-f", str(self.torrc)),  # as tail -f
            self.spawn(str(self.torrc)),  # as an editor
            self.spawn(*self.form, user=65534) if os.geteuid() == 0 else self.spawn("another user's"),
        ]
        ours[1].stdout.readline()  # type: ignore[union-attr]
        self.assertEqual(sorted(find_processes([self.torrc])), sorted(process.pid for process in ours))
        self.assertEqual(await end_processes(reactor, [self.torrc], grace=0.5), 2)
        self.assertEqual([process.wait() for process in ours], [-signal.SIGTERM, -signal.SIGKILL])
        self.assertEqual([other.poll() for other in others], [None] * 4)
        self.assertEqual(await end_processes(reactor, [self.torrc]), 0)

    async def test_leftover(self) -> None:
        """A tor whose Perfd is gone is ended; one whose Perfd lives is left alone, and an error."""
        directory = TorDirectory(self.directory)
        stale = self.spawn(*self.form, "--__OwningControllerProcess", "99999999")
        await directory.end_leftovers(reactor)
        self.assertEqual(stale.wait(), -signal.SIGTERM)
        owner = self.spawn()
        owned = self.spawn(*self.form, "--__OwningControllerProcess", str(owner.pid))
        with self.assertRaises(DirectoryInUseError) as raised:
            await directory.end_leftovers(reactor)
        self.assertEqual(str(raised.exception), f"process {owner.pid} runs a tor in {self.directory}")
        self.assertIsNone(owned.poll())


class FakeTorTestCase(TestCase):
    """A private network of one authority and one exit whose tor is a script.

    The script fails with what the file ``output`` holds, if there is one, and knows the network if there is a file
    ``consensus``.
    """

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="perfd-test-")).resolve()
        self.addCleanup(shutil.rmtree, self.directory)
        self.programs = self.directory / "bin"
        self.programs.mkdir()
        for name, text in (("tor", FAKE_TOR), ("tor-gencert", FAKE_GENCERT)):
            (self.programs / name).write_text(text.replace("BIN/", f"{self.programs}/"))
            (self.programs / name).chmod(0o700)
        self.tell("expires", "2099-01-01 00:00:00")
        self.patch(os, "environ", {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"})
        self.network = self.directory / "network"
        self.progress: list[tuple[int, int, str]] = []
        self.addCleanup(self._kill_all)

    def tell(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text)

    def told(self, name: str) -> list[str]:
        """What the scripts noted."""
        path = self.programs / name
        return path.read_text().splitlines() if path.exists() else []

    def make(self, owner: Callable[[], int] | None = None) -> Testnet:
        """A network whose clock stands at a good time to start."""
        clock = Clock(wall=lambda: 1_795_435_204.0, monotonic=time.monotonic)
        return Testnet(self.network, config=TestnetConfig(relays=2), owner=owner, clock=clock)

    async def start(self, testnet: Testnet, deadline: float = 20.0) -> bool:
        return await testnet.start(reactor, progress=lambda *step: self.progress.append(step), deadline=deadline)

    async def failure(self, testnet: Testnet, deadline: float = 20.0) -> str:
        """The error of a start that must fail."""
        with self.assertRaises(TestnetError) as raised:
            await self.start(testnet, deadline)
        return str(raised.exception)

    def running(self) -> list[int]:
        return find_processes([self.network / name / "torrc" for name in nicknames(4)])

    async def kill_exit(self) -> None:
        """Let the exit end without a word."""
        pid = network_status(self.network).pids[1] or 0
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not command_line(pid))

    def _kill_all(self) -> None:
        for pid in self.running():
            os.kill(pid, signal.SIGKILL)


class NetworkTests(FakeTorTestCase):
    """Starting, stopping, and all that can go wrong."""

    async def test_life(self) -> None:
        """Start, find it running, stop, find it stopped; keys and ports are the same at the next start."""
        self.tell("consensus", CONSENSUS)
        self.assertTrue(await self.start(self.make()))
        self.assertEqual(self.progress[-1], (4, 4, "all relays know each other"))
        self.assertEqual(sorted(step[2] for step in self.progress[:2]), ["auth1 started", "exit1 started"])
        status = network_status(self.network)
        self.assertTrue(status.ready)
        self.assertEqual(sorted(filter(None, status.pids)), sorted(self.running()))
        self.assertEqual(self.network.stat().st_mode & 0o777, 0o700)
        self.assertFalse(await self.start(self.make()))
        self.assertEqual(len(self.told("started")), 2)
        self.assertNotIn("--__OwningControllerProcess", self.told("started")[0])

        self.assertTrue(await self.make().stop(reactor))
        self.assertEqual(self.running(), [])
        self.assertTrue(network_status(self.network).stopped)
        self.assertFalse(await self.make().stop(reactor))

        self.assertTrue(await self.start(self.make()))
        self.assertEqual(network_status(self.network).state, status.state)
        self.assertEqual(len(self.told("gencert")), 1)

    async def test_owned(self) -> None:
        """Relays of a daemon know whose they are; nobody else may start or stop them while it lives."""
        self.tell("consensus", CONSENSUS)
        owned = self.make(owner=os.getpid)
        await self.start(owned)
        self.assertTrue(self.told("started")[0].endswith(f"--__OwningControllerProcess {os.getpid()}"))
        with self.assertRaises(TestnetError) as raised:
            await self.make().stop(reactor)
        self.assertEqual(
            str(raised.exception), f"the private network in {self.network} is in use by process {os.getpid()}"
        )
        self.assertIn("in use by process", await self.failure(self.make()))
        self.assertTrue(await owned.stop(reactor))
        self.assertEqual(self.running(), [])

    async def test_owner_at_start(self) -> None:
        """The owner is the process that starts the network, not the one that forked it."""
        self.tell("consensus", CONSENSUS)
        pids = [99999999]
        owned = self.make(owner=lambda: pids[-1])
        pids.append(os.getpid())
        await self.start(owned)
        self.assertTrue(self.told("started")[0].endswith(f"--__OwningControllerProcess {os.getpid()}"))
        self.assertEqual((network_status(self.network).state or State(())).owner, os.getpid())
        await owned.stop(reactor)

    async def test_leftovers(self) -> None:
        """Relays that a crashed daemon left are ended before new ones start, without their pid files too."""
        self.tell("consensus", CONSENSUS)
        crashed = self.make(owner=lambda: 99999999)
        await self.start(crashed)
        crashed._lock.release()
        old = self.running()
        (self.network / "auth1" / "tor.pid").unlink()
        self.assertTrue(await self.start(self.make()))
        self.assertEqual(set(old) & set(self.running()), set())
        self.assertEqual(len(self.running()), 2)

    async def test_incomplete(self) -> None:
        """A network without an owner of which a relay ended gets that relay back; the others run on."""
        self.tell("consensus", CONSENSUS)
        await self.start(self.make())
        await self.kill_exit()
        auth1 = network_status(self.network).pids[0]
        self.assertFalse(network_status(self.network).ready)
        self.assertFalse(await self.start(self.make(owner=os.getpid)))
        self.assertEqual(network_status(self.network).pids[0], auth1)
        self.assertTrue(network_status(self.network).ready)
        self.assertNotIn("--__OwningControllerProcess", self.told("started")[-1])

    async def test_shared(self) -> None:
        """A network without an owner is used by several, may be stopped, and is not locked by any of them."""
        self.tell("consensus", CONSENSUS)
        await self.start(self.make())
        daemons = [self.make(owner=os.getpid), self.make(owner=os.getpid)]
        for daemon in daemons:
            self.assertFalse(await self.start(daemon))
        await self.kill_exit()
        self.assertRegex(await daemons[0].restart_dead_relay(reactor) or "", "^exit1 ended: ")
        self.assertIsNone(await daemons[1].restart_dead_relay(reactor))
        self.assertTrue(await self.make().stop(reactor))
        with self.assertRaises(NetworkEndedError):
            await daemons[0].restart_dead_relay(reactor)
        self.assertEqual(self.running(), [])

    async def test_owner_gone(self) -> None:
        """Relays of another daemon that is gone are not started again for it: they would end at once."""
        self.tell("consensus", CONSENSUS)
        crashed = self.make(owner=lambda: 99999999)
        await self.start(crashed)
        crashed._lock.release()
        await self.kill_exit()
        with self.assertRaises(NetworkEndedError):
            await self.make(owner=os.getpid).restart_dead_relay(reactor)
        self.assertEqual(len(self.running()), 1)

    async def test_restart_by_another(self) -> None:
        """While another process has the lock, a relay that ended is left to it."""
        self.tell("consensus", CONSENSUS)
        await self.start(self.make())
        await self.kill_exit()
        other = self.make()
        other._lock.take()
        self.assertIsNone(await self.make(owner=os.getpid).restart_dead_relay(reactor))
        other._lock.release()
        self.assertEqual(len(self.running()), 1)

    async def test_shared_not_ready(self) -> None:
        """A start that fails ends nothing that it did not start, and keeps no lock."""
        self.tell("consensus", CONSENSUS)
        await self.start(self.make())
        pids = self.running()
        (self.network / "exit1" / "cached-microdescs.new").unlink()
        self.assertIn("exit1 did not know all relays", await self.failure(self.make(owner=os.getpid), 0.5))
        self.assertEqual(self.running(), pids)
        self.assertTrue(await self.make().stop(reactor))

    async def test_expired_keys(self) -> None:
        """Certificates that will expire soon are made anew."""
        self.tell("consensus", CONSENSUS)
        self.tell("expires", "2026-12-01 00:00:00")
        await self.start(self.make())
        await self.make().stop(reactor)
        await self.start(self.make())
        self.assertEqual(len(self.told("gencert")), 2)

    async def test_no_consensus(self) -> None:
        """The deadline's error names relay, last message and log; nothing is left running."""
        message = await self.failure(self.make(), deadline=0.5)
        self.assertEqual(
            message,
            "there was no consensus within 0.5 s; auth1 said last: Bootstrapped 0% (starting): Starting "
            f"(log: {self.network}/auth1/tor.log)",
        )
        self.assertEqual(self.running(), [])

    async def test_relay_missing_in_consensus(self) -> None:
        """The deadline's error names the relay that the consensus lacks."""
        self.tell("consensus", CONSENSUS.replace("r exit1", "r exit9"))
        self.assertIn("there was no consensus with exit1 in it within 0.5 s", await self.failure(self.make(), 0.5))

    async def test_relay_uninformed(self) -> None:
        """The deadline's error names the relay that does not know the others."""
        self.tell("consensus", CONSENSUS)
        script = self.programs / "tor"
        script.write_text(script.read_text().replace("onion-key\\nonion-key\\n", "onion-key\\n"))
        self.assertIn("auth1 did not know all relays within 0.5 s", await self.failure(self.make(), 0.5))

    async def test_bad_start(self) -> None:
        """A relay that does not start: its name, its complaint, its log."""
        self.tell("output", "Nov 23 12:00:00.000 [warn] Failed to parse/validate config: Unknown option 'X'.\n")
        self.assertEqual(
            await self.failure(self.make()),
            "auth1 did not start: Failed to parse/validate config: Unknown option 'X'. "
            f"(log: {self.network}/auth1/tor.log)",
        )
        self.assertEqual(len(self.told("started")), 2)

    async def test_port_taken(self) -> None:
        """A port that somebody took in the meantime: a second try, with other ports."""
        tried: list[list[int]] = []
        original = relays.plan

        def plan(*arguments: Any) -> State:
            state = original(*arguments)
            tried.append([port for relay in state.relays for port in relay.ports])
            return state

        self.patch(relays, "plan", plan)
        self.tell("output", "Nov 23 12:00:00.000 [warn] Could not bind to 127.0.0.1:1: Address already in use\n")
        self.assertIn("Address already in use", await self.failure(self.make()))
        self.assertEqual(len(tried), 2)
        self.assertNotEqual(tried[0], tried[1])

    async def test_relay_dies(self) -> None:
        """A relay that ends while the consensus is waited for ends the start, with its last message."""
        starting = Deferred.fromCoroutine(self.failure(self.make()))
        await until(lambda: network_status(self.network).running)
        os.kill(network_status(self.network).pids[1] or 0, signal.SIGKILL)
        message = await starting
        self.assertEqual(
            message, f"exit1 ended: Bootstrapped 0% (starting): Starting (log: {self.network}/exit1/tor.log)"
        )
        self.assertEqual(self.running(), [])

    async def test_cancelled(self) -> None:
        """A start that is cancelled leaves nothing running, and no lock."""
        starting = Deferred.fromCoroutine(self.start(self.make()))
        await until(self.running)
        starting.cancel()
        await starting.addErrback(lambda _: None)
        self.assertEqual(self.running(), [])
        self.tell("consensus", CONSENSUS)
        self.assertTrue(await self.start(self.make()))

    async def test_missing_programs(self) -> None:
        """Without tor or tor-gencert the error names the program and its package."""
        network = Testnet(self.network, "no-such-tor")
        self.assertEqual(
            await self.failure(network),
            "the private network cannot be started: the program no-such-tor was not found; it is in the Debian "
            "package tor",
        )
        self.assertFalse(self.network.exists())

    async def test_foreign_directory(self) -> None:
        """A directory with other things in it is not touched."""
        self.network.mkdir(mode=0o755)
        (self.network / "thesis.tex").touch()
        self.assertEqual(
            await self.failure(self.make()), f"{self.network} is not empty, and holds no private network"
        )
        self.assertEqual(self.network.stat().st_mode & 0o777, 0o755)

    async def test_unusable_directory(self) -> None:
        """A path that cannot be a directory is an error."""
        self.network.touch()
        self.assertIn("cannot be used", await self.failure(self.make()))

    async def test_write_error(self) -> None:
        """An error of the file system during the start is an error, not a traceback."""

        def full(*arguments: Any) -> None:
            raise OSError(28, "No space left on device")

        self.patch(relays, "clear", full)
        self.assertEqual(
            await self.failure(self.make()),
            f"the private network in {self.network} cannot be started: [Errno 28] No space left on device",
        )

    async def test_first_start_fails(self) -> None:
        """A first start that fails while keys are made tells its cause, and can be repeated and stopped."""
        gencert = self.programs / "tor-gencert"
        script = gencert.read_text()
        gencert.write_text("#!/bin/sh\necho 'no entropy'; exit 1\n")
        for _ in range(2):
            self.assertEqual(await self.failure(self.make()), "tor-gencert failed: no entropy")
        self.assertFalse(network_status(self.network).running)
        with self.assertRaises(TestnetError) as raised:
            _ = self.make().client_options
        self.assertIn("there is no private network in", str(raised.exception))
        self.assertFalse(await self.make().stop(reactor))
        gencert.write_text(script)
        self.tell("consensus", CONSENSUS)
        self.assertTrue(await self.start(self.make()))

    async def test_first_start_killed(self) -> None:
        """A first start that was killed before its state was whole leaves nothing that hinders the next one."""
        self.network.mkdir()
        (self.network / "lock").touch()
        scratch_name(self.network / "testnet.json").touch()
        self.tell("consensus", CONSENSUS)
        self.assertTrue(await self.start(self.make()))

    async def test_killed_while_it_starts(self) -> None:
        """What has no owner has one until it is ready: after a kill -9 of who starts it nothing goes on."""
        argv = module_command("perfd", "testnet", "start", str(self.network), "--relays", "4")
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=module_environment(os.environ)) as starter:
            try:
                await until(lambda: len(self.running()) == 4)
            finally:
                starter.kill()
        await until(lambda: not processes_in(self.network))
        self.assertEqual(network_status(self.network).pids, (None,) * 4)
        self.assertFalse(users.is_starting(self.network))

    async def test_nobody_watches_what_runs(self) -> None:
        """Once it is ready, it lives on without who started it, and without anybody who watches."""
        self.tell("consensus", CONSENSUS)
        await self.start(self.make())
        self.assertFalse(users.is_starting(self.network))
        relays_alone = set(self.running())
        await until(lambda: set(processes_in(self.network)) == relays_alone)
        await deferLater(reactor, 1.5)
        self.assertEqual(set(self.running()), relays_alone)

    async def test_restart_of_a_relay(self) -> None:
        """A relay that ended is started again with the same torrc, for the same owner."""
        self.tell("consensus", CONSENSUS)
        testnet = self.make(owner=os.getpid)
        await self.start(testnet)
        self.assertIsNone(await testnet.restart_dead_relay(reactor))
        await self.kill_exit()
        ended = await testnet.restart_dead_relay(reactor)
        self.assertRegex(ended or "", "^exit1 ended: ")
        self.assertTrue(network_status(self.network).running)
        self.assertEqual(self.told("started")[-1], self.told("started")[-1].replace("auth1", "exit1"))
        self.assertIn(f"--__OwningControllerProcess {os.getpid()}", self.told("started")[-1])
        await testnet.stop(reactor)


class ServiceTests(FakeTorTestCase):
    """The network in the daemon."""

    def service(self) -> TestnetService:
        service = TestnetService(reactor, self.make(owner=os.getpid))
        self.addCleanup(service.stopService)
        return service

    async def test_life(self) -> None:
        """It is ready when relays know each other, and gone when it has stopped."""
        service = self.service()
        self.assertEqual(service.not_ready, "the private network is not running")
        service.startService()
        await until(lambda: "started (2 of 4)" in (service.not_ready or ""))
        self.tell("consensus", CONSENSUS)
        for name in ("auth1", "exit1"):
            (self.network / name / "cached-microdesc-consensus").write_text(CONSENSUS)
            (self.network / name / "cached-microdescs.new").write_text("onion-key\nonion-key\n")
        await service.when_ready()
        self.assertIn("TestingTorNetwork 1", service.client_options)
        await service.stopService()
        self.assertEqual(self.running(), [])
        self.assertEqual(service.not_ready, "the private network was stopped")

    async def test_failure(self) -> None:
        """A start that fails is a reason, and tried again."""
        self.tell("output", "Nov 23 12:00:00.000 [err] Nothing works.\n")
        service = self.service()
        service.startService()
        await until(lambda: "next try" in (service.not_ready or ""))
        self.assertEqual(
            service.not_ready,
            "the private network could not be started: auth1 did not start: Nothing works. "
            f"(log: {self.network}/auth1/tor.log); next try in 1 s",
        )
        (self.programs / "output").unlink()
        self.tell("consensus", CONSENSUS)
        await service.when_ready()

    async def test_adopted(self) -> None:
        """A network that the command left running is used, and left running."""
        self.tell("consensus", CONSENSUS)
        await self.start(self.make())
        pids = self.running()
        service = self.service()
        service.startService()
        await service.when_ready()
        await service.stopService()
        self.assertEqual(self.running(), pids)
        self.assertTrue(await self.make().stop(reactor))

    async def test_stopped_by_somebody_else(self) -> None:
        """A network of the command's that is stopped while it is used: not ready, and then one of its own."""
        self.patch(sys.modules[TestnetService.__module__], "CHECK_INTERVAL", CHECK_INTERVAL / 50)
        self.tell("consensus", CONSENSUS)
        await self.start(self.make())
        service = self.service()
        service.startService()
        await service.when_ready()
        await self.make().stop(reactor)
        await until(lambda: service.not_ready is not None)
        self.assertEqual(service.not_ready, "the private network was stopped by somebody else; next try in 1 s")
        await service.when_ready()
        self.assertEqual((network_status(self.network).state or State(())).owner, os.getpid())

    async def test_lost_relay(self) -> None:
        """A relay that ends is started again."""
        self.patch(sys.modules[TestnetService.__module__], "CHECK_INTERVAL", CHECK_INTERVAL / 50)
        self.tell("consensus", CONSENSUS)
        service = self.service()
        service.startService()
        await service.when_ready()
        pid = network_status(self.network).pids[1] or 0
        os.kill(pid, signal.SIGKILL)
        await until(lambda: network_status(self.network).pids[1] not in (None, pid))
        self.assertIsNone(service.not_ready)
        self.assertTrue(any(pid != other for other in self.running()))
