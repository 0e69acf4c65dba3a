"""The results of one UTC day as an OnionPerf analysis document: which circuits and streams belong to it."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import attrs

from perfd.formats import onionperf_writer
from perfd.formats.errors import FormatError
from perfd.record import Circuit, Measurement, Stream
from perfd.store.reader import StoreReader, TorFilter
from perfd.store.rows import CIRCUITS, STREAMS

DAY = 86400.0
"""Seconds of a UTC day."""

PAGE = 2000
"""Circuits or streams that are read at a time."""

PART = 20_000
"""Pieces of JSON text, of some ten characters each, that are compressed at a time."""

Refuse = Callable[[Any, FormatError], object]

R = TypeVar("R")


def day_of(seconds: float) -> float:
    """The begin of the UTC day in which a time is."""
    return seconds // DAY * DAY


class Archivist:
    """Puts together the documents of single days, out of the database that ``reader`` reads."""

    def __init__(self, reader: StoreReader) -> None:
        self._reader = reader

    def analysis(self, source: str, start: float, runs: Iterable[Measurement], refuse: Refuse) -> bytes | None:
        """The document of ``runs``, all of ``source`` and of the day that begins at ``start``, compressed.

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
        return document(source, runs, list(circuits.values()), list(streams.values()), refuse)

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


def document(
    source: str, runs: list[Measurement], circuits: list[Circuit], streams: list[Stream], refuse: Refuse
) -> bytes | None:
    """The compressed document of the records that the format can hold; None if no run is left."""
    try:
        analysis = onionperf_writer.analysis(source, runs, circuits, streams)
    except FormatError:
        # One record must not cost all the others their publication: find out which it is.
        good_runs = [r for r in runs if _fits(r, refuse, lambda m: onionperf_writer.analysis(source, [m]))]
        good_circuits = [
            c for c in circuits if _fits(c, refuse, lambda c: onionperf_writer.analysis(source, (), [c]))
        ]
        good_streams = [
            s for s in streams if _fits(s, refuse, lambda s: onionperf_writer.analysis(source, (), (), [s]))
        ]
        if not good_runs:
            return None
        analysis = onionperf_writer.analysis(source, good_runs, good_circuits, good_streams)
    if not analysis["data"][source]["tgen"]["streams"]:
        return None
    return compressed(analysis)


def compressed(analysis: dict[str, Any]) -> bytes:
    """What ``onionperf_writer.dumps`` gives, without the whole text in memory, which may be far larger."""
    compressor = lzma.LZMACompressor()
    encoder = json.JSONEncoder(sort_keys=True, indent=2, separators=(",", ": "), allow_nan=False)
    texts = encoder.iterencode(analysis)
    pieces = [compressor.compress("".join(part).encode()) for part in iter(lambda: list(islice(texts, PART)), [])]
    return b"".join([*pieces, compressor.flush()])


def _fits(record: R, refuse: Refuse, write: Callable[[R], object]) -> bool:
    try:
        write(record)
    except FormatError as error:
        refuse(record, error)
        return False
    return True
