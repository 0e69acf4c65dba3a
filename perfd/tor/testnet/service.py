"""The private network as a part of the daemon: started with it, kept complete, stopped with it."""

from __future__ import annotations

from twisted.internet.task import deferLater

from perfd.clock import Clock
from perfd.reactor import Reactor
from perfd.tor.supervision import NetworkUnusableError, SupervisedService
from perfd.tor.testnet.authorities import Authority, authorities_in
from perfd.tor.testnet.bridges import bridge_options
from perfd.tor.testnet.liveness import end_hung_relays
from perfd.tor.testnet.network import LinksEndedError, NetworkEndedError, Testnet
from perfd.tor.testnet.relays import TestnetError

CHECK_INTERVAL = 5.0
"""Seconds between looks at whether every relay runs."""

ANSWER_INTERVAL = 15.0
"""Seconds between looks at whether every relay answers."""


class TestnetService(SupervisedService):
    """Keeps ``testnet`` running: the ``Network`` of ``perfd.tor.launch``.

    A network that the command ``perfd testnet start`` left running in the same directory is used as it is, together
    with others, and left running at the end.
    """

    __test__ = False  # not a test class, whatever pytest thinks of the name

    def __init__(self, reactor: Reactor, testnet: Testnet, clock: Clock | None = None) -> None:
        super().__init__(reactor, "the private network", clock)
        self._testnet = testnet

    @property
    def client_options(self) -> tuple[str, ...]:
        """The torrc lines with which a tor client uses the network. Only valid while ready."""
        return self._testnet.client_options

    def bridge_options(self, transport: str) -> tuple[str, ...]:
        """The torrc lines by which a tor uses the network's bridges. Only valid while ready.

        Raises ``TestnetError`` if there is none that takes ``transport``.
        """
        return bridge_options(self._testnet.directory, transport)

    @property
    def authorities(self) -> tuple[Authority, ...]:
        """What a client that is no tor must know. Only valid while ready."""
        return authorities_in(self._testnet.directory)

    @property
    def links(self) -> str | None:
        """What the links of the network are like; None if it has none. Only valid while ready."""
        return self._testnet.links

    async def _run(self) -> str:
        began = self._clock.monotonic()
        try:
            started = await self._testnet.start(self._reactor, progress=self._progressed)
        except TestnetError as error:
            return f"could not be started: {error}"
        try:
            self._log.info(
                "the private network was {what} in {directory}, and was ready after {seconds:.1f} s",
                what="started" if started else "already running",
                directory=self._testnet.directory,
                seconds=self._clock.monotonic() - began,
            )
            self._gained()
            looked = self._clock.monotonic()
            while True:
                await deferLater(self._reactor, CHECK_INTERVAL)
                if self._clock.monotonic() - looked >= ANSWER_INTERVAL:
                    await self._end_hung()
                    looked = self._clock.monotonic()
                await self._check()
        except NetworkEndedError:
            return "was stopped by somebody else"
        except LinksEndedError:
            return "lost its links"
        finally:
            self._testnet.release()
            # One that was found running, or is to be kept, belongs to others too.
            if started and not self._testnet.is_kept:
                await self._testnet.stop(self._reactor)

    def _progressed(self, done: int, steps: int, what: str) -> None:
        self._lost(f"the private network is starting: {what} ({done} of {steps})")

    async def _end_hung(self) -> None:
        """End a relay that hangs, so that it is replaced."""
        try:
            hung = await end_hung_relays(self._reactor, self._testnet.directory)
        except TestnetError as error:
            self._log.warn("whether relays of the private network hang is not known: {error}", error=error)
            return
        for nickname in hung:
            self._log.warn("the relay {nickname} of the private network hangs, and is killed", nickname=nickname)

    async def _check(self) -> None:
        """Replace a relay that is gone. The others carry on meanwhile, so a failure costs nothing but itself."""
        try:
            ended = await self._testnet.restart_dead_relay(self._reactor)
        except (NetworkEndedError, LinksEndedError):
            raise
        except TestnetError as error:
            self._log.warn("the private network lacks a relay: {error}", error=error)
            return
        if ended is not None:
            self._log.warn("the private network lost a relay, which was started again: {ended}", ended=ended)


class OverBridges:
    """The private network for a tor that uses its bridges: the ``Network`` of ``perfd.tor.launch``."""

    def __init__(self, network: TestnetService, transport: str) -> None:
        self._network = network
        self._transport = transport

    @property
    def not_ready(self) -> str | None:
        return self._network.not_ready

    @property
    def trouble(self) -> str | None:
        return self._network.trouble

    async def when_ready(self) -> None:
        """Return as soon as the network can be used."""
        await self._network.when_ready()

    @property
    def client_options(self) -> tuple[str, ...]:
        """The torrc lines. Raises ``NetworkUnusableError`` if there is no bridge that takes the transport."""
        try:
            return (*self._network.client_options, *self._network.bridge_options(self._transport))
        except TestnetError as error:
            raise NetworkUnusableError(str(error)) from None
