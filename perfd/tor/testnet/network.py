"""A private Tor network on this machine: real tor processes, authorities and exits, all on 127.0.0.1.

Its directory holds one directory for each relay (tor's DataDirectory with torrc, log, pid file and keys) and
``testnet.json``. Keys and, where possible, ports are kept between runs; everything else is made anew.

The relays are daemons of their own (``RunAsDaemon``), so that the same code serves the command, which leaves them
running, and the service, with which they must end. In the second case each is started with
``__OwningControllerProcess``: tor itself checks every 15 seconds that the owner lives, and exits if not, also
after a kill -9 that leaves the owner no time for anything. That needs no helper program. A start within these 15
seconds ends the leftovers first, and so does one after an owner that lingers as a zombie, which counts as living.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import attrs
from twisted.internet.task import deferLater

from perfd.clock import Clock
from perfd.config.testnet import DEFAULT_RELAYS, TestnetConfig, nicknames
from perfd.processes.programs import end_processes, recorded_process
from perfd.reactor import Reactor
from perfd.tor.files import make_private
from perfd.tor.testnet import bridges, link_process, relays, users
from perfd.tor.testnet.consensus import Consensus, read_consensus
from perfd.tor.testnet.lock import InUseError, NetworkLock
from perfd.tor.testnet.relay_programs import (
    PortTakenError,
    ProgressReport,
    RelayPrograms,
    dead_relays,
    how_it_ended,
)
from perfd.tor.testnet.relays import State, TestnetError
from perfd.tor.testnet.voting import Voting
from perfd.tor.testnet.weights import drawn_weights
from perfd.whole import is_scratch

DEFAULT = TestnetConfig()
_LONGEST_START = 60.0  # seconds
_MORE_TIME = 2.0  # seconds for each relay beyond the usual ones
_SLOW_TIME = 350.0  # times the longest delay of a link
_POLL = 0.2


def longest_start(config: TestnetConfig) -> float:
    """Seconds in which a start must have led to a consensus, which many relays and slow links make later."""
    more = max(0, config.relays + config.bridges - DEFAULT_RELAYS)
    return _LONGEST_START + _MORE_TIME * more + _SLOW_TIME * config.longest_delay


class LinksEndedError(TestnetError):
    """The process of the links is gone, without which no relay is reached."""


class NetworkEndedError(TestnetError):
    """A network that is not ours was stopped by somebody else."""


@attrs.frozen
class NetworkStatus:
    """The private network as it is now."""

    directory: Path
    state: State | None
    pids: tuple[int | None, ...] = ()  # for each relay of the state
    informed: tuple[bool, ...] = ()  # for each relay: it knows all others, and can tell clients of them
    consensus: Consensus | None = None
    links_pid: int | None = None

    @property
    def running(self) -> bool:
        """Whether every relay runs."""
        return bool(self.pids) and None not in self.pids and not self.lacks_links

    @property
    def lacks_links(self) -> bool:
        """Whether it has links whose process is gone."""
        return self.state is not None and self.state.links is not None and self.links_pid is None

    @property
    def stopped(self) -> bool:
        """Whether no relay runs."""
        return not any(self.pids) and self.links_pid is None

    @property
    def ready(self) -> bool:
        """Whether every relay runs, and is informed, so that a client gets on wherever it asks."""
        return self.running and all(self.informed)


def network_status(directory: Path) -> NetworkStatus:
    """The state of the network in ``directory``, whoever started it. Raises ``TestnetError``."""
    directory = directory.resolve()
    state = State.load(directory)
    if state is None:
        return NetworkStatus(directory, None)
    pids, informed, latest = [], [], None
    for relay in state.relays:
        pids.append(recorded_process(relay.pid_file, relay.torrc))
        informed.append(relays.knows_all(relay, state))
        consensus = read_consensus(relay.directory)
        if consensus is not None and (latest is None or consensus.valid_after > latest.valid_after):
            latest = consensus
    return NetworkStatus(directory, state, tuple(pids), tuple(informed), latest, link_process.running(directory))


class Testnet:
    """The private network in ``directory``.

    ``config`` is how it is made, if it does not run already; one with ``keep`` has no owner, but is stopped so long
    after its last user has gone. ``owner`` tells, when asked at the start, the process with which the relays end
    (``os.getpid``; not asked earlier, since a daemon forks before it starts); None lets them run until ``stop``.
    One process at a time starts, stops or owns a network: it holds a lock on the directory. A network without an
    owner may be used by several processes; each of them replaces relays that ended, and none ends it but with
    ``stop``.
    """

    __test__ = False  # not a test class, whatever pytest thinks of the name

    def __init__(
        self,
        directory: Path,
        tor_binary: str = "tor",
        *,
        config: TestnetConfig = DEFAULT,
        owner: Callable[[], int] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self._tor_binary = tor_binary
        self._config = config
        self._owner = owner if config.keep is None else None
        self._clock = clock or Clock()
        self._lock = NetworkLock(self.directory)
        self._use: IO[str] | None = None

    def status(self) -> NetworkStatus:
        """The state of the network now. Raises ``TestnetError``."""
        return network_status(self.directory)

    @property
    def is_kept(self) -> bool:
        """Whether it stays for a while after who started it."""
        return self._config.keep is not None

    @property
    def links(self) -> str | None:
        """What the links are like, as LINKS of a record; None if there are none. Raises ``TestnetError``."""
        state = State.load(self.directory)
        return None if state is None else state.links

    @property
    def client_options(self) -> tuple[str, ...]:
        """The torrc lines with which a tor client uses this network. Raises ``TestnetError`` if never started."""
        state = State.load(self.directory)
        if state is None or not state.dir_authorities:
            raise TestnetError(f"there is no private network in {self.directory}; start it first")
        return state.client_options

    async def start(
        self, reactor: Reactor, *, progress: ProgressReport = lambda *_: None, deadline: float | None = None
    ) -> bool:
        """Start the network and return when clients can use it; False if it already ran, without an owner.

        Leftovers of a crashed run are ended first. On failure nothing that was started is left running, and
        ``TestnetError`` names the relay, its log file and its last message.
        """
        deadline = longest_start(self._config) if deadline is None else deadline
        until = self._clock.monotonic() + deadline
        programs = RelayPrograms.find(reactor, self._tor_binary, self._clock)
        self._make_directory()
        self._lock.take()
        ours = False
        try:
            status = self.status()
            ours = status.state is None or status.stopped or status.lacks_links or status.state.owner is not None
            if ours:
                await self._start_anew(reactor, programs, progress, until)
            else:
                self._use = users.begin_use(self.directory)
                users.started(self.directory)
                for _ in range(status.pids.count(None)):
                    await self.restart_dead_relay(reactor)
                self._lock.release()  # others may use it as well
            await self._wait_until_ready(reactor, progress, until, deadline)
            await self._keep_or_not(reactor, is_new=ours)
            users.started(self.directory)
        except BaseException as error:
            try:
                if ours:
                    await self._end_relays(reactor)
                    users.started(self.directory)
            finally:
                self.release()
                self._lock.release()
            if isinstance(error, OSError):
                raise TestnetError(f"the private network in {self.directory} cannot be started: {error}") from None
            raise
        if self._owner is None:
            self._lock.release()
        return ours

    async def _keep_or_not(self, reactor: Reactor, *, is_new: bool) -> None:
        """Begin to use it, and have it stopped some time after its users, or not."""
        self._use = self._use or users.begin_use(self.directory)
        if self._config.keep is not None and (is_new or users.kept_for(self.directory) is not None):
            await users.keep(reactor, self.directory, self._config.keep)
        elif self._owner is None:
            users.keep_on(self.directory)

    def release(self) -> None:
        """Use it no more."""
        if self._use is not None:
            self._use.close()
            self._use = None

    async def end_unused(self, reactor: Reactor) -> bool:
        """End it if nobody uses it: whoever comes now waits for a start of its own. Raises ``TestnetError``."""
        self._lock.take()
        try:
            return not users.is_used(self.directory) and await self._end_relays(reactor)
        finally:
            self._lock.release()

    async def end_unfinished(self, reactor: Reactor) -> bool:
        """End it if who started it is gone before it was ready; whether anything ran. Raises ``TestnetError``."""
        self._lock.take()  # as long as somebody starts it, this fails
        try:
            if not users.is_starting(self.directory):
                return False
            ended = await self._end_relays(reactor)
            if not ended:  # programs that were just being started are found the next time
                users.started(self.directory)
            return ended
        finally:
            self._lock.release()

    async def stop(self, reactor: Reactor) -> bool:
        """End all relays and return when they are gone; False if none ran. Raises ``TestnetError``."""
        if not self.directory.is_dir():
            return False
        self.release()
        self._lock.take()
        try:
            users.keep_on(self.directory)
            users.started(self.directory)
            return await self._end_relays(reactor)
        finally:
            self._lock.release()

    async def restart_dead_relay(self, reactor: Reactor) -> str | None:
        """Start a relay that ended since the start again, on the same ports; return how it ended, None if all run.

        None also if another process is about to do the same. Raises ``TestnetError`` if that fails, and
        ``NetworkEndedError`` if it is not ours, and nothing of it is left, or it was another's who is gone.
        """
        state = State.load(self.directory)
        if state is not None and state.links is not None and link_process.running(self.directory) is None:
            raise LinksEndedError("its links ended")
        if not dead_relays(state):
            return None
        locked_before = self._lock.is_held
        try:
            self._lock.take()
        except InUseError:
            return None
        try:
            state = State.load(self.directory) or State(())
            dead = dead_relays(state)
            if not dead:
                return None
            if not locked_before and (state.owner is not None or len(dead) == len(state.relays)):
                raise NetworkEndedError(f"the private network in {self.directory} was stopped")
            ended = how_it_ended(dead[0])
            await RelayPrograms.find(reactor, self._tor_binary, self._clock).start(
                dead[0], state.owner, self.directory
            )
            return ended
        finally:
            if not locked_before:
                self._lock.release()

    def _make_directory(self) -> None:
        directory = self.directory
        try:
            if directory.is_dir() and State.load(directory) is None and _has_more_than_a_start(directory):
                raise TestnetError(f"{directory} is not empty, and holds no private network")
            make_private(directory)
        except OSError as error:
            raise TestnetError(f"{directory} cannot be used: {error.strerror}") from None

    async def _start_anew(
        self, reactor: Reactor, programs: RelayPrograms, progress: ProgressReport, until: float
    ) -> None:
        previous = State.load(self.directory)
        await self._end_relays(reactor)
        config = self._config
        names, obfs4 = [*nicknames(config.relays), *config.bridge_names], bridges.obfs4_program()
        mode = link_process.choose_mode(config)
        voting = Voting.over(config.longest_delay)
        for attempts_left in (1, 0):
            places = link_process.places(mode, self.directory)
            state = relays.plan(self.directory, names, previous, places, obfs4)
            state = attrs.evolve(
                state,
                owner=self._owner() if self._owner is not None else None,
                links=link_process.described(mode, config),
                weights=drawn_weights(nicknames(config.relays), config.seed) if config.seed is not None else (),
            )
            state = await programs.prepare(self.directory, state, voting)
            if state.owner is None:
                await users.watch_start(reactor, self.directory)
            if mode is not None:
                progress(0, len(state.relays) + 2, f"the links are started ({mode})")
                await link_process.start(reactor, self.directory, state, config, mode)
            await deferLater(reactor, voting.until_good_time(self._clock.wall()))
            try:
                await programs.start_all(self.directory, state, progress)
            except PortTakenError:
                if not attempts_left or self._clock.monotonic() > until:
                    raise
                # Somebody was faster; no port is the same in the second attempt.
                await self._end_relays(reactor)
                previous = None
            else:
                return

    async def _wait_until_ready(
        self, reactor: Reactor, progress: ProgressReport, until: float, deadline: float
    ) -> None:
        # Waiting for what can't come any more would take the whole deadline, so what ended is looked for each time.
        has_consensus = False
        while True:
            status = self.status()
            if status.state is None:
                raise TestnetError(f"{self.directory / relays.STATE_FILE} was removed")
            for relay, pid in zip(status.state.relays, status.pids, strict=True):
                if pid is None:
                    raise TestnetError(how_it_ended(relay))
            if status.lacks_links:
                raise TestnetError("the process of the links ended")
            steps = len(status.pids) + 2
            if status.ready:
                progress(steps, steps, "all relays know each other")
                return
            if status.consensus is not None and not has_consensus:
                has_consensus = True
                progress(steps - 1, steps, "the authorities made their first consensus")
            if self._clock.monotonic() > until:
                raise TestnetError(_not_ready(status, status.state, deadline))
            await deferLater(reactor, _POLL)

    async def _end_relays(self, reactor: Reactor) -> bool:
        state = State.load(self.directory)
        if state is None:
            return False
        try:
            ended = await end_processes(reactor, [relay.torrc for relay in state.relays])
            return ended + await end_processes(reactor, [link_process.plan_file(self.directory)]) > 0
        except OSError as error:
            raise TestnetError(f"the relays in {self.directory} could not be stopped: {error}") from None


def _not_ready(status: NetworkStatus, state: State, deadline: float) -> str:
    """What to say when the deadline has passed: which relay to look at, and what it said last."""
    listed = frozenset() if status.consensus is None else status.consensus.running
    missing = [relay for relay in state.listed if relay.nickname not in listed]
    uninformed = [relay for relay, informed in zip(state.relays, status.informed, strict=True) if not informed]
    relay = (missing or uninformed or state.relays)[0]
    if status.consensus is None:
        what = "there was no consensus"
    elif missing:
        what = f"there was no consensus with {relay.nickname} in it"
    else:
        what = f"{relay.nickname} did not know all relays"
    return f"{what} within {deadline:g} s; {relay.nickname} said last: {relay.last_message()} (log: {relay.log})"


def _has_more_than_a_start(directory: Path) -> bool:
    """Whether there is more than what a start that was interrupted early may have left, without a state."""
    return any(name != "lock" and not is_scratch(name) for name in os.listdir(directory))
