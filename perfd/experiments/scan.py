"""``type = scan``: which relay of a class is measured next, and with which others.

A pass goes over all relays of the class, each once, in an order that follows from the seed, the number of the pass
and the fingerprints alone: so it goes on in the same order after a restart, and relays that come or go meanwhile
change nothing for the others. What was measured is known from the records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from random import Random, SystemRandom

import attrs
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from perfd.config.relays import AUTO, PLACES, RelaysConfig, ScanConfig, Selection
from perfd.tor.circuits.chosen import Keys
from perfd.tor.circuits.path import Known, NoPathError, fit_for, place_of
from perfd.tor.circuits.selection import matching, ranked
from perfd.tor.events.relays import RouterStatus

HEAVIEST = Selection.parse("@bandwidth:4/4")
"""The known others where none are configured: the heaviest quarter of those that may be there."""

ENOUGH = 5
"""Known others that there must be of the heaviest quarter; in a smaller network any will do."""

_MOST_SEED = 10**9


@attrs.frozen
class ScanState:
    """How far a scan has come: ``done`` are the fingerprints of the relays that the pass has measured."""

    number: int  # of the pass, from 1 on
    seed: int
    done: frozenset[str] = frozenset()


Resume = Callable[[], Awaitable[ScanState | None]]
"""Gives the state that an earlier Perfd has left, if one has."""


async def from_the_beginning() -> ScanState | None:
    """There is none."""
    return None


class ScanChoice:
    """The relays of ``config`` in turn; ``others`` are those of the other places that are known."""

    _log = Logger()

    def __init__(
        self, config: ScanConfig, others: RelaysConfig | None, resume: Resume = from_the_beginning
    ) -> None:
        self._config = config
        self._others = RelaysConfig.of({}) if others is None else others
        self._resume = resume
        self._state: ScanState | None = None
        self._now: tuple[Known, RouterStatus, ScanState, int] | None = None
        self._known_places: tuple[Known, Mapping[str, tuple[RouterStatus, str]]] | None = None
        self._ordered: tuple[Mapping[str, tuple[RouterStatus, str]], int, list[str]] | None = None
        self.asks_countries = self._others.asks_countries or any(
            each.kind == "country" for each in config.relays.conditions
        )

    async def prepare(self) -> None:
        """Know where the scan is."""
        if self._state is not None:
            return
        before = None
        try:
            before = await self._resume()
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - a database that cannot be read costs the place, not the measurement
            self._log.failure("it is not known where the scan was; it begins anew")
        seed = self._config.seed
        if before is None:
            self._state = ScanState(1, SystemRandom().randrange(_MOST_SEED) if seed is None else seed)
        elif seed not in (None, before.seed):
            self._state = ScanState(before.number + 1, int(seed or 0))
        else:
            self._state = before

    def wanted(self, known: Known, random: Random) -> tuple[RelaysConfig, Keys]:
        """A circuit with the next relay in its place. Raises ``NoPathError`` if no relay is in the class."""
        assert self._state is not None
        places = self._places(known)
        if not places:
            raise NoPathError(
                f"no relay in the consensus is up, fit to be measured, and among {self._config.relays}"
            )
        left = self._left(places)
        if not left:
            self._state = ScanState(self._state.number + 1, self._state.seed)
            left = self._left(places)
        state, following = self._state, left[0]
        self._state = attrs.evolve(state, done=state.done | {following})
        relay, place = places[following]
        self._now = known, relay, state, len(left) - 1
        return self._as(place)

    def instead(self, barred: frozenset[str]) -> tuple[RelaysConfig, Keys] | None:
        """The relay in another place, if it is an exit that does not allow the port."""
        assert self._now is not None
        relay = self._now[1]
        if self._config.place != AUTO or relay.fingerprint not in barred:
            return None
        return self._as(place_of(relay, barred))

    def _as(self, place: str) -> tuple[RelaysConfig, Keys]:
        assert self._now is not None
        known, relay, state, left = self._now
        keys: Keys = {
            "SCANRELAY": f"${relay.fingerprint}",
            "SCANNICKNAME": relay.nickname,
            "SCANPLACE": place,
            "SCANPASS": state.number,
            "SCANSEED": state.seed,
            "SCANLEFT": left,
        }
        return self._around(known, relay, place), keys

    def _left(self, places: Mapping[str, tuple[RouterStatus, str]]) -> list[str]:
        """The fingerprints of those that the pass has not measured, in its order."""
        state = self._state
        assert state is not None
        if self._ordered is None or self._ordered[0] is not places or self._ordered[1] != state.number:
            # Thousands of digests, once for a pass and a consensus.
            self._ordered = places, state.number, sorted(places, key=lambda each: _order(state, each))
        return [each for each in self._ordered[2] if each not in state.done]

    def _places(self, known: Known) -> Mapping[str, tuple[RouterStatus, str]]:
        """Each relay of the class and its place, by fingerprint; the same ones for the same consensus."""
        if self._known_places is None or self._known_places[0] is not known:
            self._known_places = known, self._find_places(known)
        return self._known_places[1]

    def _find_places(self, known: Known) -> Mapping[str, tuple[RouterStatus, str]]:
        config = self._config
        relays = [each for each in known.relays if each.nickname]  # bridges are in no consensus, and have none here
        if config.place != AUTO:
            relays = fit_for(config.place, relays, config.relays)
        found = [relay.status for relay in matching(config.relays, ranked(relays))]
        return {
            each.fingerprint: (each, place_of(each) if config.place == AUTO else config.place) for each in found
        }

    def _around(self, known: Known, relay: RouterStatus, place: str) -> RelaysConfig:
        itself = Selection.parse(relay.fingerprint)
        hops = [
            itself if each == place else self._known(known, relay, each, chosen)
            for each, chosen in zip(PLACES, self._others.hops, strict=True)
        ]
        return RelaysConfig(hops=tuple(hops))

    def _known(self, known: Known, relay: RouterStatus, place: str, chosen: Selection | None) -> Selection | None:
        """Those for another place; any, if of those that are configured there is none but the relay itself."""
        if chosen is None and place == PLACES[0]:
            return None  # tor's own guard
        wanted = HEAVIEST if chosen is None else chosen
        found = known.candidates(place, wanted).fingerprints
        others = len(found) - (relay.fingerprint in found)
        return wanted if others >= (ENOUGH if chosen is None else 1) else None


def _order(state: ScanState, fingerprint: str) -> bytes:
    return hashlib.sha256(f"{state.seed}/{state.number}/{fingerprint}".encode()).digest()
