"""What all types of experiment share: the turn on the tor, one request with all its stamps, and the record of it.

A type is a class of ``Run``. Its ``exchange`` has the tor for itself; its ``finish`` makes the record when tor has
told the rest, while the next run may begin.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, DeferredLock
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint

from perfd.client.fetch import Exchange, fetch, get_request
from perfd.clock import Clock, Timeline
from perfd.experiments.ways import NoTor, WayIn
from perfd.interfaces import ServerStamps, ServerTimes, Sink, WayToServer
from perfd.record import EMPTY, Error, Measurement, Outcome, new_id, phase_times
from perfd.tor.events.join import UNANNOUNCED, Join, Joined, error_fields, is_vague, tor_fields

Extra = Mapping[str, str | int | float]

HeldUp = Callable[[float, float], float]
"""For how many seconds the reactor was held up between two moments (raw monotonic seconds)."""

PAIR = "PAIR"
"""The key by which the two records of a pair know each other."""


@attrs.frozen(kw_only=True)
class Setup:
    """One experiment over one tor and one way to the server."""

    name: str
    type: str
    source: str
    network: str
    source_address: str | None  # this machine's public IP address, if that is known
    server: WayToServer
    size: int
    timeout: float
    fresh_circuits: bool = True
    skip_until_cbt: bool = False
    fresh_descriptor: bool = False
    tor: WayIn
    stamps: ServerStamps
    clock: Clock
    reactor: IReactorTime
    held_up: HeldUp
    parts: Sink  # takes the measurements that a run consists of, where that is more than one

    def identity(self, measurement: str, slot: float | None) -> dict[str, Any]:
        """What a record says about its experiment."""
        return {
            "id": measurement,
            "slot": slot,
            "source": self.source,
            "experiment": self.name,
            "type": self.type,
            "network": self.network,
            "tor": self.tor.name,
            "torversion": self.tor.version,
            "transport": self.tor.transport,
            "server": self.server.name,
            "filesize": self.size,
        }

    def user(self, measurement: str) -> str:
        """The name under which a run's streams are isolated from others.

        A name of its own gives a run a circuit that nothing else has used.
        """
        return measurement if self.fresh_circuits else self.name

    def held_up_since(self, moment: float) -> Extra:
        """The key HELDUP of what began at ``moment`` and ends now; none if nothing held the reactor up."""
        seconds = self.held_up(moment, self.clock.monotonic())
        return {"HELDUP": seconds} if seconds else EMPTY

    @property
    def refusal(self) -> tuple[str, str] | None:
        """Why nothing can be run now: error code and reason."""
        not_ready = self.tor.not_ready or self.server.not_ready
        if not_ready is not None:
            return Error.NOTREADY, not_ready
        events = self.tor.events
        if self.skip_until_cbt and events is not None and not events.cbt_set:
            return Error.NOCBT, f"tor {self.tor.name} has not learnt its circuit build timeout yet"
        return None


class Run:
    """One run. ``extra`` are the keys of the record that belong to the experiment's type."""

    def __init__(self, setup: Setup, slot: float | None, extra: Extra = EMPTY) -> None:
        self.setup = setup
        self.slot = slot
        self.id = new_id()
        self.extra: dict[str, str | int | float] = dict(extra)
        self.user = setup.user(str(self.extra.get(PAIR, self.id)))  # both runs of a pair use the same circuits

    async def exchange(self) -> None:
        """Measure. The tor is ours alone meanwhile. Cancelling it ends the measuring, not the run."""
        raise NotImplementedError

    async def finish(self) -> Measurement:
        """The record, once tor has told the rest."""
        raise NotImplementedError


