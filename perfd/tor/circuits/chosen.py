"""``Circuits``: the circuits of one tor that are built for measurements, over the relays that each of them chooses.

Subscribe it to a ``TorService``: ``tor.subscribe(circuits.connected, circuits.disconnected)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Protocol

import attrs
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from txtorcon import TorControlProtocol

from perfd.clock import Clock
from perfd.config.relays import RelaysConfig
from perfd.record import EMPTY, Error
from perfd.tor.circuits.attacher import Attacher, UnusableError
from perfd.tor.circuits.builder import Builder, BuildError
from perfd.tor.circuits.consensus import ConsensusReader, allows
from perfd.tor.circuits.path import Known, NoPathError, choose_path
from perfd.tor.circuits.selection import Relay
from perfd.tor.control import ControlError
from perfd.tor.events.relays import NEW_CONSENSUS

Keys = Mapping[str, str | int | float]

LONGEST_BUILD = 60.0
"""Seconds after which a circuit is given up that is not built."""

MOST_EXITS = 50
"""Exits that are asked whether they allow a port, before it is said that none does."""


class Choice(Protocol):
    """Which relays the next run of an experiment wants."""

    @property
    def asks_countries(self) -> bool:
        """Whether it needs to know where relays are."""

    async def prepare(self) -> None:
        """Do what takes time, before ``wanted``."""

    def wanted(self, known: Known, random: Random) -> tuple[RelaysConfig, Keys]:
        """The relays of the run, and the keys of its record that say so. Raises ``NoPathError``."""

    def instead(self, barred: frozenset[str]) -> tuple[RelaysConfig, Keys] | None:
        """The same for a run whose exits, ``barred``, do not allow its port; None: there is nothing else."""


@attrs.frozen
class FixedChoice:
    """The same ``relays`` for each run."""

    relays: RelaysConfig

    @property
    def asks_countries(self) -> bool:
        return self.relays.asks_countries

    async def prepare(self) -> None:
        """There is nothing to do."""

    def wanted(self, known: Known, random: Random) -> tuple[RelaysConfig, Keys]:
        return self.relays, EMPTY

    def instead(self, barred: frozenset[str]) -> None:
        return None


class CircuitError(Exception):
    """There is no circuit for a run: the message says why, ``keys`` of its record what was wanted."""

    def __init__(self, errorcode: str, reason: str, keys: Keys = EMPTY) -> None:
        super().__init__(reason)
        self.errorcode = errorcode
        self.keys = keys


class OpenCircuit:
    """A circuit that was built for a run. ``keys`` of the run's record say over which relays, and how fast."""

    def __init__(self, builder: Builder, attacher: Attacher, circ_id: int, keys: Keys) -> None:
        self._builder = builder
        self._attacher = attacher
        self.circ_id = circ_id
        self.keys = keys
        self._users: set[str] = set()

    async def claim(self, user: str, streams: int | None = None) -> None:
        """Streams of the SOCKS user go over it: so many, or all until ``release``. Raises ``CircuitError``."""
        self._users.add(user)
        try:
            await self._attacher.claim(user, self.circ_id, streams)
        except UnusableError as error:
            raise CircuitError(Error.CIRCUIT, str(error), self.keys) from None
        except RuntimeError as error:  # txtorcon's own errors are RuntimeErrors
            raise CircuitError(Error.CIRCUIT, f"tor was lost: {error}", self.keys) from None

    def release(self) -> None:
        """No more streams go over it than those that do."""
        for user in self._users:
            self._attacher.release(user)
        self._users.clear()

    def close(self) -> None:
        """It has done what it was built for."""
        self._builder.close(self.circ_id)


