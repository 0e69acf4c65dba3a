"""Curves as tables, for other programs: CSV and Parquet with a row for each sample, JSON lines with one for each
curve.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO

import attrs

from perfd.formats.dictionary import BYTES, RATE, SECONDS, Column
from perfd.formats.table import ParquetWriter, csv_row, csv_texts
from perfd.record import Curve, Kind

_OF_SAMPLES = (
    ("seconds", Kind.FLOAT, SECONDS, "when it was, from at on"),
    ("payload", Kind.INT, BYTES, "arrival: bytes of the payload that had come"),
    ("rtt", Kind.FLOAT, SECONDS, "the smoothed round-trip time"),
    ("rttvar", Kind.FLOAT, SECONDS, "tcp: its mean deviation"),
    ("min_rtt", Kind.FLOAT, SECONDS, "the smallest round-trip time"),
    ("retransmits", Kind.INT, "segments", "tcp: segments that had been sent again"),
    ("cwnd", Kind.INT, "", "the congestion window: of tcp in segments, of a circuit in cells"),
    ("delivery_rate", Kind.FLOAT, RATE, "tcp: the delivery rate"),
    ("read", Kind.INT, BYTES, "circuit: bytes of cells that it had brought since the stream came to it"),
    ("written", Kind.INT, BYTES, "circuit: bytes of cells that it had taken"),
    ("slow_start", Kind.INT, "", "circuit: 1 in slow start, else 0"),
    ("xoff_sent", Kind.INT, "", "flow: XOFF of the stream that tor had sent"),
    ("xon_sent", Kind.INT, "", "flow: XON that it had sent"),
    ("xoff_received", Kind.INT, "", "flow: XOFF that it had received"),
    ("xon_received", Kind.INT, "", "flow: XON that it had received"),
)


def _in_row(place: int, row: tuple[Any, ...]) -> Any:
    return row[place]


COLUMNS: tuple[Column, ...] = tuple(
    Column(name, kind, unit, doc, partial(_in_row, place))
    for place, (name, kind, unit, doc) in enumerate(
        (
            ("measurement", Kind.TEXT, "", "the id of the measurement"),
            ("source", Kind.TEXT, "", "the name of the instance"),
            ("at", Kind.TIME, "", "when the measurement started"),
            ("curve", Kind.TEXT, "", "what is shown: arrival, tcp-server, tcp-client, circuit-N or flow"),
            *_OF_SAMPLES,
        )
    )
)
"""Those of CSV and Parquet; a curve has values in some of them."""

_PLACES = {name: place for place, (name, *_) in enumerate(_OF_SAMPLES)}


def rows(curve: Curve) -> Iterator[tuple[Any, ...]]:
    """A row for each sample. A column that this version does not know is left out."""
    places = [_PLACES.get(name) for name in curve.columns]
    for sample in curve.samples:
        cells: list[Any] = [None] * len(_OF_SAMPLES)
        for place, value in zip(places, sample, strict=False):
            if place is not None:
                cells[place] = value
        yield (curve.measurement, curve.source, curve.at, curve.name, *cells)


def json_line(curve: Curve) -> str:
    """A curve as one JSON object, in a line."""
    return json.dumps(attrs.asdict(curve)) + "\n"


def csv_header() -> str:
    """The first line of a CSV file."""
    return csv_texts([column.name for column in COLUMNS])


def csv_lines(curve: Curve) -> str:
    """The samples of a curve as lines of CSV."""
    kinds = [column.kind for column in COLUMNS]
    return "".join(csv_row(kinds, row) for row in rows(curve))


class CurveParquetWriter:
    """Writes a Parquet file of curves. Without ``close`` it is not whole."""

    def __init__(self, opened: BinaryIO) -> None:
        self._writer = ParquetWriter(opened, COLUMNS)

    def write(self, curves: Iterable[Curve]) -> None:
        """Add the samples of curves."""
        self._writer.write_rows([row for curve in curves for row in rows(curve)])

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        self._writer.close()
