"""The exact join of a measurement with the stream that its connection made, and so with its circuit.

A measurement makes a ``Join`` when its connection to the SOCKS port is there and before anything is written to
it. The next STREAM NEW with that SOURCE_ADDR is its own, whatever used the port before; nothing is guessed.
``Joins`` are those of one tor.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from perfd.clock import Anchor
from perfd.record import Circuit, Error, Stream
from perfd.tor.events.bandwidth import CircuitSample
from perfd.tor.events.circuits import LiveCircuit
from perfd.tor.events.consensus import Consensus
from perfd.tor.events.lines import BuildTimeout
from perfd.tor.events.relays import RouterStatus, path_keys
from perfd.tor.events.rendezvous import Rendezvous, onion_address
from perfd.tor.events.streams import LiveStream

Address = tuple[str, int]
"""An IP address and a port."""

MAX_JOINS = 1000
"""Measurements that wait for their stream at the same time."""


def address_of(text: str | None) -> Address | None:
    """Read the SOURCE_ADDR of a stream, ``ip:port`` or ``[ip]:port``; None if it is none (a socket file)."""
    host, _, port = (text or "").rpartition(":")
    if not port.isdigit() or len(port) > 5 or not port.isascii():
        return None
    return normal_address(host.strip("[]"), int(port))


def normal_address(host: str, port: int) -> Address | None:
    """The one form of an IP address, for comparison; None if ``host`` is none."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), port


