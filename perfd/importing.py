"""``perfd import``: files of results in any format into the database.

Child processes read the files and turn the records into rows; this process inserts them. It writes in short
transactions, so the daemon can go on writing meanwhile. Every record has the same id whenever it is read, and those
that are in the database are passed over: nothing else has to be remembered to continue an import.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import attrs

from perfd.config import Config
from perfd.formats.errors import Damage
from perfd.formats.sniff import read_path, sniff
from perfd.record import Circuit, Measurement, Stream
from perfd.store.database import database_path, prepare_for_bulk, transaction
from perfd.store.rows import CIRCUITS, MEASUREMENTS, STREAMS, Row, Table
from perfd.store.schema import open_database
from perfd.store.writer import UNSTORABLE
from perfd.terminal import Progress

BATCH = 2000
"""Records of one transaction, which takes some 50 ms."""

TRIES = 24
"""How often a transaction is tried while others hold the database, each time for ``database.BUSY_TIMEOUT``."""

MOST_READERS = 4
PAUSE = 10.0  # seconds between two lines about the progress, where nobody watches

_TABLES: tuple[tuple[type[Any], Table[Any]], ...] = (
    (Measurement, MEASUREMENTS),
    (Circuit, CIRCUITS),
    (Stream, STREAMS),
)


@attrs.define
class Count:
    """What an import has done; the counters are by table."""

    files: int = 0
    new: Counter[str] = attrs.field(factory=Counter)
    known: Counter[str] = attrs.field(factory=Counter)
    damaged: int = 0

    def __str__(self) -> str:
        found = ", ".join(f"{self.new[table.name]} {table.name}" for _, table in _TABLES)
        return (
            f"imported {found} from {self.files} file{'' if self.files == 1 else 's'}; "
            f"{self.known.total()} were there already, {self.damaged} damaged"
        )


@attrs.frozen
class _Task:
    """A file to read."""

    path: Path
    source: str | None
    filesize: int | None


@attrs.frozen
class _Batch:
    """A part of what is in a file: rows for each of ``_TABLES``, and what is damaged."""

    rows: tuple[list[Row], ...]
    damages: list[Damage]


_DONE = None  # what a reader sends at the end of a file


def import_files(
    config: Config, paths: Sequence[Path], source: str | None = None, filesize: int | None = None
) -> int:
    """Read ``paths``, and the files in those that are directories; print a summary.

    ``source`` and ``filesize`` are for legacy files that do not tell them. The exit code: 1 if something was
    damaged. Raises StoreError, and sqlite3.Error for what may pass; what was written until then stays.
    """
    tasks = [_Task(path, source, filesize) for path in find_files(paths)]
    if not tasks:
        sys.stderr.write("perfd: no files with a known ending are there\n")
        return 1
    with closing(open_database(database_path(config.database, config.directory))) as connection:
        prepare_for_bulk(connection)
        counts = import_into(connection, tasks)
    sys.stdout.write(f"{counts}\n")
    return 1 if counts.damaged else 0


def find_files(paths: Iterable[Path]) -> list[Path]:
    """``paths``, with directories replaced by all files in them, at any depth, that have a format's ending."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            found[path] = None
            continue
        for directory, _, names in os.walk(path):
            found |= dict.fromkeys(Path(directory, name) for name in names if _is_result(name))
    return sorted(found)


def _is_result(name: str) -> bool:
    return sniff(name, "") is not None or name.removesuffix(".xz").endswith(".analysis.json")


def import_into(connection: sqlite3.Connection, tasks: Sequence[_Task]) -> Count:
    """Read the files with several processes and insert what is in them."""
    counts = Count()
    with Progress("importing", PAUSE) as progress, _Readers(tasks) as readers:
        for batch in readers.batches():
            if batch is _DONE:
                counts.files += 1
                step = f"file {counts.files} of {len(tasks)}, {counts.new['measurements']} new measurements"
                progress.update(step, counts.files, len(tasks))
                continue
            for (_, table), rows in zip(_TABLES, batch.rows, strict=True):
                _insert(connection, table, rows, counts, batch.damages)
            counts.damaged += len(batch.damages)
            sys.stderr.writelines(f"perfd: {damage}\n" for damage in batch.damages)
    return counts


