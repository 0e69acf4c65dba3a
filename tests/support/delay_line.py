"""A line with delay: a SOCKS server on loopback through which a tor reaches its guards more slowly.

The private network is on one machine, where a round trip takes a millisecond. Through tor's option ``Socks5Proxy``
every cell between the client and its guards passes here, which makes the round trip of each circuit longer by the
same time. Throughput is not limited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IDelayedCall, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from perfd.socks.server import SOCKSServer
from perfd.socks.server_machine import ClientRequest
from perfd.socks.way_out import Direct


class Delay:
    """Does what it is given ``seconds`` later, always in the order in which it was given."""

    def __init__(self, reactor: Any, seconds: float) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._due: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._calls: set[IDelayedCall] = set()
        self._stopped = False

    def later(self, function: Callable[..., object], *arguments: Any) -> None:
        if self._stopped:
            return
        # Calls that are due at the same moment have no order of their own, so each takes the first that waits.
        self._due.append((function, arguments))
        call = self._reactor.callLater(self._seconds, lambda: self._next(call))
        self._calls.add(call)

    def stop(self) -> None:
        """Drop what is on its way, and what comes later: broken connections end one after the other."""
        self._stopped = True
        for call in self._calls:
            call.cancel()
        self._calls.clear()
        self._due.clear()

    def _next(self, call: IDelayedCall) -> None:
        self._calls.discard(call)
        function, arguments = self._due.popleft()
        function(*arguments)


class _Delayed(ProtocolWrapper):
    """One connection whose bytes, and whose end behind them, take longer both ways. An abort does not.

    A producer is paused when the transport's own buffer is full, so what waits here is bounded by what can arrive
    within the delay.
    """

    def __init__(self, factory: Any, wrappedProtocol: IProtocol, delay: Delay) -> None:
        super().__init__(factory, wrappedProtocol)
        self._delay = delay
        self._is_gone = False  # the transport is, though the protocol does not know it yet

    def write(self, data: bytes) -> None:
        self._delay.later(self.transport.write, data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self._delay.later(self._close, super().loseConnection)

    def loseWriteConnection(self) -> None:
        self._delay.later(self._close, self.transport.loseWriteConnection)

    def _close(self, close: Callable[[], None]) -> None:
        if not self._is_gone:
            close()

    def dataReceived(self, data: bytes) -> None:
        self._delay.later(super().dataReceived, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._is_gone = True
        self._delay.later(super().connectionLost, reason)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class DelayedEndpoint:
    """``endpoint``, with ``delay`` on each way of what its connections carry. Connecting takes no longer."""

    endpoint: IStreamClientEndpoint
    delay: Delay

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Connect; fires with the protocol of ``factory``."""
        wrapping: Any = WrappingFactory(factory)
        wrapping.noisy = False
        wrapping.protocol = lambda *arguments: _Delayed(*arguments, self.delay)
        return self.endpoint.connect(wrapping).addCallback(lambda wrapper: wrapper.wrappedProtocol)


class DelayLine:
    """The SOCKS server; listens at once, on a free port of loopback. A round trip takes ``rtt`` seconds longer."""

    def __init__(self, reactor: Any, rtt: float) -> None:
        self._reactor = reactor
        self._delay = Delay(reactor, rtt / 2)
        self._server = SOCKSServer(reactor, Direct(self._endpoint_for))
        self._listening = reactor.listenTCP(0, self._server, interface="127.0.0.1")

    @property
    def torrc(self) -> str:
        """The line of a torrc that sends a tor through here."""
        return f"Socks5Proxy 127.0.0.1:{self._listening.getHost().port}"

    async def stop(self) -> None:
        """Stop listening, and break off what is still connected."""
        await self._listening.stopListening()
        self._server.abort_all()
        while self._server.connections:
            gone: Deferred[None] = Deferred()
            self._reactor.callLater(0, gone.callback, None)
            await gone
        self._delay.stop()

    def _endpoint_for(self, request: ClientRequest) -> IStreamClientEndpoint:
        return DelayedEndpoint(TCP4ClientEndpoint(self._reactor, request.host, request.port), self._delay)


def optimistic_data(log: str) -> list[bool]:
    """For each stream in a tor's log (``Log [app]info``): whether its circuit allowed optimistic data.

    Tor's own streams, by which it fetches from directories, are among them; their circuits always allow it.
    """
    lines = [line for line in log.splitlines() if "allow optimistic data" in line]
    return [" does allow " in line for line in lines]
