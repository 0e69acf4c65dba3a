"""Opening the database, and everything about it that only SQLite has: pragmas, transactions, backups, errors.

All connections are in autocommit mode, so transactions are those of ``transaction`` and nothing else.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from perfd.store import shared_memory

SCHEME = "sqlite:///"
BUSY_TIMEOUT = 5.0
"""Seconds to wait for the lock of another process."""

JOURNAL_LIMIT = 4 << 20
"""Bytes that the write-ahead log keeps on disk when it is not in use."""

PAGES = 16_384
"""Pages of a copy between two words on its progress; 64 MiB."""

DISK_FULL = "database or disk is full"
"""SQLite's own words."""

LONGEST_NAME = 255 - len(".version-999")
"""Bytes of the name of a file beside which others can have longer ones (NAME_MAX of limits.h)."""

APPLICATION_ID = 0x50455246
"""Marks a database file as Perfd's ("PERF")."""


class StoreError(Exception):
    """The database cannot be used as it is; the message names the file and the remedy."""


class DatabaseURLError(StoreError):
    """The ``database`` option cannot be understood."""


class NoDatabaseError(StoreError):
    """There is no database yet."""


class QueryTooLongError(StoreError):
    """The query took longer than it may."""


class NotADatabaseError(StoreError):
    """The file is not a database of Perfd, or is damaged."""


class SchemaVersionError(StoreError):
    """The database is of another version than this Perfd."""


def database_path(url: str, directory: Path) -> Path:
    """The file that ``url`` names.

    ``sqlite:///NAME`` is relative to ``directory``, ``sqlite:////PATH`` is absolute.
    Raises DatabaseURLError.
    """
    name = url.removeprefix(SCHEME)
    if name == url:
        raise DatabaseURLError(
            f"{url!r} is not a database that Perfd knows: write sqlite:///perfd.sqlite for a file in the "
            "instance's directory, or sqlite:////absolute/path"
        )
    if not name or name == ":memory:" or name.endswith("/") or "\0" in name:
        raise DatabaseURLError(f"{url!r} does not name a file, as sqlite:///perfd.sqlite does")
    if "?" in name:
        raise DatabaseURLError(f"{url!r}: options after a question mark are not supported")
    return directory.absolute() / name


def connect(path: Path) -> sqlite3.Connection:
    """A connection that can write; the file is made if there is none.

    Use in one thread only. Raises sqlite3.Error; see ``clear_errors``.
    """
    if not shared_memory.has_room(path):
        raise sqlite3.OperationalError(DISK_FULL)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
    try:
        if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
            # Retention can then give the pages of deleted rows back to the disk.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        # NORMAL with a write-ahead log: a crash of Perfd loses nothing, one of the machine no more than the
        # last transactions, and neither damages the file.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()  # from now on the file is there
        if not shared_memory.allocate(path):
            raise sqlite3.OperationalError(DISK_FULL)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare_for_bulk(connection: sqlite3.Connection) -> None:
    """Trade memory and disk (64 MiB of each) for speed: for a process that inserts very many rows and ends."""
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA wal_autocheckpoint = 16384")


def connect_readonly(path: Path) -> sqlite3.Connection:
    """A connection that can only read, also where nothing can be written at all.

    Use in one thread only. Raises NoDatabaseError, StoreError and sqlite3.Error.
    """
    if not path.exists():
        raise NoDatabaseError(f"there is no database {path}; Perfd makes it when it is started")
    if not os.access(path, os.R_OK):
        raise StoreError(f"the database {path} cannot be read by this user")
    if not (shared_memory.is_whole(path) or shared_memory.has_room(path)):
        raise sqlite3.OperationalError(DISK_FULL)
    connection = _connect_uri(path, "mode=ro")
    try:
        connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        return _connect_immutable(path)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _connect_immutable(path: Path) -> sqlite3.Connection:
    """For a directory or disk that cannot be written, where SQLite cannot make what it shares with a writer."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreError(
            f"the database {path} cannot be read where nothing can be written, since {log.name} has what is not in "
            f"it yet: copy both to a place that can be written, and name that with the option database"
        )
    return _connect_uri(path, "immutable=1")


def _connect_uri(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}", uri=True, timeout=BUSY_TIMEOUT, isolation_level=None
    )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that holds the write lock from its start; within another one, a part of that."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # When the disk is full SQLite rolls back itself, and then there is none to roll back.
        connection.rollback()
        raise


def schema_version(connection: sqlite3.Connection, path: Path) -> int:
    """The number of schema upgrades that the database has had, 0 if it is empty.

    Raises NotADatabaseError if it is the database of another program.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if application == APPLICATION_ID or (application == version == tables == 0):
        return int(version)
    raise NotADatabaseError(
        f"{path} is the database of another program; choose another file with the option database in perfd.conf"
    )


def mark_version(connection: sqlite3.Connection, version: int) -> None:
    """Write down that the database has had ``version`` upgrades; a part of the running transaction."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")


def back_up(
    connection: sqlite3.Connection, target: Path, tell: Callable[[float], None] = lambda percent: None
) -> None:
    """Copy the database to ``target``, which appears, or is replaced, only when it is whole.

    It is consistent whatever is written meanwhile, and only its owner can read it. ``tell`` is called now and then
    with how much is done, in per cent. Raises sqlite3.Error and OSError.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(descriptor)
    try:
        with closing(sqlite3.connect(name)) as copy, reading(connection):
            connection.backup(copy, pages=PAGES, sleep=0, progress=lambda _, left, all_: tell(percent(left, all_)))
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """What is read in the block is as it was at its beginning: without that, a copy begins anew with each write."""
    connection.execute("BEGIN")
    try:
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        yield
    finally:
        connection.rollback()


def percent(left: int, total: int) -> float:
    """How much is done."""
    return 100.0 if not total else 100.0 * (total - left) / total


def statements(script: str) -> Iterator[str]:
    """The SQL statements of ``script``, each of which must begin on a line of its own."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turn errors that last into StoreErrors that name ``path`` and the remedy.

    SQLite's errors that may pass (disk full, locked, I/O) are raised as they are.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise NotADatabaseError(
                f"{path} is not a database; choose another file with the option database in perfd.conf"
            ) from error
        if code == sqlite3.SQLITE_CORRUPT:
            raise NotADatabaseError(
                f"{path} is damaged ({error}); move it away, and a new one is made "
                "(the measurements are in perfd.log too)"
            ) from error
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM) or os.path.isdir(path):
            raise StoreError(f"the database {path} cannot be opened: {file_trouble(path) or error}") from error
        raise
    except OSError as error:
        raise StoreError(f"the database {path} cannot be opened: {error.strerror}") from error


def passes(error: sqlite3.Error) -> bool:
    """Whether it is of what passes by itself: others have the lock, or the disk is full."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)


def file_trouble(path: Path) -> str | None:
    """What is wrong with the database's file or directory, in words; None if it could be opened or made."""
    try:
        if not path.parent.is_dir():
            return f"there is no directory {path.parent}"
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            return "its name is too long for that of the files beside it"
        if path.exists():
            return _trouble_of_file(path)
    except OSError as error:  # a directory above that may not be entered, a name that is too long
        return error.strerror
    return _trouble_of_directory(path.parent)


def _trouble_of_file(path: Path) -> str | None:
    if path.is_dir():
        return "it is a directory"
    if not path.is_file():
        return "it is no regular file"
    if not os.access(path, os.R_OK | os.W_OK):
        return "it is not readable and writable for this user"
    return _trouble_of_directory(path.parent)


def _trouble_of_directory(directory: Path) -> str | None:
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"its directory {directory} is not writable for this user"
    return None
