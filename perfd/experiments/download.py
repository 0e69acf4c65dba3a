"""``type = download``: fetch SIZE random bytes back from our own server through a tor."""

from __future__ import annotations

from itertools import count

import attrs

from perfd.experiments.run import Extra, Run, Setup, TorExperiment, Transfer
from perfd.record import EMPTY, Measurement, Outcome, new_id


class DownloadRun(Run):
    """One download. ``optimistic``: the HTTP request does not wait for the SOCKS reply (Tor's proposal 174)."""

    def __init__(
        self, setup: Setup, slot: float | None, extra: Extra = EMPTY, *, optimistic: bool | None = None
    ) -> None:
        super().__init__(setup, slot, extra)
        if optimistic is not None:
            self.extra["OPTIMISTIC"] = int(optimistic)
        self._optimistic = bool(optimistic)

    async def exchange(self) -> None:
        self._transfer = Transfer(self.setup, self.id, self.setup.user(self.id), optimistic=self._optimistic)
        await self._transfer.fetch(self.setup.size, self.setup.timeout)

    async def finish(self) -> Measurement:
        fields = await self._transfer.fields(self.slot)
        return Measurement(**fields | {"extra": {**self.extra, **fields["extra"]}})


@attrs.frozen
class Pair:
    """``optimistic = both``: two runs in each slot, without and with optimistic data, taking turns in going first.

    Both records have the same PAIR. The first one goes to ``parts``.
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
        first, second = self.strict, self.optimistic
        if next(self._rounds) % 2:
            first, second = second, first
        pair = {"PAIR": new_id()}
        earlier = await first.run(slot, pair)
        self.strict.setup.parts.record(earlier)
        if earlier.outcome is Outcome.CANCELLED:
            assert earlier.errorcode is not None
            return second.blank(slot, Outcome.CANCELLED, earlier.errorcode, "Perfd was stopped before it ran")
        return await second.run(slot, pair)

    def blank(self, slot: float | None, outcome: Outcome, errorcode: str, reason: str) -> Measurement:
        return self.strict.blank(slot, outcome, errorcode, reason)
