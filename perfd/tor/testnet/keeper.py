"""What stops a private network when nobody has used it for a while, or if its start was not finished.

``python -m perfd.tor.testnet.keeper DIR``
"""

from __future__ import annotations

import fcntl
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from perfd.clock import Clock
from perfd.processes.detach import detach
from perfd.reactor import Reactor
from perfd.tor.testnet import users
from perfd.tor.testnet.network import Testnet, network_status
from perfd.tor.testnet.relays import TestnetError

INTERVAL = 1.0
"""Seconds between two looks at whether somebody uses the network."""

_TRIES, _PAUSE = 50, 0.1  # seconds; a watcher that has seen the end of a network needs less to end


async def watch(reactor: Reactor, directory: Path, clock: Clock) -> None:
    """Return when the network has been stopped, by this or by others, or is to stay until somebody stops it."""
    seen = clock.monotonic()
    while True:
        seconds = users.kept_for(directory)
        if users.is_starting(directory):
            with suppress(TestnetError):  # who starts it is still there
                await Testnet(directory).end_unfinished(reactor)
            seen = clock.monotonic()
        elif seconds is None or network_status(directory).stopped:
            return
        elif users.is_used(directory):
            seen = clock.monotonic()
        elif clock.monotonic() - seen >= seconds:
            try:
                await Testnet(directory).end_unused(reactor)
            except TestnetError:  # somebody starts or stops it at this moment
                seen = clock.monotonic()
        await deferLater(reactor, INTERVAL if seconds is None else min(INTERVAL, seconds))


def main(directory: Path) -> None:
    """Watch in the background, if nobody does already."""
    lock = (directory / users.KEEPER_LOCK).open("w", encoding="ascii")
    detach()
    if _take(lock):
        react(lambda reactor: Deferred.fromCoroutine(watch(reactor, directory, Clock())))


def _take(lock: IO[str]) -> bool:
    """Hold the lock; False if somebody else goes on holding it, who sees all that this would see."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_PAUSE)
    return False


if __name__ == "__main__":
    main(Path(sys.argv[1]))
