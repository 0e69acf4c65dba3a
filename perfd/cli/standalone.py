"""What commands share that work beside a daemon: a directory of their own, locked, and getting ready."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from perfd.cli.terminal import Progress
from perfd.config import Config
from perfd.config.values import Address
from perfd.instance import Instance, InstanceError, InstanceLock
from perfd.preflight import check_machine
from perfd.tor.testnet import network as testnet
from perfd.tor.testnet.relays import TestnetError

FREE_PORT = Address("127.0.0.1", 0)


class NotReadyError(Exception):
    """What is to be used cannot be, and had its time; the message says why not."""


def default_path() -> Path:
    """In the place of a perfd.conf where there is none; what the command keeps is beside it.

    Raises InstanceError if this user has no directory for such.
    """
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(cache) if cache else Path.home() / ".cache") / "perfd" / "perfd.conf"
    except RuntimeError:
        raise InstanceError(
            f"user id {os.geteuid()} has no home directory: set HOME, or make an instance with `perfd init DIR` "
            "and name it with --config DIR"
        ) from None


@contextmanager
def own_instance(config: Config) -> Iterator[None]:
    """The directory of ``config`` is there, and ours alone meanwhile. Raises ConfigError and InstanceError."""
    try:
        config.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InstanceError(f"{config.directory}: cannot be made: {error.strerror}") from None
    check_machine(config)
    lock = InstanceLock(Instance(config.directory).lock_file)
    lock.write_state("")
    try:
        yield
    finally:
        lock.release()


def private_network(config: Config, wanted: Path | None, directory: Path) -> Path:
    """The private network to use: the one that is ``wanted``, else the configured one if it was left running.

    Else it is one of the command's own in ``directory``. A network with an owner is that daemon's alone.
    """
    if wanted is not None:
        return wanted.absolute()
    with suppress(TestnetError):
        status = testnet.network_status(config.testnet)
        if status.running and status.state is not None and status.state.owner is None:
            return config.testnet
    return directory / "testnet"


def patience(config: Config) -> float:
    """Seconds in which all tors must be ready."""
    bootstrap = max((tor.bootstrap_timeout for tor in config.tors), default=300.0)
    return bootstrap + (testnet.longest_start(config.private_network) if config.network == "testnet" else 0.0)


async def prepare(reactor: IReactorTime, not_ready: Callable[[], str | None], patience: float) -> None:
    """Wait until ``not_ready`` gives no reason any more, and show meanwhile which it gives.

    Raises NotReadyError after ``patience`` seconds.
    """
    with Progress("preparing") as progress:
        over: Deferred[None] = Deferred()

        def look() -> None:
            reason = not_ready()
            progress.update(reason or "ready")
            if reason is None and not over.called:
                over.callback(None)

        shown = LoopingCall(look)
        shown.clock = reactor
        shown.start(0.2)
        try:
            await over.addTimeout(patience, reactor)
        except DeferredTimeoutError:
            raise NotReadyError(f"given up after {patience:.0f} s: {not_ready()}") from None
        finally:
            shown.stop()
