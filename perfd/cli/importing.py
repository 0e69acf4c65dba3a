"""``perfd import``: files of results in any format into the database.

Child processes read the files and turn the records into rows; this process inserts them. It writes in short
transactions, so the daemon can go on writing meanwhile. Every record has the same id whenever it is read, and those
that are in the database are passed over: nothing else has to be remembered to continue an import. So are results of
.data files, which do not tell the local endpoint that is a part of the id, if one of that start is there.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs

from perfd.cli.import_readers import DONE, TABLES, Readers, Rows, Task, no_rows
from perfd.cli.output import complain, say
from perfd.cli.terminal import Progress
from perfd.config import Config
from perfd.formats.errors import Damage
from perfd.formats.sniff import is_result
from perfd.store.database import database_path, prepare_for_bulk, transaction
from perfd.store.inserts import UNSTORABLE
from perfd.store.rows import MEASUREMENTS, Row, Table
from perfd.store.schema import open_database

BATCH = 4000
"""Records of one transaction at least, which takes some 100 ms."""

TRIES = 24
"""How often a transaction is tried while others hold the database, each time for ``database.BUSY_TIMEOUT``."""

PAUSE = 10.0  # seconds between two lines about the progress, where nobody watches


@attrs.define
class Count:
    """What an import has done; the counters are by table."""

    files: int = 0
    new: Counter[str] = attrs.field(factory=Counter)
    known: Counter[str] = attrs.field(factory=Counter)
    damaged: int = 0

    def __str__(self) -> str:
        found = ", ".join(f"{self.new[table.name]} {table.name}" for _, table in TABLES)
        return (
            f"imported {found} from {self.files} file{'' if self.files == 1 else 's'}; "
            f"{self.known.total()} were there already, {self.damaged} damaged"
        )


def import_files(
    config: Config, paths: Sequence[Path], source: str | None = None, filesize: int | None = None
) -> int:
    """Read ``paths``, and the files in those that are directories; print a summary.

    ``source`` and ``filesize`` are for legacy files that do not tell them. The exit code: 1 if something was
    damaged. Raises StoreError, and sqlite3.Error for what may pass; what was written until then stays.
    """
    tasks = [Task(path, source, filesize) for path in find_files(paths)]
    if not tasks:
        complain("no files with a known ending are there")
        return 1
    with closing(open_database(database_path(config.database, config.directory))) as connection:
        prepare_for_bulk(connection)
        counts = import_into(connection, tasks)
    say(str(counts))
    return 1 if counts.damaged else 0


def find_files(paths: Iterable[Path]) -> list[Path]:
    """``paths``, with directories replaced by all files in them, at any depth, that have a format's ending."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            found[path] = None
            continue
        for directory, _, names in os.walk(path):
            results = (Path(directory, name) for name in names if is_result(name))
            found |= dict.fromkeys(result for result in results if result.is_file())
    return sorted(found)


def import_into(connection: sqlite3.Connection, tasks: Sequence[Task]) -> Count:
    """Read the files with several processes and insert what is in them."""
    counts = Count()
    waiting = no_rows()
    with Progress("importing", PAUSE) as progress, Readers(tasks) as readers:
        for batch in readers.batches():
            if batch is DONE:
                counts.files += 1
                step = f"file {counts.files} of {len(tasks)}, {counts.new['measurements']} new measurements"
                progress.update(step, counts.files, len(tasks))
                continue
            _report(batch.damages, counts)
            for rows, more in zip(waiting, batch.rows, strict=True):
                rows.extend(more)
            if sum(map(len, waiting)) >= BATCH:
                _insert(connection, waiting, counts)
                waiting = no_rows()
        _insert(connection, waiting, counts)
    return counts


def _report(damages: Sequence[Damage], counts: Count) -> None:
    counts.damaged += len(damages)
    for damage in damages:
        complain(str(damage))


def _insert(connection: sqlite3.Connection, rows_of_tables: Rows, counts: Count) -> None:
    try:
        _write(connection, rows_of_tables, counts)
    except UNSTORABLE:
        for place, rows in enumerate(rows_of_tables):
            for row in rows:
                single = no_rows()
                single[place].append(row)
                try:
                    _write(connection, single, counts)
                except UNSTORABLE as error:
                    _, table = TABLES[place]
                    identity = row[table.columns.index("id")]
                    _report([Damage("", None, f"{identity} cannot be stored in {table.name}: {error}")], counts)


def _place(column: str) -> int:
    return MEASUREMENTS.columns.index(column)


_NETWORK, _ENDPOINT = _place("network"), _place("endpointlocal")
_START, _SOURCE, _FILESIZE = _place("start"), _place("source"), _place("filesize")

# The id is made of the local endpoint too, which .data has not: there a result is known by what else is in its id.
_SAME_RESULT = f"""
    SELECT id FROM {MEASUREMENTS.name}
    WHERE start > ? AND start < ? AND source = ? AND filesize = ? AND outcome <> 'skipped' LIMIT 1
"""


def _insert_new(connection: sqlite3.Connection, table: Table[Any], rows: list[Row]) -> int:
    """Insert those rows that are new; how many."""
    if table is MEASUREMENTS:
        rows = [row for row in rows if not (_lacks_endpoint(row) and _is_known(connection, row))]
    return connection.executemany(table.insert_new, rows).rowcount if rows else 0


def _lacks_endpoint(row: Row) -> bool:
    """Whether it is a measurement of others that does not tell its local endpoint."""
    return row[_NETWORK] is None and row[_ENDPOINT] is None


def _is_known(connection: sqlite3.Connection, row: Row) -> bool:
    start = row[_START]
    values = (start - 0.01, start + 0.01, row[_SOURCE], row[_FILESIZE])
    return connection.execute(_SAME_RESULT, values).fetchone() is not None


def _write(connection: sqlite3.Connection, rows_of_tables: Rows, counts: Count) -> None:
    """Insert the rows that are new, in one transaction, and count them."""
    tries = TRIES
    while True:
        new = []
        try:
            with transaction(connection):
                for (_, table), rows in zip(TABLES, rows_of_tables, strict=True):
                    new.append(_insert_new(connection, table, rows))
            break
        except sqlite3.OperationalError as error:
            tries -= 1
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or not tries:
                raise
    for (_, table), rows, number in zip(TABLES, rows_of_tables, new, strict=True):
        counts.new[table.name] += number
        counts.known[table.name] += len(rows) - number
