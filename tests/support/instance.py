"""An instance of Perfd in a temporary directory, driven as an operator would: by its commands and over HTTP."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from perfd.logfile.line import parse_file
from perfd.record import Measurement

SOCKS_CONFIG = """
[perfd]
source = test
network = socks
[server]
listen = 127.0.0.1:{port}
[experiment:fast]
size = 50 KiB
interval = 1 s
timeout = 900 ms
"""


def free_port(worker: int | None = None) -> int:
    """A port that nobody uses now, and nobody is likely to take before the test does.

    It is none that the system gives to who asks for any port, and none of another ``worker`` of pytest-xdist.
    """
    if worker is None:
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 12000 + worker % 10 * 2000
    while True:
        port = first + secrets.randbelow(2000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that does not outlive the block, also if the test fails in it."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 120.0) -> Any:
    """The first true value of ``condition``; fails the test when there is none in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited {timeout} s for {what}")


class TestInstance:
    """The instance in ``directory``, with ``config`` as its perfd.conf."""

    __test__ = False

    def __init__(self, directory: Path, config: str = SOCKS_CONFIG, port: int | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.log = directory / "perfd.log"
        self.python = sys.executable
        self.environment: Mapping[str, str] = os.environ
        self.launcher: Sequence[str] = ()  # in front of each command
        self.configure(config)

    def configure(self, config: str) -> None:
        (self.directory / "perfd.conf").write_text(config.replace("{port}", str(self.port)))

    def perfd(self, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a command in the instance's directory."""
        return subprocess.run(
            [*self.launcher, self.python, "-P", "-m", "perfd", *arguments],  # -P: as the control script
            cwd=self.directory,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
            env=self.environment,
        )

    def twistd(self, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run twistd in the instance's directory."""
        return subprocess.run(
            self.twistd_command(*arguments),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    @staticmethod
    def twistd_command(*arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("twistd")), *arguments]

    def start(self) -> None:
        """Start the daemon, which must work."""
        done = self.perfd("start")
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def pid(self) -> int:
        return int((self.directory / "perfd.pid").read_text())

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the daemon a signal, and wait until it is gone."""
        pid = self.pid
        os.kill(pid, number)
        wait_for(lambda: not is_alive(pid), f"the end of process {pid}")

    def get(self, path: str, accept: str = "*/*") -> tuple[int, bytes]:
        """Status and body of a page."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Accept": accept})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def results(self, query: str = "") -> list[dict[str, Any]]:
        status, body = self.get(f"/results?limit=1000{query}")
        assert status == 200, body
        found: list[dict[str, Any]] = json.loads(body)["results"]
        return found

    def logged(self) -> list[Measurement]:
        """The measurements in perfd.log, none of them damaged."""
        if not self.log.exists():
            return []
        found = list(parse_file(self.log))
        assert all(isinstance(each, Measurement) for each in found), found
        return [each for each in found if isinstance(each, Measurement)]

    def wait_for_measurements(self, count: int, timeout: float = 120.0, **wanted: Any) -> list[Measurement]:
        """At least ``count`` measurements in the log with the given fields."""

        def matching() -> list[Measurement]:
            found = [m for m in self.logged() if all(getattr(m, k) == v for k, v in wanted.items())]
            return found if len(found) >= count else []

        result: list[Measurement] = wait_for(matching, f"{count} measurements with {wanted}", timeout)
        return result


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def processes_in(directory: Path) -> list[int]:
    """The processes whose command line names ``directory``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has just ended
    return [pid for pid in found if pid != os.getpid() and is_alive(pid)]
