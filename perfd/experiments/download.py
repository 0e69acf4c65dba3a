"""``type = download``: fetch SIZE random bytes back from our own server through a tor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import attrs

from perfd.experiments.run import PAIR, Extra, Run, Setup, TorExperiment, Transfer, run_in_turn
from perfd.record import EMPTY, Measurement, Outcome, new_id


class DownloadRun(Run):
    """One download. ``optimistic``: the HTTP request does not wait for the SOCKS reply (Tor's proposal 174)."""

    def __init__(self, setup: Setup, slot: float | None, extra: Extra = EMPTY, *, optimistic: bool = False) -> None:
        super().__init__(setup, slot, extra)
        self._optimistic = optimistic

    async def exchange(self) -> None:
        self._transfer = Transfer(self.setup, self.id, self.user, optimistic=self._optimistic)
        await self._transfer.fetch(self.setup.size, self.setup.timeout)

    async def finish(self) -> Measurement:
        fields = await self._transfer.fields(self.slot)
        return Measurement(**fields | {"extra": {**self.extra, **fields["extra"]}})


@attrs.frozen
class Pair:
    """``optimistic = both``: two runs in each slot, without and with optimistic data, taking turns in going first.

    Nothing comes between them, and they use the same circuits, so that they differ in nothing else. Both records
    have the same PAIR; the first one goes to ``parts``.
    """

    strict: TorExperiment
    optimistic: TorExperiment
    _rounds: count[int] = attrs.field(factory=count, init=False)

    @property
    def name(self) -> str:
        return self.strict.name

    @property
    def not_ready(self) -> str | None:
        return self.strict.not_ready

    async def run(self, slot: float | None) -> Measurement:
        """Both runs; the record of the second."""
        order = [self.strict, self.optimistic]
        if next(self._rounds) % 2:
            order.reverse()
        return await run_in_turn(order, slot, {PAIR: new_id()}, self.strict.setup.parts.record)

    def blanks(self, slot: float | None, outcome: Outcome, errorcode: str, reason: str) -> Sequence[Measurement]:
        """The records of a slot without runs: of both, with the same PAIR."""
        pair = {PAIR: new_id()}
        return [each.blank(slot, outcome, errorcode, reason, pair) for each in (self.strict, self.optimistic)]
