"""Printing records as CSV (RFC 4180), for spreadsheets and other programs: a column for each key."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perfd.formats.table import csv_header, csv_line
from perfd.record import Measurement


class CSV:
    """Records as CSV on standard output."""

    def __init__(self) -> None:
        self._columns: Sequence[str] | None = None

    def measurements(self, found: Iterable[Measurement]) -> None:
        """Print them, with the columns of ``perfd export --format csv``; the heading is printed once."""
        if self._columns is None:
            self._columns = ()
            sys.stdout.write(csv_header())
        for m in found:
            sys.stdout.write(csv_line(m))

    def records(self, found: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
        """Print them; without ``columns`` these are the keys of all. The heading is printed once.

        A mapping in a record becomes columns of its own, and a list is JSON.
        """
        flat = [_flat(record) for record in found]
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if self._columns is None:
            self._columns = columns or list(dict.fromkeys(key for record in flat for key in record))
            writer.writerow(self._columns)
        for record in flat:
            writer.writerow([_cell(record.get(key)) for key in self._columns])


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= {f"{key}_{inner}": each for inner, each in _flat(value).items()}
        else:
            found[key] = value
    return found


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list | dict):
        return json.dumps(value)
    return value
