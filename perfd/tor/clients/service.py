"""``ClientService``: a client with a SOCKS port alone, launched and kept running, or somebody else's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from perfd.client.fetch import fetch, get_request
from perfd.clock import Clock, Timeline
from perfd.config.records import ClientConfig
from perfd.processes.child import Child
from perfd.processes.modules import module_command, module_environment
from perfd.processes.programs import ProgramMissingError, find_program, run_program
from perfd.reactor import Reactor
from perfd.record import Outcome
from perfd.socks import Hooks
from perfd.socks.diagnosis import Diagnosis
from perfd.socks.port import SOCKSPort
from perfd.tor.clients.arti import ArtiDirectory
from perfd.tor.endpoints import CONNECT_TIMEOUT, tcp_endpoint
from perfd.tor.messages import last_words
from perfd.tor.supervision import SupervisedService
from perfd.tor.testnet.relays import TestnetError
from perfd.tor.testnet.service import TestnetService

PAUSE = 0.5
"""Seconds between two tries to fetch a byte."""

FETCH_TIME = 30.0
"""Seconds in which a byte must come; a first circuit takes its time."""

LOOK = 10.0
"""Seconds between two looks at whether it answers, once it was ready."""

MOST_SILENT = 2
"""Looks without an answer after which it is launched, or looked for, anew."""

VERSION_TIME = 10.0
"""Seconds in which the version must be told."""

_STOP_TIME = 15.0
"""More than what ``processes.bound`` needs until it has ended everything."""

_VERSION = re.compile(r"\d+\.\d[\w.+-]*")


class Destination(Protocol):
    """A server whose ``/random/1`` is the byte that is fetched."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


