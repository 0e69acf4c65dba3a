"""The ways from a SOCKS server to where its clients want to go: directly, or through another SOCKS port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, cast

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from perfd.socks.connection import Hooks
from perfd.socks.errors import CommandNotSupported
from perfd.socks.machine import Command
from perfd.socks.port import Login, SOCKSPort
from perfd.socks.server_machine import GENERAL_FAILURE, ClientRequest, reply_code


class WayOut(Protocol):
    """How the destinations of requests are reached."""

    @property
    def optimistic(self) -> bool:
        """Whether clients are told that they are connected before they are."""

    @property
    def awaits_reply(self) -> bool:
        """Whether a protocol that is connected still has to wait for the reply to its request."""

    def connect(self, request: ClientRequest, protocol: IProtocol, hooks: Hooks) -> Deferred[IProtocol]:
        """Connect ``protocol`` to where ``request`` wants to go.

        Raises RuntimeError while there is no way, ValueError for what cannot be asked for, `CommandNotSupported`
        for a command that it does not have.
        """

    def code(self, failure: Failure) -> int:
        """The SOCKS 5 reply code (RFC 1928 section 6) for a connection that could not be made."""

    def username(self, request: ClientRequest) -> str | None:
        """The user name that the other side is given; None if it is given none. Raises as `connect`."""


@attrs.frozen
class Direct:
    """Connects to the endpoint that ``endpoint_for`` gives for a request."""

    endpoint_for: Callable[[ClientRequest], IStreamClientEndpoint]
    optimistic: bool = False
    awaits_reply: ClassVar[bool] = False

    def connect(self, request: ClientRequest, protocol: IProtocol, hooks: Hooks) -> Deferred[IProtocol]:
        """See `WayOut`. Nothing is told to ``hooks``: they are for SOCKS."""
        if request.command is not Command.CONNECT:
            raise CommandNotSupported(f"there is no tor to {request.command.name}")
        return maybeDeferred(self.endpoint_for(request).connect, _factory(protocol))

    def code(self, failure: Failure) -> int:
        """Why the destination cannot be reached."""
        return reply_code(failure)

    def username(self, request: ClientRequest) -> str | None:
        """None: there is nobody to tell it to."""


@attrs.frozen
class ThroughSOCKS:
    """Asks the SOCKS port that ``socks`` gives, anew for each connection, normally a tor's.

    ``login`` is a user name and password for all connections; None: what the client says. An ``optimistic``
    request leaves in one segment with the login before it and the client's first bytes behind it.
    """

    socks: Callable[[], SOCKSPort]
    login: tuple[str, str] | None = None
    optimistic: bool = False

    @property
    def awaits_reply(self) -> bool:
        """Optimistically only: else it is connected by the reply."""
        return self.optimistic

    def connect(self, request: ClientRequest, protocol: IProtocol, hooks: Hooks) -> Deferred[IProtocol]:
        """See `WayOut`. Only a connection can be optimistic."""
        optimistic = self.optimistic and request.command is Command.CONNECT
        endpoint = self.socks().through(
            request.host,
            request.port,
            self._login(request),
            hooks,
            command=request.command,
            optimistic=optimistic,
            pipelined=optimistic,
        )
        return endpoint.connect(_factory(protocol))

    def code(self, failure: Failure) -> int:
        """A general failure: nothing is known about the destination."""
        return GENERAL_FAILURE

    def username(self, request: ClientRequest) -> str | None:
        """The user name that is sent."""
        return self.socks().username(self._login(request))

    def _login(self, request: ClientRequest) -> Login | None:
        """As configured, else as the client says; tor needs both names and neither empty."""
        user, password = self.login or (request.user, request.password)
        if not user and not password:
            return None
        return _bytes(user or password), _bytes(password or user)


def _factory(protocol: IProtocol) -> IProtocolFactory:
    factory: Any = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    return cast(IProtocolFactory, factory)


def _bytes(text: str) -> bytes:
    """A user name as it came from a client (which the server machine gives as Latin-1), or in UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()
