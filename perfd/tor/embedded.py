"""``network = socks``: no Tor, but a SOCKS proxy in its place, embedded in the same reactor or somebody else's.

Both have the interface of a tor, so everything else works as it does with one.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from perfd.tor.socks_server import SocksServer

MOST_CLIENTS = 1000
"""Connections at a time; far more than measurements ever need."""


class OutsideSocks:
    """The SOCKS proxy at ``endpoint``, which is taken to work: whether it does is what runs find out."""

    version: str | None = None
    not_ready: str | None = None

    def __init__(self, name: str, endpoint: IStreamClientEndpoint) -> None:
        self.name = name
        self._endpoint = endpoint

    async def when_ready(self) -> None:
        """Return at once."""

    def socks_endpoint(self) -> IStreamClientEndpoint:
        return self._endpoint


class EmbeddedSocks(Service):
    """A SOCKS proxy on a free port of 127.0.0.1, for this machine only."""

    version: str | None = None

    def __init__(self, reactor: Any, name: str) -> None:
        self.name = name
        self._reactor = reactor
        self._factory = _ClientsOfThisMachine(reactor)
        self._port: IListeningPort | None = None

    @property
    def not_ready(self) -> str | None:
        return "the embedded SOCKS proxy is not running" if self._port is None else None

    async def when_ready(self) -> None:
        """Return at once: it is ready as soon as the service is started."""

    def socks_endpoint(self) -> IStreamClientEndpoint:
        """Its port. Raises RuntimeError while it does not run."""
        if self._port is None:
            raise RuntimeError("the embedded SOCKS proxy is not running")
        address: Any = self._port.getHost()
        return TCP4ClientEndpoint(self._reactor, address.host, address.port)

    def startService(self) -> None:
        super().startService()
        self._port = self._reactor.listenTCP(0, self._factory, interface="127.0.0.1")

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        port, self._port = self._port, None
        self._factory.close()
        return None if port is None else port.stopListening()


class _ClientsOfThisMachine(Factory):
    """Makes a server for each connection, up to ``MOST_CLIENTS``."""

    noisy = False

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._servers: set[SocksServer] = set()

    def buildProtocol(self, addr: IAddress | None) -> SocksServer | None:
        if len(self._servers) >= MOST_CLIENTS:
            return None
        server = SocksServer(self._reactor, self._servers.discard)
        self._servers.add(server)
        return server

    def close(self) -> None:
        """Close all connections."""
        for server in list(self._servers):
            server.abort()
