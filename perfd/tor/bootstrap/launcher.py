"""Launching a tor anew for each measurement, in a data directory that goes with it."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from perfd.clock import Clock
from perfd.reactor import Reactor
from perfd.record import new_id
from perfd.socks.local_ports import LocalPorts
from perfd.socks.port import SOCKSPort
from perfd.tor.bootstrap.fresh import HELD, FreshTor
from perfd.tor.events.listener import ControlEvents
from perfd.tor.files import make_private
from perfd.tor.launch import Network, TorOptions
from perfd.tor.process import DirectoryInUseError, TorDirectory

T = TypeVar("T")

NOT_COPIED = ("lock", "torrc", "torrc-defaults", "control-port", "control_auth_cookie")
"""What in a data directory belongs to the tor that runs in it."""


@attrs.frozen
class Life:
    """One tor from its launch to its end, and its control events."""

    tor: FreshTor
    events: ControlEvents
    directory: Path


class Launcher(Service):
    """Launches the tor of ``options`` anew; in the place of a ``Tor`` that runs, which it is not.

    ``listen`` makes the control events of each tor, and subscribes what it needs. ``directory`` has the data
    directories; what a Perfd that was killed left there goes when this starts.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        options: TorOptions,
        network: Network | None,
        clock: Clock,
        ports: LocalPorts,
        directory: Path,
        listen: Callable[[FreshTor], ControlEvents],
    ) -> None:
        self.name = options.name
        self.version: str | None = None  # of a tor that is not launched yet
        self._reactor = reactor
        self._options = options
        self._network = network
        self._clock = clock
        self._ports = ports
        self._directory = directory
        self._listen = listen
        self._lives: list[Life] = []
        self._ends: list[Deferred[None]] = []

    @property
    def not_ready(self) -> str | None:
        """Why no tor can be launched now; None when one can."""
        if not self.running:
            return f"the launcher of tor {self.name} is stopped"
        reason = None if self._network is None else self._network.not_ready
        return None if reason is None else f"tor {self.name} waits for the private network: {reason}"

    async def when_ready(self) -> None:
        """Return when a tor can be launched."""
        if self._network is not None:
            await self._network.when_ready()

    def socks_port(self) -> SOCKSPort:
        """Raises ``RuntimeError``: each tor that is launched has its own."""
        raise RuntimeError(f"tor {self.name} is launched for each run")

    async def launch(self, data: Path | None) -> Life:
        """Launch one, in an empty data directory or in a copy of ``data``. Raises ``OSError``.

        Whoever gets it has to ``end`` it.
        """
        directory = self._directory / new_id()
        making = self._in_thread(lambda: _make(directory, data))
        try:
            await _uncancelled(making)
            options = attrs.evolve(
                self._options,
                data_directory=directory,
                torrc="\n".join((self._options.torrc, HELD, *_counting(self._options.torrc))),
                keeps_documents=data is not None,
            )
            tor = FreshTor(self._reactor, options, self._network, self._clock, self._ports)
            life = Life(tor, self._listen(tor), directory)
        except BaseException:
            self._ending(self._abandon(making, directory))  # not awaited: whoever is cancelled does not wait
            raise
        self._lives.append(life)
        tor.startService()
        return life

    def end(self, life: Life) -> Deferred[None]:
        """End it, and remove its directory; the Deferred fires when both are gone.

        Cancelling the Deferred changes nothing.
        """
        if life in self._lives:
            self._lives.remove(life)
            return self._ending(self._end(life))
        return succeed(None)

    def startService(self) -> None:
        super().startService()
        self._ending(self._remove_leftovers())

    def stopService(self) -> Deferred[None]:
        super().stopService()
        for life in list(self._lives):
            self.end(life)
        stopped: Deferred[None] = DeferredList(list(self._ends)).addCallback(lambda _: None)
        return stopped

    async def _end(self, life: Life) -> None:
        try:
            await life.tor.stopService()
            life.events.stop()
        finally:
            await self._remove(life.directory)

    async def _abandon(self, making: Deferred[None], directory: Path) -> None:
        """Remove what is still being made, once it is."""
        await making
        await self._remove(directory)

    async def _remove(self, directory: Path) -> None:
        try:
            await self._in_thread(lambda: _remove(directory))
        except OSError as error:
            self._log.warn("{directory} cannot be removed: {error}", directory=directory, error=error)

    async def _remove_leftovers(self) -> None:
        """End what a Perfd that was killed left, and remove it; not what belongs to one that lives."""
        for directory in sorted(self._directory.iterdir()) if self._directory.is_dir() else ():
            try:
                await TorDirectory(directory).end_leftovers(self._reactor)
            except DirectoryInUseError:
                continue
            except OSError as error:
                self._log.warn("the tor in {directory} cannot be ended: {error}", directory=directory, error=error)
                continue
            if all(life.directory != directory for life in self._lives):
                await self._remove(directory)

    def _in_thread(self, work: Callable[[], None]) -> Deferred[None]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    def _ending(self, work: Coroutine[Any, Any, None]) -> Deferred[None]:
        """Have ``work`` done, whoever waits for it or not."""
        done = Deferred.fromCoroutine(work)
        done.addErrback(lambda failure: self._log.failure("a fresh tor was not ended", failure))
        if not done.called:
            self._ends.append(done)
            done.addBoth(lambda _: self._ends.remove(done))
        return _uncancelled(done)


def _uncancelled(work: Deferred[T]) -> Deferred[T]:
    """Fires as ``work`` does; cancelling it leaves that alone."""
    waiting: Deferred[T] = Deferred()

    def pass_on(result: T) -> T:
        if not waiting.called:
            waiting.callback(result)
        return result

    def pass_on_failure(failure: Failure) -> None:
        if not waiting.called:
            waiting.errback(failure)

    work.addCallbacks(pass_on, pass_on_failure)
    return waiting


def _counting(torrc: str) -> Sequence[str]:
    """With a pluggable transport all connections of tor are to this machine, which it counts only if told to."""
    return ["CountPrivateBandwidth 1"] if "clienttransportplugin" in torrc.lower() else []


def _make(directory: Path, data: Path | None) -> None:
    make_private(directory.parent)
    if data is None:
        make_private(directory)
    else:
        shutil.copytree(data, directory, ignore=_not_copied)
        make_private(directory)


def _remove(directory: Path) -> None:
    """Remove it, and what it stands in if that is empty then."""
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)
    with suppress(OSError):
        directory.parent.rmdir()
        directory.parent.parent.rmdir()


def _not_copied(directory: str, names: list[str]) -> set[str]:
    """Sockets and the like, and what belongs to the tor that may run there."""
    modes = {name: os.lstat(os.path.join(directory, name)).st_mode for name in names}
    return {
        name
        for name, mode in modes.items()
        if name in NOT_COPIED or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))
    }
