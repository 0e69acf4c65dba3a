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

BATCH = 4000
"""Records of one transaction, which takes some 100 ms."""

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


_Rows = tuple[list[Row], ...]


@attrs.frozen
class _Batch:
    """A part of what is in a file: rows for each of ``_TABLES``, and what is damaged."""

    rows: _Rows
    damages: list[Damage]


def _no_rows() -> _Rows:
    return tuple([] for _ in _TABLES)


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
            results = (Path(directory, name) for name in names if _is_result(name))
            found |= dict.fromkeys(result for result in results if result.is_file())
    return sorted(found)


def _is_result(name: str) -> bool:
    return sniff(name, "") is not None or name.removesuffix(".xz").endswith(".analysis.json")


def import_into(connection: sqlite3.Connection, tasks: Sequence[_Task]) -> Count:
    """Read the files with several processes and insert what is in them."""
    counts = Count()
    waiting = _no_rows()
    with Progress("importing", PAUSE) as progress, _Readers(tasks) as readers:
        for batch in readers.batches():
            if batch is _DONE:
                counts.files += 1
                step = f"file {counts.files} of {len(tasks)}, {counts.new['measurements']} new measurements"
                progress.update(step, counts.files, len(tasks))
                continue
            _report(batch.damages, counts)
            for rows, more in zip(waiting, batch.rows, strict=True):
                rows.extend(more)
            if sum(map(len, waiting)) >= BATCH:
                _insert(connection, waiting, counts)
                waiting = _no_rows()
        _insert(connection, waiting, counts)
    return counts


def _report(damages: Sequence[Damage], counts: Count) -> None:
    counts.damaged += len(damages)
    sys.stderr.writelines(f"perfd: {damage}\n" for damage in damages)


def _insert(connection: sqlite3.Connection, rows_of_tables: _Rows, counts: Count) -> None:
    try:
        _write(connection, rows_of_tables, counts)
    except UNSTORABLE:
        for place, rows in enumerate(rows_of_tables):
            for row in rows:
                single = _no_rows()
                single[place].append(row)
                try:
                    _write(connection, single, counts)
                except UNSTORABLE as error:
                    _, table = _TABLES[place]
                    identity = row[table.columns.index("id")]
                    _report([Damage("", None, f"{identity} cannot be stored in {table.name}: {error}")], counts)


def _write(connection: sqlite3.Connection, rows_of_tables: _Rows, counts: Count) -> None:
    """Insert the rows whose ids are new, in one transaction, and count them."""
    tries = TRIES
    while True:
        new = []
        try:
            with transaction(connection):
                for (_, table), rows in zip(_TABLES, rows_of_tables, strict=True):
                    new.append(connection.executemany(table.insert_new, rows).rowcount if rows else 0)
            break
        except sqlite3.OperationalError as error:
            tries -= 1
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or not tries:
                raise
    for (_, table), rows, number in zip(_TABLES, rows_of_tables, new, strict=True):
        counts.new[table.name] += number
        counts.known[table.name] += len(rows) - number


class _Readers:
    """Processes that read files. They wait when their rows are not taken, so memory stays bounded."""

    def __init__(self, tasks: Sequence[_Task]) -> None:
        number = min(MOST_READERS, os.cpu_count() or 1, len(tasks))
        self._shares = [deque(tasks[n::number]) for n in range(number)]
        self._context = get_context("spawn")
        self._running: dict[Connection, tuple[Any, deque[_Task]]] = {}  # the first is what it reads now

    def __enter__(self) -> _Readers:
        for share in self._shares:
            self._start(share)
        return self

    def __exit__(self, *_: object) -> None:
        for connection, (process, _share) in self._running.items():
            connection.close()
            process.terminate()
        for process, _share in self._running.values():
            process.join()

    def batches(self) -> Iterator[_Batch | None]:
        """All that is read, and a None for each file that is done."""
        while self._running:
            for connection in wait(list(self._running)):
                assert isinstance(connection, Connection)
                _, share = self._running[connection]
                try:
                    batch = connection.recv()
                except (EOFError, OSError):
                    if damage := self._ended(connection):
                        yield _Batch(_no_rows(), [damage])
                        yield _DONE
                    continue
                if batch is _DONE:
                    share.popleft()
                yield batch

    def _start(self, share: deque[_Task]) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_read_files, args=(theirs, list(share)), daemon=True)
        process.start()
        theirs.close()
        self._running[ours] = process, share

    def _ended(self, connection: Connection) -> Damage | None:
        """A reader has ended. If it was in the middle of a file, report that; another one reads what is left."""
        process, share = self._running.pop(connection)
        connection.close()
        process.join()
        if not share:
            return None
        path = share.popleft().path
        if share:
            self._start(share)
        how = f"the process that read the file ended with {process.exitcode}; the rest of it was not read"
        return Damage(str(path), None, how)


def _read_files(connection: Connection, tasks: Iterable[_Task]) -> None:
    """What a child process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business, which ends us
    with suppress(BrokenPipeError):
        for task in tasks:
            for batch in _read(task):
                connection.send(batch)
            connection.send(_DONE)


def _read(task: _Task) -> Iterator[_Batch]:
    rows = _no_rows()
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
            rows, damages, size = _no_rows(), [], 0
    if size:
        yield _Batch(rows, damages)
