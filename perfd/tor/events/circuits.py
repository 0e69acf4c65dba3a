"""A circuit while it lives: what its events told so far, and the record that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs

from perfd.clock import Anchor
from perfd.record import Circuit, Event, Hop
from perfd.tor.events.bandwidth import Carried
from perfd.tor.events.lines import (
    NO_CONGESTION,
    BuildTimeout,
    CircuitLine,
    Congestion,
    Relay,
    StreamLine,
    UnparsedError,
    status_lines,
)

STATUSES = frozenset(("LAUNCHED", "BUILT", "GUARD_WAIT", "EXTENDED", "FAILED", "CLOSED"))
CHANGES = frozenset(("PURPOSE_CHANGED", "CANNIBALIZED"))
PURPOSES = frozenset(
    (
        *("GENERAL", "TESTING", "CONTROLLER", "MEASURE_TIMEOUT", "PATH_BIAS_TESTING", "CIRCUIT_PADDING"),
        *("HS_CLIENT_INTRO", "HS_CLIENT_REND", "HS_SERVICE_INTRO", "HS_SERVICE_REND", "HS_CLIENT_HSDIR"),
        *("HS_SERVICE_HSDIR", "HS_VANGUARDS", "CONFLUX_UNLINKED", "CONFLUX_LINKED"),
    )
)
"""The words that tor 0.4.9 has for circuits; others are kept as well, and counted."""

CLIENT_PURPOSES = frozenset(("GENERAL", "CONFLUX_LINKED", "CONFLUX_UNLINKED", "HS_VANGUARDS"))
"""Circuits that a tor has ready for its clients."""

MAX_EVENTS = 200
"""Events kept of one circuit or stream; its end is always kept."""

MAX_AGE = 366 * 86400.0
"""Seconds that a circuit may have lived before it was first seen."""

_NO_FAILURES = frozenset((None, "NONE", "FINISHED", "REQUESTED", "IP_NOW_REDUNDANT"))
"""Reasons for which a circuit that was built is closed in the normal course of things."""


@attrs.define(eq=False)
class _Hop:
    relay: Relay
    built: float | None


@attrs.define(eq=False, kw_only=True)
class LiveCircuit:
    """A circuit as its events told it so far. All stamps are monotonic.

    A circuit that tor gave up (FAILED, TIMEOUT) ended then and was never built, as OnionPerf and metrics-lib count
    it, although tor may build it to the end to learn how long that takes; its events tell of that too.

    ``anchor`` was read when it was first seen, so that a step of the wall clock can shift its record as a whole but
    never bend a duration in it. ``created`` is for a circuit of which no LAUNCHED was seen: tor's own
    TIME_CREATED, in seconds since the epoch by tor's clock, and so not fit for differences with stamps.
    """

    id: str
    circ_id: int
    anchor: Anchor
    timeout: BuildTimeout | None = None  # in force when it was launched
    cbt_set: bool | None = None
    launch: float | None = None
    created: float | None = None
    built: float | None = None
    end: float | None = None
    timed_out: float | None = None  # tor has given it up, but may go on building it, to learn how long that takes
    status: str = ""
    purpose: str | None = None
    build_flags: tuple[str, ...] = ()
    hs_state: str | None = None
    rend_query: str | None = None
    user: str | None = None  # the SOCKS user name that it is for
    hops: list[_Hop] = attrs.field(factory=list)
    failure_local: str | None = None
    failure_remote: str | None = None
    conflux_id: str | None = None
    conflux_rtt: float | None = None
    hs_pow_effort: int | None = None
    events: list[tuple[float, str]] = attrs.field(factory=list)
    bandwidth: str | None = (
        None  # the last CIRC_BW; read when it is needed, because there may be thousands a second
    )
    bandwidth_at: float | None = None
    bandwidth_given: float | None = None  # when one was last given out as an event
    carried: Carried = attrs.field(factory=Carried)
    measured: int = 0  # measurements that use it now
    watchers: list[Callable[[], None]] = attrs.field(factory=list)  # called at the next CIRC_BW, and at the end

    def happened(self, stamp: float, line: CircuitLine) -> None:
        """A CIRC event."""
        if line.word == "LAUNCHED":
            self.launch = stamp
        elif line.word == "BUILT" and self.built is None and self.timed_out is None:
            self.built = stamp
        elif line.word in ("FAILED", "CLOSED"):
            if line.word == "FAILED" and line.reason == "TIMEOUT" and self.timed_out is None:
                self.timed_out = stamp
            else:
                self.end = stamp
            given_up = self.timed_out is not None and self.failure_local is not None
            if not given_up and (line.word == "FAILED" or line.reason not in _NO_FAILURES):
                self.failure_local, self.failure_remote = line.reason, line.remote_reason
        if self.timed_out is None or line.word == "FAILED":
            self.status = line.word
        self._update(line, stamp if line.word == "EXTENDED" else None)
        self._add_event(stamp, f"{line.purpose}:{line.word}")
        if line.word == "BUILT":
            self._add_onion_step(stamp, line)
        if line.word == "FAILED" and self.end is None:
            self._notify()

    def changed(self, stamp: float, line: CircuitLine) -> None:
        """A CIRC_MINOR event."""
        self._update(line, None)
        if line.word != "PURPOSE_CHANGED" or line.purpose != line.old_purpose:
            self._add_event(stamp, f"{line.word}:{line.purpose}")
        self._add_onion_step(stamp, line)

    def found(self, line: CircuitLine) -> None:
        """A line of circuit-status: what it is now, without a time.

        Tor may answer before it sends the events of what the answer shows. So of a circuit whose events are heard
        from its launch on, the hops are left to its EXTENDED events, which have their times.
        """
        if self.timed_out is None:
            self.status = line.word
        self._update(line, None, hops=self.launch is None)

    def bandwidth_came(self, stamp: float, text: str) -> None:
        """A CIRC_BW event: on the second leg of a Conflux set, tor 0.4.9 sends one with every cell."""
        self.bandwidth, self.bandwidth_at = text, stamp
        self.carried.came(stamp, text)
        if self.watchers:
            self._notify()

    def finished(self) -> None:
        """It has ended, or it is not known what becomes of it."""
        self._notify()

    @property
    def over(self) -> bool:
        """Whether it carries nothing any more: it has ended, or timed out."""
        return self.end is not None or self.timed_out is not None

    @property
    def congestion(self) -> Congestion:
        """What was last reported."""
        if self.bandwidth is None:
            return NO_CONGESTION
        try:
            return Congestion.parse(self.bandwidth)
        except UnparsedError:
            return NO_CONGESTION

    def record(self, source: str, tor: str, anchor: Anchor | None = None) -> Circuit:
        """The record of it as it is now, with the times by ``anchor`` if that is given."""
        epoch = (anchor or self.anchor).epoch
        congestion = self.congestion
        events = [Event(epoch(at), name) for at, name in self.events]
        if self.launch is None and self.created is not None:
            # Says that ``launch`` is tor's word, not our stamp.
            events.insert(0, Event(self.created, "TIME_CREATED"))
        return Circuit(
            id=self.id,
            source=source,
            tor=tor,
            circ_id=self.circ_id,
            launch=self.created if self.launch is None else epoch(self.launch),
            built=_or_none(epoch, self.built),
            end=_or_none(epoch, self.end if self.timed_out is None else self.timed_out),
            status=self.status,
            purpose=self.purpose,
            build_flags=self.build_flags,
            hs_state=self.hs_state,
            rend_query=self.rend_query,
            path=tuple(
                Hop(hop.relay.fingerprint, hop.relay.nickname, _or_none(epoch, hop.built)) for hop in self.hops
            ),
            failure_local=self.failure_local,
            failure_remote=self.failure_remote,
            timeout=self.timeout.timeout_ms if self.timeout else None,
            quantile=self.timeout.cutoff_quantile if self.timeout else None,
            cbt_set=self.cbt_set,
            conflux_id=self.conflux_id,
            conflux_rtt=self.conflux_rtt,
            cc_ss=congestion.slow_start,
            cc_cwnd=congestion.cwnd,
            cc_rtt=congestion.rtt,
            cc_min_rtt=congestion.min_rtt,
            events=tuple(events),
            hs_pow_effort=self.hs_pow_effort,
        )

    def build_times(self) -> tuple[float, ...] | None:
        """Seconds from the launch until each hop was reached; None unless all of it was seen."""
        stamps = [hop.built for hop in self.hops if hop.built is not None]
        if self.launch is None or not stamps or len(stamps) < len(self.hops):
            return None
        return tuple(round(stamp - self.launch, 6) for stamp in stamps)

    def _update(self, line: CircuitLine, extended: float | None, *, hops: bool = True) -> None:
        """Take what every line says. What a line leaves out stays: only FAILED and CLOSED have no CONFLUX_ID."""
        self.purpose = line.purpose or self.purpose
        self.build_flags = line.build_flags or self.build_flags
        self.hs_state = line.hs_state
        self.rend_query = line.rend_query or self.rend_query
        self.user = line.user if line.user is not None else self.user
        self.conflux_id = line.conflux_id or self.conflux_id
        self.conflux_rtt = line.conflux_rtt or self.conflux_rtt
        if line.hs_pow_effort is not None:
            self.hs_pow_effort = line.hs_pow_effort
        if self.created is None and line.time_created is not None:
            # Not if tor's clock is obviously not ours.
            age = self.anchor.wall - line.time_created
            self.created = line.time_created if -1.0 <= age <= MAX_AGE else None
        if hops and line.path:
            self._update_path(line.path, extended)

    def _update_path(self, path: Sequence[Relay], extended: float | None) -> None:
        """Take the relays of ``path`` that are new; the last was reached at ``extended``, unless it has a time."""
        known = 0
        for hop, relay in zip(self.hops, path, strict=False):
            if hop.relay.fingerprint != relay.fingerprint:
                break
            known += 1
        if known < len(path):
            self.hops[known:] = [_Hop(relay, None) for relay in path[known:]]
        last = self.hops[len(path) - 1]
        if last.built is None:
            last.built = extended

    def _add_event(self, stamp: float, name: str) -> None:
        if len(self.events) < MAX_EVENTS or self.end is not None:
            self.events.append((stamp, name))

    def _add_onion_step(self, stamp: float, line: CircuitLine) -> None:
        if line.hs_state is not None:
            query = f":{line.rend_query}" if line.rend_query else ""
            self._add_event(stamp, line.hs_state + query)

    def _notify(self) -> None:
        for watcher in tuple(self.watchers):
            watcher()


def idle_circuits(circuit_status: str, stream_status: str) -> list[int]:
    """Client circuits, by tor's two answers, that carry no stream, and neither does their Conflux set.

    While nothing is measured, those with a stream are in use by somebody else.
    """
    circuits: list[CircuitLine] = []
    used: set[int | None] = set()
    for line in status_lines(circuit_status, "circuit-status"):
        with suppress(UnparsedError):
            circuits.append(CircuitLine.parse(line))
    for line in status_lines(stream_status, "stream-status"):
        with suppress(UnparsedError):
            used.add(StreamLine.parse(line).circ_id)
    sets = {circuit.conflux_id for circuit in circuits if circuit.circ_id in used} - {None}
    return [
        circuit.circ_id
        for circuit in circuits
        if circuit.purpose in CLIENT_PURPOSES and circuit.circ_id not in used and circuit.conflux_id not in sets
    ]


def _or_none(epoch: Callable[[float], float], stamp: float | None) -> float | None:
    return None if stamp is None else epoch(stamp)
