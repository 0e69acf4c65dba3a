"""What the fold of tor's events gives, and to whom."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from perfd.record import Circuit, Stream, TorEvent

MAX_WORDS = 200
"""Unknown words that are counted by name; further ones are counted together."""


class EventSink(Protocol):
    """Where the records go. What it raises is logged and counted."""

    def record_circuit(self, circuit: Circuit) -> None: ...

    def record_stream(self, stream: Stream) -> None: ...

    def record_event(self, event: TorEvent) -> None: ...


class NullEventSink:
    """Takes the records, and keeps none: for commands without a database."""

    def record_circuit(self, circuit: Circuit) -> None:
        pass

    def record_stream(self, stream: Stream) -> None:
        pass

    def record_event(self, event: TorEvent) -> None:
        pass


class EventCounts:
    """How many events came, and what was wrong with them."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()  # by name
        self.unparsed: Counter[str] = Counter()  # by name: not in the form of control-spec
        self.unknown: Counter[str] = Counter()  # by word: a name, status or purpose that control-spec has not
        self.unfinished = 0  # circuits and streams given out before their end was seen
        self.not_taken = 0  # records that the sink refused

    def count_unknown(self, word: str) -> None:
        self.unknown[word if word in self.unknown or len(self.unknown) < MAX_WORDS else "(others)"] += 1
