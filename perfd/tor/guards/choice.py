"""``GuardChoice``: the guards that a tor's consensus has for ``fast``, ``slow``, ``fastratio`` and ``slowratio``.

They are the first three of the consensus in that order (``routers``), as Torperf's ``entrycons.py`` chose them. The
two ratios need what relays advertise, and that is in their descriptors only, which tor fetches if it is told to. If
they do not come, ``fastratio`` becomes ``fast``, and ``slowratio`` ``slow``, with a warning.
"""

from __future__ import annotations

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from txtorcon import TorControlProtocol

from perfd.clock import Clock
from perfd.tor.control import open_beside
from perfd.tor.events.relays import RouterStatus
from perfd.tor.guards.routers import DescriptorReader, GuardReader, rank

CHOSEN = 3
"""Guards that are used at the same time in the four orders, as in Torperf."""

KEPT = 100
"""Guards that are kept in their order, to replace those that go down."""

ENOUGH = 0.95
"""The share of guards whose descriptors must be there for the ratios."""

DESCRIPTOR_PAUSE = 5.0
DESCRIPTOR_PATIENCE = 600.0
"""Seconds for which descriptors are waited for, in growing pauses; then it is done without."""

READ_TIMEOUT = 300.0


@attrs.frozen
class Choice:
    """The guards that were chosen, and from which consensus (None: they were given)."""

    fingerprints: tuple[str, ...]
    order: str
    valid_after: str | None = None


class GuardChoice:
    """Chooses the guards of the tor called ``tor`` in the order ``mode``, and keeps those that may follow them."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, mode: str, *, tor: str, clock: Clock) -> None:
        self._reactor = reactor
        self._mode = mode
        self._tor = tor
        self._clock = clock
        self._ranked: list[RouterStatus] = []
        self._down: set[str] = set()
        self._lacking_since: float | None = None  # monotonic: descriptors

    def begin(self) -> None:
        """There is a new connection to tor: descriptors are waited for anew."""
        self._lacking_since = None

    async def choose(self, protocol: TorControlProtocol, valid_after: str | None = None) -> Choice | float | None:
        """Choose from tor's consensus, unless it is still the one of ``valid_after``.

        Gives the seconds after which to look again if descriptors are missing, and None if there is nothing new to
        choose from. Raises ``ControlError``, Twisted's ``TimeoutError`` and what txtorcon raises.
        """
        latest = await protocol.get_info_single("consensus/valid-after")
        if not latest or latest == valid_after:
            return None
        order = self._mode
        guards, advertised = await self._read(protocol)
        known = sum(guard.fingerprint in advertised for guard in guards)
        if order.endswith("ratio") and known < ENOUGH * len(guards):
            pause = self._pause_for_descriptors()
            if pause is not None:
                return pause
            order = order.removesuffix("ratio")
            self._log.warn(
                "tor {tor} has the descriptors of {known} of {all} guards only: guards = {order} instead of {mode}",
                tor=self._tor,
                known=known,
                all=len(guards),
                order=order,
                mode=self._mode,
            )
        ranked = rank(order, guards, advertised)
        if not ranked:
            return None  # a network that is just beginning; another consensus follows
        self._ranked, self._down = ranked[:KEPT], set()
        return Choice(self._best(), order, latest)

    def without(self, down: set[str]) -> tuple[str, ...]:
        """The best guards of the consensus, without those that are ``down`` now or were found down before."""
        self._down |= down
        return self._best()

    def _best(self) -> tuple[str, ...]:
        up = [guard.fingerprint for guard in self._ranked if guard.fingerprint not in self._down]
        return tuple(up[:CHOSEN])

    def _pause_for_descriptors(self) -> float | None:
        """Seconds until another look, less and less often; None if that took too long already."""
        now = self._clock.monotonic()
        self._lacking_since = now if self._lacking_since is None else self._lacking_since
        waited = now - self._lacking_since
        if waited >= DESCRIPTOR_PATIENCE:
            return None
        return max(DESCRIPTOR_PAUSE, waited / 2)

    async def _read(self, protocol: TorControlProtocol) -> tuple[list[RouterStatus], dict[str, int]]:
        """All guards of the consensus, and what relays advertise, if that is needed.

        Over a connection of its own, because events would wait behind an answer of megabytes, and in small pieces.
        """
        side = await open_beside(self._reactor, protocol)
        routers, descriptors = GuardReader(), DescriptorReader()
        try:
            await side.get_info_incremental("ns/all", routers.line).addTimeout(READ_TIMEOUT, self._reactor)
            if self._mode.endswith("ratio"):
                reading = side.get_info_incremental("desc/all-recent", descriptors.line)
                await reading.addTimeout(READ_TIMEOUT, self._reactor)
        finally:
            side.transport.abortConnection()
        return routers.guards, descriptors.advertised
