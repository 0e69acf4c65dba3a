"""The instances of a campaign: what each of them measures over, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import attrs

from perfd.tor.testnet.network import network_status
from tests.campaign.peers import Proxy
from tests.campaign.plan import Plan
from tests.support.forwarder import Forwarder
from tests.support.instance import TestInstance, free_port, is_alive, wait_for
from tests.support.stepped_clock import SteppedClock

DISK = 64 << 20
"""Bytes of the file system of an instance that has one of its own."""

WORKER = 9
"""The range of ports that instances take, for ``free_port``: none of tests that run beside them."""

INTERVALS = {"small": 1.0, "page": 10.0}
"""Seconds between the slots of the experiments; through a tor ``small`` has twice as many."""

_CONFIG = """
[perfd]
source = campaign
network = {network}
{more}
[server]
listen = 127.0.0.1:{port}
max-connections = 200
{tor}
[experiment:small]
size = 1 KiB
interval = {interval:g} s
timeout = {timeout:g} s
"""
_PAGE = """
[experiment:page]
type = pageload
interval = 10 s
timeout = 20 s
quiet = 0.2 s
"""


@attrs.frozen
class Testnet:
    """The private network that all instances of a campaign share."""

    __test__ = False

    directory: Path
    client_options: Sequence[str]


class Tail:
    """The lines of a log that say that a run succeeded, as they come; the file may be moved or deleted."""

    def __init__(self, path: Path, experiment: str) -> None:
        self._path = path
        self._mark = f" EXPERIMENT={experiment} ".encode()
        self._file: int | None = None
        self._place = 0

    def successes(self) -> int:
        """How many came since the last call."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._file or status.st_size < self._place:
                    self._file, self._place = status.st_ino, 0
                file.seek(self._place)
                data = file.read()
        except OSError:
            return 0
        whole = data[: data.rfind(b"\n") + 1]
        self._place += len(whole)
        return sum(self._mark in line and b" OUTCOME=ok " in line for line in whole.splitlines())


