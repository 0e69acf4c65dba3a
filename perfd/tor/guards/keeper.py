"""``Guards``: keeps the entry guards of a tor as its configuration wants them (``guards``, ``drop-guards``).

- ``default``: tor's own.
- ``none``: a new first relay for every circuit (UseEntryGuards 0).
- ``FINGERPRINT,...``: these, and no others.
- ``fast``, ``slow``, ``fastratio``, ``slowratio``: the first three of the consensus in that order
  (``guard_choice``); chosen again with each consensus, and a guard that is down is replaced by the next one. For
  the two ratios tor is told to fetch the descriptors of relays (FetchUselessDescriptors 1), which changes nothing
  in how it builds circuits.

A Conflux set needs two guards: with one, tor would fail to build sets without end, so its Conflux is switched off.

Changing the guards closes all of tor's circuits, and reading a consensus takes time: both wait for the tor's turn,
so that no measurement runs meanwhile, and leave tor some seconds to have circuits ready again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from txtorcon import TorControlProtocol, TorProtocolError
from txtorcon.torcontrolprotocol import TorDisconnectError

from perfd.clock import Clock
from perfd.config.values import FINGERPRINT, GUARD_ORDERS, GuardPolicy
from perfd.tor.control import ControlError
from perfd.tor.events.circuits import idle_circuits
from perfd.tor.events.lines import GuardLine, UnparsedError
from perfd.tor.guards.choice import Choice, GuardChoice

NEW_CIRCUITS_TIME = 10.0
"""Seconds of the tor's turn after a change, so that the next measurement does not wait for the first circuits."""

SETTLE = 15.0
"""Seconds until a guard that went down is looked at again: a change of the guards itself makes some go down."""

NETWORK_DOWN_PAUSE = 60.0

OPTIONS = ("UseEntryGuards", "EntryNodes", "NumEntryGuards", "FetchUselessDescriptors", "ConfluxEnabled")
"""What is set here, as far as the tor has it."""

STOP_WAIT = 5.0
"""Seconds that tor may take to get its options back."""


