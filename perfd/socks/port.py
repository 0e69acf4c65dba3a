"""A SOCKS port to connect through: where it is, and how it is spoken to."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from perfd.socks.connection import NO_HOOKS, Hooks, SOCKSClientFactory
from perfd.socks.diagnosis import Diagnosis
from perfd.socks.errors import CommandNotSupported
from perfd.socks.machine import ANONYMOUS, Command, Machine, Methods, SOCKS4Machine, SOCKS5Machine

Login = tuple[str | bytes, str | bytes]
"""A user name and a password."""


@attrs.frozen
class SOCKSPort:
    """The SOCKS port at ``endpoint``, which speaks ``version`` 4 or 5; a host is always the proxy's to resolve.

    ``login`` is who we are to it. Without one, each connection gives the login that keeps it apart from others,
    which a tor isolates streams by; a port that is not ``is_tors`` may choose to have none, and one that is not
    ``is_isolating`` is given none. With ``diagnosis`` a proxy that does not answer is found out.
    """

    endpoint: IStreamClientEndpoint
    version: int = 5
    login: Login | None = None
    is_tors: bool = True
    diagnosis: Diagnosis | None = None
    is_isolating: bool = True

    def through(
        self,
        host: str,
        port: int,
        login: Login | None,
        hooks: Hooks = NO_HOOKS,
        *,
        command: Command = Command.CONNECT,
        optimistic: bool = False,
        pipelined: bool = False,
    ) -> IStreamClientEndpoint:
        """The endpoint for ``host`` behind it. ``command`` and ``pipelined`` are explained at `SOCKS5Machine`.

        Raises ValueError for what cannot be asked for, `CommandNotSupported` for a command that SOCKS 4 does not
        have.
        """

        def machine() -> Machine:
            return self._machine(host, port, login, command, pipelined)

        machine()  # raises if they do not fit
        return _Through(self, machine, hooks, optimistic)

    def username(self, login: Login | None) -> str | None:
        """The user name that is given for a connection with ``login``; None if there is none."""
        given = self._given(login)
        if given is None:
            return None
        return given[0].decode("latin-1") if isinstance(given[0], bytes) else given[0]

    def _given(self, login: Login | None) -> Login | None:
        return self.login or (login if self.is_isolating else None)

    def _machine(self, host: str, port: int, login: Login | None, command: Command, pipelined: bool) -> Machine:
        given = self._given(login)
        if self.version == 4 and command is not Command.CONNECT:
            raise CommandNotSupported(f"SOCKS 4 has no {command.name}")
        if self.version == 4:
            return SOCKS4Machine(host, port, given[0] if given is not None else b"")
        methods: Methods = ANONYMOUS if given is None else {"login": given}
        if self.login is None and not self.is_tors:
            methods = {**ANONYMOUS, **methods}
        return SOCKS5Machine(host, port, methods, command=command, pipelined=pipelined)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _Through:
    """An endpoint behind a SOCKS port."""

    socks: SOCKSPort
    machine: Callable[[], Machine]
    hooks: Hooks
    optimistic: bool

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; see `SOCKS5ClientEndpoint.connect`."""
        factory = SOCKSClientFactory(
            self.machine(),
            protocolFactory,
            self.hooks,
            optimistic=self.optimistic,
            diagnosis=self.socks.diagnosis,
        )
        return factory.connectThrough(self.socks.endpoint)
