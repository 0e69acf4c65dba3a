"""What the service manager is told, on real sockets; the systemd unit as systemd itself reads it."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from perfd.daemon.notify import TELL, Notifications, Notifier
from tests.support.instance import SOCKS_CONFIG, TestInstance, running, wait_for
from tests.support.places import CHECKOUT


class Manager:
    """The socket of a service manager, at a path or in the abstract namespace."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def received(self) -> list[dict[str, str]]:
        """All messages so far; each must be lines of NAME=value."""
        while True:
            try:
                text = self._socket.recv(65536).decode()
            except BlockingIOError:
                return self.messages
            pairs = [line.partition("=") for line in text.split("\n")]
            assert all(name and equals for name, equals, _ in pairs), text
            self.messages.append({name: value for name, _, value in pairs})

    def has(self, name: str, value: str | None = None) -> list[dict[str, str]]:
        """The messages that say so."""
        return [m for m in self.received() if name in m and value in (None, m[name])]


@contextmanager
def manager(address: str) -> Iterator[Manager]:
    """A service manager until the end of the block."""
    made = Manager(address)
    try:
        yield made
    finally:
        made.close()


class NotifierTests(SynchronousTestCase):
    """The protocol."""

    def test_addresses(self) -> None:
        """A message arrives at a path, and at a name in the abstract namespace."""
        path = f"/tmp/perfd-{secrets.token_hex(8)}"  # the test's directory may have too long a name
        self.addCleanup(os.unlink, path)
        for address in (path, f"@perfd-{secrets.token_hex(8)}"):
            with manager(address) as found:
                Notifier(address).send("READY=1", "STATUS=ä")
                self.assertEqual(found.received(), [{"READY": "1", "STATUS": "ä"}])

    def test_environment(self) -> None:
        """The variables are taken, since children are not meant; a watchdog for another process is not ours."""
        given = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "6000000", "WATCHDOG_PID": str(os.getpid()), "A": "b"}
        found = Notifier.from_environment(given)
        self.assertEqual((found.is_wanted, found.watchdog, given), (True, 6.0, {"A": "b"}))
        for other in (
            {"WATCHDOG_USEC": "6000000", "WATCHDOG_PID": "1"},
            {"WATCHDOG_USEC": "x"},
            {"NOTIFY_SOCKET": ""},
        ):
            found = Notifier.from_environment(other)
            self.assertEqual((found.is_wanted, found.watchdog, other), (False, None, {}))

    def test_nobody_there(self) -> None:
        """A socket that is gone, or full, is no trouble; it is logged once."""
        notifier = Notifier("/nowhere/notify")
        notifier.send("READY=1")
        notifier.send("READY=1")
        address = f"@perfd-{secrets.token_hex(8)}"
        with manager(address) as found:
            notifier = Notifier(address)
            for _ in range(10_000):
                notifier.send("WATCHDOG=1")
            self.assertGreater(len(found.received()), 0)

    def test_life(self) -> None:
        """From the start to the stop: READY, STATUS when it changes, WATCHDOG twice within its time."""
        address = f"@perfd-{secrets.token_hex(8)}"
        clock = Clock()
        with manager(address) as found:
            status = ["one"]
            service = Notifications(clock, Notifier(address, 6.0), lambda: status[0])
            service.startService()
            service.reloading()  # before it is ready there is nothing to tell
            service.ready()
            clock.advance(3.0)
            status[0] = "two"
            clock.advance(3.0)
            service.reloading()
            service.reloaded()
            service.stopping()
            service.stopService()
            messages = found.received()
        self.assertRegex(messages[5].pop("MONOTONIC_USEC"), "^[0-9]+$")
        self.assertEqual(
            messages,
            [
                {"STATUS": "starting"},
                {"READY": "1", "STATUS": "one"},
                {"WATCHDOG": "1"},
                {"WATCHDOG": "1"},
                {"STATUS": "two", "WATCHDOG": "1"},
                {"RELOADING": "1"},
                {"READY": "1"},
                {"STOPPING": "1", "STATUS": "stopping"},
            ],
        )
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_without_watchdog(self) -> None:
        """The status is told anyway."""
        address = f"@perfd-{secrets.token_hex(8)}"
        clock = Clock()
        with manager(address) as found:
            status = iter(("one", "one", "two"))
            service = Notifications(clock, Notifier(address), lambda: next(status))
            service.ready()
            clock.advance(TELL)
            self.assertEqual(found.received(), [{"READY": "1", "STATUS": "one"}, {"STATUS": "two"}])
            service.stopService()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[TestInstance]:
    """An instance that is not started."""
    made = TestInstance(tmp_path)
    yield made
    made.perfd("stop")


