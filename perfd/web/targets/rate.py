"""The rate of strangers: what they get of the random bytes, together and in fair shares.

All connections of an address have one share. Measurements are not held up, nor counted. It is a token bucket:
what was not sent for a while can be sent at once, so who asks for little now and then never meets it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from perfd.web.request import Request

BURST = 0.25
"""Seconds of the rate that can be sent at once."""

TICK = 0.02
"""Seconds between two shares, where there is more to send than may be."""

UNBOUND = 2**40
"""Bytes per second for what was begun under a bound that is no more."""

LEAST_SHARE = 16 * 1024
"""Bytes of a share; where there is less for each, some wait for the next."""


class StrangersRate:
    """Shares out ``rate`` bytes per second among the responses of strangers that can be sent on.

    None: there is no bound.
    """

    def __init__(self, reactor: IReactorTime, monotonic: Callable[[], float], rate: int | None) -> None:
        self._reactor = reactor
        self._monotonic = monotonic
        self.limit(rate)
        self._budget = self._rate * BURST  # bytes that may be sent now; below 0 they have to be made up for
        self._then = monotonic()  # when that was so
        self._waiting: dict[str, deque[_Gate]] = {}  # by address; whose turn is next comes first
        self._sharing = False
        self._tick: IDelayedCall | None = None

    def limit(self, rate: int | None) -> None:
        """From now on it is so much; what is on its way keeps sharing."""
        self._is_bound = rate is not None
        self._rate = UNBOUND if rate is None else rate

    def spend(self, size: int) -> bool:
        """Whether ``size`` bytes may be sent at once, ahead of nobody; then they count."""
        if not self._is_bound:
            return True
        self._refill()
        if self._waiting or self._budget < size:
            return False
        self._budget -= size
        return True

    def send(self, request: Request, size: int, take: Callable[[int], bytes]) -> None:
        """Send ``size`` bytes as the whole response, as fast as a fair share allows; see ``Request.stream``."""
        if not self._is_bound:
            request.stream(size, take)
            return
        gate = _Gate(request, self)
        request.stream(size, lambda count: take(min(count, gate.allowance)), through=gate)

    def share(self, gate: _Gate) -> None:
        """``gate`` has something to send; it is told how much it may as soon as there is anything for it."""
        self._waiting.setdefault(gate.host, deque()).append(gate)
        if not self._sharing:
            self._share()

    def leave(self, gate: _Gate) -> None:
        """It has nothing any more."""
        waiting = self._waiting.get(gate.host, deque())
        if gate in waiting:
            waiting.remove(gate)
        if not waiting:
            self._waiting.pop(gate.host, None)

    def _refill(self) -> None:
        now = self._monotonic()
        self._budget = min(self._budget + (now - self._then) * self._rate, self._rate * BURST)
        self._then = now

    def _share(self) -> None:
        """Give each address its share once; what it cannot send now is kept for when it, or another, can."""
        self._refill()
        self._sharing = True  # who has sent its share may ask for another meanwhile
        share = max(LEAST_SHARE, int(self._budget) // max(1, len(self._waiting)))
        for host in tuple(self._waiting):
            if self._budget < 1 or host not in self._waiting:
                continue
            gates = self._waiting.pop(host)
            gate = gates.popleft()
            if gates:
                self._waiting[host] = gates
            sent = gate.open(share)
            self._budget -= sent
        self._sharing = False
        if self._waiting and self._tick is None:
            self._tick = self._reactor.callLater(TICK, self._ticked)

    def _ticked(self) -> None:
        self._tick = None
        self._share()


@implementer(IConsumer, IPushProducer)
class _Gate:
    """Stands between the producer of a body and its request, and lets through what it is allowed to."""

    def __init__(self, request: Request, rate: StrangersRate) -> None:
        self._request = request
        self._rate = rate
        self._producer: IPushProducer | None = None
        self._is_free = True  # the socket has taken what was sent
        self._waits = False
        self.allowance = 0  # bytes
        self.host = str(getattr(request.getClientAddress(), "host", ""))

    def open(self, allowance: int) -> int:
        """Let through up to ``allowance`` bytes. Gives how many were sent; it asks again if there is more."""
        assert self._producer is not None
        self._waits = False
        self.allowance = allowance
        self._producer.resumeProducing()
        left, self.allowance = self.allowance, 0
        if not left:
            self._wait()
        return allowance - left

    def _wait(self) -> None:
        if self._producer is not None and self._is_free and not self._waits:
            self._waits = True
            self._rate.share(self)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer
        producer.pauseProducing()
        self._request.registerProducer(self, streaming)
        self._wait()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._request.unregisterProducer()

    def write(self, data: bytes) -> None:
        self.allowance -= len(data)
        if not self.allowance and self._producer is not None:
            self._producer.pauseProducing()
        self._request.write(data)

    def pauseProducing(self) -> None:
        self._is_free = False
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._is_free = True
        self._wait()

    def stopProducing(self) -> None:
        self._rate.leave(self)
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