class Join:
    """A measurement's claim on the stream that comes from ``local``, from the monotonic stamp ``since`` on.

    ``build_timeout`` and ``cbt_set`` are what counted when the claim was made.
    """

    def __init__(
        self,
        local: Address | None,
        since: float,
        measurement: str | None = None,
        build_timeout: BuildTimeout | None = None,
        cbt_set: bool | None = None,
    ) -> None:
        self.local = local
        self.since = since
        self.measurement = measurement
        self.build_timeout = build_timeout
        self.cbt_set = cbt_set
        self.stream: LiveStream | None = None
        self.rendezvous: Rendezvous | None = None  # if it goes to an onion service
        self.is_unannounced = False  # tor was heard all the time, and told of no stream
        self._given_up = False
        self._is_lost = False  # the stream's end will not be told
        self._waiting: list[Deferred[None]] = []
        self._ending: list[Deferred[bool | None]] = []

    def bind(self, stream: LiveStream) -> None:
        """This is the stream."""
        self.stream = stream
        stream.measured, stream.measurement, stream.watcher = True, self.measurement, self._stream_ended
        address = onion_address(stream.target)
        if address is not None:
            self.rendezvous = Rendezvous(address, self.since if stream.new is None else stream.new, stream.user)

    @property
    def complete(self) -> bool:
        """Whether everything was told: the stream's end, and after it the last CIRC_BW of one of its circuits.

        Of one, because tor tells about all of them at the same time, but only about those with news.
        """
        if self._given_up:
            return True
        stream = self.stream
        if stream is None or stream.end is None:
            return False
        if stream.circuit is None or stream.circuit.over:
            return True
        return any(leg.bandwidth_at is not None and leg.bandwidth_at >= stream.end for leg in stream.legs)

    def conclude(self) -> None:
        """The connection is closed, and tor has had its time to tell of it."""
        self.is_unannounced = self.stream is None and not self._given_up

    def give_up(self) -> None:
        """Nothing more will be told."""
        self._given_up = True
        self._check()

    def when_complete(self) -> Deferred[None]:
        """Fires when ``complete``."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        self._check()
        return waiting

    def when_ended(self) -> Deferred[bool | None]:
        """Fires when tor has told the end of the stream: whether it ended because one side was done.

        False also if the control connection is lost before; None if nothing can be said.
        """
        ending: Deferred[bool | None] = Deferred()
        self._ending.append(ending)
        self._check_ended()
        return ending

    def told(self, source: str, tor: str, conflux: Iterable[LiveCircuit], anchor: Anchor | None = None) -> Joined:
        """What is known now; with the measurement's ``anchor`` its times are by the measurement's clock.

        ``conflux`` are the legs of the circuit's Conflux set that are known now; none if it has no set.
        """
        stream = self.stream
        if stream is None:
            return Joined(
                build_timeout=self.build_timeout, cbt_set=self.cbt_set, is_unannounced=self.is_unannounced
            )
        circuit, legs = stream.circuit, {leg.circ_id: leg for leg in (*stream.legs, *conflux)}
        epoch = (anchor or stream.anchor).epoch
        carried = [
            CarriedBy.of(legs[circ_id], stream.before.get(circ_id, (0, 0)), self.since, epoch)
            for circ_id in sorted(legs)
        ]
        return Joined(
            stream=stream.record(source, tor, anchor),
            circuit=None if circuit is None else circuit.record(source, tor, anchor),
            buildtimes=None if circuit is None else circuit.build_times(),
            legs=tuple(legs[circ_id].record(source, tor, anchor) for circ_id in sorted(legs)),
            carried=tuple(carried),
            build_timeout=self.build_timeout,
            cbt_set=self.cbt_set,
            hs={} if self.rendezvous is None else self.rendezvous.steps(circuit, stream.end, epoch),
        )

    def _stream_ended(self) -> None:
        if self.stream is None or self.stream.end is None:
            self._given_up = self._is_lost = True
        else:
            for leg in self.stream.legs:
                leg.watchers.append(self._check)
        self._check()

    def _check_ended(self) -> None:
        stream, ended_well = self.stream, None
        if stream is not None and stream.end is not None:
            ended_well = stream.failure_local is None
        elif self._is_lost:
            ended_well = False
        elif not self._given_up:
            return
        ending, self._ending = self._ending, []
        for deferred in ending:
            deferred.callback(ended_well)

    def _check(self) -> None:
        self._check_ended()
        if not self.complete:
            return
        for leg in self.stream.legs if self.stream is not None else ():
            if self._check in leg.watchers:
                leg.watchers.remove(self._check)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            if not deferred.called:
                deferred.callback(None)


class Joins:
    """The joins of one tor that somebody waits for, with their stream or still without."""

    def __init__(self) -> None:
        self._waiting: dict[Join, None] = {}  # claims that have not ended, the oldest first
        self._claims: dict[Address, Join] = {}  # those without a stream yet

    def add(self, join: Join) -> None:
        """Let ``join`` wait: in place of one from the same address, and of the oldest if there are too many."""
        if join.local is None:
            join.give_up()
            return
        older = self._claims.get(join.local)
        if older is None and len(self._waiting) >= MAX_JOINS:
            older = next(iter(self._waiting))
        if older is not None:
            self.release(older)
        self._waiting[join] = None
        self._claims[join.local] = join

    def release(self, join: Join) -> None:
        """Nobody waits for anything more about ``join``; what is known stays known."""
        join.give_up()
        self._waiting.pop(join, None)
        if join.local is not None and self._claims.get(join.local) is join:
            del self._claims[join.local]

    def release_all(self) -> None:
        """Nothing will be told of what waits."""
        for join in tuple(self._waiting):
            self.release(join)

    def bind(self, stamp: float, stream: LiveStream) -> None:
        """Give ``stream``, which was new at the monotonic ``stamp``, to the join that claims it, if any does."""
        address = address_of(stream.source_addr)
        join = None if address is None else self._claims.get(address)
        if address is not None and join is not None and stamp >= join.since:
            del self._claims[address]
            join.bind(stream)

    def rendezvous(self) -> list[Rendezvous]:
        """Those of the measurements whose streams live, or failed without a circuit: then the reason may follow."""
        found = ((join.rendezvous, join.stream) for join in self._waiting)
        return [way for way, stream in found if way and stream and (stream.end is None or stream.circuit is None)]


@attrs.frozen(kw_only=True)
class CarriedBy:
    """What one circuit carried since the measurement's stream came to it, in bytes of cells, and samples of it.

    Tor counts up to a second together, so a little of before may be in it.
    """

    circ_id: int
    read: int
    written: int
    samples: tuple[tuple[float, CircuitSample], ...]  # by their time; counted as ``read`` and ``written``

    @classmethod
    def of(
        cls, circuit: LiveCircuit, before: tuple[int, int], since: float, epoch: Callable[[float], float]
    ) -> CarriedBy:
        """What ``circuit`` did that had read and written ``before``."""
        read, written = before
        carried = circuit.carried
        return cls(
            circ_id=circuit.circ_id,
            read=carried.read - read,
            written=carried.written - written,
            samples=tuple(
                (
                    epoch(stamp),
                    attrs.evolve(sample, read=max(0, sample.read - read), written=max(0, sample.written - written)),
                )
                for stamp, sample in carried.samples(since)
            ),
        )


@attrs.frozen(kw_only=True)
class Joined:
    """What tor told about a measurement, by the measurement's own clock; None and empty if nothing.

    ``legs`` are all circuits of the Conflux set, the measurement's own among them. ``hs`` is how it reached an
    onion service: the keys of ``perfd.tor.events.rendezvous``, times in seconds since the epoch.
    ``is_unannounced``: tor told of no stream from our address, though it was listened to; so what answered there
    was something else. ``relays`` are those of the circuit's path, as far as the consensus has them.
    """

    stream: Stream | None = None
    circuit: Circuit | None = None
    buildtimes: tuple[float, ...] | None = None
    legs: tuple[Circuit, ...] = ()
    build_timeout: BuildTimeout | None = None  # in force when the measurement began
    cbt_set: bool | None = None
    is_unannounced: bool = False
    relays: tuple[RouterStatus | None, ...] = ()
    hs: Mapping[str, float | int | str] = attrs.Factory(dict)
    carried: tuple[CarriedBy, ...] = ()  # by each of ``legs``, or by the one circuit
    consensus: Consensus | None = None  # that tor had when the measurement was over

    @property
    def keys(self) -> dict[str, float | int | str]:
        """What a measurement's record has besides its fields."""
        consensus = self.consensus.keys if self.consensus is not None else {}
        return {**self.hs, **path_keys(self.relays), **self._by_leg(), **consensus}

    def _by_leg(self) -> dict[str, str]:
        """What each leg of a Conflux set carried, in the order of CONFLUX_CIRC_IDS."""
        if self.circuit is None or self.circuit.conflux_id is None:
            return {}
        return {
            "CONFLUXREAD": ",".join(str(leg.read) for leg in self.carried),
            "CONFLUXWRITTEN": ",".join(str(leg.written) for leg in self.carried),
        }