class Guards:
    """The entry guards of one tor: subscribe ``connected`` and ``disconnected`` to its ``TorService``.

    ``turn`` is the tor's: whoever holds it is alone on that tor. ``drop_every`` (seconds) makes tor drop its
    guards, and what it has learnt about circuit build times, again and again (``drop-guards``). With ``restore``,
    for a tor that lives on without Perfd, ``stop`` gives it back the options that it had when Perfd came.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        policy: GuardPolicy,
        *,
        tor: str,
        clock: Clock,
        turn: DeferredLock | None = None,
        drop_every: float | None = None,
        restore: bool = False,
    ) -> None:
        self.choice: Choice | None = None
        self._reactor = reactor
        self._policy = policy
        self._tor = tor
        self._clock = clock
        self._turn = turn or DeferredLock()
        self._drop_every = drop_every
        self._restore = restore
        self._protocol: TorControlProtocol | None = None
        self._before: dict[str, str] | None = None  # tor's options before we came, as SETCONF takes them
        self._conflux_off = False
        self._next_drop: float | None = None  # monotonic
        self._drops_timeouts = True
        self._trouble: str | None = None
        self._consensus = GuardChoice(reactor, policy.mode, tor=tor, clock=clock)
        self._jobs: dict[str, Callable[[TorControlProtocol], Awaitable[None]]] = {
            "choose": self._choose,
            "check": self._check,
            "drop": self._drop,
        }
        self._due: dict[str, None] = {}  # names of jobs, in their order
        self._idle: Deferred[None] | None = None
        self._working: Deferred[None] | None = None
        self._timers: dict[str, IDelayedCall] = {}

    @property
    def not_ready(self) -> str | None:
        """Why the guards are not as they should be, in words for the record; None when they are."""
        if self._trouble is not None:
            return f"the guards of tor {self._tor} are not set: {self._trouble}"
        if self._policy.mode in GUARD_ORDERS and self.choice is None:
            return f"the guards of tor {self._tor} are not chosen yet"
        return None

    async def connected(self, protocol: TorControlProtocol) -> None:
        """Set the guards of a tor, as far as that needs no consensus, and begin to look after them.

        Raises what txtorcon raises if the connection is lost meanwhile.
        """
        self._trouble = None
        if self._policy.mode != "default" and self._before is None:
            self._before = await read_options(protocol)
        self._protocol = protocol
        if self._policy.mode == "none":
            await self._configure(protocol, "UseEntryGuards=0 EntryNodes NumEntryGuards")
        elif self._policy.mode == "fixed":
            choice = Choice(self._policy.fingerprints, "fixed")
            self.choice = choice if await self._use(protocol, choice) else None
        elif self._policy.mode in GUARD_ORDERS:
            await self._watch(protocol)
        self._working = Deferred.fromCoroutine(self._work(protocol))
        self._working.addErrback(self._work_ended)
        if self._drop_every is not None:
            now = self._clock.monotonic()
            self._next_drop = self._next_drop or now + self._drop_every
            self._later("drop", max(0.0, self._next_drop - now))

    def disconnected(self) -> None:
        """The control connection is lost."""
        self._protocol = None
        working, self._working = self._working, None
        if working is not None:
            working.cancel()
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        self._due.clear()
        self.choice = None

    async def stop(self) -> None:
        """Look after the guards no longer, because Perfd stops, and give tor its options back (``restore``).

        To be called before the tor's service stops. Takes at most ``STOP_WAIT`` seconds, and never raises.
        """
        protocol, before = self._protocol, self._before
        self.disconnected()
        if not self._restore or protocol is None or not before:
            return
        try:
            restoring = protocol.queue_command(f"SETCONF {' '.join(before.values())}")
            await restoring.addTimeout(STOP_WAIT, self._reactor)
        except (DeferredTimeoutError, TorDisconnectError, TorProtocolError) as error:
            self._log.warn("tor {tor} did not get its own guards back: {error}", tor=self._tor, error=error)
        else:
            self._log.info("tor {tor} has its own guards again", tor=self._tor)

    # Doing one thing after the other.

    async def _work(self, protocol: TorControlProtocol) -> None:
        """Do what is due, each in the tor's turn, until the connection is lost."""
        while True:
            while not self._due:
                self._idle = Deferred()
                await self._idle
            await self._turn.acquire()
            try:
                job = next(iter(self._due))
                del self._due[job]
                await self._jobs[job](protocol)
            except (ControlError, DeferredTimeoutError, TorDisconnectError, TorProtocolError) as error:
                self._log.warn("the guards of tor {tor}: {error}", tor=self._tor, error=error)
            finally:
                self._turn.release()

    def _work_ended(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("the guards of tor {tor} are not looked after any longer", failure, tor=self._tor)

    def _wish(self, job: str) -> None:
        self._due[job] = None
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.callback(None)

    def _later(self, job: str, seconds: float) -> None:
        """Do ``job`` in ``seconds``, unless it is to be done earlier anyway."""
        timer = self._timers.get(job)
        if timer is None or not timer.active():
            self._timers[job] = self._reactor.callLater(seconds, self._wish, job)

    # Choosing and applying.

    async def _watch(self, protocol: TorControlProtocol) -> None:
        if self._policy.mode.endswith("ratio"):
            with suppress(TorProtocolError):  # then there will be no descriptors, and a warning
                await protocol.queue_command("SETCONF FetchUselessDescriptors=1")
        self._consensus.begin()
        await protocol.add_event_listener("STATUS_CLIENT", self._status_changed)
        await protocol.add_event_listener("GUARD", self._guard_changed)
        self._wish("choose")

    def _status_changed(self, text: str) -> None:
        if " CONSENSUS_ARRIVED" in text:
            self._wish("choose")

    async def _choose(self, protocol: TorControlProtocol) -> None:
        """Choose from the consensus, unless it is still the same, or descriptors are waited for."""
        current = None if self.choice is None else self.choice.valid_after
        chosen = await self._consensus.choose(protocol, current)
        if isinstance(chosen, Choice):
            await self._change(protocol, chosen)
        elif chosen is not None:
            self._later("choose", chosen)

    async def _change(self, protocol: TorControlProtocol, choice: Choice) -> None:
        """Make these the guards; nothing is sent if they are already."""
        same = self.choice is not None and set(self.choice.fingerprints) == set(choice.fingerprints)
        if not same:
            if not await self._use(protocol, choice):
                return
            await deferLater(self._reactor, NEW_CIRCUITS_TIME)
        self.choice = choice

    async def _use(self, protocol: TorControlProtocol, choice: Choice) -> bool:
        nodes = ",".join(f"${fingerprint}" for fingerprint in choice.fingerprints)
        options = f"UseEntryGuards=1 EntryNodes={nodes} NumEntryGuards={len(choice.fingerprints)}"
        options += self._conflux_for(len(choice.fingerprints))
        if not await self._configure(protocol, options):
            return False
        self._log.info(
            "tor {tor} uses the guards {nodes} ({order})", tor=self._tor, nodes=nodes, order=choice.order
        )
        return True

    def _conflux_for(self, guards: int) -> str:
        """What SETCONF has to say about Conflux with so many guards."""
        before = (self._before or {}).get("ConfluxEnabled")
        if before is None:  # older than 0.4.8
            return ""
        was_off, self._conflux_off = self._conflux_off, guards < 2
        if not self._conflux_off:
            return f" {before}" if was_off else ""
        if not was_off:
            self._log.warn("tor {tor} has one guard only: no Conflux, since that needs two", tor=self._tor)
        return " ConfluxEnabled=0"

    async def _configure(self, protocol: TorControlProtocol, options: str) -> bool:
        try:
            await protocol.queue_command(f"SETCONF {options}")
        except TorProtocolError as error:
            self._trouble = f"it refused guards = {self._policy}: {' '.join(error.text.split())}"
            self._log.error("{reason}", reason=self.not_ready)
            return False
        return True

    # Replacing.

    def _guard_changed(self, text: str) -> None:
        try:
            line = GuardLine.parse(text)
        except UnparsedError:
            return  # counted where all events are
        chosen = self.choice is not None and line.relay.fingerprint[1:] in self.choice.fingerprints
        if chosen and line.status in ("DOWN", "BAD", "DROPPED"):
            self._later("check", SETTLE)

    async def _check(self, protocol: TorControlProtocol) -> None:
        """Replace the guards that are still down, unless it is the network that is down."""
        if self.choice is None:
            return
        if await protocol.get_info_single("network-liveness") == "down":
            self._later("check", NETWORK_DOWN_PAUSE)
            return
        states = guard_states(await protocol.get_info_raw("entry-guards"))
        down = {each for each in self.choice.fingerprints if states.get(each) in ("down", "unusable", "unlisted")}
        best = self._consensus.without(down)
        if down and best:
            self._log.warn("tor {tor} replaces guards that are down: {down}", tor=self._tor, down=", ".join(down))
            await self._change(protocol, attrs.evolve(self.choice, fingerprints=best))

    # Dropping.

    async def _drop(self, protocol: TorControlProtocol) -> None:
        assert self._drop_every is not None
        assert self._next_drop is not None
        now = self._clock.monotonic()
        while self._next_drop <= now:
            self._next_drop += self._drop_every
        self._later("drop", self._next_drop - now)
        await protocol.queue_command("DROPGUARDS")
        await self._close_circuits(protocol)
        if self._drops_timeouts:
            try:
                await protocol.queue_command("DROPTIMEOUTS")
            except TorProtocolError:  # older than 0.4.5
                self._drops_timeouts = False
        await protocol.queue_command("SIGNAL NEWNYM")
        self._log.info("tor {tor} dropped its guards", tor=self._tor)
        await deferLater(self._reactor, NEW_CIRCUITS_TIME)

    async def _close_circuits(self, protocol: TorControlProtocol) -> None:
        """Close what is ready: it begins with the guards of before, and NEWNYM leaves what is still unused."""
        circuits = await protocol.get_info_raw("circuit-status")
        streams = await protocol.get_info_raw("stream-status")
        for circ_id in idle_circuits(circuits, streams):
            with suppress(TorProtocolError):  # it is gone already
                await protocol.queue_command(f"CLOSECIRCUIT {circ_id}")


async def read_options(protocol: TorControlProtocol) -> dict[str, str]:
    """The ``OPTIONS`` as they are, each as SETCONF takes it; without those that this tor has not."""
    options = {}
    for name in OPTIONS:
        with suppress(TorProtocolError):
            answer = await protocol.get_conf_raw(name)
            value = answer.partition("=")[2].strip()
            if any(letter.isspace() for letter in value) and not value.startswith('"'):
                value = f'"{value}"'
            options[name] = f"{name}={value}" if value else name
    return options


def guard_states(text: str) -> dict[str, str]:
    """Tor's answer to ``GETINFO entry-guards``: up, down, unusable, ... by fingerprint."""
    lines = (line.split() for line in text.removeprefix("entry-guards=").splitlines())
    pairs = ((FINGERPRINT.fullmatch(words[0]), words[1]) for words in lines if len(words) > 1)
    return {match.group(1).upper(): state for match, state in pairs if match is not None}
