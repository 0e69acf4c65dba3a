"""``EventFold``: makes records of circuits and streams out of tor's events, without any I/O.

It is fed with (monotonic stamp, name of the event, its text) and with tor's answers to ``GETINFO circuit-status``
and ``stream-status``, and gives finished records to an ``EventSink``. What it does not understand is counted, and
given on as it came; nothing that tor says makes it raise.

The wall clock is read once for each circuit, stream and event, when it is first seen, as it is for a measurement:
so a step of the wall clock never bends a duration, and does not stay in the records for as long as a control
connection lives.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from twisted.logger import Logger

from perfd.clock import Anchor
from perfd.record import TorEvent, new_id
from perfd.tor.events import circuits, streams
from perfd.tor.events.circuits import LiveCircuit
from perfd.tor.events.conflux import ConfluxSets
from perfd.tor.events.join import Join, Joined, Joins, normal_address
from perfd.tor.events.lines import (
    BuildTimeout,
    CircuitLine,
    DescriptorLine,
    GuardLine,
    StreamLine,
    UnparsedError,
    status_lines,
)
from perfd.tor.events.rendezvous import INTRO, REND
from perfd.tor.events.sink import EventCounts, EventSink
from perfd.tor.events.streams import LiveStream

R = TypeVar("R")

MAX_LIVE = 2000
"""Circuits, and streams, that are followed at the same time. Beyond, the oldest are given out as they are."""

MAX_ENDED = 10_000
"""Numbers of circuits, and of streams, that are remembered after they were given out."""

TIMEOUT_PATIENCE = 5.0
"""Seconds for tor to say that it goes on building a circuit that timed out: it says so in the same breath."""

BANDWIDTH_INTERVAL = 0.9
"""Seconds between two CIRC_BW of a circuit that are given on: tor's own interval is 1 s, but see ``circuits``."""

GUARD_STATUSES = frozenset(("NEW", "UP", "DOWN", "BAD", "GOOD", "DROPPED", "BAD_L2", "GOOD_L2"))
TIMEOUT_TYPES = frozenset(("COMPUTED", "RESET", "SUSPENDED", "DISCARD", "RESUME"))
DESCRIPTOR_ACTIONS = frozenset(("REQUESTED", "UPLOAD", "RECEIVED", "UPLOADED", "IGNORE", "FAILED", "CREATED"))

_SECRET = re.compile(r"^(\S*(?:Password|Authenticator|HidServAuth)|Bridge)=.+", re.MULTILINE | re.IGNORECASE)


