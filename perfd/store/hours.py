"""The tables of summaries: rows of ``hours``, and which are stale. ``perfd.summaries`` knows what they mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

COLUMNS = (
    *("hour", "source", "experiment", "type", "filesize", "variant", "outcomes", "errors", "last_success"),
    *("sizes", "samples", "arm"),
)

SELECT = f"SELECT {', '.join(COLUMNS)} FROM hours WHERE hour BETWEEN ? AND ?"
_INSERT = f"INSERT INTO hours ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"


def stale_hours(connection: sqlite3.Connection, first: int = 0, last: int = 2**62) -> list[int]:
    """The stale hours from ``first`` to ``last``, in order."""
    rows = connection.execute(
        "SELECT hour FROM stale_hours WHERE hour BETWEEN ? AND ? ORDER BY hour", (first, last)
    )
    return [hour for (hour,) in rows]


def delete_hour(connection: sqlite3.Connection, hour: int) -> None:
    """Forget the rows of an hour; it is not stale any more."""
    connection.execute("DELETE FROM hours WHERE hour = ?", (hour,))
    connection.execute("DELETE FROM stale_hours WHERE hour = ?", (hour,))


def insert_hours(connection: sqlite3.Connection, rows: Iterable[Sequence[Any]]) -> None:
    """Add rows, which have ``COLUMNS``."""
    connection.executemany(_INSERT, rows)
