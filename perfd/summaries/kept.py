"""The hours in the database: read, and brought up to date.

The database itself marks an hour as stale in the same transaction in which a measurement of it is added, changed
or deleted, whoever does it. A stale hour is computed from its measurements until somebody summarizes it anew.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from perfd.reports.runs import FIELDS, RunReader
from perfd.store.database import transaction
from perfd.store.filters import Filter
from perfd.store.hours import delete_hour, insert_hours, stale_hours
from perfd.store.reader import StoreReader, rows_of
from perfd.store.schema import open_database
from perfd.summaries.hour import HOUR, Hour, hours_of

AT_ONCE = 24
"""Hours that are summarized in one transaction: others who want to write wait for it."""


def read_hours(
    reader: StoreReader, since: float, until: float, experiment: str | None = None, most_computed: int | None = None
) -> list[Hour]:
    """The hours that reach into [since, until), in the order of time.

    ``until`` need not be past: an hour that still goes on is stale, and so is computed. With ``most_computed`` only
    the last so many stale hours are computed, and the others left out: there may be a million measurements in them.
    """
    first, last = int(since / HOUR), math.ceil(until / HOUR) - 1
    read = RunReader()
    with reader.snapshot():
        stale = reader.stale_hours(first, last)
        computed = stale if most_computed is None else stale[max(0, len(stale) - most_computed) :]
        passed_over = set(stale)
        kept = map(Hour.of_row, reader.hours(first, last, experiment))
        found = [hour for hour in kept if hour.hour not in passed_over]
        for begin, end in _stretches(computed):
            wanted = Filter(since=begin * HOUR, until=(end + 1) * HOUR, experiment=experiment, requests=False)
            found += hours_of(map(read.run, reader.rows(FIELDS, wanted)))
    return sorted(found, key=lambda hour: hour.hour)


def summarize(
    path: Path, now: float, most: int | None = None, tell: Callable[[int, int], object] = lambda done, all_: None
) -> int:
    """Summarize what is stale, the latest hours first, but not the one that goes on; at most so many hours.

    Returns how many hours are left. ``tell`` is called with how many were done, of how many. Raises StoreError and
    sqlite3.Error; what was done until then stays done.
    """
    with closing(open_database(path)) as connection:
        waiting = [hour for hour in stale_hours(connection) if hour < int(now / HOUR)]
        chosen = waiting if most is None else waiting[-most:] if most else []
        chosen.reverse()
        for begin in range(0, len(chosen), AT_ONCE):
            some = chosen[begin : begin + AT_ONCE]
            with transaction(connection):
                for hour in some:
                    _summarize(connection, hour)
            tell(min(begin + AT_ONCE, len(chosen)), len(chosen))
    return len(waiting) - len(chosen)


def rebuild(path: Path, now: float, tell: Callable[[int, int], object]) -> None:
    """Forget all summaries, and make them anew."""
    with closing(open_database(path)) as connection, transaction(connection):
        connection.execute("DELETE FROM hours")
        connection.execute(
            "INSERT INTO stale_hours SELECT DISTINCT CAST(start / 3600 AS INTEGER) FROM measurements WHERE true "
            "ON CONFLICT DO NOTHING"
        )
    summarize(path, now, tell=tell)


def _summarize(connection: sqlite3.Connection, hour: int) -> None:
    read = RunReader()
    wanted = Filter(since=hour * HOUR, until=(hour + 1) * HOUR, requests=False)
    found = hours_of(map(read.run, rows_of(connection, FIELDS, wanted)))
    delete_hour(connection, hour)
    insert_hours(connection, [each.row() for each in found])


def _stretches(hours: list[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each row of hours that follow each other."""
    begin = end = None
    for hour in hours:
        if end is not None and hour == end + 1:
            end = hour
            continue
        if begin is not None and end is not None:
            yield begin, end
        begin = end = hour
    if begin is not None and end is not None:
        yield begin, end
