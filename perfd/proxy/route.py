"""The way from the proxy to where a program wants to go."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IStreamClientEndpoint

from perfd.clock import Anchor, Clock
from perfd.reactor import Reactor
from perfd.socks.machine import ANONYMOUS, Methods, Send, SOCKS5Machine
from perfd.socks.server import Request
from perfd.tor.endpoints import tcp_endpoint
from perfd.tor.events.listener import ControlEvents

CONNECT_TIMEOUT = 30.0
"""Seconds for connecting to the SOCKS port or, without one, to the destination."""


@attrs.frozen(kw_only=True)
class Route:
    """What all connections to one port share. ``socks`` gives tor's SOCKS port; None: connect directly."""

    reactor: Reactor
    clock: Clock
    socks: Callable[[], IStreamClientEndpoint] | None
    events: ControlEvents | None
    login: tuple[str, str] | None
    optimistic: bool
    measurement: str | None
    anchor: Anchor | None  # None: each connection has its own

    def endpoint(self, request: Request) -> IStreamClientEndpoint:
        """Where to connect to. Raises RuntimeError while the tor has no SOCKS port."""
        if self.socks is None:
            return tcp_endpoint(self.reactor, request.host, request.port, CONNECT_TIMEOUT)
        return self.socks()

    def methods(self, request: Request) -> Methods:
        """How to log in: as configured, else as the program does; tor needs both names and neither empty."""
        user, password = self.login or (request.user, request.password)
        if not user and not password:
            return ANONYMOUS
        return {"login": (_bytes(user or password), _bytes(password or user))}

    def username(self, request: Request | None) -> str | None:
        """The name by which tor isolates the connection; None if it is given none."""
        if request is None or self.socks is None:
            return None
        login = self.methods(request).get("login")
        return None if login is None else login[0].decode("latin-1")  # type: ignore[union-attr]


def opening(request: Request, methods: Methods) -> bytes:
    """What a client sends after its greeting, login and request, as if each answer had come already."""
    machine = SOCKS5Machine(request.host, request.port, methods)
    machine.start()
    answers = (b"\x05\x02", b"\x01\x00") if "login" in methods else (b"\x05\x00",)
    events = [event for answer in answers for event in machine.receive(answer)]
    return b"".join(event.data for event in events if isinstance(event, Send))


def _bytes(text: str) -> bytes:
    """A user name as it came from a program (which the server machine gives as Latin-1), or in UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()