class EventFold:
    """The circuits and streams of one tor. ``anchor`` reads both clocks, as ``Clock.anchor`` does."""

    _log = Logger()

    def __init__(self, *, source: str, tor: str, sink: EventSink, anchor: Callable[[], Anchor]) -> None:
        self.counts = EventCounts()
        self.build_timeout: BuildTimeout | None = None
        self.cbt_set: bool | None = None  # whether tor has learnt its circuit build timeout; None: not known yet
        self._source = source
        self._tor = tor
        self._sink = sink
        self._anchor = anchor
        self._session = new_id()[:16]
        self._circuits: dict[str, LiveCircuit] = {}  # by tor's id, the oldest first
        self._streams: dict[int, LiveStream] = {}  # by tor's id, the oldest first
        self._conflux = ConfluxSets()
        self._timed_out: dict[LiveCircuit, None] = {}  # those of which it is not known whether tor goes on
        self._ended_circuits: dict[int, None] = {}  # tor's ids of those that were given out, the oldest first
        self._ended_streams: dict[int, None] = {}
        self._joins = Joins()
        self._folds: dict[str, Callable[[float, str], None]] = {
            "CIRC": self._circuit_happened,
            "CIRC_MINOR": self._circuit_changed,
            "CIRC_BW": self._circuit_bandwidth,
            "STREAM": self._stream_happened,
            "STREAM_BW": self._stream_bandwidth,
            "BUILDTIMEOUT_SET": self._build_timeout_set,
            "GUARD": self._guard_changed,
            "HS_DESC": self._descriptor_happened,
            "CONF_CHANGED": self._configuration_changed,
        }

    # Feeding.

    def begin(self) -> None:
        """What follows is said by another tor process: no circuit of the one before lives any more."""
        self.lose()
        self._session = new_id()[:16]
        self._ended_circuits.clear()
        self._ended_streams.clear()
        self.build_timeout, self.cbt_set = None, None

    def pause(self) -> None:
        """The control connection is lost: nothing is told of what waits, but the tor may still be the same."""
        for stream in tuple(self._streams.values()):
            if stream.measured:
                self._finish_stream(stream)
        self._joins.release_all()

    def lose(self) -> None:
        """Give out all that lives as it is: its end will not be told. To be called when Perfd stops, too."""
        self.pause()
        for stream in tuple(self._streams.values()):
            self._finish_stream(stream)
        for circuit in tuple(self._circuits.values()):
            self._finish_circuit(circuit)

    def event(self, stamp: float, keyword: str, text: str) -> None:
        """An event that arrived at the monotonic ``stamp``. Never raises, whatever it says."""
        self.counts.seen[keyword] += 1
        fold = self._folds.get(keyword)
        if fold is None:
            self.give_event(keyword, text, stamp)
            return
        try:
            fold(stamp, text)
        except UnparsedError:
            self.counts.unparsed[keyword] += 1
            self.give_event(keyword, text, stamp)

    def circuit_status(self, text: str, *, whole: bool = False) -> None:
        """Tor's answer to ``GETINFO circuit-status``.

        On a new connection (``whole``) a circuit that is not in it has ended unseen. Later it may be one that tor
        is about to close, and its CLOSED still comes.
        """
        found = set()
        for line in status_lines(text, "circuit-status"):
            try:
                parsed = CircuitLine.parse(line)
            except UnparsedError:
                self.counts.unparsed["circuit-status"] += 1
                continue
            circuit = self._circuit(parsed.circ_id)
            if circuit is None:
                continue
            circuit.found(parsed)
            self._note_circuit(circuit, parsed)
            found.add(circuit)
        for circuit in [circuit for circuit in self._circuits.values() if whole and circuit not in found]:
            self._finish_circuit(circuit)

    def stream_status(self, text: str) -> None:
        """Tor's answer to ``GETINFO stream-status`` on a new connection: what is not in it has ended unseen."""
        found = set()
        for line in status_lines(text, "stream-status"):
            try:
                parsed = StreamLine.parse(line)
            except UnparsedError:
                self.counts.unparsed["stream-status"] += 1
                continue
            stream = self._stream(parsed.stream_id)
            if stream is None:
                continue
            stream.found(parsed, self._circuit_of(parsed))
            found.add(stream)
        for stream in [stream for stream in self._streams.values() if stream not in found]:
            self._finish_stream(stream)

    # Joining.

    def join(self, local: tuple[str, int], since: float, measurement: str | None = None) -> Join:
        """Claim the next new stream from ``local``, at or after the monotonic ``since``, for a measurement."""
        join = Join(normal_address(*local), since, measurement, self.build_timeout, self.cbt_set)
        self._joins.add(join)
        return join

    def release(self, join: Join) -> None:
        """Nobody waits for anything more about ``join``; what is known stays known."""
        self._joins.release(join)

    def joined(self, join: Join, anchor: Anchor | None = None) -> Joined:
        """What is known now; with the measurement's ``anchor`` its times are by the measurement's clock."""
        circuit = None if join.stream is None else join.stream.circuit
        legs = () if circuit is None else self._conflux.legs(circuit.conflux_id)
        return join.told(self._source, self._tor, legs, anchor)

    # Circuits.

    def _circuit_happened(self, stamp: float, text: str) -> None:
        self._end_timed_out(stamp)
        line = CircuitLine.parse(text)
        if line.word not in circuits.STATUSES:
            self.counts.count_unknown(f"CIRC {line.word}")
        circuit = self._circuit(line.circ_id)
        if circuit is None:
            return
        if line.word == "LAUNCHED":
            circuit.timeout, circuit.cbt_set = self.build_timeout, self.cbt_set
        circuit.happened(stamp, line)
        self._note_circuit(circuit, line)
        if line.word == "BUILT" and self.cbt_set is None and circuit.launch is not None and len(circuit.hops) >= 3:
            # Tor takes the time of each such circuit before it calls it built, and tells the timeout each time, as
            # soon as it has learnt one.
            self.cbt_set = False
        if circuit.end is not None:
            self._finish_circuit(circuit)
        elif line.word == "FAILED":
            self._timed_out[circuit] = None

    def _circuit_changed(self, stamp: float, text: str) -> None:
        line = CircuitLine.parse(text)
        if line.word not in circuits.CHANGES:
            self.counts.count_unknown(f"CIRC_MINOR {line.word}")
        circuit = self._circuit(line.circ_id)
        if circuit is None:
            return
        circuit.changed(stamp, line)
        self._note_circuit(circuit, line)
        if line.purpose == "MEASURE_TIMEOUT":
            self._timed_out.pop(circuit, None)

    def _circuit_bandwidth(self, stamp: float, text: str) -> None:
        # The quickest of all: see LiveCircuit.bandwidth_came.
        if not text.startswith("ID="):
            raise UnparsedError("no ID")
        circuit = self._circuits.get(text[3 : text.find(" ", 3)])
        if circuit is None:
            return
        circuit.bandwidth_came(stamp, text)
        if circuit.measured and stamp - (circuit.bandwidth_given or 0.0) >= BANDWIDTH_INTERVAL:
            circuit.bandwidth_given = stamp
            self.give_event("CIRC_BW", text, stamp)

    def _end_timed_out(self, stamp: float) -> None:
        """Finish those circuits whose FAILED was all: tor has not said that it goes on with them."""
        for circuit in tuple(self._timed_out):
            if circuit.timed_out is not None and stamp - circuit.timed_out < TIMEOUT_PATIENCE:
                return
            self._finish_circuit(circuit)

    def _circuit(self, circ_id: int) -> LiveCircuit | None:
        """The circuit that tor calls so, perhaps a new one; None if it was given out already."""
        key = str(circ_id)
        circuit = self._circuits.get(key)
        if circuit is None:
            if circ_id in self._ended_circuits:
                return None
            if len(self._circuits) >= MAX_LIVE:
                self._finish_circuit(next(iter(self._circuits.values())))
            circuit = LiveCircuit(id=f"{self._session}-c{circ_id}", circ_id=circ_id, anchor=self._anchor())
            self._circuits[key] = circuit
        return circuit

    def _note_circuit(self, circuit: LiveCircuit, line: CircuitLine) -> None:
        if line.purpose is not None and line.purpose not in circuits.PURPOSES:
            self.counts.count_unknown(f"CIRC PURPOSE={line.purpose}")
        self._conflux.note(circuit)
        if circuit.purpose in (INTRO, REND):
            for rendezvous in self._joins.rendezvous():
                rendezvous.circuit_happened(circuit)

    def _finish_circuit(self, circuit: LiveCircuit) -> None:
        del self._circuits[str(circuit.circ_id)]
        _remember(circuit.circ_id, self._ended_circuits)
        if circuit in self._timed_out:
            del self._timed_out[circuit]
            circuit.end = circuit.timed_out
        self._conflux.ended(circuit, self._circuits)
        if circuit.end is None:
            self.counts.unfinished += 1
        self._give(self._sink.record_circuit, circuit.record(self._source, self._tor))
        circuit.finished()

    # Onion services.

    def _descriptor_happened(self, stamp: float, text: str) -> None:
        line = DescriptorLine.parse(text)
        if line.action not in DESCRIPTOR_ACTIONS:
            self.counts.count_unknown(f"HS_DESC {line.action}")
        for rendezvous in self._joins.rendezvous():
            rendezvous.descriptor_happened(stamp, line)
        self.give_event("HS_DESC", text, stamp)

    # Streams.

    def _stream_happened(self, stamp: float, text: str) -> None:
        line = StreamLine.parse(text)
        if line.status not in streams.STATUSES:
            self.counts.count_unknown(f"STREAM {line.status}")
        if line.purpose is not None and line.purpose not in streams.PURPOSES:
            self.counts.count_unknown(f"STREAM PURPOSE={line.purpose}")
        stream = self._stream(line.stream_id)
        if stream is None:  # the CLOSED after a FAILED
            return
        before = stream.circuit
        stream.happened(stamp, line, self._circuit_of(line))
        if stream.new == stamp:
            self._joins.bind(stamp, stream)
        if stream.measured and stream.circuit is not before:
            self._use(stream)
        if stream.end is not None:
            self._finish_stream(stream)

    def _stream_bandwidth(self, stamp: float, text: str) -> None:
        stream_id = text.partition(" ")[0]
        if not stream_id.isascii() or not stream_id.isdigit() or len(stream_id) > 18:
            raise UnparsedError("no stream")
        stream = self._streams.get(int(stream_id))
        if stream is not None and stream.measured:
            self.give_event("STREAM_BW", text, stamp)

    def _stream(self, stream_id: int) -> LiveStream | None:
        """The stream that tor calls so, perhaps a new one; None if it was given out already."""
        stream = self._streams.get(stream_id)
        if stream is None:
            if stream_id in self._ended_streams:
                return None
            if len(self._streams) >= MAX_LIVE:
                self._finish_stream(next(iter(self._streams.values())))
            stream = LiveStream(id=f"{self._session}-s{stream_id}", stream_id=stream_id, anchor=self._anchor())
            self._streams[stream_id] = stream
        return stream

    def _circuit_of(self, line: StreamLine) -> LiveCircuit | None:
        return self._circuits.get(str(line.circ_id))

    def _use(self, stream: LiveStream) -> None:
        """Note the circuits that a measured stream uses now."""
        for leg in stream.legs:
            leg.measured -= 1
        circuit = stream.circuit
        stream.legs = () if circuit is None else self._conflux.legs(circuit.conflux_id) or (circuit,)
        for leg in stream.legs:
            if not leg.measured:
                leg.carried.begin()
            leg.measured += 1
            stream.before.setdefault(leg.circ_id, (leg.carried.read, leg.carried.written))

    def _finish_stream(self, stream: LiveStream) -> None:
        del self._streams[stream.stream_id]
        _remember(stream.stream_id, self._ended_streams)
        for leg in stream.legs:
            leg.measured -= 1
        if stream.end is None:
            self.counts.unfinished += 1
        self._give(self._sink.record_stream, stream.record(self._source, self._tor))
        stream.finished()

    # The rest.

    def _build_timeout_set(self, stamp: float, text: str) -> None:
        timeout = BuildTimeout.parse(stamp, text)
        if timeout.type not in TIMEOUT_TYPES:
            self.counts.count_unknown(f"BUILDTIMEOUT_SET {timeout.type}")
        self.build_timeout = timeout
        if timeout.type in ("COMPUTED", "RESET"):
            self.cbt_set = timeout.type == "COMPUTED"
        self.give_event("BUILDTIMEOUT_SET", text, stamp)

    def _guard_changed(self, stamp: float, text: str) -> None:
        line = GuardLine.parse(text)
        if line.status not in GUARD_STATUSES:
            self.counts.count_unknown(f"GUARD {line.status}")
        self.give_event("GUARD", text, stamp)

    def _configuration_changed(self, stamp: float, text: str) -> None:
        """Without the secrets: events are served to others."""
        self.give_event("CONF_CHANGED", _SECRET.sub(r"\1=(hidden)", text.removesuffix("OK").rstrip("\n")), stamp)

    def give_event(self, keyword: str, text: str, stamp: float) -> None:
        """Give on what is no circuit's and no stream's, as of the monotonic ``stamp``."""
        at = self._anchor().epoch(stamp)
        self._give(self._sink.record_event, TorEvent(at, self._source, self._tor, keyword, text))

    def _give(self, take: Callable[[R], None], record: R) -> None:
        try:
            take(record)
        except Exception:  # noqa: BLE001 - whatever it is, the next events must be folded
            self.counts.not_taken += 1
            if self.counts.not_taken == 1:
                self._log.failure("a record of tor's events was not taken; more are counted, not logged")


def _remember(number: int, ended: dict[int, None]) -> None:
    """Add to what ended; tor counts up, so what is forgotten in turn is not spoken of any more."""
    if len(ended) >= MAX_ENDED:
        del ended[next(iter(ended))]
    ended[number] = None
