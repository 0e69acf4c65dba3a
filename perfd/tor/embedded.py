"""SOCKS proxies in the place of a tor, for measuring without one (``network = socks``)."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import Logger

from perfd.reactor import Reactor
from perfd.socks.diagnosis import Diagnosis
from perfd.socks.port import Login, SOCKSPort
from perfd.socks.server import SOCKSServer
from perfd.tor.endpoints import CONNECT_TIMEOUT, direct, tcp_endpoint
from perfd.tor.supervision import Readiness
from perfd.wire.arrival import stamp_accepted

BACKLOG = 1024
"""Connections that the kernel may hold until they are accepted: experiments begin many at once."""


class EmbeddedSocks(Service):
    """A SOCKS server in this reactor, on 127.0.0.1 and a free port: the ``Tor`` that connects directly."""

    version: str | None = None
    _log = Logger()

    def __init__(self, reactor: Reactor, name: str) -> None:
        self.name = name
        self._reactor = reactor
        self._server = SOCKSServer(reactor, direct(reactor))
        self._listening: IListeningPort | None = None
        self._readiness = Readiness("the embedded SOCKS proxy is not running")

    @property
    def not_ready(self) -> str | None:
        """Why it cannot be used now; None when it can."""
        return self._readiness.reason

    async def when_ready(self) -> None:
        """Return as soon as it listens. Raises ``NotReadyError`` when it is stopped first."""
        await self._readiness.wait()

    def socks_port(self) -> SOCKSPort:
        """The port it listens on. Raises ``RuntimeError`` while it does not."""
        return SOCKSPort(tcp_endpoint(self._reactor, "127.0.0.1", self.port, CONNECT_TIMEOUT))

    @property
    def port(self) -> int:
        """The port it listens on. Raises ``RuntimeError`` while it does not."""
        if self._listening is None:
            raise RuntimeError("the embedded SOCKS proxy is not running")
        return int(self._listening.getHost().port)  # type: ignore[attr-defined]

    def startService(self) -> None:
        super().startService()
        self._listening = self._reactor.listenTCP(0, self._server, backlog=BACKLOG, interface="127.0.0.1")  # type: ignore[arg-type]
        stamp_accepted(self._listening)
        self._log.info("the embedded SOCKS proxy was started on 127.0.0.1:{port}", port=self.port)
        self._readiness.gain()

    def stopService(self) -> Deferred[None]:
        """Stop listening, and break off what is still connected."""
        super().stopService()
        self._readiness.give_up("the embedded SOCKS proxy was stopped")
        listening, self._listening = self._listening, None
        self._server.abort_all()
        return succeed(None) if listening is None else listening.stopListening() or succeed(None)


class OutsideSocks:
    """A SOCKS proxy that somebody else runs: taken as ready always, and a measurement tells.

    It is at ``host`` and ``port`` and speaks ``version`` 4 or 5; ``login`` is who we are to it. Names are the
    proxy's to resolve, in SOCKS 4 too (4a).
    """

    version: str | None = None
    not_ready: str | None = None

    def __init__(
        self,
        reactor: IReactorTime,
        name: str,
        host: str,
        port: int,
        version: int = 5,
        login: Login | None = None,
    ) -> None:
        self.name = name
        endpoint = tcp_endpoint(reactor, host, port, CONNECT_TIMEOUT)
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        diagnosis = Diagnosis(reactor, endpoint, where, version)
        self._port = SOCKSPort(endpoint, version, login, is_tors=False, diagnosis=diagnosis)

    async def when_ready(self) -> None:
        """Return at once."""

    def socks_port(self) -> SOCKSPort:
        """The proxy."""
        return self._port