@attrs.frozen
class TorExperiment:
    """An experiment: makes a run for each slot and gives it the turn on the tor.

    START is taken once it is our turn, so measurements on the same tor do not disturb each other. ``first`` is the
    turn on something else that a run needs for itself; waiting for that holds up nobody on the tor. ``known`` are
    the keys that every record has, also that of a slot without a run.
    """

    setup: Setup
    make_run: Callable[[Setup, float | None, Extra], Run]
    first: DeferredLock | None = None
    known: Extra = EMPTY

    @property
    def name(self) -> str:
        return self.setup.name

    @property
    def not_ready(self) -> str | None:
        """Why no run can succeed now; None when one can."""
        return self.setup.tor.not_ready or self.setup.server.not_ready

    async def run(self, slot: float | None) -> Measurement:
        """One run, once it is our turn."""
        return await run_in_turn([self], slot)

    async def exchange(self, slot: float | None, extra: Extra) -> Run:
        """The measuring part of a run; ``extra`` goes into its record."""
        run = self.make_run(self.setup, slot, {**self.known, **extra})
        events = self.setup.tor.events
        if self.setup.fresh_descriptor and events is not None:
            run.extra["FRESHDESCRIPTOR"] = int(await events.forget_descriptors())
        began = self.setup.clock.monotonic()
        await run.exchange()
        run.extra |= self.setup.held_up_since(began)
        return run

    def blanks(self, slot: float | None, outcome: Outcome, errorcode: str, reason: str) -> Sequence[Measurement]:
        """The record of a slot without a run, the only one that it should have had."""
        return [self.blank(slot, outcome, errorcode, reason)]

    def blank(
        self, slot: float | None, outcome: Outcome, errorcode: str, reason: str, extra: Extra = EMPTY
    ) -> Measurement:
        """The record of a slot without a run."""
        return Measurement(
            **self.setup.identity(new_id(), slot),
            start=self.setup.clock.wall() if slot is None else slot,
            outcome=outcome,
            errorcode=errorcode,
            reason=reason,
            extra={**self.known, **extra},
        )


STOPPED = (Outcome.CANCELLED, Error.STOPPED, "Perfd was stopped before it ran")


async def run_in_turn(
    experiments: Sequence[TorExperiment],
    slot: float | None,
    extra: Extra = EMPTY,
    earlier: Callable[[Measurement], None] = lambda _: None,
) -> Measurement:
    """A run of each experiment, one after the other in one turn; the record of the last one.

    They are all over the same tor. ``earlier`` gets the other records, as soon as they are complete. ``extra`` goes
    into all of them.
    """
    waiting = list(experiments)
    turns = [turn for turn in (waiting[0].first, waiting[0].setup.tor.turn) if turn is not None]
    ours: list[DeferredLock] = []
    last: Run | None = None
    why_not = STOPPED
    try:
        for turn in turns:
            await turn.acquire()
            ours.append(turn)
        while waiting:
            refusal = waiting[0].setup.refusal
            if refusal is not None:
                why_not = (Outcome.SKIPPED, *refusal)
                break
            run = await waiting[0].exchange(slot, extra)
            if len(waiting) == 1:
                last = run
            else:
                measurement = await run.finish()
                earlier(measurement)
            del waiting[0]
            if last is None and measurement.outcome is Outcome.CANCELLED:
                break
    except CancelledError:
        pass
    finally:
        for turn in ours:
            turn.release()
    if last is not None and not waiting:
        return await last.finish()
    *others, blank = [each.blank(slot, *why_not, extra) for each in waiting]
    for other in others:
        earlier(other)
    return blank


