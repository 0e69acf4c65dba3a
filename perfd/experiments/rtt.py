"""``type = rtt``: round-trip times on one circuit, idle and under the load of a download (bufferbloat)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater

from perfd.echo import EchoClient, echo_request
from perfd.experiments.run import Extra, Run, Setup, Transfer
from perfd.fetch import Exchange
from perfd.record import EMPTY, Measurement, Outcome

LAST_ECHO_WAIT = 3.0
"""Seconds for the exchanges that are still under way at the end."""

LOOK = 0.05  # seconds between two looks whether they are back


class RTTRun(Run):
    """``rate`` exchanges a second for ``duration`` seconds while the circuit is idle, then while a download of the
    experiment's size runs over the same circuit, for as long at most.
    """

    def __init__(
        self, setup: Setup, slot: float | None, extra: Extra = EMPTY, *, rate: float, duration: float
    ) -> None:
        super().__init__(setup, slot, extra)
        self.extra |= {"RATE": rate, "DURATION": duration}
        self._interval = 1.0 / rate
        self._duration = duration
        self._load: Transfer | None = None
        self._load_start: float | None = None  # monotonic

    async def exchange(self) -> None:
        self._echo = Transfer(self.setup, self.id, self.setup.user(self.id))
        self._deadline = self._echo.timeline.now() + self.setup.timeout
        await self._echo.perform(self._measure)

    async def finish(self) -> Measurement:
        fields = await self._echo.fields(self.slot)
        extra = {**self.extra, **fields["extra"], **self._figures()}
        if self._load is not None and self._load.exchange is not None:
            load = await self._load.fields(self.slot)
            extra |= {"LOADBYTES": load["payloadbytes"] or 0}
            extra |= {f"LOAD{key}": load[name] for key, name in _LOAD_FIELDS if load.get(name) is not None}
            if fields["outcome"] is Outcome.OK and load["outcome"] not in (Outcome.OK, Outcome.CANCELLED):
                fields |= {name: load[name] for name in ("outcome", "errorcode")}
                fields["reason"] = f"the download under which to measure: {load['reason']}"
        return Measurement(**fields | {"extra": extra})

    async def _measure(self, endpoint: IStreamClientEndpoint) -> Exchange:
        """Both phases, over one connection."""
        client = EchoClient(
            self.setup.reactor, echo_request(self._echo.authority, self._echo.request_headers), self._echo.timeline
        )
        self._client = client
        deadline = self.setup.reactor.callLater(self.setup.timeout, client.expire)
        phases = Deferred.fromCoroutine(self._phases(client))
        try:
            client.connect(endpoint)
            return await client.ended
        finally:
            phases.cancel()
            with suppress(CancelledError):
                await phases
            if deadline.active():
                deadline.cancel()

    async def _phases(self, client: EchoClient) -> None:
        with suppress(CancelledError):
            await client.ready
            if client.ended.called:
                return
            client.probe(self._interval)
            await deferLater(self.setup.reactor, self._duration)
            await self._under_load()
            client.pause()
            for _ in range(int(LAST_ECHO_WAIT / LOOK)):
                if not client.lost:
                    break
                await deferLater(self.setup.reactor, LOOK)
            client.finish()

    async def _under_load(self) -> None:
        """Download over the same circuit; who isolates under the same name shares circuits."""
        self._load = Transfer(self.setup, f"{self.id}-load", self.setup.user(self.id))
        self._load_start = self._load.timeline.now()
        download = Deferred.fromCoroutine(self._load.fetch(self.setup.size, self._deadline - self._load_start))
        enough = self.setup.reactor.callLater(self._duration, download.cancel)
        try:
            await download
        finally:
            if enough.active():
                enough.cancel()
        if self._client.ended.called:  # which had the download cancelled
            raise CancelledError

    def _figures(self) -> dict[str, str | int | float]:
        """The distribution of the round-trip times of both phases."""
        client = self._client
        idle = [rtt for sent, rtt in client.samples if self._load_start is None or sent < self._load_start]
        load = [rtt for sent, rtt in client.samples if self._load_start is not None and sent >= self._load_start]
        return {"RTTSENT": client.sent, "RTTLOST": client.lost, **figures("IDLE", idle), **figures("LOAD", load)}


_LOAD_FIELDS = (
    *(("RESPONSE", "dataresponse"), ("COMPLETE", "datacomplete"), ("CIRC", "circ_id"), ("STREAM", "used_by")),
)


def figures(phase: str, samples: Sequence[float]) -> dict[str, str | int | float]:
    """Quantiles in seconds (by linear interpolation), and all samples in milliseconds."""
    if not samples:
        return {f"RTT{phase}COUNT": 0}
    cuts = statistics.quantiles(samples, n=100, method="inclusive") if len(samples) > 1 else [samples[0]] * 99
    values = {"MIN": min(samples), "Q1": cuts[24], "MEDIAN": cuts[49], "Q3": cuts[74], "P95": cuts[94]}
    values["MAX"] = max(samples)
    return {
        f"RTT{phase}COUNT": len(samples),
        **{f"RTT{phase}{name}": round(value, 6) for name, value in values.items()},
        f"RTT{phase}MS": ",".join(f"{sample * 1e3:.3f}" for sample in samples),
    }
