"""Who uses a private network that has no owner, and for how long it is kept when nobody does any more.

Each user holds a shared lock on a file, which the system takes back however the user ends. A network that is to be
kept for a while has a process that looks whether there is one: ``keeper``. While a network without an owner is
being started, the same process looks whether who starts it is still there.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from perfd.processes.modules import module_command, module_environment
from perfd.processes.programs import run_program
from perfd.reactor import Reactor
from perfd.tor.files import write_whole
from perfd.tor.testnet.relays import TestnetError

KEEPER = "perfd.tor.testnet.keeper"

_USERS = "users"
_KEEP = "keep"
_STARTING = "starting"
KEEPER_LOCK = "keeper"
"""The file that the keeper holds a lock on."""


def begin_use(directory: Path) -> IO[str]:
    """Use the network in ``directory`` until the file that this returns is closed. Raises OSError."""
    file = (directory / _USERS).open("a", encoding="ascii")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def is_used(directory: Path) -> bool:
    """Whether somebody uses it."""
    return _is_locked(directory / _USERS)


def _is_locked(path: Path) -> bool:
    try:
        with path.open("a", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def kept_for(directory: Path) -> float | None:
    """For how many seconds it is kept when nobody uses it; None: until it is stopped."""
    try:
        return float((directory / _KEEP).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def keep_on(directory: Path) -> None:
    """Keep it until it is stopped. Raises OSError."""
    (directory / _KEEP).unlink(missing_ok=True)


async def keep(reactor: Reactor, directory: Path, seconds: float) -> None:
    """Have it stopped when nobody has used it for so long. Raises OSError and ``TestnetError``."""
    write_whole(directory / _KEEP, f"{seconds!r}\n")
    if _is_locked(directory / KEEPER_LOCK):  # by a keeper, which reads what was written; to start one takes long
        return
    await _start_keeper(reactor, directory)


async def watch_start(reactor: Reactor, directory: Path) -> None:
    """Have it stopped if this process ends before ``started``. Raises OSError and ``TestnetError``."""
    (directory / _STARTING).touch()
    # Whatever holds the lock may be about to end.
    await _start_keeper(reactor, directory)


def is_starting(directory: Path) -> bool:
    """Whether somebody has begun to start it, and not told that it is done."""
    return (directory / _STARTING).exists()


def started(directory: Path) -> None:
    """It was started, or nothing of it is left. Raises OSError."""
    (directory / _STARTING).unlink(missing_ok=True)


async def _start_keeper(reactor: Reactor, directory: Path) -> None:
    argv = module_command(KEEPER, str(directory))
    finished = await run_program(reactor, argv, environment=module_environment())
    if finished.code != 0:
        raise TestnetError(f"what is to stop the private network did not start: {finished.output.strip()}")