class Subject:
    """One instance with all that belongs to it, made as ``plan`` says; ``testnet`` is for those with a tor."""

    def __init__(self, directory: Path, plan: Plan, testnet: Testnet | None) -> None:
        self.plan = plan
        self.directory = directory / "instance"
        self.directory.mkdir(parents=True)
        self.has_disk = plan.network in ("socks", "proxy") and _mount(directory / "disk", self.directory)
        self.clock = SteppedClock(directory)
        self.proxy = Proxy() if plan.network == "proxy" else None
        self._tor_directory = directory / "tor"
        self._control = free_port(WORKER)
        self._testnet = testnet
        self._tor: subprocess.Popen[bytes] | None = None
        self.forwarder: Forwarder | None = None
        if plan.network == "attach":
            self.start_tor()
            self.forwarder = Forwarder(self._control)
        self._instance = TestInstance(self.directory, self._config(), free_port(WORKER))
        self._instance.environment = self.clock.environment
        self.tail = Tail(self.directory / "perfd.log", self.measured)

    @property
    def port(self) -> int:
        return self._instance.port

    @property
    def measured(self) -> str:
        """The experiment whose successes show that all is well again."""
        return "page" if self.plan.network == "page" else "small"

    @property
    def intervals(self) -> dict[str, float]:
        """Of each experiment, in seconds."""
        over_tor = self.plan.network in ("testnet", "attach")
        wanted = {"small", self.measured}
        return {name: INTERVALS[name] * (2 if over_tor else 1) for name in INTERVALS if name in wanted}

    @property
    def database(self) -> Path:
        return self.directory / "perfd.sqlite"

    @property
    def log(self) -> Path:
        return self.directory / "perfd.log"

    @property
    def pid(self) -> int:
        return self._instance.pid

    def now(self) -> float:
        """The wall clock of the instance."""
        return time.time() + self.clock.seconds

    def perfd(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._instance.perfd(*words, timeout=180)

    def start(self) -> None:
        """Start the daemon, which must work."""
        done = self.perfd("start")
        if done.returncode:
            raise AssertionError(f"perfd start gave {done.returncode}: {done.stdout}{done.stderr}")

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a page; the status is 0 where the web server does not answer."""
        try:
            return self._instance.get(path)
        except OSError as error:
            return 0, str(error).encode()

    def success(self, limit: float) -> float | None:
        """Seconds until a run has succeeded, None if none does within ``limit``."""
        began = time.monotonic()
        self.tail.successes()
        while time.monotonic() < began + limit:
            if self.tail.successes():
                return time.monotonic() - began
            time.sleep(0.05)
        return None

    def committed(self) -> set[str]:
        """The ids in the database; empty where there is none."""
        with contextlib.suppress(sqlite3.Error), closing(self.connect()) as connection:
            return {row[0] for row in connection.execute("SELECT id FROM measurements")}
        return set()

    def connect(self) -> sqlite3.Connection:
        """The database, to be read and locked beside the daemon."""
        return sqlite3.connect(f"file:{self.database}?mode=rw", uri=True, timeout=10, isolation_level=None)

    def tor_pid(self) -> int:
        """The tor through which it measures."""
        if self._tor is not None:
            return self._tor.pid
        torrc = self.directory / "tor" / "default" / "torrc"

        def found() -> list[int]:
            return [pid for pid in self.processes() if str(torrc).encode() in _read(pid, "cmdline").split(b"\0")]

        pids: list[int] = wait_for(found, "a tor")
        return pids[0]

    def start_tor(self) -> None:
        """Start the tor that it is attached to."""
        assert self._testnet is not None
        data = self._tor_directory / "data"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = [f"DataDirectory {data}", "SocksPort 127.0.0.1:auto", f"ControlPort 127.0.0.1:{self._control}"]
        torrc = self._tor_directory / "torrc"
        torrc.write_text("\n".join([*lines, "CookieAuthentication 1", *self._testnet.client_options]) + "\n")
        self._tor = subprocess.Popen(["tor", "-f", str(torrc)], stdout=subprocess.DEVNULL)

    def kill_tor(self) -> None:
        """End the tor through which it measures; another one is started if that is ours to do."""
        os.kill(self.tor_pid(), signal.SIGKILL)
        if self._tor is not None:
            self._tor.wait()
            self.start_tor()

    def browsers(self) -> list[int]:
        """The processes of Firefox."""
        home = f"HOME={self.directory}/browsers".encode()
        return [
            pid for pid in self.processes() if any(v.startswith(home) for v in _read(pid, "environ").split(b"\0"))
        ]

    def processes(self) -> list[int]:
        """All that run in its directory, but for the tor that it is attached to."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid() and is_alive(int(entry)):
                text = _read(int(entry), "cmdline") + _read(int(entry), "environ")
                with contextlib.suppress(OSError):
                    text += os.fsencode(os.readlink(f"/proc/{entry}/cwd"))
                if str(self.directory).encode() in text:
                    found.append(int(entry))
        return found

    def socks_port(self) -> int | None:
        """The port of the embedded SOCKS server, from what the daemon listens on."""
        inodes = {link[8:-1] for link in _links(self.pid) if link.startswith("socket:[")}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ports = {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes}
        return next(iter(ports - {self.port}), None)

    def relay_pids(self) -> Sequence[int | None]:
        """The relays of the private network."""
        assert self._testnet is not None
        return network_status(self._testnet.directory).pids

    def footprint(self) -> tuple[int, int]:
        """Resident bytes and descriptors of the daemon."""
        pages = int(_read(self.pid, "statm").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(_links(self.pid))

    def end(self) -> None:
        """Stop whatever is left of it."""
        for pid in self.processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if self._tor is not None:
            self._tor.kill()
            self._tor.wait()
        for peer in (self.proxy, self.forwarder):
            if peer is not None:
                peer.close()
        if self.has_disk:
            wait_for(lambda: not self.processes(), "the end of all processes")
            kept = self.directory.with_name("kept")
            subprocess.run(["cp", "-a", str(self.directory), str(kept)], check=True)
            subprocess.run(["umount", str(self.directory)], check=True)
            self.directory.rmdir()
            kept.rename(self.directory)
            self.directory.with_name("disk").unlink()

    def _config(self) -> str:
        network, more, tor = self.plan.network, "", ""
        if self.proxy is not None:
            network, more = "socks", f"socks-proxy = 127.0.0.1:{self.proxy.port}"
        elif network == "page":
            network = "socks"
        elif network in ("testnet", "attach"):
            assert self._testnet is not None
            network, more = "testnet", f"testnet = {self._testnet.directory}"
        if self.forwarder is not None:
            tor = f"[tor]\ncontrol = 127.0.0.1:{self.forwarder.port}"
        interval = self.intervals["small"]
        timeout = 10.0 if network == "testnet" else 0.9
        text = _CONFIG.format(
            network=network, more=more, port="{port}", tor=tor, interval=interval, timeout=timeout
        )
        return text + (_PAGE if self.plan.network == "page" else "")


def take_port(port: int) -> socket.socket:
    """Listen on the port, so that nobody else can."""
    return socket.create_server(("127.0.0.1", port))


def _mount(image: Path, directory: Path) -> bool:
    """Give the directory a small file system of its own, if this is root, and the system has such."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None or shutil.which("fsfreeze") is None:
        return False
    with image.open("wb") as file:
        file.truncate(DISK)
    commands = (["mkfs.ext4", "-q", "-F", str(image)], ["mount", "-o", "loop", str(image), str(directory)])
    return all(subprocess.run(each, capture_output=True, check=False).returncode == 0 for each in commands)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _links(pid: int) -> list[str]:
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(path))
    return found
