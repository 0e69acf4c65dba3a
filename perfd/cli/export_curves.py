"""``perfd export --curves``: the curves of measurements, page by page, as CSV, JSON lines or Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from perfd.cli.destinations import Destinations, NoOutputError, is_standard_output, standard_output
from perfd.config import Config
from perfd.config.kinds import kind_of
from perfd.formats import curves
from perfd.record import Curve
from perfd.store.database import database_path
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader

FORMATS = ("csv", "json", "parquet")

GROUP = 200
"""Measurements whose curves are read at a time."""


def export_curves(config: Config, wanted: Filter, form: str, output: Path | None) -> int:
    """Write the curves of the wanted measurements, in one of FORMATS, to a file or standard output; gives 0.

    Raises StoreError, sqlite3.Error, OSError.
    """
    if form == "parquet" and output is None:
        raise NoOutputError("parquet is no text: give --output FILE.parquet, or --output - for a pipe")
    if output is not None and output.is_dir():
        output /= f"curves.{form}"
    with StoreReader(database_path(config.database, config.directory)) as reader, Destinations() as files:
        pages = _pages(reader, wanted)
        if output is None or is_standard_output(output):
            _write(form, pages, standard_output())
        else:
            with files.appending(output) as opened:
                _write(form, pages, opened)
    return 0


def _pages(reader: StoreReader, wanted: Filter) -> Iterator[list[Curve]]:
    for page in reader.pages(wanted, GROUP):
        # The parts of a series have records of their own, which come by themselves.
        series = [m.id for m in page if kind_of(m.type).parts]
        yield [*reader.curves_with_parts(*(m.id for m in page if m.id not in series)), *reader.curves_of(*series)]


def _write(form: str, pages: Iterator[list[Curve]], opened: BinaryIO) -> None:
    if form == "parquet":
        writer = curves.CurveParquetWriter(opened)
        for page in pages:
            writer.write(page)
        writer.close()
        return
    if form == "csv":
        opened.write(curves.csv_header().encode())
    line = curves.csv_lines if form == "csv" else curves.json_line
    opened.writelines(line(curve).encode() for curve in chain.from_iterable(pages))
