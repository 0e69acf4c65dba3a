"""The formats that measurements are written in: the one table of ``perfd export``, of HTTP, of the archive.

A further format is a module that writes it, a line in ``names``, and a row here. Formats that are lines are served
at ``/results`` with the row's suffix too, or with its media type as ``Accept``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Protocol

import attrs

from perfd.formats import keyvalue, legacy, onionperf_file, onionperf_writer, published, table, torperf
from perfd.formats.errors import Refuse
from perfd.formats.names import FORMATS
from perfd.record import Circuit, Document, Measurement, Stream

Pieces = Iterator[tuple[str, str]]
"""Parts of text files, in order, each with the name of its file."""


@attrs.frozen
class Lines:
    """Text that is made of each measurement alone, so that it can be streamed.

    ``line`` gives it with its line end, and so many decimals of times if the format has a choice; it raises
    FormatError. ``filename`` divides a directory into files; without it there is one, named ``measurements``.
    """

    line: Callable[[Measurement, int], str]
    header: str = ""
    filename: Callable[[Measurement], str] | None = None


@attrs.frozen
class Files:
    """Several files of text that are written side by side, from measurements in order of their start."""

    pieces: Callable[[Iterable[Measurement], Refuse], Pieces]


@attrs.frozen
class Documents:
    """A file for each source and UTC day, with the circuits and streams of that day; None if it would be empty."""

    write: Callable[[str, list[Measurement], list[Circuit], list[Stream], Document | None, Refuse], bytes | None]


class GroupWriter(Protocol):
    """Takes a group of measurements at a time. Without ``close`` the file is not whole."""

    def write(self, measurements: Iterable[Measurement]) -> None: ...

    def close(self) -> None: ...


@attrs.frozen
class Table:
    """A single file that is not text, written in order."""

    open: Callable[[BinaryIO], GroupWriter]


@attrs.frozen(kw_only=True)
class Output:
    """A format: ``name`` for the command line, how files of it end, and a sentence about it.

    The readers of a ``plain`` format take everything in it for a plain download through Tor (see ``published``).
    The rows that are ``archived`` make up the published files, in the table's order.
    """

    name: str
    suffix: str
    media_type: str
    doc: str
    writer: Lines | Files | Documents | Table
    plain: bool = False
    archived: bool = False

    def left_out(self, measurement: Measurement, *, asked: bool = False) -> str | None:
        """Why the measurement does not go into this format; None if it does. ``asked``: its type was asked for."""
        return published.left_out(measurement, asked=asked) if self.plain else None

    def leaves_out(self, *, asked: bool = False) -> tuple[str, ...]:
        """What ``left_out`` can say."""
        if not self.plain:
            return ()
        return (published.SKIPPED,) if asked else (published.SKIPPED, published.CANCELLED, published.NOT_PLAIN)


OUTPUTS: tuple[Output, ...] = (
    Output(
        name="tpf",
        suffix=".tpf",
        media_type="text/plain",
        doc=FORMATS["tpf"],
        writer=Lines(torperf.annotated_line, filename=torperf.filename),
        plain=True,
        archived=True,
    ),
    Output(
        name="onionperf",
        suffix=onionperf_writer.SUFFIX,
        media_type="application/x-xz",
        doc=FORMATS["onionperf"],
        writer=Documents(onionperf_file.write),
        plain=True,
        archived=True,
    ),
    Output(
        name="data",
        suffix=".data",
        media_type="text/plain",
        doc=FORMATS["data"],
        writer=Files(legacy.pieces),
        plain=True,
    ),
    Output(
        name="log",
        suffix=".log",
        media_type="text/plain",
        doc=FORMATS["log"],
        writer=Lines(lambda measurement, _: keyvalue.line(measurement) + "\n"),
    ),
    Output(
        name="csv",
        suffix=".csv",
        media_type="text/csv",
        doc=FORMATS["csv"],
        writer=Lines(lambda measurement, _: table.csv_line(measurement), table.csv_header()),
    ),
    Output(
        name="json",
        suffix=".json",
        media_type="application/x-ndjson",
        doc=FORMATS["json"],
        writer=Lines(lambda measurement, _: table.json_line(measurement)),
    ),
    Output(
        name="parquet",
        suffix=".parquet",
        media_type="application/vnd.apache.parquet",
        doc=FORMATS["parquet"],
        writer=Table(table.ParquetWriter),
    ),
)


def named(name: str) -> Output:
    """The row of this name. Raises KeyError."""
    return {output.name: output for output in OUTPUTS}[name]
