"""The results of one UTC day as a document: which circuits and streams belong to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import attrs

from perfd.formats.errors import Refuse
from perfd.formats.outputs import Documents
from perfd.record import Measurement
from perfd.store.filters import TorFilter
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


class Archivist:
    """Puts together the documents of single days, out of the database that ``reader`` reads."""

    def __init__(self, reader: StoreReader) -> None:
        self._reader = reader

    def document(
        self, form: Documents, source: str, start: float, runs: Iterable[Measurement], refuse: Refuse
    ) -> bytes | None:
        """The document of ``runs``, all of ``source`` and of the day that begins at ``start``, in this form.

        With it go all circuits and streams that were first seen on that day, the streams that carried the runs
        beyond midnight, and the circuits of all these streams, so that every run finds its path in the document.
        ``refuse`` is called for each record that the format cannot hold. None if there is nothing to write.
        """
        runs = list(runs)
        streams = {
            stream.id: stream for stream in self._of_day(self._reader.streams, STREAMS.cursor, source, start)
        }
        for run in runs:
            if (run.end or run.start) >= start + DAY - 1.0:
                streams |= {stream.id: stream for stream in self._reader.streams_of(run.id)}
        circuits = {
            found.id: found for found in self._of_day(self._reader.circuits, CIRCUITS.cursor, source, start)
        }
        for stream in streams.values():
            if stream.circuit and stream.circuit not in circuits and (used := self._reader.circuit(stream.circuit)):
                circuits[used.id] = used
        return form.write(source, runs, list(circuits.values()), list(streams.values()), refuse)

    def _of_day(
        self,
        read: Callable[[TorFilter], list[R]],
        cursor: Callable[[R], tuple[float, str]],
        source: str,
        start: float,
    ) -> Iterator[R]:
        wanted = TorFilter(source=source, since=start, until=start + DAY, limit=PAGE, oldest_first=True)
        while page := read(wanted):
            yield from page
            wanted = attrs.evolve(wanted, after=cursor(page[-1]))
