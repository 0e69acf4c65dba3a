"""A stream while it lives: what its events told so far, and the record that is made of it."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from perfd.clock import Anchor
from perfd.record import Attach, Event, Stream
from perfd.tor.events.circuits import MAX_EVENTS, LiveCircuit
from perfd.tor.events.lines import StreamLine

STATUSES = frozenset(
    (
        *("NEW", "NEWRESOLVE", "REMAP", "SENTCONNECT", "SENTRESOLVE", "SUCCEEDED", "FAILED", "CLOSED", "DETACHED"),
        *("CONTROLLER_WAIT", "XOFF_SENT", "XOFF_RECV", "XON_SENT", "XON_RECV"),
    )
)
PURPOSES = frozenset(("DIR_FETCH", "DIR_UPLOAD", "DNS_REQUEST", "USER", "DIRPORT_TEST"))
"""The words that tor 0.4.9 has for streams; others are kept as well, and counted."""

MAX_ATTACHES = 100
"""Tries kept of one stream; tor gives up long before."""


@attrs.define(eq=False)
class _Attach:
    circ_id: int
    at: float
    detached: float | None = None
    reason: str | None = None
    remote_reason: str | None = None


def _is_failure(line: StreamLine) -> bool:
    """Whether the reason of a FAILED or CLOSED stream is another than that one side was done."""
    if line.status == "FAILED":
        return True
    reasons = (line.reason or "NONE", line.remote_reason or "DONE")
    return reasons not in (("NONE", "DONE"), ("DONE", "DONE"), ("END", "DONE"))


@attrs.define(eq=False, kw_only=True)
class LiveStream:
    """A stream as its events told it so far. All stamps are monotonic; ``anchor`` as for circuits."""

    id: str
    stream_id: int
    anchor: Anchor
    new: float | None = None
    end: float | None = None
    status: str = ""
    purpose: str | None = None
    target: str | None = None
    source_addr: str | None = None
    user: str | None = None  # the SOCKS user name
    measurement: str | None = None
    measured: bool = False  # it belongs to a measurement
    circuit: LiveCircuit | None = None  # the last one that it was attached to
    legs: tuple[LiveCircuit, ...] = ()  # of a measured one: that circuit and the other legs of its Conflux set
    before: dict[int, tuple[int, int]] = attrs.field(factory=dict)  # what these had read and written by then
    attaches: list[_Attach] = attrs.field(factory=list)
    failure_local: str | None = None
    failure_remote: str | None = None
    events: list[tuple[float, str]] = attrs.field(factory=list)
    watcher: Callable[[], None] | None = None  # called at its end

    def happened(self, stamp: float, line: StreamLine, circuit: LiveCircuit | None) -> None:
        """A STREAM event; ``circuit`` is the one that it names."""
        self._take(line)
        if line.status in ("NEW", "NEWRESOLVE"):
            self.new = stamp
        elif line.status in ("SENTCONNECT", "SENTRESOLVE"):
            self._detach(stamp, None, None)
            if line.circ_id is not None and len(self.attaches) < MAX_ATTACHES:
                self.attaches.append(_Attach(line.circ_id, stamp))
        elif line.status == "DETACHED":
            self._detach(stamp, line.reason, line.remote_reason)
        elif line.status in ("FAILED", "CLOSED"):
            self.end = stamp
            if _is_failure(line):
                self.failure_local, self.failure_remote = line.reason, line.remote_reason
        self.circuit = circuit or self.circuit
        if len(self.events) < MAX_EVENTS or self.end is not None:
            self.events.append((stamp, f"{self.purpose}:{line.status}"))

    def found(self, line: StreamLine, circuit: LiveCircuit | None) -> None:
        """A line of stream-status: what it is now, without a time."""
        self._take(line)
        self.circuit = circuit or self.circuit

    def finished(self) -> None:
        """It has ended, or it is not known what becomes of it."""
        if self.watcher is not None:
            self.watcher()

    def record(self, source: str, tor: str, anchor: Anchor | None = None) -> Stream:
        """The record of it as it is now, with the times by ``anchor`` if that is given."""
        epoch = (anchor or self.anchor).epoch
        return Stream(
            id=self.id,
            source=source,
            tor=tor,
            stream_id=self.stream_id,
            new=None if self.new is None else epoch(self.new),
            end=None if self.end is None else epoch(self.end),
            status=self.status,
            purpose=self.purpose,
            target=self.target,
            source_addr=self.source_addr,
            measurement=self.measurement,
            circuit=None if self.circuit is None else self.circuit.id,
            attaches=tuple(
                Attach(
                    attach.circ_id,
                    epoch(attach.at),
                    None if attach.detached is None else epoch(attach.detached),
                    attach.reason,
                    attach.remote_reason,
                )
                for attach in self.attaches
            ),
            failure_local=self.failure_local,
            failure_remote=self.failure_remote,
            events=tuple(Event(epoch(at), name) for at, name in self.events),
        )

    def _take(self, line: StreamLine) -> None:
        """Take what every line says. The target stays the one that was asked for, whatever tor remaps it to."""
        self.status = line.status
        self.purpose = self.purpose or line.purpose
        self.target = self.target or line.target
        self.source_addr = self.source_addr or line.source_addr
        self.user = line.user if self.user is None else self.user

    def _detach(self, stamp: float, reason: str | None, remote_reason: str | None) -> None:
        if self.attaches and self.attaches[-1].detached is None:
            attach = self.attaches[-1]
            attach.detached, attach.reason, attach.remote_reason = stamp, reason, remote_reason
