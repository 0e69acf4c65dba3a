"""``parallel = K``: K downloads at once, over one circuit or over K, and how fairly they shared it.

The steps of the record are those of the stream that was first with each, up to DATARESPONSE, and of the last one
for DATACOMPLETE; the counts are sums. Lists have one member for each stream, with nothing between two commas for
what did not happen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from perfd.clock import stamped_by
from perfd.experiments.run import STAMPS, Extra, Record, Run, Setup, together
from perfd.experiments.transfer import Transfer
from perfd.experiments.visit import Visit, make_transfer
from perfd.record import EMPTY, Measurement, Outcome

FIRSTS = ("start", "socket", "connect", "negotiate", "request", "response", "datarequest", "dataresponse")
FIRSTS_OF_SERVER = ("serverrequest", "serverresponse")
LASTS = ("datacomplete", "end", "servercomplete")
SUMS = ("writebytes", "readbytes", "payloadbytes")


class ParallelRun(Run):
    """``streams`` downloads at once. ``one_circuit``: all isolated under one name, so that they share circuits."""

    def __init__(
        self,
        setup: Setup,
        slot: float | None,
        record: Record,
        extra: Extra = EMPTY,
        *,
        streams: int,
        one_circuit: bool,
        optimistic: bool = False,
    ) -> None:
        super().__init__(setup, slot, record, extra)
        self._streams = streams
        self._one_circuit = one_circuit
        self._optimistic = optimistic

    async def exchange(self) -> bool:
        self._transfers = [self._transfer(number) for number in range(self._streams)]
        exchanges = await together(each.fetch(self.setup.size, self.setup.timeout) for each in self._transfers)
        return all(exchange.outcome is not Outcome.CANCELLED for exchange in exchanges)

    async def finish(self) -> None:
        parts = await together(transfer.result(self.slot) for transfer in self._transfers)
        extra = {**self.extra, **shares(parts)}
        by = stamped_by(part.extra[STAMPS] == "kernel" for part in parts if STAMPS in part.extra)
        if by is not None:
            extra[STAMPS] = by
        self.record(attrs.evolve(combined(parts), id=self.id, extra=extra))

    def _transfer(self, number: int) -> Transfer | Visit:
        user = self.user
        if not self._one_circuit:
            user += f"-{number}"
        return make_transfer(self.setup, f"{self.id}-{number}", user, optimistic=self._optimistic)


def combined(parts: Sequence[Measurement]) -> Measurement:
    """One record for several streams; ``parts`` are those of each."""
    changes: dict[str, Any] = {}
    for names, choose in ((FIRSTS, min), (FIRSTS_OF_SERVER, min), (LASTS, max), (SUMS, sum)):
        for name in names:
            known = [value for part in parts if (value := getattr(part, name)) is not None]
            changes[name] = choose(known) if known else None
    failed = [part for part in parts if part.outcome is not Outcome.OK]
    worst = failed[0] if failed else parts[0]
    if failed:
        changes["datacomplete"] = None
    return attrs.evolve(
        parts[0],
        **changes,
        outcome=worst.outcome,
        errorcode=worst.errorcode,
        reason=f"{len(failed)} of {len(parts)} streams: {worst.reason}" if failed else worst.reason,
        status=worst.status,
        dataperc=EMPTY,
        partial=EMPTY,
    )


def shares(parts: Sequence[Measurement]) -> dict[str, str | int | float]:
    """Each stream's part, and the fairness between them."""
    rates = [rate(part) for part in parts]
    start = min(part.start for part in parts)
    asked = [part.datarequest for part in parts if part.datarequest is not None]
    ended = [at for part in parts if part.payloadbytes and (at := part.datacomplete or part.end) is not None]
    total = sum(part.payloadbytes or 0 for part in parts)
    elapsed = max(ended) - min(asked) if ended and asked else 0.0

    def times(name: str) -> str:
        return listed(parts, name, lambda value: f"{value - start:.6f}")

    return {
        "STREAMSOK": sum(part.outcome is Outcome.OK for part in parts),
        **({"THROUGHPUT": round(total / elapsed, 1)} if elapsed > 0 else {}),
        **({"JAIN": round(jain(rates), 6)} if any(rates) else {}),
        "STREAMRATES": ",".join(f"{each:.0f}" for each in rates),
        "STREAMRESPONSES": times("dataresponse"),
        "STREAMCOMPLETES": times("datacomplete"),
        "STREAMBYTES": listed(parts, "payloadbytes", str),
        "STREAMCIRCS": listed(parts, "circ_id", str),
        "STREAMIDS": listed(parts, "used_by", str),
        "STREAMERRORS": listed(parts, "errorcode", str),
    }


def listed(parts: Sequence[Measurement], name: str, write: Callable[[Any], str]) -> str:
    """A comma list of one field of each part."""
    values = (getattr(part, name) for part in parts)
    return ",".join("" if value is None else write(value) for value in values)


def rate(part: Measurement) -> float:
    """Payload per second from DATAREQUEST to the last byte, or to the end if that never came; bytes/s."""
    asked, ended = part.datarequest, part.datacomplete or part.end
    if not part.payloadbytes or asked is None or ended is None or ended <= asked:
        return 0.0
    return float(part.payloadbytes / (ended - asked))


def jain(values: Sequence[float]) -> float:
    """Jain's fairness index: 1 if all have the same, 1/n if one has everything (Jain, Chiu, Hawe 1984)."""
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))
