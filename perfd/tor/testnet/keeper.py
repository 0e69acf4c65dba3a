"""What stops a private network when nobody has used it for a while: ``python -m perfd.tor.testnet.keeper DIR``."""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path

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


async def watch(reactor: Reactor, directory: Path, clock: Clock) -> None:
    """Return when the network has been stopped, by this or by others, or is to stay until somebody stops it."""
    seen = clock.monotonic()
    while (seconds := users.kept_for(directory)) is not None and not network_status(directory).stopped:
        if users.is_used(directory):
            seen = clock.monotonic()
        elif clock.monotonic() - seen >= seconds:
            try:
                await Testnet(directory).end_unused(reactor)
            except TestnetError:  # somebody starts or stops it at this moment
                seen = clock.monotonic()
        await deferLater(reactor, min(INTERVAL, seconds))


def main(directory: Path) -> None:
    """Watch in the background, if nobody does already."""
    lock = (directory / users.KEEPER_LOCK).open("w", encoding="ascii")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    detach()
    react(lambda reactor: Deferred.fromCoroutine(watch(reactor, directory, Clock())))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
