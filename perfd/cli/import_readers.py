"""The processes that read files of results for ``importing`` and turn their records into rows.

They import no more than they need: each of them starts anew.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import attrs

from perfd.formats.errors import Damage
from perfd.formats.sniff import read_path
from perfd.record import Circuit, Document, Measurement, Stream
from perfd.store.rows import CIRCUITS, DOCUMENTS, MEASUREMENTS, STREAMS, Row, Table

BATCH = 4000
"""Records that are read and sent at a time."""

MOST_READERS = 4

PIPE = 1 << 20
"""Bytes that a reader can be ahead, so that it goes on reading during a transaction."""

TABLES: tuple[tuple[type[Any], Table[Any]], ...] = (
    (Measurement, MEASUREMENTS),
    (Circuit, CIRCUITS),
    (Stream, STREAMS),
    (Document, DOCUMENTS),
)
"""The records that files have, and the tables for them."""

Rows = tuple[list[Row], ...]
"""Rows for each of ``TABLES``."""


@attrs.frozen
class Task:
    """A file to read."""

    path: Path
    source: str | None
    filesize: int | None


@attrs.frozen
class Batch:
    """A part of what is in a file: rows, and what is damaged."""

    rows: Rows
    damages: list[Damage]


DONE = None
"""What comes at the end of a file."""


def no_rows() -> Rows:
    """Empty lists for each of ``TABLES``."""
    return tuple([] for _ in TABLES)


class Readers:
    """Processes that read files. They wait when their rows are not taken, so memory stays bounded."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        number = min(MOST_READERS, os.cpu_count() or 1, len(tasks))
        self._shares = [deque(tasks[n::number]) for n in range(number)]
        self._context = get_context("spawn")
        self._running: dict[Connection, tuple[Any, deque[Task]]] = {}  # the first is what it reads now

    def __enter__(self) -> Readers:
        for share in self._shares:
            self._start(share)
        return self

    def __exit__(self, *_: object) -> None:
        for connection, (process, _share) in self._running.items():
            connection.close()
            process.terminate()
        for process, _share in self._running.values():
            process.join()

    def batches(self) -> Iterator[Batch | None]:
        """All that is read, and a None for each file that is done."""
        while self._running:
            for connection in wait(list(self._running)):
                assert isinstance(connection, Connection)
                _, share = self._running[connection]
                try:
                    batch = connection.recv()
                except (EOFError, OSError):
                    if damage := self._ended(connection):
                        yield Batch(no_rows(), [damage])
                        yield DONE
                    continue
                if batch is DONE:
                    share.popleft()
                yield batch

    def _start(self, share: deque[Task]) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        with suppress(OSError, AttributeError):  # it only makes it faster, where the system can do it
            fcntl.fcntl(ours.fileno(), fcntl.F_SETPIPE_SZ, PIPE)
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


def _read_files(connection: Connection, tasks: Iterable[Task]) -> None:
    """What a child process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business, which ends us
    with suppress(BrokenPipeError):
        for task in tasks:
            for batch in read(task):
                connection.send(batch)
            connection.send(DONE)


def read(task: Task) -> Iterator[Batch]:
    """The file in parts of at most ``BATCH`` records."""
    rows = no_rows()
    damages: list[Damage] = []
    size = 0
    for record in read_path(task.path, source=task.source, filesize=task.filesize):
        if isinstance(record, Damage):
            damages.append(record)
        else:
            for place, (kind, table) in enumerate(TABLES):
                if isinstance(record, kind):
                    rows[place].append(table.row(record))
                    break
        size += 1
        if size >= BATCH:
            yield Batch(rows, damages)
            rows, damages, size = no_rows(), [], 0
    if size:
        yield Batch(rows, damages)
