"""Retention: what this instance measured is deleted from the database when it is older than perfd.conf says.

Whole UTC days, in small transactions, so that the daemon's writer never waits long. What somebody imported stays,
also if it has our source's name. The file gets smaller too: see ``give_back``.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from perfd.store.database import transaction
from perfd.store.rows import CIRCUITS, CURVES, EVENTS, MEASUREMENTS, STREAMS, Table

BATCH = 500
"""Records that are deleted in one transaction, which takes some 20 ms."""

PAGES = 500
"""Pages of the file that are given back in one transaction."""

PAUSE = 0.05
"""Seconds between two transactions, in which others can write."""

SMALL = 64 << 20
"""Bytes of a database that is rewritten as a whole, which then takes less than a writer waits for the lock."""

INCREMENTAL = 2  # of PRAGMA auto_vacuum

Sleep = Callable[[float], object]


def delete_old(
    connection: sqlite3.Connection,
    source: str,
    measurements_before: float | None,
    events_before: float,
    curves_before: float,
    sleep: Sleep = time.sleep,
) -> dict[str, int]:
    """Delete what ``source`` measured before these times (None: keep all); how many records, by table."""
    deleted = {}
    limits: list[tuple[Table[Any], float | None]] = [(MEASUREMENTS, measurements_before), (CURVES, curves_before)]
    limits += [(table, events_before) for table in (CIRCUITS, STREAMS, EVENTS)]  # all documents were imported
    for table, before in limits:
        deleted[table.name] = 0 if before is None else _delete(connection, table, source, before, sleep)
    return deleted


# Only what this instance measured has a network, and only circuits and streams that it saw have ids such as
# SESSION-c5 (tor/fold.py): imported ones are hexadecimal digits.
_IMPORTED = {
    MEASUREMENTS.name: "network IS NULL",
    CIRCUITS.name: "id NOT LIKE '%-%'",
    STREAMS.name: "id NOT LIKE '%-%'",
    EVENTS.name: "FALSE",
    CURVES.name: "FALSE",
}


def _delete(connection: sqlite3.Connection, table: Table[Any], source: str, before: float, sleep: Sleep) -> int:
    # Goes on behind the last record each time, so that those which stay are not looked at again and again.
    place: tuple[float, str] = (-1e18, "")
    deleted = 0
    page = f"""
        SELECT {table.time}, id, source = ? AND NOT ({_IMPORTED[table.name]}) FROM {table.name}
        WHERE ({table.time}, id) > (?, ?) AND {table.time} < ? ORDER BY {table.time}, id LIMIT ?
    """
    while rows := connection.execute(page, (source, *place, before, BATCH)).fetchall():
        place = rows[-1][:2]
        ids = [(identity,) for _, identity, is_ours in rows if is_ours]
        if ids:
            with transaction(connection):
                connection.executemany(f"DELETE FROM {table.name} WHERE id = ?", ids)
            deleted += len(ids)
            sleep(PAUSE)
    return deleted


def give_back(connection: sqlite3.Connection, sleep: Sleep = time.sleep) -> int:
    """Give the free pages of the file back to the disk, a few at a time; how many bytes.

    SQLite can do that for databases that were made for it. One that was not is made so while it is small, by
    rewriting it. In a larger one, free pages stay, and are used for new records: it does not grow until they are
    used up.
    """
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    before = _pages(connection)
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != INCREMENTAL:
        if before * size > SMALL:
            return 0
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        connection.execute("VACUUM")
    while connection.execute("PRAGMA freelist_count").fetchone()[0]:
        left = _pages(connection)
        connection.executescript(f"PRAGMA incremental_vacuum({PAGES})")  # execute would stop at the first page
        if _pages(connection) >= left:
            break
        sleep(PAUSE)
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return int((before - _pages(connection)) * size)


def _pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA page_count").fetchone()[0])