@pytest.mark.parametrize("is_abstract", [False, True])
def test_daemon_of_a_service_manager(instance: TestInstance, is_abstract: bool) -> None:
    """`perfd run` is ready when its port answers and its database is there; reloads, the watchdog, the end."""
    address = f"@perfd-{secrets.token_hex(8)}" if is_abstract else str(instance.directory / "notify")
    environment = {**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
    with (
        manager(address) as found,
        running(
            [sys.executable, "-P", "-m", "perfd", "run"],
            cwd=instance.directory,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        (ready,) = wait_for(lambda: found.has("READY"), "READY=1")
        assert ready["STATUS"].startswith("1 experiments, next at 20")
        assert instance.get("/random/1")[0] == 200
        assert (instance.directory / "perfd.sqlite").exists()
        seen = len(found.has("WATCHDOG"))
        time.sleep(2.0)
        assert len(found.has("WATCHDOG")) >= seen + 3
        instance.configure(SOCKS_CONFIG.replace("1 s", "2 s"))
        process.send_signal(signal.SIGHUP)  # as Type=notify-reload does
        wait_for(lambda: len(found.has("READY")) == 2, "the end of the reload")
        assert instance.perfd("reload").stdout == "nothing has changed\n"
        wait_for(lambda: len(found.has("READY")) == 3, "the end of another reload")
        order = [name for m in found.messages for name in ("RELOADING", "READY") if name in m]
        assert order == ["READY", "RELOADING", "READY", "RELOADING", "READY"]
        process.terminate()
        process.wait(60)
        assert found.has("STOPPING")
    assert "cannot be told" not in instance.log.read_text()


def test_hung_reactor(instance: TestInstance) -> None:
    """A daemon whose reactor does not get to its work is silent, so that the watchdog ends it."""
    address = f"@perfd-{secrets.token_hex(8)}"
    environment = {**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
    with (
        manager(address) as found,
        running(
            [sys.executable, "-P", "-m", "perfd", "run"],
            cwd=instance.directory,
            env=environment,
            stdout=subprocess.DEVNULL,
        ) as process,
    ):
        wait_for(lambda: len(found.has("WATCHDOG")) > 2, "the watchdog")
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        seen = len(found.has("WATCHDOG"))
        time.sleep(1.0)
        assert len(found.has("WATCHDOG")) == seen
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: len(found.has("WATCHDOG")) > seen, "the watchdog again")
        process.terminate()
        process.wait(60)


def test_cannot_start(instance: TestInstance) -> None:
    """A daemon that cannot go on is never ready, and says why."""
    address = f"@perfd-{secrets.token_hex(8)}"
    (instance.directory / "perfd.sqlite").write_bytes(b"\0" * 100 + os.urandom(8192))
    with manager(address) as found:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "perfd", "run"],
            cwd=instance.directory,
            env={**os.environ, "NOTIFY_SOCKET": address},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode != 0
        assert found.has("READY") == []


UNIT = CHECKOUT / "init" / "perfd.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_unit(tmp_path: Path) -> None:
    """Systemd has nothing to say against the unit, and finds it closed well enough."""
    text = UNIT.read_text(encoding="utf-8")
    verified = tmp_path / "perfd.service"
    verified.write_text(text.replace("/var/lib/perfd/perfd ", "/bin/true "))  # it must be there to be good
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(verified)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "perfd.service" in line]) == (0, [])
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=30", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (score,) = re.findall(r"Overall exposure level for perfd.service: ([0-9.]+)", done.stdout)
    assert float(score) < 3


def test_unit_allows_what_is_needed() -> None:
    """Firefox compiles at run time, and its sandbox consists of namespaces; port 80 needs its capability."""
    options = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE))
    assert not {"MemoryDenyWriteExecute", "RestrictNamespaces", "PrivateUsers", "PrivateNetwork"} & set(options)
    assert options["SystemCallFilter"].split() == ["@system-service", "chroot"]
    assert options["Type"] == "notify"
    assert options["AmbientCapabilities"] == options["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    assert options["ExecReload"].endswith("perfd reload")
