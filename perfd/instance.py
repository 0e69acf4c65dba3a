"""An instance directory: what is in it, making a new one, and the lock that keeps a second daemon out."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import stat
import sys
import time
import zlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import attrs

from perfd.processes.alive import has_proc, is_alive

CONFIG_FILE = "perfd.conf"
LOG_FILE = "perfd.log"
PROFILES = ("testnet", "torperf", "onionperf", "onion", "relay", "lab")
"""What a new perfd.conf is for; all but testnet and lab measure the public network."""

_PUBLIC_LINES = (
    ("network = testnet\n", "network = tor\n"),
    ("listen = 127.0.0.1:8080\n", "listen = 0.0.0.0:80\n"),
    ("#public-address = 127.0.0.1:8080\n", "#public-address = 192.0.2.1:80\n"),
)
"""How a configuration for the public network differs; the operator must fill in the address."""


READY = "ready"
FAILED = "failed: "
"""How the states begin that are the last ones of a start."""

PATIENCE = 1.0
"""Seconds: how long a starting daemon may be kept from the lock by a look at it, or be about to write its pid."""

_PAUSE = 0.05


class InstanceError(Exception):
    """Something about the instance directory stops the command; the message is for the operator."""


def umask(results: str) -> int:
    """The umask of the daemon: with the option ``results`` other than ``all``, what it writes is not for others."""
    return 0o022 if results == "all" else 0o027


@attrs.frozen
class ReloadReport:
    """How the daemon's reloads of perfd.conf go, which count from 1. What follows is of the last that is done."""

    begun: int = 0
    done: int = 0
    problems: tuple[str, ...] = ()  # for which it was refused
    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()  # what needs one

    @classmethod
    def from_json(cls, text: str) -> ReloadReport:
        """Raises ValueError, KeyError and TypeError for what ``to_json`` has not written."""
        given: dict[str, Any] = json.loads(text)
        problems, changed, restart = (tuple(given[name]) for name in ("problems", "changed", "restart"))
        return cls(given["begun"], given["done"], problems, changed, restart)

    def to_json(self) -> str:
        """On one line."""
        return json.dumps(attrs.asdict(self))


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

    @property
    def onion_client_key(self) -> Path:
        return self.directory / "onion" / "client-key"

    @property
    def browsers(self) -> Path:
        """The profiles of running browsers."""
        return self.directory / "browsers"

    def tor_data(self, name: str) -> Path:
        return self.directory / "tor" / name

    def fresh_tors(self, name: str) -> Path:
        """The data directories of tors that are launched for one run."""
        return self.directory / "bootstrap" / name

    def client_data(self, name: str) -> Path:
        return self.directory / "clients" / name

    def write_pid_file(self) -> None:
        """Write this process's id. No link is followed, and no file of others written to. Raises InstanceError."""
        try:
            self.pid_file.unlink(missing_ok=True)
            fd = os.open(self.pid_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            with open(fd, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise InstanceError(f"{self.pid_file}: cannot be written: {error.strerror}") from None

    def is_locked(self) -> bool:
        """True while a daemon runs in this directory (also one whose pid file is gone). Raises InstanceError."""
        try:
            fd = _open_lock(self.lock_file, os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise InstanceError(f"{self.lock_file}: cannot be read: {_why(error)}") from None
        try:
            # Shared, so that of two commands that look at once neither takes the other for a daemon.
            return not _lock(fd, fcntl.LOCK_SH, self.lock_file)
        finally:
            os.close(fd)

    def recorded_pid(self) -> int | None:
        """The process id in the lock file, if that process holds the lock: what stands there, others may have
        written.
        """
        try:
            pid = int(self._read_lock().partition(b"\n")[0])
        except (OSError, ValueError):
            return None
        return pid if is_alive(pid) and _holds(pid, self.lock_file) else None

    def signal(self, pid: int, number: int) -> None:
        """Send the daemon ``pid`` a signal. Raises ProcessLookupError if it has ended, PermissionError."""
        try:
            process = os.pidfd_open(pid)
        except (AttributeError, OSError) as error:
            if isinstance(error, ProcessLookupError):
                raise
            os.kill(pid, number)  # a system without
            return
        try:
            if self.recorded_pid() != pid:  # it was another process whose number this is by now
                raise ProcessLookupError
            signal.pidfd_send_signal(process, number)
        finally:
            os.close(process)

    def state(self) -> str:
        """How far the daemon is, as it wrote itself: ``READY``, ``FAILED`` and why, or what it does; may be
        empty.
        """
        try:
            return self._told()[1]
        except (OSError, ValueError):
            return ""

    def reload_report(self) -> ReloadReport | None:
        """How the daemon's reloads go, as it wrote itself; None if that cannot be read now."""
        try:
            report = self._told()[2]
            return ReloadReport.from_json(report) if report else ReloadReport()
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def listens_on(self) -> str:
        """Where the daemon's web server listens, as ``HOST:PORT``; empty if it has not said so yet."""
        try:
            return self._told()[3]
        except (OSError, ValueError):
            return ""

    def _told(self) -> list[str]:
        """The lines that the daemon has written: its process id, state, report and address.

        Raises OSError, and ValueError for what is not all of one writing: the system may give a part of each.
        """
        content = self._read_lock()
        lines = [line.decode() for line in content.split(b"\n")[:4]]
        if not content.startswith(_sealed(*lines)):
            raise ValueError
        return lines

    def _read_lock(self) -> bytes:
        with open(_open_lock(self.lock_file, os.O_RDONLY), "rb") as opened:
            return opened.read()

    def daemon_pid(self) -> int | None:
        """The process id of the running daemon, None if there is none. Raises InstanceError if it is unknown."""
        deadline = time.monotonic() + PATIENCE
        while self.is_locked():
            pid = self.recorded_pid()
            if pid is not None:
                return pid
            if time.monotonic() > deadline:
                raise InstanceError(f"{self.lock_file}: Perfd runs here, but its process id is not in this file")
            time.sleep(_PAUSE)
        return None


class InstanceLock:
    """Holds the lock of an instance until ``release``, or until the process ends, however it ends.

    Raises InstanceError when another process holds it for longer than a command looks at it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = ""
        self._report = ""
        self._listens_on = ""
        try:
            self._fd = _open_lock(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise InstanceError(f"{path}: cannot be opened: {_why(error)}") from None
        try:
            self._acquire()
        except InstanceError:
            os.close(self._fd)
            raise

    def write_state(self, state: str) -> None:
        """Say in the file who holds the lock, and how far it is. Raises InstanceError, as when the disk is full."""
        self._state = " ".join(state.split())
        self._write_all()

    def write_report(self, report: ReloadReport) -> None:
        """Say there how a reload goes. Raises InstanceError."""
        self._report = report.to_json()
        self._write_all()

    def write_address(self, listens_on: str) -> None:
        """Say there where the web server listens. Raises InstanceError."""
        self._listens_on = listens_on
        self._write_all()

    def _write_all(self) -> None:
        self._write(_sealed(str(os.getpid()), self._state, self._report, self._listens_on))

    def release(self) -> None:
        """Let go. Why it failed, if it did, stays in the file."""
        with contextlib.suppress(InstanceError):
            self._write(_sealed("", self._state, "", "") if self._state.startswith(FAILED) else b"")
        os.close(self._fd)

    def _write(self, content: bytes) -> None:
        try:
            # In this order there is always a process id: a command that found none would say that Perfd has ended.
            os.pwrite(self._fd, content, 0)
            os.ftruncate(self._fd, len(content))
        except OSError as error:
            raise InstanceError(f"{self._path}: cannot be written: {error.strerror}") from None

    def _acquire(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not _lock(self._fd, fcntl.LOCK_EX, self._path):
            if time.monotonic() > deadline:
                pid = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
                raise InstanceError(f"{self._path.parent}: Perfd is already running here (pid {pid})")
            time.sleep(_PAUSE)


def _sealed(*lines: str) -> bytes:
    """The lines, and one by which it shows whether they were written together."""
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
    return text + b"%08x\n" % zlib.crc32(text)


def _open_lock(path: Path, flags: int) -> int:
    """Open the lock file itself: in its directory others may write, and put a link or a pipe in its place.

    Raises OSError.
    """
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, _NO_FILE)


_NO_FILE = "it is no regular file, and so not Perfd's; remove it"


def _why(error: OSError) -> str:
    return _NO_FILE if error.errno in (errno.ELOOP, errno.ENXIO) else error.strerror or str(error)


def _lock(fd: int, kind: int, path: Path) -> bool:
    """Lock the open file; False if others hold it. Raises InstanceError if it cannot be locked at all."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InstanceError(f"{path}: cannot be locked: {error.strerror}") from None
    return True


def _holds(pid: int, path: Path) -> bool:
    """Whether the process is of the file's owner, and holds a lock on it, as far as the system says.

    A lock outlives the process that the system names, in a child that has the file open: its number may be another
    user's by now.
    """
    try:
        found = path.lstat()
        if os.stat(f"/proc/{pid}").st_uid != found.st_uid:
            return False
    except OSError:
        return not has_proc()
    try:
        locks = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    holders = [fields[4] for fields in map(str.split, locks.splitlines()) if _is_lock_of(fields, found)]
    return not holders or str(pid) in holders


def _is_lock_of(fields: Sequence[str], found: os.stat_result) -> bool:
    """Whether a line of /proc/locks (proc(5)) is of a lock that keeps others out of this file.

    The number of the file counts, and not that of its device, which some file systems tell in another way there.
    """
    inode = str(found.st_ino)
    return fields[1:2] == ["FLOCK"] and fields[3:4] == ["WRITE"] and fields[5].rpartition(":")[2] == inode


def create_instance(directory: Path, profile: str, source: str) -> list[Path]:
    """Write a commented perfd.conf with ``source`` and the control script into ``directory``; the files written.

    Existing files are never overwritten. Raises InstanceError.
    """
    config = configuration(profile).replace("source = example\n", f"source = {source}\n")
    wanted = {directory / CONFIG_FILE: (config, 0o644), directory / "perfd": (control_script(), 0o755)}
    for path in wanted:
        if os.path.lexists(path):
            raise InstanceError(f"{path}: exists already; nothing was written")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, (text, mode) in wanted.items():
            with path.open("x", encoding="utf-8") as file:  # follows no link that is put there now
                file.write(text)
                os.fchmod(file.fileno(), mode)
    except OSError as error:
        raise InstanceError(f"{directory}: cannot be written: {error}") from None
    return list(wanted)


def control_script() -> str:
    """The text of the script ``./perfd``, which runs this Perfd in the instance."""
    return _template("control-script").replace("@PYTHON@", sys.executable)


def configuration(profile: str) -> str:
    """The text of a commented perfd.conf that measures what ``profile`` says."""
    text = _template("testnet.conf")
    if profile == "testnet":
        return text
    for private, public in () if profile == "lab" else _PUBLIC_LINES:
        text = text.replace(private, public)
    if profile in ("onionperf", "onion"):
        text = text.replace("onion-tor = default\n", "onion-tor = server\n")
    return text[: text.index("# The experiments.")] + _template(f"{profile}.experiments")


def _template(name: str) -> str:
    return (resources.files("perfd") / "templates" / name).read_text(encoding="utf-8")
