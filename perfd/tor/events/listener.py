"""``ControlEvents``: listens to the events of a tor, over one control connection after the other.

Subscribe it to a ``TorService``: ``tor.subscribe(events.connected, events.disconnected)``. Measurements ask it for
``join`` and ``finish``; records of circuits, streams and other events go to the sink of its ``EventFold``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from txtorcon import TorControlProtocol, TorProtocolError

from perfd.clock import Anchor, Clock
from perfd.reactor import Reactor
from perfd.tor.events.consensus import Consensus, read_consensus
from perfd.tor.events.fold import EventFold
from perfd.tor.events.join import Join, Joined
from perfd.tor.events.layers import guard_layers, layer_keys
from perfd.tor.events.relays import NEW_CONSENSUS, Relays, nowhere
from perfd.tor.events.sink import EventCounts, EventSink

EVENTS = (
    *("CIRC", "CIRC_MINOR", "STREAM", "BUILDTIMEOUT_SET", "GUARD", "CIRC_BW", "STREAM_BW", "HS_DESC"),
    *("NETWORK_LIVENESS", "STATUS_CLIENT", "CONF_CHANGED", "SIGNAL"),
)
"""What is listened to, as far as the tor has it."""

LAST_EVENTS_WAIT = 2.0
"""Seconds for the last events of a measurement: CIRC_BW comes once a second."""

ANSWER_WAIT = 2.0
"""Seconds for an answer of tor that a measurement's record waits for."""

FILE_WAIT = 0.5
"""Seconds after which a new consensus is in its file: tor tells of it before it has written it."""

NEWNYM_WAIT = 20.0
"""Seconds for tor to act on a NEWNYM: it does so at most once in 10 s, and puts off what comes earlier."""

PARAMETERS = "CONSENSUSPARAMS"
"""The keyword of what is no event of tor's: the digest of the parameters of its consensus, and the parameters."""

UPTIME_ERROR = 5.0
"""Seconds by which tor's uptime may be wrong, when it is asked whether it is still the same process."""


@attrs.frozen
class _Process:
    """A tor process, as it tells itself: enough to know it again."""

    pid: int
    since: float  # it has run at least since this monotonic stamp

    def is_still(self, pid: int, uptime: float, now: float) -> bool:
        """Whether a process that says this is the same. In a container every tor may have the process id 1."""
        return pid == self.pid and uptime + UPTIME_ERROR >= now - self.since


