"""The recorded control events of a real tor, and a sink that keeps what is made of them."""

from collections.abc import Iterator
from pathlib import Path

from perfd.clock import Anchor
from perfd.record import Circuit, Stream, TorEvent
from perfd.tor.events.fold import EventFold
from tests.support.places import DATA

RECORDING = DATA / "control-events.txt"
ONION_RECORDING = DATA / "onion-events.txt"

ANCHOR = Anchor(wall=1_795_436_480.0, monotonic=3653.0)
"""Close to the clocks of the recording."""


def recorded(recording: Path = RECORDING) -> Iterator[tuple[float | None, str, str]]:
    """Stamp (None: an answer to GETINFO), name and text of what was recorded."""
    for line in recording.read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            stamp, keyword, text = line.split(" ", 2)
            yield None if stamp == "-" else float(stamp), keyword, text.replace("\\n", "\n")


class MemoryEventSink:
    """Keeps all records."""

    def __init__(self) -> None:
        self.circuits: list[Circuit] = []
        self.streams: list[Stream] = []
        self.events: list[TorEvent] = []

    def record_circuit(self, circuit: Circuit) -> None:
        self.circuits.append(circuit)

    def record_stream(self, stream: Stream) -> None:
        self.streams.append(stream)

    def record_event(self, event: TorEvent) -> None:
        self.events.append(event)

    def circuit(self, circ_id: int) -> Circuit:
        (circuit,) = [circuit for circuit in self.circuits if circuit.circ_id == circ_id]
        return circuit

    def stream(self, stream_id: int) -> Stream:
        (stream,) = [stream for stream in self.streams if stream.stream_id == stream_id]
        return stream


def make_fold(sink: MemoryEventSink | None = None) -> EventFold:
    return EventFold(source="here", tor="default", sink=sink or MemoryEventSink(), anchor=lambda: ANCHOR)


def replay(fold: EventFold, since: float = 0.0, until: float = float("inf")) -> None:
    """Feed the recording; of the events those with stamps from ``since`` up to ``until``."""
    for stamp, keyword, text in recorded():
        if stamp is None:
            if keyword == "circuit-status" and not since:
                fold.circuit_status(text, whole=True)
            elif keyword == "stream-status" and not since:
                fold.stream_status(text)
        elif since <= stamp < until:
            fold.event(stamp, keyword, text)
