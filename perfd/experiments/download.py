"""``type = download``: fetch SIZE random bytes back from our own server through a tor, or a URL from elsewhere."""

from __future__ import annotations

import attrs

from perfd.experiments.run import Extra, Record, Run, Setup
from perfd.experiments.visit import make_transfer
from perfd.record import EMPTY, Outcome


class DownloadRun(Run):
    """One download. ``optimistic``: the HTTP request does not wait for the SOCKS reply (Tor's proposal 174)."""

    def __init__(
        self, setup: Setup, slot: float | None, record: Record, extra: Extra = EMPTY, *, optimistic: bool = False
    ) -> None:
        super().__init__(setup, slot, record, extra)
        self._optimistic = optimistic

    @property
    def streams(self) -> int | None:
        return 1 if self.setup.target is None else None  # redirects lead to more

    async def exchange(self) -> bool:
        self._transfer = make_transfer(self.setup, self.id, self.user, optimistic=self._optimistic)
        exchange = await self._transfer.fetch(self.setup.size, self.setup.timeout)
        return exchange.outcome is not Outcome.CANCELLED

    async def finish(self) -> None:
        found = await self._transfer.result(self.slot)
        self.record(attrs.evolve(found, extra={**self.extra, **found.extra}))