def tor_fields(joined: Joined) -> dict[str, Any]:
    """Tor's view as the arguments of ``Measurement``."""
    stream, circuit = joined.stream, joined.circuit
    fields: dict[str, Any] = {"cbt_set": joined.cbt_set}
    if joined.build_timeout is not None and circuit is None:
        fields |= {
            "timeout": joined.build_timeout.timeout_ms,
            "quantile": joined.build_timeout.cutoff_quantile,
        }
    if stream is not None:
        fields |= {"used_by": stream.stream_id, "used_at": stream.end}
    if circuit is None:
        return fields
    path = tuple(hop.fingerprint for hop in circuit.path)
    fields |= {
        "circ_id": circuit.circ_id,
        "launch": circuit.launch,
        "path": path or None,
        "buildtimes": joined.buildtimes,
        "guard": path[0] if path else None,
        "conflux": circuit.conflux_id is not None,
        "cc_ss": circuit.cc_ss,
        "cc_cwnd": circuit.cc_cwnd,
        "cc_rtt": circuit.cc_rtt,
        "cc_min_rtt": circuit.cc_min_rtt,
    }
    if circuit.conflux_id is not None:
        fields |= {
            "conflux_id": circuit.conflux_id,
            "conflux_circ_ids": tuple(str(leg.circ_id) for leg in joined.legs),
            "conflux_rtt": circuit.conflux_rtt,
        }
    # The timeout that counted for this circuit, which documents of circuits have too; None if it is not known.
    fields |= {"timeout": circuit.timeout, "quantile": circuit.quantile}
    if circuit.cbt_set is not None:
        fields["cbt_set"] = circuit.cbt_set
    return fields


def is_vague(errorcode: str) -> bool:
    """Whether a stream's end, as tor tells it, says more than what was seen at its SOCKS port.

    The codes of onion services (ExtendedErrors of the SOCKS port) say more than the stream's end does.
    """
    is_reply = errorcode.startswith("TOR/") and not errorcode.startswith("TOR/ONION_")
    return is_reply or errorcode in (Error.CLOSED, Error.RESET, Error.SOCKS)


def error_fields(joined: Joined) -> tuple[str, str] | None:
    """ERRORCODE (``TOR/END/MISC``) and its reason in words, if the stream failed inside Tor; None if not."""
    stream, circuit = joined.stream, joined.circuit
    if stream is None or stream.end is None or stream.failure_local is None:
        return None
    parts = ["TOR", stream.failure_local, *([stream.failure_remote] if stream.failure_remote else [])]
    words = f"tor's stream {stream.stream_id} ended with {stream.failure_local}"
    if stream.failure_remote:
        words += f", as the far end said with {stream.failure_remote}"
    if circuit is not None and circuit.failure_local:
        remote = f", by {circuit.failure_remote}" if circuit.failure_remote else ""
        words += f"; its circuit {circuit.circ_id} ended with {circuit.failure_local}{remote}"
    return "/".join(parts), words


UNANNOUNCED = (
    Error.NOSTREAM,
    "tor announced no stream from our address: the port that answered is not its SOCKS port, or our address is "
    "translated on the way to it",
)
"""ERRORCODE and reason of what seemed to go well but did not go through this tor."""
