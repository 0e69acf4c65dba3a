"""Our ends of the connections to SOCKS ports: local ports of which none comes back soon.

Readers of published results know the Tor stream of a run by its local port and by the time of its end: OnionPerf
and metrics-lib take the last one with that port that ended within 150 s. But Linux gives out a local port again at
once for a connection to another SOCKS port, so that the runs of two tors would be taken for each other. So all
connections of an instance get their ports from one ``LocalPorts``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectBindError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from perfd.clock import Clock

REST = 300.0
"""Seconds from the end of a connection until its port may be used again."""

TURN = 600.0
"""Seconds in which the ports are gone through at the fastest, as long as that many are not needed."""

TRIES = 20
"""Ports that are tried in turn, since other programs may have some of them."""

DYNAMIC_PORTS = range(49152, 65536)
"""The dynamic ports (RFC 6335, section 6), where the system does not say which it has."""

_SYSTEM_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def system_ports() -> range:
    """The ports that this system gives to outgoing connections."""
    try:
        first, last = map(int, _SYSTEM_RANGE.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return DYNAMIC_PORTS
    return range(first, last + 1)


class LocalPorts:
    """The ports of an instance, in turn, of which none comes back within ``REST`` of its connection's end.

    The turn goes on with the wall clock, so that a Perfd that is started again does not begin with the ports of the
    one before. When all are in use or at rest there is none: the system chooses.
    """

    def __init__(self, clock: Clock, ports: range | None = None) -> None:
        self._clock = clock
        self._ports = system_ports() if ports is None else ports
        self._turn = 0
        self._used: dict[int, Callable[[], bool]] = {}  # each with what tells whether its connection lives
        self._resting: deque[tuple[float, int]] = deque()  # by the time since which
        self._taken: set[int] = set()  # all of both

    def take(self, lives: Callable[[], bool]) -> int | None:
        """A port, which is in use as long as ``lives`` says so; None if there is none now."""
        now = self._clock.monotonic()
        for port, is_used in tuple(self._used.items()):
            if not is_used():
                self._rest(port, now)
        while self._resting and now - self._resting[0][0] >= REST:
            self._taken.remove(self._resting.popleft()[1])
        count = len(self._ports)
        if len(self._taken) >= count:
            return None
        self._turn = max(self._turn + 1, int(self._clock.wall() * count / TURN))
        while (port := self._ports[self._turn % count]) in self._taken:
            self._turn += 1
        self._taken.add(port)
        self._used[port] = lives
        return port

    def _rest(self, port: int, now: float) -> None:
        del self._used[port]
        self._resting.append((now, port))


@attrs.define(eq=False)
class _Connection:
    """One that uses a port: it lives from the first try until its transport is closed, or it has failed."""

    transport: Any = None
    failed: bool = False

    def lives(self) -> bool:
        return not self.failed and (self.transport is None or bool(self.transport.connected))


@implementer(IStreamClientEndpoint)
@attrs.frozen
class FromLocalPort:
    """An endpoint whose connections come from ``ports``.

    ``bound`` makes an endpoint that binds to an address and a port, ``free`` is one that leaves it to the system;
    ``address`` is the one that stands for all of ours, of the family of the far end.
    """

    ports: LocalPorts
    bound: Callable[[tuple[str, int]], IStreamClientEndpoint]
    free: IStreamClientEndpoint
    address: str

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect. A port that another program has is passed over."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        # Better one run that may be misread than one that fails for want of a port.
        for _ in range(TRIES):
            connection = _Connection()
            port = self.ports.take(connection.lives)
            if port is None:
                break
            try:
                protocol = await self.bound((self.address, port)).connect(factory)
            except ConnectBindError:
                connection.failed = True
            except BaseException:
                connection.failed = True
                raise
            else:
                connection.transport = getattr(protocol, "transport", None)
                connection.failed = connection.transport is None
                return protocol
        return await self.free.connect(factory)
