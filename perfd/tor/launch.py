"""``TorService``: a tor that is launched and kept running, or a running one that is attached to.

The control connection is txtorcon's (``control``). The process is spawned here, because ``txtorcon.launch`` (26.6)
cannot keep a tor for months:

- It gives the process out of hand only after the bootstrap, so nobody can end it before, and its own timeout sends
  SIGTERM only.
- It learns the bootstrap from events alone. A tor with a cached consensus that is done before the listener is
  there is waited for until the timeout, and then killed.
- It connects once, when stdout shows a certain line, and never again if that fails.
- It passes the options on the command line, from a TorConfig and not from the lines of a torrc, with an
  environment of HOME alone, in which pluggable transports are not found.
- It then reads every option of tor over the control port, and logs each end of a tor, a clean stop too, as an
  unhandled error.

What it does right is done here the same way: a control socket in the data directory, cookie authentication,
``__OwningControllerProcess`` from the first moment, and TAKEOWNERSHIP as soon as there is a connection, so that tor
ends at once when Perfd does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from txtorcon import TorControlProtocol, TorProtocolError
from txtorcon.torcontrolprotocol import TorDisconnectError

from perfd.clock import Clock
from perfd.processes.programs import ProgramMissingError, find_program
from perfd.reactor import Reactor
from perfd.socks.local_ports import LocalPorts
from perfd.socks.port import SOCKSPort
from perfd.tor.control import (
    Bootstrap,
    ControlError,
    bridge_transport,
    control_endpoint,
    open_control,
    socks_listener,
    tor_version,
    watch_bootstrap,
    watch_complaints,
)
from perfd.tor.endpoints import socks_endpoint
from perfd.tor.messages import last_words
from perfd.tor.process import DirectoryInUseError, TorDirectory, TorProcess
from perfd.tor.supervision import NetworkUnusableError, PrivateNetwork, SupervisedService

Connected = Callable[[TorControlProtocol], Awaitable[None]]
Disconnected = Callable[[], None]

SINGLE_ONION = ("HiddenServiceSingleHopMode 1", "HiddenServiceNonAnonymousMode 1", "SocksPort 0")
"""The torrc lines of a tor for single onion services: such a tor takes no other SocksPort than 0."""

ANSWER_TIME = 10.0
"""Seconds in which a tor must answer on its control port; it is asked as often."""

_POLL = 0.05
_LAST_WORDS_TIME = 1.0
"""Seconds for which a tor whose control connection closed may still be ending, and say why."""


@attrs.frozen(kw_only=True)
class TorOptions:
    """One ``[tor:NAME]``. With ``control`` it is a running tor, and what is for launching has no meaning."""

    name: str
    data_directory: Path
    binary: str = "tor"
    torrc: str = ""  # lines of a torrc; a SocksPort in it replaces Perfd's own
    bootstrap_timeout: float = 300.0  # seconds
    control: str | None = None  # host:port, or the path of a socket
    control_password: str | None = attrs.field(default=None, repr=False)
    single_onion: bool = False  # for a single onion service: it is not anonymous, and has no SOCKS port for clients
    keeps_documents: bool = False  # what it knows of the private network stays, though that may be another one now


class Network(PrivateNetwork, Protocol):
    """A private network that a tor belongs to, and that must be there before it is launched."""

    @property
    def client_options(self) -> Sequence[str]:
        """The torrc lines with which a client uses the network. Only valid while ready.

        Raises ``NetworkUnusableError``.
        """


class _Session:
    """One life of a tor, or of a connection to it: what it said last, and how it ended."""

    def __init__(self) -> None:
        self.over: Deferred[str] = Deferred()
        self.bootstrap: Bootstrap | None = None
        self.trouble = "no control connection"
        self.complaints: list[str] = []
        self._calls: list[IDelayedCall] = []

    def call_later(self, reactor: Reactor, seconds: float, function: Callable[..., None], *arguments: str) -> None:
        self._calls.append(reactor.callLater(seconds, function, *arguments))

    def cancel_calls(self) -> None:
        for call in self._calls:
            if call.active():
                call.cancel()

    def end(self, how: str) -> None:
        """The first cause counts; what follows from it does not."""
        if not self.over.called:
            self.over.callback(how)

    def complain(self, message: str) -> None:
        self.complaints = [*self.complaints[-1:], f"[warn] {message}"]


class TorService(SupervisedService):
    """A tor, launched or attached to: the ``Tor`` of ``perfd.interfaces``.

    Whoever wants control events subscribes: ``connected`` is called with txtorcon's protocol each time a
    control connection was authenticated, before the tor counts as ready; ``disconnected`` when it was lost.
    ``ports`` are the local ports of connections to it, the same for all tors of an instance.
    """

    PROGRESS = LogLevel.info  # at which each step of the bootstrap is logged

    def __init__(
        self,
        reactor: Reactor,
        options: TorOptions,
        network: Network | None = None,
        clock: Clock | None = None,
        ports: LocalPorts | None = None,
    ) -> None:
        super().__init__(reactor, f"tor {options.name}", clock, network)
        self.name = options.name
        self.version: str | None = None
        self.transport: str | None = None  # of the bridges of a tor that somebody else launched, as it tells
        self.protocol: TorControlProtocol | None = None
        self._options = options
        self._network = network
        self._ports = ports or LocalPorts(clock or Clock())
        self._bootstrap: Bootstrap | None = None
        self._socks: tuple[str, int] | None = None
        self._subscribers: list[tuple[Connected, Disconnected]] = []

    @property
    def options(self) -> TorOptions:
        """With what it is launched."""
        return self._options

    @property
    def data_directory(self) -> Path | None:
        """Where it keeps its files; None for a tor that is attached to."""
        return self._options.data_directory if self._options.control is None else None

    def change(self, options: TorOptions) -> None:
        """Launch it with other ``options`` from the next start of this service on."""
        self._options = options

    @property
    def bootstrap_percent(self) -> int | None:
        """How far the bootstrap has come, in percent; None while there is no control connection that tells."""
        return None if self._bootstrap is None else self._bootstrap.percent

    def subscribe(self, connected: Connected, disconnected: Disconnected = lambda: None) -> None:
        """Have ``connected`` and ``disconnected`` called from now on; subscribe before the service starts."""
        self._subscribers.append((connected, disconnected))

    def socks_port(self) -> SOCKSPort:
        """Tor's SOCKS port. Raises ``RuntimeError`` while it has none."""
        if self._socks is None:
            raise RuntimeError(f"{self._what} has no SOCKS port now")
        host, port = self._socks
        return SOCKSPort(socks_endpoint(self._reactor, host, port, self._ports))

    async def _run(self) -> str:
        if self._options.control is not None:
            return await self._attach(self._options.control)
        await self._wait_for_network()
        return await self._launch()

    async def _launch(self) -> str:
        directory = TorDirectory(self._options.data_directory)
        options = [*self._options.torrc.splitlines(), *(SINGLE_ONION if self._options.single_onion else ())]
        try:
            network_options = [] if self._network is None else self._network.client_options
            binary = find_program(self._options.binary)
            await directory.end_leftovers(self._reactor)
            directory.prepare(options, network_options, keep=self._options.keeps_documents)
            process = TorProcess.launch(self._reactor, binary, directory)
        except (NetworkUnusableError, ProgramMissingError, DirectoryInUseError, OSError) as error:
            return f"cannot be launched: {error}"
        self._log.info(
            "{what} was launched: {binary} in {directory}", what=self._what, binary=binary, directory=directory.path
        )
        session = _Session()
        # Not awaited: a tor may end while its bootstrap is followed, and the first of all endings counts.
        ended = process.when_ended()
        ended.addCallbacks(lambda _: session.end(f"stopped: {process.describe_end()}"), lambda _: None)
        try:
            return await self._follow(session, self._own(session, process, directory), lambda: process.lines)
        finally:
            ended.cancel()
            await process.stop()

    async def _own(self, session: _Session, process: TorProcess, directory: TorDirectory) -> None:
        """Connect to the tor just launched, so that it ends with the connection, and go on from there."""
        while process.exit_code is None:
            address = directory.control_address()
            if address is not None:
                try:
                    protocol = await open_control(self._reactor, control_endpoint(self._reactor, address))
                except ControlError as error:  # a moment too early
                    session.trouble = f"no control connection: {error}"
                else:
                    self._connected(session, protocol)
                    await protocol.queue_command("TAKEOWNERSHIP")
                    await self._use(session, protocol)
                    return
            await deferLater(self._reactor, _POLL)

    async def _attach(self, control: str) -> str:
        session = _Session()
        return await self._follow(session, self._connect(session, control), lambda: session.complaints)

    async def _connect(self, session: _Session, control: str) -> None:
        """Connect to a tor that somebody else runs, and go on from there."""
        try:
            endpoint = control_endpoint(self._reactor, control)
            protocol = await open_control(self._reactor, endpoint, self._options.control_password)
        except (ControlError, ValueError) as error:
            session.end(f"cannot be reached at {control}: {error}")
            return
        self._log.info("{what} was attached to at {control}", what=self._what, control=control)
        self._connected(session, protocol)
        await watch_complaints(protocol, session.complain)
        self.transport = await bridge_transport(protocol)
        await self._use(session, protocol)

    async def _follow(
        self, session: _Session, beginning: Coroutine[Any, Any, None], said: Callable[[], Sequence[str]]
    ) -> str:
        """Go through a session from its ``beginning`` until it is over; return how it ended."""
        timeout = self._options.bootstrap_timeout

        def too_late() -> None:
            reached = session.bootstrap.sentence if session.bootstrap else session.trouble
            session.end(
                f"did not bootstrap within {timeout:g} s: {reached}; its last message: {last_words(said())}"
            )

        session.call_later(self._reactor, timeout, too_late)
        setting_up = Deferred.fromCoroutine(beginning)
        setting_up.addErrback(self._set_up_failed, session)
        try:
            return await session.over
        finally:
            session.cancel_calls()
            setting_up.cancel()
            self._disconnect()

    def _connected(self, session: _Session, protocol: TorControlProtocol) -> None:
        self.protocol, self.version = protocol, tor_version(protocol)
        protocol.when_disconnected().addErrback(lambda _: self._control_lost(session))

    async def _use(self, session: _Session, protocol: TorControlProtocol) -> None:
        """Learn what is needed of an authenticated tor, tell the subscribers, and follow its bootstrap."""
        self._socks = await socks_listener(protocol)
        if self._socks is None and not self._options.single_onion:
            session.end("has no SocksPort on TCP that can be reached from here; it needs one in its torrc")
            return
        for connected, _ in self._subscribers:
            await Deferred.fromCoroutine(_awaited(connected(protocol))).addErrback(self._subscriber_failed)
        await watch_bootstrap(protocol, lambda bootstrap: self._bootstrap_changed(session, bootstrap))
        await self._watch_answers(session, protocol)

    async def _watch_answers(self, session: _Session, protocol: TorControlProtocol) -> None:
        """Ask tor again and again, and end the session if it does not answer: one that hangs closes nothing."""
        while True:
            answers: list[object] = []
            protocol.get_info_raw("version").addBoth(answers.append)
            await deferLater(self._reactor, ANSWER_TIME)
            if answers:
                continue
            self._trouble = f"{self._what} does not answer on its control port"  # unhealthy at once
            self._lost(self._trouble)
            # It gets another chance: if Perfd was held up itself, the answer may be there, but was not read yet.
            await deferLater(self._reactor, ANSWER_TIME)
            if not answers:
                session.end(f"did not answer on its control port for {2 * ANSWER_TIME:g} s")
                return
            if session.bootstrap is not None:
                self._bootstrap_changed(session, session.bootstrap)

    def _bootstrap_changed(self, session: _Session, bootstrap: Bootstrap) -> None:
        if session.over.called:
            return
        # Tor repeats itself, and may fall back below 100 %: only changes are told.
        before, session.bootstrap = session.bootstrap, bootstrap
        self._bootstrap = bootstrap
        if before is None or before.percent != bootstrap.percent:
            self._log.emit(
                self.PROGRESS, "{what} bootstrapped to {sentence}", what=self._what, sentence=bootstrap.sentence
            )
        if bootstrap.percent < 100:
            self._lost(f"{self._what} is bootstrapping: {bootstrap}")
        elif self.not_ready is not None:
            session.cancel_calls()
            self._log.info(
                "{what} was ready: version {version}, SOCKS port {socks}",
                what=self._what,
                version=self.version,
                socks=":".join(map(str, self._socks or ("none",))),
            )
            self._gained()

    def _control_lost(self, session: _Session) -> None:
        if session.over.called:
            return
        self._lost(f"{self._what} closed its control connection")
        self._disconnect()
        # A tor of our own is ending then; how it does says more.
        grace = _LAST_WORDS_TIME if self._options.control is None else 0.0
        session.call_later(self._reactor, grace, session.end, "closed its control connection")

    def _disconnect(self) -> None:
        protocol, self.protocol = self.protocol, None
        self.version, self.transport, self._socks, self._bootstrap = None, None, None, None
        if protocol is None:
            return
        protocol.transport.loseConnection()
        for _, disconnected in self._subscribers:
            maybeDeferred(disconnected).addErrback(self._subscriber_failed)

    def _set_up_failed(self, failure: Failure, session: _Session) -> None:
        if failure.check(CancelledError):
            return
        if failure.check(TorDisconnectError):
            self._control_lost(session)
        elif failure.check(TorProtocolError):
            session.end(f"refused a command: {failure.getErrorMessage()}")
        else:
            self._log.failure("{what} could not be used", failure, what=self._what)
            session.end(f"could not be used: {failure.getErrorMessage()}")

    def _subscriber_failed(self, failure: Failure) -> None:
        """A consumer of events that fails costs its events, not the measurements.

        What it fails with because the connection is lost says no more than that, which is told elsewhere.
        """
        if failure.check(CancelledError):
            failure.raiseException()
        if failure.check(TorDisconnectError):
            return
        self._log.failure("a subscriber of {what} failed", failure, what=self._what)


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable
