"""A tor that lives for one measurement, with its network off until it is watched."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel
from txtorcon import TorControlProtocol, TorProtocolError
from txtorcon.torcontrolprotocol import TorDisconnectError

from perfd.clock import Clock
from perfd.reactor import Reactor
from perfd.socks.local_ports import LocalPorts
from perfd.tor.bootstrap.phases import Phases, Traffic
from perfd.tor.control import Bootstrap
from perfd.tor.launch import Network, TorOptions, TorService
from perfd.tor.process import TorDirectory, TorProcess

HELD = "DisableNetwork 1"
"""The torrc line with which tor does nothing before it is told to, so that no phase passes unseen."""


class FreshTor(TorService):
    """A tor that is launched once. ``phases`` is what its bootstrap is like; ``ended`` fires with how it ended."""

    PROGRESS = LogLevel.debug  # it is in the record

    def __init__(
        self, reactor: Reactor, options: TorOptions, network: Network | None, clock: Clock, ports: LocalPorts
    ) -> None:
        super().__init__(reactor, options, network, clock, ports)
        self._what = f"the fresh tor {options.name}"
        self.phases = Phases(clock.monotonic)
        self.ended: Deferred[str] = Deferred()
        self.last_version: str | None = None  # known also when it is gone
        self._traffic = Traffic()
        self._asked: list[Deferred[None]] = []  # what tor was asked for, and has not answered
        self._ticks: list[Deferred[None]] = []  # of those who wait for the next second

    async def when_counted(self) -> None:
        """Return when all bytes that were asked for are known, and those of directory requests up to now."""
        if self.protocol is not None:
            tick: Deferred[None] = Deferred()
            self._ticks.append(tick)
            await tick
        while self._asked:
            await self._asked[0]

    def ask(self, name: str) -> None:
        """Learn the bytes moved by now, as ``phases.bytes[name]``; not at all if the tor is lost meanwhile."""
        asked = Deferred.fromCoroutine(self._ask(name))
        if not asked.called:
            self._asked.append(asked)
            asked.addBoth(lambda _: self._asked.remove(asked))

    async def _run(self) -> str:
        ending = await super()._run()
        if not self.ended.called:
            self.ended.callback(ending)
        return ending

    async def _own(self, session: Any, process: TorProcess, directory: TorDirectory) -> None:
        self.phases.launched = self._clock.monotonic()
        await super()._own(session, process, directory)

    async def _use(self, session: Any, protocol: TorControlProtocol) -> None:
        """Watch it, and have it begin."""
        self.phases.control = self._clock.monotonic()
        self.last_version = self.version
        await self._traffic.begin(protocol)
        directory = self.phases.directory
        await protocol.add_event_listener("STATUS_CLIENT", self._status_told)
        await protocol.add_event_listener("CIRC", directory.circuit)
        await protocol.add_event_listener("CIRC_BW", directory.bandwidth)
        await protocol.add_event_listener("BW", self._second_passed)
        self.phases.network = self._clock.monotonic()
        await protocol.queue_command("SETCONF DisableNetwork=0")
        await super()._use(session, protocol)

    def _disconnect(self) -> None:
        super()._disconnect()
        self._fire_ticks()

    def _status_told(self, event: str) -> None:
        bootstrap = Bootstrap.parse(event)
        if bootstrap is not None and self.phases.take(bootstrap):
            self.ask(bootstrap.tag)

    def _second_passed(self, _event: str) -> None:
        # Tor tells BW before the CIRC_BW of the same second, both in one go.
        self._reactor.callLater(0, self._fire_ticks)

    def _fire_ticks(self) -> None:
        fired, self._ticks = self._ticks, []
        for tick in fired:
            tick.callback(None)

    async def _ask(self, name: str) -> None:
        try:
            self.phases.bytes[name] = await self._traffic.now()
        except (TorDisconnectError, TorProtocolError):
            return
