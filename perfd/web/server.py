"""Our web server as services: a site on its own port, and on those of the canonical page's other origins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.web.server import Site

from perfd.config.values import Address
from perfd.daemon.order import StartError
from perfd.reactor import Reactor
from perfd.web.accepting import AcceptFailures, accept_in_turns
from perfd.web.request import Described
from perfd.web.site import BACKLOG, make_site
from perfd.web.stamps import ServerStamps
from perfd.wire.arrival import stamp_accepted


class WebServer(Service):
    """Listens with ``site``; privileged ports too, if it is started privileged."""

    def __init__(self, reactor: Reactor, site: Site, listen: Address) -> None:
        self._reactor = reactor
        self._site = site
        self._listen = listen
        self._port: IListeningPort | None = None
        self._failures: AcceptFailures | None = None

    def privilegedStartService(self) -> None:
        try:
            self._port = self._reactor.listenTCP(
                self._listen.port,
                self._site,  # type: ignore[arg-type]
                backlog=BACKLOG,
                interface=self._listen.host,
            )
        except CannotListenError as error:
            raise StartError(f"cannot listen on {self._listen}: {error.socketError}") from None
        stamp_accepted(self._port)
        accept_in_turns(self._port)
        self._failures = AcceptFailures.watch(self._reactor, self._port)

    def startService(self) -> None:
        super().startService()
        if self._port is None:
            self.privilegedStartService()

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        port, self._port = self._port, None
        if self._failures is not None:
            self._failures.stop()
        return None if port is None else port.stopListening()

    @property
    def port(self) -> int:
        """The port that is listened on, also when any free one was asked for."""
        assert self._port is not None
        return int(self._port.getHost().port)  # type: ignore[attr-defined]


class SiteServers:
    """Our site on its own port, and on those of the canonical page's other origins.

    ``children`` makes what is under ``/``, given what tells the page's ports. ``origins`` are the ports by
    which clients know the page's other origins, if not by their own. ``is_far``: see ``make_site``.
    """

    def __init__(
        self,
        reactor: Reactor,
        parent: MultiService,
        children: Callable[[Callable[[], Sequence[int]]], Mapping[str, Described]],
        stamps: ServerStamps,
        *,
        max_connections: int,
        listen: Address,
        page_ports: Sequence[int],
        is_far: bool = False,
        origins: Sequence[int] | None = None,
    ) -> None:
        self._origins = origins
        # One site for all ports: its limits hold for them together, and stamps are found whichever was asked.
        self.children = dict(children(lambda: self.origins))
        self._site = make_site(
            self.children,
            reactor=reactor,
            stamps=stamps,
            max_connections=max_connections,
            is_far=is_far,
        )
        self.web = WebServer(reactor, self._site, listen)
        self._others = [WebServer(reactor, self._site, Address(listen.host, port)) for port in page_ports]
        for web in (self.web, *self._others):
            web.setServiceParent(parent)

    def serve(self, children: Mapping[str, Described]) -> None:
        """Let requests from now on be answered by these, in the place of those with their names."""
        self.children.update(children)
        self._site.serve(children)

    def limit(self, max_connections: int) -> None:
        """Serve so many strangers at once from now on."""
        self._site.limit(max_connections)

    @property
    def page_ports(self) -> tuple[int, ...]:
        """The ports of the page's other origins."""
        return tuple(web.port for web in self._others)

    @property
    def origins(self) -> Sequence[int]:
        """The same, as clients know them."""
        return self.page_ports if self._origins is None else self._origins
