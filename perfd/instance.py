"""An instance directory: what is in it, making a new one, and the lock that keeps a second daemon out."""

from __future__ import annotations

import fcntl
import os
import sys
from importlib import resources
from pathlib import Path

import attrs

CONFIG_FILE = "perfd.conf"
LOG_FILE = "perfd.log"
PROFILES = ("testnet", "torperf", "onionperf")

_PUBLIC_LINES = (
    ("network = testnet\n", "network = tor\n"),
    ("listen = 127.0.0.1:8080\n", "listen = 0.0.0.0:80\n"),
    ("public-address = 127.0.0.1:8080\n", "#public-address = 192.0.2.1:80\n"),
)
"""How a configuration for the public network differs; the operator must fill in the address."""


class InstanceError(Exception):
    """Something about the instance directory stops the command; the message is for the operator."""


@attrs.frozen
class Instance:
    """The files of the instance in ``directory``."""

    directory: Path

    @property
    def pid_file(self) -> Path:
        return self.directory / "perfd.pid"

    @property
    def lock_file(self) -> Path:
        return self.directory / "perfd.lock"

    @property
    def log_file(self) -> Path:
        return self.directory / LOG_FILE

    @property
    def onion_key(self) -> Path:
        return self.directory / "onion" / "key"

    def tor_data(self, name: str) -> Path:
        return self.directory / "tor" / name

    def is_locked(self) -> bool:
        """True while a daemon runs in this directory (also one whose pid file is gone)."""
        try:
            lock = InstanceLock(self.lock_file, create=False)
        except FileNotFoundError:
            return False
        except InstanceError:
            return True
        lock.release()
        return False

    def daemon_pid(self) -> int | None:
        """The process id of the running daemon, None if there is none."""
        if not self.is_locked():
            return None
        try:
            return int(self.lock_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None


class InstanceLock:
    """Holds the lock of an instance until ``release``, or until the process ends, however it ends.

    Raises InstanceError when another process holds it.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self._fd = os.open(path, flags, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.read(self._fd, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise InstanceError(f"{path.parent}: Perfd is already running here (pid {pid})") from None

    def write_pid(self) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        os.close(self._fd)


def create_instance(directory: Path, profile: str) -> list[Path]:
    """Write a commented perfd.conf and the control script into ``directory``; the files written.

    Existing files are never overwritten. Raises InstanceError.
    """
    script = _template("control-script").replace("@PYTHON@", sys.executable)
    config = configuration(profile)
    wanted = {directory / CONFIG_FILE: (config, 0o644), directory / "perfd": (script, 0o755)}
    for path in wanted:
        if path.exists():
            raise InstanceError(f"{path}: exists already; nothing was written")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, (text, mode) in wanted.items():
            path.write_text(text, encoding="utf-8")
            path.chmod(mode)
    except OSError as error:
        raise InstanceError(f"{directory}: cannot be written: {error}") from None
    return list(wanted)


def configuration(profile: str) -> str:
    """The text of a commented perfd.conf that measures what ``profile`` says."""
    text = _template("testnet.conf")
    if profile == "testnet":
        return text
    for private, public in _PUBLIC_LINES:
        text = text.replace(private, public)
    if profile == "onionperf":
        text = text.replace("onion-tor = default\n", "onion-tor = server\n")
    return text[: text.index("# The experiments.")] + _template(f"{profile}.experiments")


def _template(name: str) -> str:
    return (resources.files("perfd") / "templates" / name).read_text(encoding="utf-8")
