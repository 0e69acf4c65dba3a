"""Making the keys of the private network's relays, and starting these: what ``testnet`` does with programs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from perfd.clock import Clock
from perfd.processes.programs import ProgramMissingError, find_program, recorded_process, run_program
from perfd.reactor import Reactor
from perfd.tor.files import make_private, write_whole
from perfd.tor.messages import last_words
from perfd.tor.testnet import authorities, bridges, link_process, relays, weights
from perfd.tor.testnet.relays import Relay, State, TestnetError
from perfd.tor.testnet.voting import Voting

_POLL = 0.02
_PID_FILE_DEADLINE = 30.0

_KEY_MONTHS = 24  # the most that tor-gencert allows

ProgressReport = Callable[[int, int, str], None]
"""Called with the steps done, the steps in all, and what was done last."""


class PortTakenError(TestnetError):
    """A relay did not start because somebody else has one of its ports."""


@attrs.frozen
class RelayPrograms:
    """The paths of tor and tor-gencert, and what relays need them for."""

    tor: str
    gencert: str
    reactor: Reactor
    clock: Clock

    @classmethod
    def find(cls, reactor: Reactor, tor_binary: str, clock: Clock) -> RelayPrograms:
        """Look for the programs. Raises ``TestnetError`` if one is missing."""
        try:
            return cls(find_program(tor_binary), find_program("tor-gencert"), reactor, clock)
        except ProgramMissingError as error:
            raise TestnetError(f"the private network cannot be started: {error}") from None

    async def prepare(self, directory: Path, state: State, voting: Voting) -> State:
        """Make everything that the relays of ``state`` need on disk, and return it with what clients need.

        Raises ``TestnetError``, and ``OSError`` if the disk does not take it.
        """
        # Before anything else is made: whatever interrupts this, the directory is known as ours.
        state.save(directory)
        for relay in state.relays:
            relays.clear(relay)
        await _all(self._make_keys(relay) for relay in state.authorities)
        others = [relay for relay in state.listed if not relay.authority] if state.weights else []
        await _all(self._make_identity(relay) for relay in others)
        lines = tuple(authorities.dir_authority_line(relay) for relay in state.authorities)
        state = attrs.evolve(state, dir_authorities=lines)
        if state.weights:
            weights.write_weights(state, self.clock.wall())
        votes = weights.votes(state) if state.weights else relays.Votes()
        for relay in state.relays:
            text = relays.torrc(relay, state.client_options, voting, votes) + bridges.torrc(relay, state.obfs4)
            write_whole(relay.torrc, text)
        state.save(directory)
        return state

    async def start_all(self, directory: Path, state: State, progress: ProgressReport) -> None:
        """Start the relays of ``state`` at the same time. Raises the first error, when all have started or failed.

        Two steps of the network's start are left afterwards.
        """
        started = 0

        async def start(relay: Relay) -> None:
            nonlocal started
            await self.start(relay, state.owner, directory)
            started += 1
            progress(started, len(state.relays) + 2, f"{relay.nickname} started")

        await _all(start(relay) for relay in state.relays)

    async def start(self, relay: Relay, owner: int | None, directory: Path) -> None:
        """Start a relay that ends with the process ``owner``, and return when it runs.

        Raises ``PortTakenError``, and ``TestnetError`` for all other reasons.
        """
        argv = [self.tor, "--defaults-torrc", str(relay.torrc) + "-defaults", "-f", str(relay.torrc)]
        if relay.address != relays.LOOPBACK:
            argv = [*link_process.enter(directory, relay.nickname), *argv]
        if owner is not None:
            argv += ["--__OwningControllerProcess", str(owner)]
        finished = await run_program(self.reactor, argv)
        if finished.code == 0:
            await self._wait_for_pid_file(relay)
            return
        lines = finished.output.splitlines()
        message = f"{relay.nickname} did not start: {last_words(lines)} (log: {relay.log})"
        if "Address already in use" in finished.output:
            raise PortTakenError(message)
        raise TestnetError(message)

    async def _make_keys(self, authority: Relay) -> None:
        make_private(authority.keys)
        if not authorities.certificate_is_usable(authority, self.clock.wall()):
            identity = authority.keys / "authority_identity_key"
            identity.unlink(missing_ok=True)
            argv = [self.gencert, "--create-identity-key", "-m", str(_KEY_MONTHS), "--passphrase-fd", "0"]
            argv += ["-i", str(identity), "-s", str(authority.keys / "authority_signing_key")]
            argv += ["-c", str(authority.keys / "authority_certificate")]
            await self._run(argv, stdin=b"perfd\n")
        await self._make_identity(authority)

    async def _make_identity(self, relay: Relay) -> None:
        argv = [self.tor, "--list-fingerprint", "-f", str(relay.torrc), "--ignore-missing-torrc"]
        argv += ["--DataDirectory", str(relay.directory), "--Nickname", relay.nickname]
        await self._run([*argv, "--ORPort", f"{relays.LOOPBACK}:{relay.or_port}"])

    async def _run(self, argv: list[str], stdin: bytes = b"") -> None:
        finished = await run_program(self.reactor, argv, stdin=stdin)
        if finished.code != 0:
            why = last_words(finished.output.splitlines())
            raise TestnetError(f"{Path(argv[0]).name} failed: {why}")

    async def _wait_for_pid_file(self, relay: Relay) -> None:
        """Tor writes it a moment after the program that was started has ended."""
        until = self.clock.monotonic() + _PID_FILE_DEADLINE
        while recorded_process(relay.pid_file, relay.torrc) is None:
            if self.clock.monotonic() > until:
                raise TestnetError(how_it_ended(relay))
            await deferLater(self.reactor, _POLL)


def dead_relays(state: State | None) -> list[Relay]:
    """The relays of ``state`` that do not run; none if there never was a network."""
    found = () if state is None else state.relays
    return [relay for relay in found if recorded_process(relay.pid_file, relay.torrc) is None]


def how_it_ended(relay: Relay) -> str:
    """What to say of a relay that does not run: its last message and its log file."""
    return f"{relay.nickname} ended: {relay.last_message()} (log: {relay.log})"


async def _all(steps: Iterable[Awaitable[None]]) -> None:
    """Run ``steps`` at the same time and return when all are done; raise the first failure only then."""

    async def run(step: Awaitable[None]) -> None:
        await step

    running = [Deferred.fromCoroutine(run(step)) for step in steps]
    results: list[tuple[bool, Any]] = await DeferredList(running, consumeErrors=True)
    for success, result in results:
        if not success:
            result.raiseException()