class ClientService(SupervisedService):
    """A ``[client:NAME]``: the ``Tor`` of ``perfd.interfaces``, without what a control port tells.

    It is ready when a byte of the public one of ``servers`` came through it. An Arti keeps its files in ``data``.
    ``network`` is the private one that it waits for, if Perfd launches it.
    """

    def __init__(
        self,
        reactor: Reactor,
        config: ClientConfig,
        servers: Mapping[str, Destination],
        data: Path,
        network: TestnetService | None = None,
        clock: Clock | None = None,
    ) -> None:
        network = network if config.command else None
        super().__init__(reactor, f"client {config.name}", clock, network)
        self.name = config.name
        self.kind = config.kind
        self.version: str | None = None
        self._config = config
        self._servers = servers
        self._arti = ArtiDirectory(data) if config.is_our_arti else None
        self._network = network
        self._port: SOCKSPort | None = None

    def socks_port(self) -> SOCKSPort:
        """Its SOCKS port. Raises ``RuntimeError`` while it has none."""
        if self._port is None:
            raise RuntimeError(f"{self._what} has no SOCKS port now")
        return self._port

    async def _run(self) -> str:
        await self._wait_for_network()
        await self._ask_version()
        if not self._config.command:
            return await self._follow(Deferred(), ())
        return await self._launch()

    async def _launch(self) -> str:
        try:
            argv = [find_program(self._config.command[0]), *self._config.command[1:]]
            if self._arti is not None:
                self._arti.prepare(() if self._network is None else self._network.authorities)
                argv += self._arti.arguments
            program = _Program(self._reactor, hold_stdin=True)
            program.start(
                module_command("perfd.processes.bound", *argv), module_environment(), self._config.directory
            )
        except (ProgramMissingError, TestnetError, OSError) as error:
            return f"cannot be launched: {error}"
        self._log.info("{what} was launched: {command}", what=self._what, command=" ".join(argv))
        over: Deferred[str] = Deferred()
        ended = program.when_ended()
        ended.addCallbacks(lambda _: _end(over, f"stopped: {program.describe_end()}"), lambda _: None)
        try:
            return await self._follow(over, program.lines)
        finally:
            ended.cancel()
            await program.stop(_STOP_TIME)

    async def _follow(self, over: Deferred[str], said: Sequence[str]) -> str:
        """See it become ready, and return how it ended."""
        beginning = Deferred.fromCoroutine(self._begin(over, said))
        beginning.addErrback(partial(_mistaken, over))
        try:
            return await over
        finally:
            beginning.cancel()
            self._port = None

    async def _begin(self, over: Deferred[str], said: Sequence[str]) -> None:
        timeout = self._config.bootstrap_timeout
        until = self._clock.monotonic() + timeout
        while (lack := await self._fetch_byte(until)) is not None:
            self._lost(f"{self._what} is starting: {lack}")
            if self._clock.monotonic() >= until:
                last = f"; its last message: {last_words(said)}" if said else ""
                _end(over, f"let no byte through within {timeout:g} s: {lack}{last}")
                return
            await deferLater(self._reactor, PAUSE)
        self._log.info("{what} was ready: version {version}", what=self._what, version=self.version or "unknown")
        self._gained()
        await self._watch(over)

    async def _watch(self, over: Deferred[str]) -> None:
        """See that it goes on answering: the system takes connections for a program that hangs, too."""
        silent = 0
        while silent < MOST_SILENT:
            await deferLater(self._reactor, LOOK)
            diagnosis = None if self._port is None else self._port.diagnosis
            if diagnosis is None or await diagnosis.answers():
                silent = 0
            else:
                silent += 1
        # Later: who waits for it cancels this.
        self._reactor.callLater(0, _end, over, "does not answer on its SOCKS port any more")

    async def _fetch_byte(self, until: float) -> str | None:
        """Why none came; None if it did."""
        port = self._port = self._find_port()
        if port is None:
            return "it does not say yet where it listens"
        server = self._servers["public"]
        timeline = Timeline(self._clock)
        endpoint = port.through(server.host, server.port, ("perfd-ready", "perfd"), Hooks(timeline))
        host = f"[{server.host}]" if ":" in server.host else server.host
        exchange = await fetch(
            self._reactor,
            endpoint,
            get_request(f"{host}:{server.port}", "/random/1"),
            expect=1,
            timeline=timeline,
            timeout=max(1.0, min(FETCH_TIME, until - self._clock.monotonic())),
        )
        return None if exchange.outcome is Outcome.OK else exchange.reason or exchange.outcome.value

    def _find_port(self) -> SOCKSPort | None:
        if self._arti is not None:
            address = self._arti.socks_address()
            if address is None:
                return None
            host, port, version, login = *address, 5, None
        else:
            assert self._config.socks is not None
            where = self._config.socks
            host, port, version, login = where.address.host, where.address.port, where.version, where.login
        endpoint = tcp_endpoint(self._reactor, host, port, CONNECT_TIMEOUT)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return SOCKSPort(
            endpoint,
            version,
            login,
            is_tors=False,
            is_isolating=self._config.is_isolating,
            diagnosis=Diagnosis(self._reactor, endpoint, place, version),
        )

    async def _ask_version(self) -> None:
        """Have ``version-command`` tell the version: the first number with a dot in what it writes."""
        self.version = None
        if not self._config.version_command:
            return
        try:
            argv = [find_program(self._config.version_command[0]), *self._config.version_command[1:]]
            finished = await run_program(self._reactor, argv, timeout=VERSION_TIME)
        except (ProgramMissingError, OSError) as error:
            self._log.warn("{what} does not tell its version: {error}", what=self._what, error=error)
            return
        if finished.code == 0 and (found := _VERSION.search(finished.output)):
            self.version = found[0]
        else:
            self._log.warn("{what} does not tell its version: {said!r}", what=self._what, said=finished.output)


class _Program(Child):
    """What ``processes.bound`` runs; it ends that with all that belongs to it as soon as its input ends."""

    def kill(self) -> None:
        """Not the one between: it would leave the program behind."""
        if self.exit_code is None:
            self.transport.closeStdin()


def _mistaken(over: Deferred[str], failure: Failure) -> None:
    if not over.called:
        over.errback(failure)


def _end(over: Deferred[str], how: str) -> None:
    """The first cause counts."""
    if not over.called:
        over.callback(how)
