"""``type = series``: several requests, and to which circuits tor attached their streams (Tor's ticket #5830).

Each request has a record of its own (type ``request``), which is given out as soon as it is complete; the last
one is of the series. The id of a request is that of its series, a hyphen and its number.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from perfd.experiments.run import Extra, Record, Run, Setup, together
from perfd.experiments.transfer import Transfer
from perfd.experiments.visit import Visit, make_transfer
from perfd.record import EMPTY, REQUEST, Attach, Error, Measurement, Outcome
from perfd.tor.events.join import Joined


class SeriesRun(Run):
    """``requests`` downloads in ``groups`` isolation groups, in turn.

    ``stagger`` None: one after the other. Otherwise each begins so many seconds after the one before, whether that
    has ended or not. The experiment's timeout is that of the whole series.
    """

    def __init__(
        self,
        setup: Setup,
        slot: float | None,
        record: Record,
        extra: Extra = EMPTY,
        *,
        requests: int,
        groups: int,
        stagger: float | None,
    ) -> None:
        super().__init__(setup, slot, record, extra)
        self._requests = requests
        self._groups = groups
        self._stagger = stagger
        self._transfers: dict[int, Transfer | Visit] = {}
        self._parts: dict[
            int, Deferred[Measurement]
        ] = {}  # records, which are given out as soon as they are complete
        self._stopped = False

    @property
    def users(self) -> Sequence[str]:
        return [f"{self.user}-g{group}" for group in range(self._groups)]

    async def exchange(self) -> bool:
        self._anchor = self.setup.clock.anchor()
        self._begun = attrs.evolve(
            self.setup.begun(self.id, self.slot), start=self._anchor.epoch(self._anchor.monotonic)
        )
        if self._stagger is not None:
            await together(self._late(number, number * self._stagger) for number in range(self._requests))
        else:
            for number in range(self._requests):
                if not self._stopped:
                    await self._fetch(number)
        return not self._stopped

    async def finish(self) -> None:
        for number in range(self._requests):
            if number not in self._parts:
                self._parts[number] = Deferred.fromCoroutine(self._part(number))
        self.record(self._summary(await together(self._parts[number] for number in range(self._requests))))

    async def _late(self, number: int, seconds: float) -> None:
        remaining = self._anchor.monotonic + self.setup.timeout - self.setup.clock.monotonic()
        try:
            await deferLater(self.setup.reactor, min(seconds, max(0.0, remaining)))
        except CancelledError:
            self._stopped = True
            return
        await self._fetch(number)

    async def _fetch(self, number: int) -> None:
        remaining = self._anchor.monotonic + self.setup.timeout - self.setup.clock.monotonic()
        if remaining <= 0:
            return
        user = f"{self.user}-g{number % self._groups}"
        self._transfers[number] = transfer = make_transfer(self.setup, f"{self.id}-{number:04}", user)
        exchange = await transfer.fetch(self.setup.size, remaining)
        if exchange.outcome is Outcome.CANCELLED:
            self._stopped = True
        self._parts[number] = Deferred.fromCoroutine(self._part(number))

    async def _part(self, number: int) -> Measurement:
        """The record of one request, which is given out."""
        part = await self._result(number)
        self.record(part)
        return part

    async def _result(self, number: int) -> Measurement:
        extra: dict[str, Any] = {"SERIES": self.id, "REQUESTNUMBER": number, "GROUP": number % self._groups}
        extra |= self.setup.tor.keys
        if self.setup.target is not None:
            extra |= self.setup.target.keys
        transfer = self._transfers.get(number)
        if transfer is None:  # its time never came, and still it has a record
            return attrs.evolve(
                self._begun,
                id=f"{self.id}-{number:04}",
                type=REQUEST,
                outcome=Outcome.CANCELLED if self._stopped else Outcome.TIMEOUT,
                errorcode=Error.STOPPED if self._stopped else Error.TIMEOUT,
                reason="Perfd was stopped before it" if self._stopped else "the series was over time before it",
                extra=extra,
            )
        found = await transfer.result(self.slot)
        return attrs.evolve(
            found, type=REQUEST, extra={**extra, **allocation(transfer.joined), **found.extra, **transfer.held_up}
        )

    def _summary(self, parts: Sequence[Measurement]) -> Measurement:
        """The record of the series."""
        failed = [part for part in parts if part.outcome is not Outcome.OK]
        worst = failed[0] if failed else parts[0]
        complete = [part.datacomplete for part in parts if part.datacomplete is not None]
        return attrs.evolve(
            self._begun,
            datacomplete=max(complete) if complete and not failed else None,
            end=max((part.end for part in parts if part.end is not None), default=None),
            outcome=worst.outcome,
            errorcode=worst.errorcode,
            reason=f"{len(failed)} of {len(parts)} requests: {worst.reason}" if failed else None,
            payloadbytes=sum(part.payloadbytes or 0 for part in parts),
            readbytes=sum(part.readbytes or 0 for part in parts),
            writebytes=sum(part.writebytes or 0 for part in parts),
            extra={**self.extra, "GROUPS": self._groups, **summary(parts)},
        )


def allocation(joined: Joined | None) -> dict[str, str | int | float]:
    """To which circuits tor attached a stream, for how long it waited, and why it was detached."""
    stream = joined.stream if joined is not None else None
    if stream is None:
        return {}
    found: dict[str, str | int | float] = {
        "ATTACHES": len(stream.attaches),
        "ATTACHEDTO": _circuits(stream.attaches),
        "DETACHES": sum(attach.detached is not None for attach in stream.attaches),
    }
    reasons = [reason(attach.reason, attach.remote_reason) for attach in stream.attaches if attach.reason]
    if reasons:
        found["DETACHREASONS"] = ",".join(reasons)
    if stream.new is not None and stream.attaches:
        found["CIRCUITWAIT"] = round(stream.attaches[-1].at - stream.new, 6)
    return found


def _circuits(attaches: Sequence[Attach]) -> str | int:
    """The circuits as a comma list. One is a number: a text that looks like one is hard to read in the log."""
    circuits = [attach.circ_id for attach in attaches]
    return circuits[0] if len(circuits) == 1 else ",".join(map(str, circuits))


def reason(local: str | None, remote: str | None) -> str:
    """Tor's reason, with that of the far end after a slash."""
    return "/".join(filter(None, (local, remote)))


def summary(parts: Sequence[Measurement]) -> dict[str, str | int | float]:
    """What a series' requests have in common; a request that used a circuit after another one reused it.

    The legs of a Conflux set count as one circuit: a stream is attached to one of them, and uses all.
    """
    used = [part.conflux_id or str(part.circ_id) for part in parts if part.circ_id is not None]
    waits = [float(part.extra["CIRCUITWAIT"]) for part in parts if "CIRCUITWAIT" in part.extra]
    failures = Counter(part.errorcode for part in parts if part.outcome is not Outcome.OK)
    found: dict[str, str | int | float] = {
        "REQUESTS": len(parts),
        "REQUESTSOK": sum(part.outcome is Outcome.OK for part in parts),
        "CIRCUITS": len(set(used)),
        "REUSED": len(used) - len(set(used)),
        "ATTACHES": sum(int(part.extra.get("ATTACHES", 0)) for part in parts),
        "DETACHES": sum(int(part.extra.get("DETACHES", 0)) for part in parts),
    }
    if waits:
        found |= {"CIRCUITWAITMEDIAN": round(statistics.median(waits), 6), "CIRCUITWAITMAX": round(max(waits), 6)}
    if failures:
        found["FAILURES"] = ",".join(f"{code}:{count}" for code, count in failures.most_common())
    return found
