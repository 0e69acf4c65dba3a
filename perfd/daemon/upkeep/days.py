"""The results of one UTC day as a document: which circuits and streams belong to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import TypeVar

import attrs

from perfd.formats.errors import Refuse
from perfd.formats.outputs import Documents
from perfd.record import Measurement
from perfd.store.filters import Filter, TorFilter
from perfd.store.reader import StoreReader
from perfd.store.rows import CIRCUITS, STREAMS

DAY = 86400.0
"""Seconds of a UTC day."""

PAGE = 2000
"""Circuits or streams that are read at a time."""

R = TypeVar("R")


def day_of(seconds: float) -> float:
    """The begin of the UTC day in which a time is."""
    return seconds // DAY * DAY


@attrs.frozen
class Span:
    """The time from ``since`` until before ``until``."""

    since: float
    until: float


class Archivist:
    """Puts together the documents of single days, out of the database that ``reader`` reads."""

    def __init__(self, reader: StoreReader) -> None:
        self._reader = reader

    def document(
        self,
        form: Documents,
        source: str,
        start: float,
        runs: Iterable[Measurement],
        refuse: Refuse,
        span: Span | None = None,
    ) -> bytes | None:
        """The document of ``runs``, all of ``source`` and of the day that begins at ``start``, in this form.

        With it go all circuits and streams that were first seen on that day (or in ``span``), the streams that
        carried the runs beyond midnight, and the circuits of all these streams, so that every run finds its path in
        the document. ``refuse`` is called for each record that the format cannot hold. None if there is nothing to
        write.
        """
        runs = list(runs)
        span = span or Span(start, start + DAY)
        streams = {stream.id: stream for stream in self._seen(self._reader.streams, STREAMS.cursor, source, span)}
        for run in runs:
            if (run.end or run.start) >= start + DAY - 1.0:
                streams |= {stream.id: stream for stream in self._reader.streams_of(run.id)}
        circuits = {found.id: found for found in self._seen(self._reader.circuits, CIRCUITS.cursor, source, span)}
        for stream in streams.values():
            if stream.circuit and stream.circuit not in circuits and (used := self._reader.circuit(stream.circuit)):
                circuits[used.id] = used
        day = self._reader.document(source, start)
        return form.write(source, runs, list(circuits.values()), list(streams.values()), day, refuse)

    def span(self, source: str, start: float) -> Span:
        """The day that begins at ``start`` and the days around it without runs: up to the next with runs, and if
        there is none before, from the beginning.

        In OnionPerf's documents are circuits of the evening before and of the night after, which belong to no other
        day if that alone was imported.
        """
        before = self._reader.measurements(Filter(source=source, until=start, limit=1))
        after = self._reader.measurements(Filter(source=source, since=start + DAY, limit=1, oldest_first=True))
        return Span(start if before else 0.0, day_of(after[0].start) if after else inf)

    def _seen(
        self,
        read: Callable[[TorFilter], list[R]],
        cursor: Callable[[R], tuple[float, str]],
        source: str,
        span: Span,
    ) -> Iterator[R]:
        wanted = TorFilter(source=source, since=span.since, until=span.until, limit=PAGE, oldest_first=True)
        while page := read(wanted):
            yield from page
            wanted = attrs.evolve(wanted, after=cursor(page[-1]))
