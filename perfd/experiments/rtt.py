"""``type = rtt``: round-trip times on one circuit, idle and under the load of a download (bufferbloat).

Elsewhere there is no load, and no ``/echo``: the times are those of HEAD requests.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater

from perfd.client.echo import EchoClient, echo_request
from perfd.client.fetch import Exchange
from perfd.client.repeats import RepeatedRequests
from perfd.clock import Phase
from perfd.experiments.run import Extra, Record, Run, Setup
from perfd.experiments.target import Request
from perfd.experiments.transfer import Transfer
from perfd.record import EMPTY, Outcome

LAST_ECHO_WAIT = 3.0
"""Seconds for the exchanges that are still under way at the end."""

LOOK = 0.05  # seconds between two looks whether they are back


class RTTRun(Run):
    """``rate`` exchanges a second for ``duration`` seconds while the circuit is idle, then as long under load.

    The load are downloads of the experiment's size over the same circuit, one after the other.
    """

    def __init__(
        self,
        setup: Setup,
        slot: float | None,
        record: Record,
        extra: Extra = EMPTY,
        *,
        rate: float,
        duration: float,
    ) -> None:
        super().__init__(setup, slot, record, extra)
        self.extra |= {"RATE": rate, "DURATION": duration}
        self._interval = 1.0 / rate
        self._duration = duration
        self._loads: list[Transfer] = []
        self._client: EchoClient | None = None
        self._idle_until: float | None = None  # monotonic; None: the whole run

    async def exchange(self) -> bool:
        target = self.setup.target
        request = None if target is None else target.request(target.config.url, "HEAD", keep=True)
        stopped = None if target is None or request is None else await target.wait(request)
        self._echo = Transfer(self.setup, self.id, self.user, foreign=request)
        if stopped is not None:
            self._echo.end(stopped)
            return False
        self._deadline = self._echo.timeline.now() + self.setup.timeout
        exchange = self._echo.end(await self._measure(self._echo.begin(), request))
        return exchange.outcome is not Outcome.CANCELLED

    async def finish(self) -> None:
        found = await self._echo.result(self.slot)
        extra = {**self.extra, **found.extra, **self._figures()}
        loads = [(load, load.exchange) for load in self._loads if load.exchange is not None]
        if loads:
            # Tor is asked about the first one only: its circuit is to be that of the probes.
            first = await loads[0][0].result(self.slot)
            extra |= {"LOADS": len(loads)}
            extra |= {"LOADBYTES": sum(exchange.payloadbytes or 0 for _, exchange in loads)}
            extra |= {
                f"LOAD{key}": value for key, name in _LOAD_FIELDS if (value := getattr(first, name)) is not None
            }
            last = loads[-1][1]
            if found.outcome is Outcome.OK and not _is_enough(last):
                reason = f"the download under which to measure: {last.reason}"
                found = attrs.evolve(found, outcome=last.outcome, errorcode=last.errorcode, reason=reason)
        for load, _ in loads[1:]:
            load.forget()
        self.record(attrs.evolve(found, extra=extra))

    async def _measure(self, endpoint: IStreamClientEndpoint, request: Request | None) -> Exchange:
        """All phases, over one connection."""
        self._client = client = self._make_client(request)
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

    def _make_client(self, request: Request | None) -> EchoClient:
        timeline, target = self._echo.timeline, self.setup.target
        if request is None or target is None:
            head = echo_request(self._echo.authority, self._echo.request_headers)
            return EchoClient(self.setup.reactor, head, timeline)
        statuses = target.config.statuses
        return RepeatedRequests(self.setup.reactor, request.head, timeline, statuses, request.tls)

    async def _phases(self, client: EchoClient) -> None:
        with suppress(CancelledError):
            await client.ready
            if client.ended.called:
                return
            client.probe(self._interval)
            await deferLater(self.setup.reactor, self._duration)
            if self.setup.target is None:
                await self._under_load()
            client.pause()
            for _ in range(int(LAST_ECHO_WAIT / LOOK)):
                if not client.lost:
                    break
                await deferLater(self.setup.reactor, LOOK)
            client.finish()

    async def _under_load(self) -> None:
        """Downloads over the same circuit; who isolates under the same name shares circuits."""
        clock, reactor = self.setup.clock, self.setup.reactor
        self._idle_until = clock.monotonic()
        end = self._idle_until + self._duration
        while (left := end - clock.monotonic()) > 0:
            load = Transfer(self.setup, f"{self.id}-load{len(self._loads)}", self.user)
            self._loads.append(load)
            download = Deferred.fromCoroutine(load.fetch(self.setup.size, self._deadline - clock.monotonic()))
            enough = reactor.callLater(left, download.cancel)
            try:
                exchange = await download
            finally:
                if enough.active():
                    enough.cancel()
            if self._client is None or self._client.ended.called:  # which had the download cancelled
                raise CancelledError
            if not _is_enough(exchange):
                break

    def _figures(self) -> dict[str, str | int | float]:
        """The distribution of the round-trip times of both phases.

        What was sent while the first download was still on its way to its first byte belongs to neither.
        """
        if self._client is None:  # it was stopped before it began
            return {}
        samples = self._client.samples
        loaded = self._loads[0].timeline.stamps.get(Phase.DATARESPONSE) if self._loads else None
        idle = [rtt for sent, rtt in samples if self._idle_until is None or sent < self._idle_until]
        load = [rtt for sent, rtt in samples if loaded is not None and sent >= loaded]
        sent, lost = self._client.sent, self._client.lost
        return {"RTTSENT": sent, "RTTLOST": lost, **figures("IDLE", idle), **figures("LOAD", load)}


def _is_enough(exchange: Exchange) -> bool:
    """Whether a download went on as long as it was wanted."""
    return exchange.outcome in (Outcome.OK, Outcome.CANCELLED)


_LOAD_FIELDS = (*(("RESPONSE", "dataresponse"), ("CIRC", "circ_id"), ("STREAM", "used_by")),)


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