class Transfer:
    """One request over a connection of its own: its stamps, how it ended, and what tor tells about it.

    ``measurement`` is the id under which the server and the tor know it; ``user`` the name of its isolation.
    """

    def __init__(self, setup: Setup, measurement: str, user: str, *, optimistic: bool = False) -> None:
        self.setup = setup
        self.measurement = measurement
        self.timeline = Timeline(setup.clock)
        self.exchange: Exchange | None = None
        self.held_up: Extra = EMPTY
        self.joined: Joined | None = None
        self.served: ServerTimes | None = None  # what our server stamped, once it was asked
        self.host, self.port = setup.server.host, setup.server.port
        self._identity = setup.identity(measurement, None)  # as it is now: the tor may be another afterwards
        # The id of a part can be told from that of another one, and the far end of Tor sees it: so it gets a name
        # that cannot be guessed.
        self._token = new_id() if "-" in measurement else measurement
        self._user = user
        self._optimistic = optimistic
        self._local: IAddress | None = None
        self._join: Join | None = None
        self._end: float | None = None

    @property
    def endpoint(self) -> IStreamClientEndpoint:
        """The way to our server, to be connected once."""
        return self.setup.tor.endpoint(
            self.host,
            self.port,
            self._user,
            timeline=self.timeline,
            connected=self._connected,
            optimistic=self._optimistic,
        )

    @property
    def request_headers(self) -> dict[str, str]:
        """By these our server knows the measurement."""
        return {"X-Perfd-Measurement": self._token}

    @property
    def authority(self) -> str:
        """The server as the Host header names it."""
        return authority(self.setup.server)

    async def fetch(self, size: int, timeout: float) -> Exchange:
        """Download ``size`` random bytes within ``timeout`` seconds."""
        request = get_request(self.authority, f"/random/{size}", headers=self.request_headers)
        return await self.perform(
            lambda endpoint: fetch(
                self.setup.reactor, endpoint, request, expect=size, timeline=self.timeline, timeout=timeout
            )
        )

    async def perform(self, exchanging: Callable[[IStreamClientEndpoint], Awaitable[Exchange]]) -> Exchange:
        """Do ``exchanging`` over ``endpoint``; the server looks out for it meanwhile."""
        self.setup.stamps.expect(self._token)
        self.exchange = await exchanging(self.endpoint)
        self._end = self.timeline.anchor.epoch(self.timeline.now())
        self.held_up = self.setup.held_up_since(self.timeline.anchor.monotonic)
        return self.exchange

    async def fields(self, slot: float | None) -> dict[str, Any]:
        """All that is known of it, as the arguments of ``Measurement``. Waits a little for tor's last words.

        ``extra`` holds what tor tells about the way to an onion service.
        """
        assert self.exchange is not None
        self.joined = joined = await self._finish_join(self.exchange)
        fields: dict[str, Any] = {
            **self._identity,
            **phase_times(self.timeline),
            **_progress(self.exchange),
            **self._endpoints(self.exchange),
            **self._server_times(),
            "slot": slot,
            "end": self._end,
            "extra": {},
        }
        if joined is not None:
            fields |= {key: value for key, value in tor_fields(joined).items() if value is not None}
            fields["extra"] = dict(joined.hs)
            seen_by_tor = error_fields(joined)
            if seen_by_tor is not None and is_vague(self.exchange.errorcode or ""):
                fields["errorcode"], fields["reason"] = seen_by_tor
            if joined.is_unannounced and self.exchange.outcome is Outcome.OK:
                fields |= {"outcome": Outcome.FAILED, "datacomplete": None}
                fields["errorcode"], fields["reason"] = UNANNOUNCED
        return fields

    def forget(self) -> None:
        """Nobody wants to know more of it than its ``exchange``."""
        self.setup.stamps.take(self._token)
        if self._join is not None and self.setup.tor.events is not None:
            self.setup.tor.events.forget(self._join)

    def _connected(self, local: IAddress) -> None:
        """Called before anything is written to the SOCKS port, so before tor can tell about the stream."""
        self._local = local
        events = self.setup.tor.events
        if events is not None:
            address = (getattr(local, "host", ""), getattr(local, "port", 0))
            self._join = events.join(address, self.timeline.now(), self.measurement)

    async def _finish_join(self, exchange: Exchange) -> Joined | None:
        events = self.setup.tor.events
        if events is None or self._join is None:
            return None
        try:
            if exchange.outcome is Outcome.CANCELLED:
                return await events.finish(self._join, self.timeline.anchor, wait=0)
            return await events.finish(self._join, self.timeline.anchor)
        except CancelledError:
            return None  # Perfd stops, and the measurement itself is complete

    def _endpoints(self, exchange: Exchange) -> dict[str, Any]:
        direct = isinstance(self.setup.tor, NoTor)
        return {
            "endpointlocal": _endpoint("localhost", self._local),
            "endpointproxy": None if direct else _endpoint("localhost", exchange.remote),
            "endpointremote": f"{self.host}:{ip_address(self.host) or '0.0.0.0'}:{self.port}",
            "hostnamelocal": socket.gethostname(),
            "hostnameremote": self.host,
            "sourceaddress": self.setup.source_address,
        }

    def _server_times(self) -> dict[str, Any]:
        self.served = seen = self.setup.stamps.take(self._token)

        def epoch(stamp: float | None) -> float | None:
            return None if stamp is None else self.timeline.anchor.epoch(stamp)

        return {
            "serverrequest": epoch(seen.request),
            "serverresponse": epoch(seen.response),
            "servercomplete": epoch(seen.complete),
        }


def authority(server: WayToServer) -> str:
    """A server as the Host header and URLs name it."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{host}:{server.port}"


def _progress(exchange: Exchange) -> dict[str, Any]:
    names = (
        *("outcome", "errorcode", "reason", "status", "dataperc", "partial"),
        *("writebytes", "readbytes", "payloadbytes"),
    )
    return {name: getattr(exchange, name) for name in names}


def _endpoint(name: str, address: IAddress | None) -> str | None:
    """Torperf's form of an endpoint: name, IP address and port."""
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    return None if host is None else f"{name}:{host}:{port}"


def ip_address(host: str) -> str | None:
    """The IP address that ``host`` is; None if it is a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
