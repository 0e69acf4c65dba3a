"""The payload of a run from wherever it is: our own server over one connection, or elsewhere over several.

Elsewhere redirects are followed, as many as the target allows, each over a connection of its own that is isolated
as the first one was. The record's START is that of the first request, and all other steps are those of the last.
"""

from __future__ import annotations

import attrs

from perfd.client.fetch import Exchange
from perfd.experiments.run import Extra, Setup
from perfd.experiments.target import Target, redirected
from perfd.experiments.transfer import Transfer
from perfd.record import Error, Measurement
from perfd.tor.events.join import Joined


def make_transfer(setup: Setup, measurement: str, user: str, *, optimistic: bool = False) -> Transfer | Visit:
    """What fetches the payload of an experiment; see `Transfer`."""
    if setup.target is None:
        return Transfer(setup, measurement, user, optimistic=optimistic)
    return Visit(setup, setup.target, measurement, user, optimistic=optimistic)


class Visit:
    """What `Transfer` is, for a ``target`` elsewhere."""

    def __init__(
        self, setup: Setup, target: Target, measurement: str, user: str, *, optimistic: bool = False
    ) -> None:
        self._setup = setup
        self._target = target
        self._measurement = measurement
        self._user = user
        self._optimistic = optimistic
        self._urls = [target.config.url]
        self._transfers: list[Transfer] = []

    @property
    def joined(self) -> Joined | None:
        return self._transfers[-1].joined

    @property
    def held_up(self) -> Extra:
        return self._transfers[-1].held_up

    async def fetch(self, size: int, timeout: float) -> Exchange:
        """Make the request, and those that redirects lead to, within ``timeout`` seconds from the first one on.

        What the payload must be is the target's to say; ``size`` is part of that.
        """
        monotonic = self._setup.clock.monotonic
        stopped = await self._target.wait(self._target.request(self._urls[0]))
        if stopped is not None:
            return self._transfer().end(stopped)
        deadline = monotonic() + timeout
        while True:  # redirects follow at once: whoever visits an address follows them, and pauses would bend times
            transfer = self._transfer()
            exchange = await transfer.fetch_foreign(self._target.expected, deadline - monotonic())
            followed = self._followed(exchange)
            if followed is not None:
                return transfer.end(followed)

    async def result(self, slot: float | None) -> Measurement:
        """All that is known of it; see `Transfer.result`."""
        for transfer in self._transfers[:-1]:
            transfer.forget()
        last = self._transfers[-1]
        found = await last.result(slot)
        keys: dict[str, str | int | float] = dict(self._target.keys)
        if len(self._urls) > 1:
            keys |= {"REDIRECTS": len(self._urls) - 1, "REDIRECTEDTO": self._urls[-1]}
            keys["REDIRECTED"] = last.timeline.anchor.epoch(last.timeline.anchor.monotonic)
        # All by the last one's look at the wall clock, so that no step of that clock is in between.
        began = last.timeline.anchor.epoch(self._transfers[0].timeline.anchor.monotonic)
        return attrs.evolve(found, start=began, extra={**keys, **found.extra})

    def _transfer(self) -> Transfer:
        request = self._target.request(self._urls[-1])
        transfer = Transfer(
            self._setup, self._measurement, self._user, optimistic=self._optimistic, foreign=request
        )
        self._transfers.append(transfer)
        return transfer

    def _followed(self, exchange: Exchange) -> Exchange | None:
        """How it ended; None if it goes on at the address that a redirect has led to."""
        if exchange.errorcode != Error.REDIRECTS or exchange.location is None:
            return exchange
        most = self._target.config.redirects
        if not most:
            return attrs.evolve(exchange, errorcode=Error.STATUS)
        if len(self._urls) > most:
            return attrs.evolve(exchange, reason=f"over {most} redirects; the last one: {exchange.reason}")
        try:
            self._urls.append(redirected(self._urls[-1], exchange.location))
        except ValueError as error:
            return attrs.evolve(exchange, reason=f"{exchange.reason}, which cannot be followed: {error}")
        return None
