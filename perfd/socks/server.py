"""A SOCKS 4, 4a and 5 server that forwards connections, for clients on this machine."""

from __future__ import annotations

import ipaddress
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory

from perfd.socks.forwarding import ForwardedConnection
from perfd.socks.way_out import WayOut

MOST_CONNECTIONS = 1000
"""Connections at the same time to one port; further ones are closed at once."""


class SOCKSServer(Factory):
    """Serves SOCKS to clients on this machine; ``way_out`` says how a request's destination is reached.

    It is bounded in connections, in the bytes of a request, in the bytes that are kept before they can be
    forwarded, and in time for everything before and after the copying.
    """

    noisy = False

    def __init__(self, reactor: IReactorTime, way_out: WayOut) -> None:
        self.connections: set[ForwardedConnection] = set()
        self.turned_away = 0
        """Connections that were closed at once: there were too many, or they came from elsewhere."""
        self._reactor = reactor
        self._way_out = way_out

    def buildProtocol(self, addr: Any) -> Any:
        """One end of a new connection; None, which closes it, for clients elsewhere and when there are too many."""
        local = ipaddress.ip_address(getattr(addr, "host", "0.0.0.0").partition("%")[0]).is_loopback
        if not local or len(self.connections) >= MOST_CONNECTIONS:
            self.turned_away += 1
            return None
        connection = self.make(addr)
        self.connections.add(connection)
        return connection.client

    def make(self, addr: Any) -> ForwardedConnection:
        """A connection from ``addr``."""
        return ForwardedConnection(self._reactor, self._way_out, self._reactor.seconds, self.over)

    def over(self, connection: Any) -> None:
        """Both ends of ``connection`` are closed."""
        self.connections.discard(connection)

    def abort_all(self) -> None:
        """Break off all connections."""
        for connection in list(self.connections):
            connection.abort()