def _insert(
    connection: sqlite3.Connection, table: Table[Any], rows: list[Row], counts: Count, damages: list[Damage]
) -> None:
    if not rows:
        return
    try:
        new = _written(connection, table, rows)
        stored = len(rows)
    except UNSTORABLE:
        new = stored = 0
        for row in rows:
            try:
                new += _written(connection, table, [row])
                stored += 1
            except UNSTORABLE as error:
                identity = row[table.columns.index("id")]
                damages.append(Damage("", None, f"{identity} cannot be stored in {table.name}: {error}"))
    counts.new[table.name] += new
    counts.known[table.name] += stored - new


def _written(connection: sqlite3.Connection, table: Table[Any], rows: list[Row]) -> int:
    """Insert the rows whose ids are new, in one transaction; how many these were."""
    tries = TRIES
    while True:
        try:
            with transaction(connection):
                return connection.executemany(table.insert_new, rows).rowcount
        except sqlite3.OperationalError as error:
            tries -= 1
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or not tries:
                raise


class _Readers:
    """Processes that read files. They wait when their rows are not taken, so memory stays bounded."""

    def __init__(self, tasks: Sequence[_Task]) -> None:
        self._tasks = deque(tasks)
        self._number = min(MOST_READERS, os.cpu_count() or 1, len(tasks))
        self._context = get_context("spawn")
        self._running: dict[Connection, tuple[Any, _Task]] = {}

    def __enter__(self) -> _Readers:
        for _ in range(self._number):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for connection, (process, _task) in self._running.items():
            connection.close()
            process.terminate()
        for process, _task in self._running.values():
            process.join()

    def batches(self) -> Iterator[_Batch | None]:
        """All that is read, and a None for each file that is done."""
        while self._running:
            for connection in wait(list(self._running)):
                assert isinstance(connection, Connection)
                try:
                    batch = connection.recv()
                except (EOFError, OSError):
                    yield self._ended(connection)
                    yield _DONE
                    continue
                yield batch
                if batch is _DONE:
                    self._give(connection)

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_read_files, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self._send(ours, process)

    def _send(self, connection: Connection, process: Any) -> None:
        task = self._tasks.popleft()
        self._running[connection] = process, task
        with suppress(OSError):  # if it has ended, we shall read that
            connection.send(task)

    def _give(self, connection: Connection) -> None:
        """A reader has done its file: give it another one, or let it end."""
        process, _ = self._running.pop(connection)
        if self._tasks:
            self._send(connection, process)
            return
        connection.close()
        process.join()

    def _ended(self, connection: Connection) -> _Batch:
        """A reader has ended in the middle of a file: report that, and start another if there is more to read."""
        process, task = self._running.pop(connection)
        connection.close()
        process.join()
        if self._tasks:
            self._start()
        how = f"the process that read the file ended with {process.exitcode}; the rest of it was not read"
        return _Batch(tuple([] for _ in _TABLES), [Damage(str(task.path), None, how)])


def _read_files(connection: Connection) -> None:
    """What a child process does: read the files that it is given, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business, which ends us
    with suppress(EOFError, OSError):
        while True:
            task = connection.recv()
            for batch in _read(task):
                connection.send(batch)
            connection.send(_DONE)


def _read(task: _Task) -> Iterator[_Batch]:
    rows: tuple[list[Row], ...] = tuple([] for _ in _TABLES)
    damages: list[Damage] = []
    size = 0
    for record in read_path(task.path, source=task.source, filesize=task.filesize):
        if isinstance(record, Damage):
            damages.append(record)
        else:
            for place, (kind, table) in enumerate(_TABLES):
                if isinstance(record, kind):
                    rows[place].append(table.row(record))
                    break
        size += 1
        if size >= BATCH:
            yield _Batch(rows, damages)
            rows, damages, size = tuple([] for _ in _TABLES), [], 0
    if size:
        yield _Batch(rows, damages)