class Circuits:
    """Those of the tor called ``tor``. ``apart``: relays of a circuit are in different networks (`Known`).

    ``marker`` is the file that remembers of a tor that is not our own what is set there (`Attacher`).
    """

    def __init__(
        self, reactor: IReactorTime, clock: Clock, *, tor: str, apart: bool, marker: Path | None = None
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._tor = tor
        self._marker = marker
        self._consensus = ConsensusReader(reactor, apart=apart)
        self._random = Random()
        self._tools: tuple[TorControlProtocol, Builder, Attacher] | None = None

    async def connected(self, protocol: TorControlProtocol) -> None:
        """There is an authenticated control connection. Raises what txtorcon raises."""
        attacher = Attacher(protocol, self._marker)
        await attacher.recover()
        self._consensus.forget()
        await protocol.add_event_listener("STATUS_CLIENT", self._status_told)
        self._tools = protocol, Builder(protocol, self._clock, self._reactor), attacher

    def disconnected(self) -> None:
        """It was lost."""
        self._tools = None

    async def build(self, choice: Choice, port: int, timeout: float) -> OpenCircuit:
        """A circuit over the relays that are chosen, whose exit allows ``port``. Raises ``CircuitError``."""
        if self._tools is None:
            raise CircuitError(Error.NOTREADY, f"tor {self._tor} was lost")
        protocol, builder, attacher = self._tools
        keys: Keys = EMPTY
        try:
            await choice.prepare()
            known = await self._consensus.known(protocol, countries=choice.asks_countries)
            wanted, keys = choice.wanted(known, self._random)
            path, barred = await self._path(protocol, known, wanted, port)
            other = choice.instead(barred) if not path else None
            if other is not None:
                wanted, keys = other
                path, barred = await self._path(protocol, known, wanted, port)
            if not path:
                raise NoPathError(f"none of the exits that are wanted allows port {port}")
            keys = {**keys, "CHOSENPATH": ",".join(f"${relay.fingerprint}" for relay in path)}
            built = await builder.build([relay.fingerprint for relay in path], min(timeout, LONGEST_BUILD))
        except NoPathError as error:
            raise CircuitError(Error.NOPATH, str(error), keys) from None
        except BuildError as error:
            reason = _where(error, path)
            raise CircuitError(
                Error.CIRCUIT, reason, {**keys, **_times(error.times), "CHOSENFAILED": error.reason}
            ) from None
        except (ControlError, DeferredTimeoutError, RuntimeError) as error:
            raise CircuitError(Error.CIRCUIT, f"tor {self._tor} did not answer: {error}", keys) from None
        return OpenCircuit(builder, attacher, built.circ_id, {**keys, **_times(built.times)})

    async def _path(
        self, protocol: TorControlProtocol, known: Known, wanted: RelaysConfig, port: int
    ) -> tuple[list[Relay], frozenset[str]]:
        """A path whose exit allows the port, and the exits that do not; an empty one if all of them do not."""
        barred: frozenset[str] = frozenset()
        while len(barred) < MOST_EXITS:
            try:
                path = choose_path(attrs.evolve(known, barred=barred), wanted, self._random)
            except NoPathError:
                if barred:
                    break
                raise
            if await allows(protocol, path[-1].fingerprint, port):
                return path, barred
            barred |= {path[-1].fingerprint}
        return [], barred

    def _status_told(self, text: str) -> None:
        if NEW_CONSENSUS in text.split():
            self._consensus.forget()


@attrs.frozen
class Chosen:
    """What an experiment chooses, and the tor that builds it."""

    circuits: Circuits
    choice: Choice

    async def build(self, port: int, timeout: float) -> OpenCircuit:
        """A circuit for one run, whose exit allows ``port``. Raises ``CircuitError``."""
        return await self.circuits.build(self.choice, port, timeout)


def _times(times: tuple[float, ...]) -> Keys:
    return {"CHOSENTIMES": ",".join(f"{seconds:.6f}" for seconds in times)} if times else EMPTY


def _where(error: BuildError, path: list[Relay]) -> str:
    there = len(error.times)
    at = f" at {path[there].nickname or path[there].fingerprint}, relay {there + 1} of {len(path)}"
    return f"the circuit was not built: {error.reason}{at if there < len(path) else ''}"
