"""Measurements as tables, for other programs: CSV, JSON lines and Parquet. Of these, only JSON lines are read.

CSV and Parquet have the same columns: one for each of ``record.FIELDS`` that is a single value, named by its
key, then DATAPERCn and PARTIALn for the counts that Tor Metrics knows, then EXTRA, a JSON object with what belongs
to one type of experiment and with other counts. What is missing is empty (CSV) or null (Parquet). Times are seconds
since the epoch, UTC. JSON lines have one object per line, ``Measurement.as_dict``, and give back the same record.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from types import TracebackType
from typing import Any, BinaryIO

from perfd.formats.errors import Damage, FormatError, damage_of, shown
from perfd.formats.json_object import JsonObject
from perfd.formats.values import check_line
from perfd.record import DECILES, FIELDS, PARTIALS, Kind, Measurement, Outcome

_SINGLE = tuple(field for field in FIELDS if field.kind not in (Kind.TIMES, Kind.EXTRA))

COLUMNS: tuple[str, ...] = (
    *(field.key for field in _SINGLE),
    *(f"DATAPERC{n}" for n in DECILES),
    *(f"PARTIAL{n}" for n in PARTIALS),
    "EXTRA",
)
"""The columns of CSV and Parquet."""


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


def csv_header() -> str:
    """The first line of a CSV file."""
    return _csv_line(COLUMNS)


def csv_line(measurement: Measurement) -> str:
    """A measurement as a line of CSV (RFC 4180, but with plain line ends)."""
    row = zip(_KINDS, _row(measurement), strict=True)
    return _csv_line(["" if value is None else _TEXTS[kind](value) for kind, value in row])


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _row(m: Measurement) -> list[Any]:
    """The values of ``COLUMNS``."""
    row = [getattr(m, field.name) for field in _SINGLE]
    row += [m.dataperc.get(n) for n in DECILES]
    row += [m.partial.get(n) for n in PARTIALS]
    extra: dict[str, Any] = dict(m.extra)
    extra |= {f"DATAPERC{n}": at for n, at in m.dataperc.items() if n not in DECILES}
    extra |= {f"PARTIAL{n}": at for n, at in m.partial.items() if n not in PARTIALS}
    row.append(json.dumps(extra) if extra else None)
    return row


_KINDS: tuple[Kind, ...] = (
    *(field.kind for field in _SINGLE),
    *((Kind.TIME,) * (len(DECILES) + len(PARTIALS))),
    Kind.EXTRA,
)

_TEXTS: Mapping[Kind, Callable[[Any], str]] = {
    Kind.TEXT: lambda value: str(getattr(value, "value", value)),
    Kind.INT: str,
    Kind.FLOAT: repr,
    Kind.TIME: "{:.6f}".format,
    Kind.BOOL: lambda value: "1" if value else "0",
    Kind.TEXTS: ",".join,
    Kind.FLOATS: lambda numbers: ",".join(map(repr, numbers)),
    Kind.EXTRA: str,
}


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


class ParquetWriter:
    """Writes a Parquet file (zstd) a group of rows at a time; a context manager.

    Raises MissingLibraryError if pyarrow is not installed.
    """

    def __init__(self, opened: BinaryIO) -> None:
        try:
            pyarrow: Any = import_module("pyarrow")  # large, and an extra that need not be there
            parquet: Any = import_module("pyarrow.parquet")
        except ImportError:
            raise MissingLibraryError(
                "Parquet needs the library pyarrow, which is not installed: pip install 'perfd[parquet]'"
            ) from None
        types = {
            Kind.TEXT: pyarrow.string(),
            Kind.INT: pyarrow.int64(),
            Kind.FLOAT: pyarrow.float64(),
            Kind.TIME: pyarrow.float64(),
            Kind.BOOL: pyarrow.bool_(),
            Kind.TEXTS: pyarrow.list_(pyarrow.string()),
            Kind.FLOATS: pyarrow.list_(pyarrow.float64()),
            Kind.EXTRA: pyarrow.string(),
        }
        self._pyarrow = pyarrow
        self._schema = pyarrow.schema([(name, types[kind]) for name, kind in zip(COLUMNS, _KINDS, strict=True)])
        self._writer = parquet.ParquetWriter(_Sink(opened), self._schema, compression="zstd")

    def __enter__(self) -> ParquetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, measurements: Iterable[Measurement]) -> None:
        """Add a group of rows."""
        columns = list(zip(*map(_row, measurements), strict=True))
        columns[COLUMNS.index("OUTCOME")] = tuple(o.value for o in columns[COLUMNS.index("OUTCOME")])
        arrays = [
            self._pyarrow.array(column, type=field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(self._pyarrow.Table.from_arrays(arrays, schema=self._schema))
