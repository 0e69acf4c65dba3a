"""``type = rtt``: round-trip times on one circuit, idle and under load (bufferbloat).

The load are downloads, uploads, or both at once, as in the Realtime Response Under Load test. Both ends are this
process with its one clock, so that the way there and the way back are known of each probe, and the server can send
probes too. Elsewhere there is no load, and no ``/echo``: the times are those of HEAD requests.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater

from perfd.client.echo import EchoClient, TwoWayEchoClient, echo_request, probes_header
from perfd.client.fetch import Exchange
from perfd.client.repeats import RepeatedRequests
from perfd.experiments.loads import KINDS, Load
from perfd.experiments.run import Extra, Record, Run, Setup
from perfd.experiments.target import Request
from perfd.experiments.transfer import Transfer
from perfd.record import EMPTY, Outcome

LAST_ECHO_WAIT = 3.0
"""Seconds for the exchanges that are still under way at the end."""

LOOK = 0.05  # seconds between two looks whether they are back

SETTLE = 1.0
"""Seconds between two loads, in which what the first one left in queues can drain. They count for neither."""


class RTTRun(Run):
    """``rate`` exchanges a second for ``duration`` seconds while the circuit is idle, then as long under each load.

    A load are transfers of the experiment's size over the same circuit, one after the other. With ``both_ways`` the
    server sends as many probes as the client.
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
        loads: Sequence[str] = ("download",),
        both_ways: bool = False,
    ) -> None:
        super().__init__(setup, slot, record, extra)
        self.extra |= {"RATE": rate, "DURATION": duration}
        self._rate = rate
        self._duration = duration
        self._wanted = loads if setup.target is None else ()
        self._both_ways = both_ways
        self._loads: list[Load] = []
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
        extra = {**self.extra, **found.extra}
        for load in self._loads:
            extra |= await self._load_keys(load)
            failed = load.failed
            if found.outcome is Outcome.OK and failed is not None:
                reason = f"the {load.kind.words} under which to measure: {failed.reason}"
                found = attrs.evolve(found, outcome=failed.outcome, errorcode=failed.errorcode, reason=reason)
        self.record(attrs.evolve(found, extra={**extra, **self._figures()}))

    async def _load_keys(self, load: Load) -> dict[str, str | int | float]:
        """What the record says of a load."""
        keys: dict[str, str | int | float] = {}
        circuits = []
        for direction in load.directions:
            done = [each for each in direction.transfers if each.exchange is not None]
            # Tor is asked about the first one only: its circuit is to be that of the probes.
            first = await done[0].result(self.slot) if done else None
            for transfer in done[1:]:
                transfer.forget()
            if first is None:
                continue
            circuits.append("" if first.circ_id is None else str(first.circ_id))
            if load.kind is KINDS["download"]:
                total = sum(each.exchange.payloadbytes or 0 for each in done if each.exchange is not None)
                keys |= {"LOADS": len(done), "LOADBYTES": total}
                keys |= {
                    f"LOAD{key}": value for key, name in _LOAD_FIELDS if (value := getattr(first, name)) is not None
                }
        keys |= load.rates
        if load.kind is not KINDS["download"] and any(circuits):
            keys[f"RTT{load.kind.key}CIRCS"] = ",".join(circuits)
        return keys

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
            headers = self._echo.request_headers
            if self._both_ways:
                head = echo_request(self._echo.authority, {**headers, **probes_header(self._rate)})
                return TwoWayEchoClient(self.setup.reactor, head, timeline)
            return EchoClient(self.setup.reactor, echo_request(self._echo.authority, headers), timeline)
        statuses = target.config.statuses
        return RepeatedRequests(self.setup.reactor, request.head, timeline, statuses, request.tls)

    async def _phases(self, client: EchoClient) -> None:
        with suppress(CancelledError):
            await client.ready
            if client.ended.called:
                return
            client.probe(1.0 / self._rate)
            await deferLater(self.setup.reactor, self._duration)
            for number, name in enumerate(self._wanted):
                if number:
                    await deferLater(self.setup.reactor, SETTLE)
                if not await self._under_load(name):
                    break
            client.pause()
            for _ in range(int(LAST_ECHO_WAIT / LOOK)):
                if client.is_settled:
                    break
                await deferLater(self.setup.reactor, LOOK)
            client.finish()

    async def _under_load(self, name: str) -> bool:
        """One load over the same circuit; whether it went on as long as it was wanted."""
        now = self.setup.clock.monotonic()
        self._idle_until = now if self._idle_until is None else self._idle_until
        load = Load(self.setup, KINDS[name], self.id, self.user)
        self._loads.append(load)
        try:
            await load.go_on(now + self._duration, self._deadline)
        finally:
            is_over = self._client is None or self._client.ended.called  # which had the load cancelled
        if is_over:
            raise CancelledError
        return load.failed is None

    def _figures(self) -> dict[str, str | int | float]:
        """The distribution of the times of all phases.

        What was sent while a load was still on its way to its first byte belongs to no phase.
        """
        if self._client is None:  # it was stopped before it began
            return {}
        keys: dict[str, str | int | float] = {"RTTSENT": self._client.sent, "RTTLOST": self._client.lost}
        echoed = self._echo.seen.echoed
        served = () if echoed is None else echoed.returns.samples
        if self._both_ways and echoed is not None:
            keys |= {"RTTSERVERSENT": echoed.returns.sent, "RTTSERVERLOST": echoed.returns.lost}
        ways = one_way(self._client.samples, () if echoed is None else echoed.arrivals)
        for phase, since, until in self._windows():
            keys |= figures(phase, [rtt for sent, rtt in self._client.samples if since <= sent < until])
            there_and_back = [(there, back) for sent, there, back in ways if since <= sent < until]
            keys |= delays(f"OWDUP{phase}", [there for there, _ in there_and_back])
            keys |= delays(f"OWDDOWN{phase}", [back for _, back in there_and_back])
            keys |= delays(f"RTTSERVER{phase}", [rtt for sent, rtt in served if since <= sent < until])
        return keys

    def _windows(self) -> Iterator[tuple[str, float, float]]:
        """The name of each phase in keys, and from when until when (monotonic) its probes are sent."""
        yield "IDLE", -math.inf, math.inf if self._idle_until is None else self._idle_until
        begun = {load.kind.key: load for load in self._loads}
        for name in self._wanted or ("download",):
            key = KINDS[name].key
            since = begun[key].flowing if key in begun else None
            # Nothing is sent after the last one but what is sent at once, so that it ends by itself.
            is_last = key in begun and begun[key] is self._loads[-1]
            until = math.inf if is_last or key not in begun else begun[key].ended
            yield key, math.inf if since is None else since, until


