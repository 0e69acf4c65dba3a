"""A file of OnionPerf's: the analysis document of one source and UTC day, compressed with xz."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

from perfd.formats.errors import FormatError, Refuse
from perfd.formats.onionperf_writer import analysis
from perfd.record import Circuit, Document, Measurement, Stream

PART = 20_000
"""Pieces of JSON text, of some ten characters each, that are compressed at a time."""

R = TypeVar("R")


def write(
    source: str,
    runs: list[Measurement],
    circuits: list[Circuit],
    streams: list[Stream],
    day: Document | None,
    refuse: Refuse,
) -> bytes | None:
    """The compressed document of the records that the format can hold; None if no run is left."""
    try:
        content = analysis(source, runs, circuits, streams, day)
    except FormatError:
        # One record must not cost all the others their publication: find out which it is.
        good_runs = [r for r in runs if _fits(r, refuse, lambda m: analysis(source, [m]))]
        good_circuits = [c for c in circuits if _fits(c, refuse, lambda c: analysis(source, (), [c]))]
        good_streams = [s for s in streams if _fits(s, refuse, lambda s: analysis(source, (), (), [s]))]
        if not good_runs:
            return None
        content = analysis(source, good_runs, good_circuits, good_streams, day)
    if not content["data"][source]["tgen"]["streams"]:
        return None
    return compressed(content)


def compressed(content: dict[str, Any]) -> bytes:
    """What ``dumps`` gives, without the whole text in memory, which may be far larger."""
    compressor = lzma.LZMACompressor()
    encoder = json.JSONEncoder(sort_keys=True, indent=2, separators=(",", ": "), allow_nan=False)
    texts = encoder.iterencode(content)
    pieces = [compressor.compress("".join(part).encode()) for part in iter(lambda: list(islice(texts, PART)), [])]
    return b"".join([*pieces, compressor.flush()])


def _fits(record: R, refuse: Refuse, write: Callable[[R], object]) -> bool:
    try:
        write(record)
    except FormatError as error:
        refuse(record, error)
        return False
    return True
