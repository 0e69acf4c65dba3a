"""What keeps a circuit busy while its round-trip times are measured: downloads, uploads, or both at once."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from twisted.internet.defer import CancelledError, Deferred

from perfd.client.fetch import Exchange
from perfd.client.upload import post_request, upload
from perfd.clock import Phase
from perfd.experiments.run import Setup, together
from perfd.experiments.transfer import Transfer
from perfd.record import Outcome

DOWN, UP = "down", "up"


@attrs.frozen
class Kind:
    """A load: the ``loads`` of perfd.conf, and what it is in keys."""

    key: str
    directions: tuple[str, ...]
    words: str


KINDS = {
    "download": Kind("LOAD", (DOWN,), "download"),
    "upload": Kind("UPLOAD", (UP,), "upload"),
    "both": Kind("BOTH", (DOWN, UP), "load in both directions"),
}


class Direction:
    """Transfers in one direction, one after the other, over the circuits of ``user``; who isolates under the same
    name shares circuits.
    """

    def __init__(self, setup: Setup, name: str, user: str, direction: str) -> None:
        self.transfers: list[Transfer] = []
        self.last: Exchange | None = None
        self.is_up = direction == UP
        self._setup = setup
        self._name = name
        self._user = user
        self._moved = 0  # bytes that had arrived when it was over

    async def go_on(self, end: float, deadline: float) -> None:
        """Until ``end`` (monotonic), or until a transfer fails; each has until ``deadline``."""
        clock, reactor = self._setup.clock, self._setup.reactor
        while (left := end - clock.monotonic()) > 0:
            transfer = Transfer(self._setup, f"{self._name}{len(self.transfers)}", self._user)
            self.transfers.append(transfer)
            going = Deferred.fromCoroutine(self._transfer(transfer, deadline - clock.monotonic()))
            enough = reactor.callLater(left, going.cancel)
            try:
                self.last = await going
            finally:
                is_early = enough.active()
                if enough.active():
                    enough.cancel()
            self._moved += self._arrived(transfer)
            if is_early and self.last.outcome is Outcome.CANCELLED:  # by whoever has us go on
                raise CancelledError
            if not self.is_enough:
                return

    @property
    def is_enough(self) -> bool:
        """Whether it went on as long as it was wanted."""
        return self.last is None or self.last.outcome in (Outcome.OK, Outcome.CANCELLED)

    @property
    def moved(self) -> int:
        """Bytes that have arrived at the other end."""
        return self._moved

    @property
    def flowing(self) -> float | None:
        """When the first byte had arrived at the other end (monotonic); None if none did."""
        if not self.transfers:
            return None
        first = self.transfers[0]
        if not self.is_up:
            return first.timeline.stamps.get(Phase.DATARESPONSE)
        received = first.seen.received
        return None if received is None else received.first

    async def _transfer(self, transfer: Transfer, timeout: float) -> Exchange:
        size = self._setup.size
        if not self.is_up:
            return await transfer.fetch(size, timeout)
        request = post_request(transfer.authority, "/upload", size, transfer.request_headers)
        exchange = await upload(
            self._setup.reactor,
            transfer.begin(),
            request,
            size=size,
            timeline=transfer.timeline,
            timeout=timeout,
        )
        return transfer.end(exchange)

    def _arrived(self, transfer: Transfer) -> int:
        if not self.is_up:
            return 0 if transfer.exchange is None else transfer.exchange.payloadbytes or 0
        received = transfer.seen.received
        return 0 if received is None else received.count


class Load:
    """One load of a run: ``begun`` and ``ended`` are monotonic stamps."""

    def __init__(self, setup: Setup, kind: Kind, measurement: str, user: str) -> None:
        self.kind = kind
        self.begun = self.ended = setup.clock.monotonic()
        self._clock = setup.clock
        # The only load of before has the names of before.
        names = {DOWN: "load", UP: "upload"} if len(kind.directions) == 1 else {DOWN: "bothdown", UP: "bothup"}
        self.directions = [Direction(setup, f"{measurement}-{names[each]}", user, each) for each in kind.directions]

    async def go_on(self, end: float, deadline: float) -> None:
        """Until ``end``, or until it has failed."""
        try:
            await _all(self.directions, end, deadline)
        finally:
            self.ended = self._clock.monotonic()

    @property
    def transfers(self) -> list[Transfer]:
        return [transfer for direction in self.directions for transfer in direction.transfers]

    @property
    def failed(self) -> Exchange | None:
        """How it failed; None if it did not."""
        return next((each.last for each in self.directions if not each.is_enough), None)

    @property
    def flowing(self) -> float | None:
        """Since when it is under way in all of its directions; None if it never was."""
        since = [each.flowing for each in self.directions]
        known = [each for each in since if each is not None]
        return max(known) if known and len(known) == len(since) else None

    @property
    def rates(self) -> dict[str, float]:
        """Bytes a second that arrived at the other end, from the first byte until the load was over."""
        found = {}
        for direction in self.directions:
            since = direction.flowing
            if since is not None and self.ended > since:
                key = f"RTT{self.kind.key}{'UP' if direction.is_up else 'DOWN'}RATE"
                found[key] = round(direction.moved / (self.ended - since), 1)
        return found


async def _all(directions: Sequence[Direction], end: float, deadline: float) -> None:
    if len(directions) == 1:
        await directions[0].go_on(end, deadline)
    else:
        await together(each.go_on(end, deadline) for each in directions)
