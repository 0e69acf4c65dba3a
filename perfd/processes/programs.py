"""Other programs: found, run to their end, and recognized later by process id."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import attrs
from twisted.internet.task import deferLater

from perfd.processes.alive import has_proc, is_alive
from perfd.processes.child import GRACE, Child
from perfd.reactor import Reactor

MOST_OUTPUT = 64 * 1024
"""How much of a program's output is kept, in bytes."""

MORE_PATHS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where programs are looked for besides PATH."""

PID_FILE = "tor.pid"
"""Where a relay of the private network writes its process id, beside its torrc."""

_POLL = 0.05


class ProgramMissingError(Exception):
    """A program that is needed is not installed, or cannot be executed."""


def find_program(name: str, package: str = "tor") -> str:
    """The path of the program ``name``, which may be a path itself. Raises ``ProgramMissingError``.

    It is looked for in PATH and ``MORE_PATHS``.
    """
    found = found_program(name)
    if found is not None:
        return os.path.abspath(found)
    if os.path.exists(name) and os.sep in name:
        raise ProgramMissingError(f"{name} cannot be executed")
    raise ProgramMissingError(f"the program {name} was not found; it is in the Debian package {package}")


def program_trouble(name: str, package: str | None = "tor") -> str | None:
    """Why the program ``name`` cannot be run, and the remedy; None if it can. Debian has it in ``package``."""
    if found_program(name) is not None:
        return None
    if os.sep not in name:
        return f"there is no program {name}; install it" + (
            f" (Debian: apt-get install {package})" if package else ""
        )
    if not os.path.exists(name):
        return f"{name} does not exist"
    return f"{name} is not an executable program"


def found_program(name: str) -> str | None:
    """The path of the program ``name``, if it is there and can be executed."""
    # Debian has tor in /usr/sbin, which is not in the PATH of a normal user.
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *MORE_PATHS]))


@attrs.frozen
class Finished:
    """How a program ended: its exit code (negative: killed by that signal) and what it wrote."""

    code: int
    output: str


async def run_program(
    reactor: Reactor,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout: float = 60.0,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run a program to its end without blocking the reactor; kill it after ``timeout`` seconds. Raises
    ``OSError``.
    """
    output = bytearray()

    def keep(_: int, data: bytes) -> None:
        output.extend(data)
        del output[:-MOST_OUTPUT]

    child = Child.spawn(
        reactor, argv, environment=environment, on_data=keep, lines_of=(), stdin=[stdin] if stdin else []
    )
    try:
        code = await child.finish(timeout)
    except TimeoutError:
        code = -signal.SIGKILL
    return Finished(code, output.decode("utf-8", "replace"))


def command_line(pid: int) -> list[str]:
    """The arguments of the process ``pid``; empty if there is none (or only a zombie)."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(argument) for argument in raw.rstrip(b"\0").split(b"\0")] if raw else []


def recorded_process(pid_file: Path, torrc: Path) -> int | None:
    """The process id in ``pid_file``, if that process is the tor of ``torrc``.

    Process ids are used again, so a pid file alone proves nothing; tor's own torrc in the command line does.
    Without /proc it is the lock that tor holds in its data directory, which is the torrc's.
    """
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return pid if pid > 0 and _is_tor_of(pid, {str(torrc)}) else None


def find_processes(torrcs: Collection[Path]) -> list[int]:
    """All tors of ours that were started with one of ``torrcs``, without /proc only those with a ``PID_FILE``."""
    if not has_proc():
        recorded = (recorded_process(torrc.with_name(PID_FILE), torrc) for torrc in torrcs)
        return [pid for pid in recorded if pid is not None]
    wanted = {str(torrc) for torrc in torrcs}
    found = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in found if pid != os.getpid() and _is_tor_of(pid, wanted)]


def _is_tor_of(pid: int, torrcs: set[str]) -> bool:
    """Whether the process is a tor of one of ``torrcs``, and this user's.

    Its command line must be one by which Perfd starts a tor: ``PROGRAM --defaults-torrc FILE -f TORRC ...``, or
    ``tor -f TORRC ...``; or a program of Perfd's own for a network: ``PYTHON -m perfd... -f FILE``. A script in the
    place of tor has its interpreter before it. An editor of the torrc, or ``tail FILE -f TORRC``, is none, nor what
    another user started.
    """
    if not has_proc():
        return is_alive(pid) and any(_is_in_use(Path(torrc).parent) for torrc in torrcs)
    arguments = command_line(pid)
    place = arguments.index("-f") if "-f" in arguments else len(arguments)
    if not torrcs.intersection(arguments[place + 1 : place + 2]):
        return False
    before = arguments[:place]
    is_launched = before[-2:-1] == ["--defaults-torrc"] or (
        before[-2:-1] == ["-m"] and before[-1].startswith("perfd.")
    )
    if not is_launched and not any(_TOR.fullmatch(os.path.basename(each)) for each in _program(before)):
        return False
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid()
    except OSError:
        return False


_TOR = re.compile(r"tor(-.*)?")
_INTERPRETER = re.compile(r"(ba|da)?sh|python[\d.]*")


def _program(words: list[str]) -> list[str]:
    """The program of a command line, with the script that it interprets."""
    return words[: 2 if words and _INTERPRETER.fullmatch(os.path.basename(words[0])) else 1]


def _is_in_use(directory: Path) -> bool:
    """Whether a tor runs in this data directory: it holds a lock (flock) on the file ``lock``."""
    try:
        with open(directory / "lock", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


async def end_processes(reactor: Reactor, torrcs: Collection[Path], grace: float = GRACE) -> int:
    """End all tors of ``torrcs`` (SIGTERM, later SIGKILL); return how many, when they are gone.

    Raises ``OSError`` if one belongs to another user, or withstands even SIGKILL.
    """
    wanted = {str(torrc) for torrc in torrcs}
    pids = first = find_processes(torrcs)
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            # Only what is recognized now: the process may have ended, and its id been given to another.
            if not _is_tor_of(pid, wanted):
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
        for _ in range(round(grace / _POLL)):
            pids = [pid for pid in pids if _lingers(pid, wanted)]
            if not pids:
                return len(first)
            await deferLater(reactor, _POLL)
    raise TimeoutError(f"process {pids[0]} did not end")


def _lingers(pid: int, wanted: set[str]) -> bool:
    """Whether the process is still one of the ``wanted``, or has lost its command line but not yet its ports."""
    if not has_proc():
        return _is_tor_of(pid, wanted)
    arguments = command_line(pid)
    if arguments:
        return bool(wanted.intersection(arguments))
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")