class ControlEvents:
    """The events of one tor.

    A circuit or stream that lives on over a lost control connection to the same tor process stays the same
    record; what ended meanwhile is given out without an end. With another process everything begins anew.
    ``directory`` tells the tor's data directory, if it is on this machine: its consensus is read there.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        clock: Clock,
        *,
        source: str,
        tor: str,
        sink: EventSink,
        directory: Callable[[], Path | None] = nowhere,
    ) -> None:
        self._reactor = reactor
        self._directory = directory
        self._consensus: Consensus | None = None
        self._reading: Deferred[None] | None = None  # the consensus
        self._clock = clock
        self._tor = tor
        self._fold = EventFold(source=source, tor=tor, sink=sink, anchor=clock.anchor)
        self._relays = Relays(reactor, directory)
        self._process: _Process | None = None
        self._layers: int | None = None  # of guards, once a run to an onion service has asked
        self._protocol: TorControlProtocol | None = None
        self._newnyms: list[Deferred[None]] = []  # of those who wait for one
        self._mistakes = 0

    @property
    def counts(self) -> EventCounts:
        return self._fold.counts

    @property
    def cbt_set(self) -> bool | None:
        """Whether tor has learnt its circuit build timeout; None if it is not known (yet)."""
        return self._fold.cbt_set

    async def connected(self, protocol: TorControlProtocol) -> None:
        """Listen on an authenticated control connection, and read what lives already.

        Raises what txtorcon raises if the connection is lost meanwhile.
        """
        await self._recognize(protocol)
        for keyword in EVENTS:
            if keyword in protocol.valid_events:
                await protocol.add_event_listener(keyword, self._listener(keyword))
        if "STATUS_CLIENT" in protocol.valid_events:
            await protocol.add_event_listener("STATUS_CLIENT", self._status_told)
        if "SIGNAL" in protocol.valid_events:
            await protocol.add_event_listener("SIGNAL", self._signalled)
        self._protocol = protocol
        self._layers = None
        self._relays.forget()
        self._look_at_consensus()
        self._fold.circuit_status(await protocol.get_info_raw("circuit-status"), whole=True)
        self._fold.stream_status(await protocol.get_info_raw("stream-status"))

    def disconnected(self) -> None:
        """The control connection is lost: no measurement waits for its events any longer."""
        self._protocol = None
        self._stop_reading()
        for newnym in self._newnyms:
            if not newnym.called:
                newnym.errback(RuntimeError("the control connection is lost"))
        self._fold.pause()

    def stop(self) -> None:
        """Give out all that lives, because Perfd stops."""
        self._protocol = None
        self._stop_reading()
        self._fold.lose()

    def join(self, local: tuple[str, int], since: float, measurement: str | None = None) -> Join:
        """Claim the stream of the connection from ``local`` (IP address, port) for a measurement.

        To be called when the connection to the SOCKS port is there, with the monotonic stamp of that moment,
        before the SOCKS request goes out. Every claim ends with ``finish`` or ``forget``.
        """
        join = self._fold.join(local, since, measurement)
        if self._protocol is None:
            self._fold.release(join)
        return join

    def forget(self, join: Join) -> None:
        """The measurement does not want to know."""
        self._fold.release(join)

    async def finish(self, join: Join, anchor: Anchor, wait: float = LAST_EVENTS_WAIT) -> Joined:
        """What tor told about the measurement, by its own clock ``anchor``.

        To be called when its connection is closed. Waits at most ``wait`` seconds for the end of the stream and
        the circuit's last CIRC_BW. Never raises but when it is cancelled.
        """
        try:
            if wait > 0:
                with suppress(DeferredTimeoutError):
                    await join.when_complete().addTimeout(wait, self._reactor)
                join.conclude()
                if join.rendezvous is not None:
                    # A descriptor that is of no use fails the stream, and tor tells after it that it came.
                    await deferLater(self._reactor, 0)
            if self._lacks_round_trip(join):
                await self._ask_round_trip()
            joined = attrs.evolve(self._fold.joined(join, anchor), consensus=self._consensus)
            if wait > 0 and self._protocol is not None and joined.circuit is not None:
                path = [hop.fingerprint for hop in joined.circuit.path]
                joined = attrs.evolve(joined, relays=await self._relays.of(self._protocol, path))
                if join.rendezvous is not None:
                    joined = await self._with_layers(joined, len(path))
            return joined
        finally:
            self._fold.release(join)

    async def _with_layers(self, joined: Joined, hops: int) -> Joined:
        """With the layers of guards on the way to an onion service."""
        if self._layers is None and self._protocol is not None:
            self._layers = await guard_layers(self._protocol, self._reactor)
        return attrs.evolve(joined, hs={**joined.hs, **layer_keys(hops, self._layers)})

    def tell(self, keyword: str, text: str) -> None:
        """Give on what Perfd itself has learnt of this tor, as an event."""
        self._fold.give_event(keyword, text, self._clock.monotonic())

    async def forget_descriptors(self, wait: float = NEWNYM_WAIT) -> bool:
        """Make tor forget the descriptors of onion services that it has as a client (SIGNAL NEWNYM).

        True when it has; False if it did not say so within ``wait`` seconds, or cannot be asked. Its circuits are
        not used for new streams either after that. Never raises but when it is cancelled.
        """
        protocol = self._protocol
        if protocol is None:
            return False
        done: Deferred[None] = Deferred()
        self._newnyms.append(done)
        try:
            await Deferred.fromCoroutine(self._signal_newnym(protocol, done)).addTimeout(wait, self._reactor)
        except (DeferredTimeoutError, RuntimeError):  # txtorcon's own errors are RuntimeErrors
            return False
        finally:
            self._newnyms.remove(done)
            done.addErrback(lambda _: None)  # if tor was lost before it answered, nobody waits for this yet
        return True

    async def _signal_newnym(self, protocol: TorControlProtocol, done: Deferred[None]) -> None:
        await protocol.queue_command("SIGNAL NEWNYM")
        await done
        # Others act on a NEWNYM too, as by giving keys again. Tor does one command after the other, so once it has
        # answered this one it has done theirs.
        await deferLater(self._reactor, 0)
        await protocol.get_info_raw("process/pid")

    def _signalled(self, text: str) -> None:
        if text.split() == ["NEWNYM"]:
            for done in self._newnyms:
                if not done.called:
                    done.callback(None)

    def _status_told(self, text: str) -> None:
        if NEW_CONSENSUS in text.split():
            self._relays.forget()
            self._look_at_consensus()

    def _look_at_consensus(self) -> None:
        directory = self._directory()
        if directory is not None:
            self._stop_reading()
            self._reading = Deferred.fromCoroutine(self._read_consensus(directory))
            self._reading.addErrback(self._not_read)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    def _not_read(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("the consensus could not be read", failure)

    async def _read_consensus(self, directory: Path) -> None:
        await deferLater(self._reactor, FILE_WAIT)
        found = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), read_consensus, directory)
        if found is None:
            return
        if self._consensus is None or self._consensus.digest != found.digest:
            # Records have the digest alone.
            self.tell(PARAMETERS, f"{found.digest} {found.text}")
        self._consensus = found

    def _listener(self, keyword: str) -> Any:
        monotonic, event = self._clock.monotonic, self._fold.event

        def listen(text: str) -> None:
            stamp = monotonic()
            try:
                event(stamp, keyword, text)
            except Exception:  # noqa: BLE001 - a mistake here must not cost the next events
                self._mistaken(keyword)

        return listen

    def _mistaken(self, keyword: str) -> None:
        self._mistakes += 1
        if self._mistakes == 1:
            self._log.failure(
                "a {keyword} event of tor {tor} met a mistake in Perfd; more are not logged",
                keyword=keyword,
                tor=self._tor,
            )

    async def _recognize(self, protocol: TorControlProtocol) -> None:
        """Begin anew unless this is the tor process that was heard before."""
        try:
            pid = int(await protocol.get_info_single("process/pid"))
            uptime = float(await protocol.get_info_single("uptime"))
        except (TorProtocolError, ValueError):
            self._process = None
            self._fold.begin()
            return
        now = self._clock.monotonic()
        if self._process is None or not self._process.is_still(pid, uptime, now):
            self._process = _Process(pid, now)
            self._fold.begin()

    def _lacks_round_trip(self, join: Join) -> bool:
        """Tor tells CONFLUX_RTT in circuit-status only: it sends no event when it changes."""
        circuit = join.stream.circuit if join.stream is not None else None
        return circuit is not None and circuit.conflux_id is not None and not circuit.over

    async def _ask_round_trip(self) -> None:
        if self._protocol is None:
            return
        answer = self._protocol.get_info_raw("circuit-status")
        try:
            text = await answer.addTimeout(ANSWER_WAIT, self._reactor)
        except (DeferredTimeoutError, RuntimeError):  # txtorcon's own errors are RuntimeErrors
            return
        self._fold.circuit_status(text)
