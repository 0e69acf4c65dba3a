"""Measurements as tables, for other programs: CSV, JSON lines and Parquet. Of these, only JSON lines are read.

CSV and Parquet have the columns of the ``dictionary``. What is missing is empty (CSV) or null (Parquet). Times are
timestamps in UTC, in CSV as ISO 8601 has them, and lists are comma lists there. JSON lines have one object per
line, ``Measurement.as_dict``, and give back the same record.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib import import_module
from typing import Any, BinaryIO

from perfd.extras import how_to_get
from perfd.formats.dictionary import COLUMNS, Column, row
from perfd.formats.errors import Damage, FormatError, damage_of, shown
from perfd.formats.json_object import JsonObject
from perfd.formats.values import check_line
from perfd.record import FIELDS, Kind, Measurement, Outcome

GROUP = 5000
"""Rows of a group of a Parquet file, at least."""


class MissingLibraryError(Exception):
    """A library that is no part of a plain installation is needed; the message says how to install it."""


def json_line(measurement: Measurement) -> str:
    """A measurement as one JSON object, in a line."""
    return json.dumps(measurement.as_dict()) + "\n"


def read_json_lines(lines: Iterable[str], file: str = "") -> Iterator[Measurement | Damage]:
    """The measurements of JSON lines, and a report for each line that is none."""
    for number, line in enumerate(lines, 1):
        try:
            yield parse_json(line)
        except ValueError as error:
            yield damage_of(error, file, number)


def parse_json(line: str) -> Measurement:
    """What ``json_line`` was given. Members that are no field are passed over. Raises FormatError."""
    check_line(line)
    try:
        members = json.loads(line)
    except (ValueError, RecursionError):
        raise FormatError("the line is not JSON") from None
    if not isinstance(members, dict):
        raise FormatError("the line is not a JSON object")
    item = JsonObject(members)
    fields = {f.name: item.of_kind(f.name, f.kind) for f in FIELDS if members.get(f.name) is not None}
    for field in FIELDS:
        if field.required and field.name not in fields:
            raise item.wrong(field.name, "the member is missing")
        if isinstance(inner := fields.get(field.name), dict) and None in inner.values():
            raise item.wrong(field.name, "an object without null is expected")
    try:
        return Measurement(**fields | {"outcome": Outcome(fields["outcome"])})
    except ValueError:
        raise item.wrong("outcome", f"{shown(fields['outcome'])} is no outcome") from None


NAMES = tuple(column.name for column in COLUMNS)


def csv_header() -> str:
    """The first line of a CSV file."""
    return csv_texts(NAMES)


def csv_line(measurement: Measurement) -> str:
    """A measurement as a line of CSV (RFC 4180, but with plain line ends)."""
    return csv_row(_KINDS, row(measurement))


def csv_row(kinds: Iterable[Kind], cells: Iterable[Any]) -> str:
    """Values of these kinds as such a line."""
    found = zip(kinds, cells, strict=True)
    return csv_texts(["" if value is None else _TEXTS[kind](value) for kind, value in found])


def csv_texts(cells: Iterable[str]) -> str:
    """Texts as such a line."""
    return ",".join(['"' + cell.replace('"', '""') + '"' if _SPECIAL(cell) else cell for cell in cells]) + "\n"


_SPECIAL = re.compile('[,"\r\n]').search  # the csv module leaves a carriage return as it is


def timestamp(seconds: float) -> str:
    """A time as ISO 8601 has it, to the microsecond, in UTC."""
    whole, microseconds = divmod(round(seconds * 1e6), 1_000_000)
    return f"{_to_the_second(whole)}.{microseconds:06d}Z"


@lru_cache(maxsize=1024)  # the steps of a run are in few seconds
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_TEXTS: Mapping[Kind, Callable[[Any], str]] = {
    Kind.TEXT: lambda value: str(getattr(value, "value", value)),
    Kind.INT: str,
    Kind.FLOAT: repr,
    Kind.TIME: timestamp,
    Kind.BOOL: lambda value: "true" if value else "false",
    Kind.TEXTS: ",".join,
    Kind.FLOATS: lambda numbers: ",".join("" if number is None else repr(number) for number in numbers),
}

_KINDS = [column.kind for column in COLUMNS]


class _Sink(io.RawIOBase):
    """A file that is written in order, as pyarrow wants one: it asks where it is, which a pipe cannot say."""

    def __init__(self, opened: BinaryIO) -> None:
        super().__init__()
        self._opened = opened
        self._place = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._opened.write(data)
        self._place += len(data)
        return len(data)

    def tell(self) -> int:
        return self._place

    def flush(self) -> None:
        self._opened.flush()


def load_parquet() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet: large, and an extra that need not be there. Raises MissingLibraryError."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise MissingLibraryError(
            f"Parquet needs the library pyarrow, which is not installed: {how_to_get('parquet')}"
        ) from None


class ParquetWriter:
    """Writes a Parquet file (zstd) in groups of rows. ``columns`` have unit and description.

    Raises MissingLibraryError if pyarrow is not installed.
    """

    def __init__(self, opened: BinaryIO, columns: Sequence[Column] = COLUMNS) -> None:
        self._pyarrow, parquet = load_parquet()
        self._columns = columns
        self._schema = self._pyarrow.schema(list(map(self._field, columns)))
        self._writer = parquet.ParquetWriter(_Sink(opened), self._schema, compression="zstd")
        self._waiting: list[Any] = []  # parts of the next group

    def write(self, measurements: Iterable[Measurement]) -> None:
        """Add the rows of measurements."""
        self.write_rows(list(map(row, measurements)))

    def write_rows(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows, with a value for each of the columns."""
        if not rows:
            return
        arrays = [
            self._pyarrow.array(_CELLS[column.kind](values), type=field.type)
            for column, values, field in zip(self._columns, zip(*rows, strict=True), self._schema, strict=True)
        ]
        self._waiting.append(self._pyarrow.RecordBatch.from_arrays(arrays, schema=self._schema))
        if sum(batch.num_rows for batch in self._waiting) >= GROUP:
            self._write_group()

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        if self._waiting:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        self._writer.write_table(self._pyarrow.Table.from_batches(self._waiting, schema=self._schema))
        self._waiting = []

    def _field(self, column: Column) -> Any:
        metadata = {"description": column.doc} | ({"unit": column.unit} if column.unit else {})
        return self._pyarrow.field(column.name, self._type(column.kind), metadata=metadata)

    def _type(self, kind: Kind) -> Any:
        arrow = self._pyarrow
        return {
            Kind.TEXT: arrow.string(),
            Kind.INT: arrow.int64(),
            Kind.FLOAT: arrow.float64(),
            Kind.TIME: arrow.timestamp("us", tz="UTC"),
            Kind.BOOL: arrow.bool_(),
            Kind.TEXTS: arrow.list_(arrow.string()),
            Kind.FLOATS: arrow.list_(arrow.float64()),
        }[kind]


def _microseconds(times: Iterable[float | None]) -> list[int | None]:
    return [None if seconds is None else round(seconds * 1e6) for seconds in times]


_CELLS: Mapping[Kind, Callable[[Iterable[Any]], Iterable[Any]]] = {
    **dict.fromkeys(Kind, list),
    Kind.TEXT: lambda texts: [None if text is None else str(getattr(text, "value", text)) for text in texts],
    Kind.TIME: _microseconds,
}
"""What the values of a column are for pyarrow."""
