"""Records into the database, all of them in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from perfd.record import Measurement
from perfd.store.database import transaction
from perfd.store.rows import MEASUREMENTS, Table

UNSTORABLE = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,  # a value of a type that SQLite has not, in Python 3.11
    sqlite3.ProgrammingError,  # and in 3.12
    OverflowError,
    ValueError,
    TypeError,
    AttributeError,
)
"""Errors that are the record's own: to try it again would be in vain."""

Entry = tuple[Table[Any], Any]


def insert_many(connection: sqlite3.Connection, measurements: Iterable[Measurement]) -> int:
    """Insert ``measurements`` in one transaction, or as a part of the one that is running.

    Those whose id is there already are passed over. Returns how many were new. Fastest with a few thousand at a
    time, ids that begin with the time, and ``database.prepare_for_bulk``. Raises sqlite3.Error, or ValueError
    and the like for a measurement that cannot be stored, and then none was inserted.
    """
    with transaction(connection):
        return connection.executemany(MEASUREMENTS.insert_new, map(MEASUREMENTS.row, measurements)).rowcount


def insert_all(connection: sqlite3.Connection, batch: Sequence[Entry]) -> None:
    """Insert the records of ``batch`` in one transaction. Raises sqlite3.Error, and what is in ``UNSTORABLE``."""
    with transaction(connection):
        for table, record in batch:
            connection.execute(table.insert, table.row(record))


def insert_each(connection: sqlite3.Connection, batch: Sequence[Entry]) -> list[tuple[Entry, str]]:
    """The same without those that can never be stored, which are returned with the reason. Raises sqlite3.Error."""
    rejected = []
    with transaction(connection):
        for table, record in batch:
            try:
                connection.execute(table.insert, table.row(record))
            except UNSTORABLE as error:
                rejected.append(((table, record), str(error)))
    return rejected