_LOAD_FIELDS = (*(("RESPONSE", "dataresponse"), ("CIRC", "circ_id"), ("STREAM", "used_by")),)


def one_way(samples: Sequence[tuple[float, float]], arrivals: Sequence[float]) -> list[tuple[float, float, float]]:
    """Of each probe that came back: when it was sent, and how long it took to the server and back from there.

    ``samples`` are when each was sent and its round-trip time, ``arrivals`` when the server got each; what is not
    known of both ends is left out. The way back has in it what the server took to answer.
    """
    both = zip(samples, arrivals, strict=False)
    return [(sent, came - sent, sent + rtt - came) for (sent, rtt), came in both]


def delays(prefix: str, samples: Sequence[float]) -> dict[str, str | int | float]:
    """Median and 95th percentile in seconds, and all samples in milliseconds; nothing of none."""
    if not samples:
        return {}
    cuts = _percentiles(samples)
    return {
        f"{prefix}MEDIAN": round(cuts[49], 6),
        f"{prefix}P95": round(cuts[94], 6),
        f"{prefix}MS": ",".join(f"{sample * 1e3:.3f}" for sample in samples),
    }


def _percentiles(samples: Sequence[float]) -> list[float]:
    return statistics.quantiles(samples, n=100, method="inclusive") if len(samples) > 1 else [samples[0]] * 99


def figures(phase: str, samples: Sequence[float]) -> dict[str, str | int | float]:
    """Quantiles in seconds (by linear interpolation), and all samples in milliseconds."""
    if not samples:
        return {f"RTT{phase}COUNT": 0}
    cuts = _percentiles(samples)
    values = {"MIN": min(samples), "Q1": cuts[24], "MEDIAN": cuts[49], "Q3": cuts[74], "P95": cuts[94]}
    values["MAX"] = max(samples)
    return {
        f"RTT{phase}COUNT": len(samples),
        **{f"RTT{phase}{name}": round(value, 6) for name, value in values.items()},
        f"RTT{phase}MS": ",".join(f"{sample * 1e3:.3f}" for sample in samples),
    }
