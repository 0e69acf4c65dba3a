"""The versions of the database's schema.

``schema/NNN-*.sql`` are the upgrades, in order; version n of a database has had the first n of them, and a new
database gets all of them. A file that was part of a release is never changed: another column or table is another
file, with ``ALTER TABLE``, and a field of the record of the same name (``perfd.record``; how it is written is in
``perfd.store.rows``).
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from importlib import resources
from pathlib import Path

from perfd.store.database import (
    SchemaVersionError,
    StoreError,
    back_up,
    clear_errors,
    connect,
    connect_readonly,
    file_trouble,
    mark_version,
    schema_version,
    statements,
    transaction,
)
from perfd.units import format_size

ROOM = 3
"""The disk that an upgrade needs at most, as a multiple of the database."""


def load_upgrades() -> list[str]:
    """The SQL of all upgrades, in order."""
    files = (resources.files("perfd.store") / "schema").iterdir()
    return [f.read_text(encoding="utf-8") for f in sorted(files, key=lambda f: f.name) if f.name.endswith(".sql")]


def open_database(
    path: Path, upgrades: Sequence[str] | None = None, tell: Callable[[str], None] = lambda step: None
) -> sqlite3.Connection:
    """Open the database to write, made or brought up to date if need be. Use the connection in this thread only.

    An upgrade happens as a whole or not at all, whenever the process is killed, after a copy of the database was
    made (``PATH.version-N``). ``tell`` is called with each of its steps, in words.

    Raises StoreError if it can never be used as it is, sqlite3.Error for what may pass (disk full, locked).
    """
    with clear_errors(path):
        connection = connect(path)
        try:
            _bring_up_to_date(connection, path, load_upgrades() if upgrades is None else upgrades, tell)
        except BaseException:
            connection.close()
            raise
        return connection


def open_readonly(path: Path, version: int | None = None) -> sqlite3.Connection:
    """Open the database to read, also while a daemon writes. Use the connection in this thread only.

    Raises StoreError if there is none or it cannot be used as it is, sqlite3.Error for what may pass.
    """
    expected = len(load_upgrades()) if version is None else version
    with clear_errors(path):
        connection = connect_readonly(path)
        try:
            found = schema_version(connection, path)
            _refuse_newer(path, found, expected)
            if found < expected:
                raise SchemaVersionError(
                    f"the database {path} is of the older version {found} (this Perfd has {expected}); "
                    "it is upgraded when Perfd is started"
                )
        except BaseException:
            connection.close()
            raise
        return connection


def check_database(path: Path) -> None:
    """Look whether ``open_database`` could open the database or make it, without making or upgrading it.

    Raises StoreError if it can never be used as it is. What may pass (locked, I/O errors) is not looked for.
    """
    if trouble := file_trouble(path):
        raise StoreError(f"the database {path} cannot be opened: {trouble}")
    if path.exists():
        with suppress(sqlite3.Error), clear_errors(path), closing(connect_readonly(path)) as connection:
            _refuse_newer(path, schema_version(connection, path), len(load_upgrades()))


def _bring_up_to_date(
    connection: sqlite3.Connection, path: Path, upgrades: Sequence[str], tell: Callable[[str], None]
) -> None:
    found = schema_version(connection, path)
    _refuse_newer(path, found, len(upgrades))
    if found == len(upgrades):
        return
    if found:
        _check_space(connection, path)
        copy = path.with_name(f"{path.name}.version-{found}")
        back_up(connection, copy, lambda percent: tell(f"copying the database to {copy.name}: {percent:.0f} %"))
    with transaction(connection):
        # Another process may have done it, or a part of it, since.
        for number, upgrade in enumerate(upgrades[schema_version(connection, path) :], start=1):
            scripts = list(statements(upgrade))
            for n, statement in enumerate(scripts, start=1):
                if found:
                    tell(f"upgrading the database to version {found + number}: step {n} of {len(scripts)}")
                connection.execute(statement)
        mark_version(connection, len(upgrades))
    if found:
        tell(f"the database is of version {len(upgrades)} now; {copy} is as it was before, and can be deleted")


def _check_space(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StoreError if the disk has too little room for an upgrade: a copy, and all that changes twice."""
    (size,) = connection.execute(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    ).fetchone()
    needed, free = ROOM * size, shutil.disk_usage(path.parent).free
    if free < needed:
        raise StoreError(
            f"the database {path} must be upgraded, which needs {format_size(needed)} in {path.parent}, where "
            f"{format_size(free)} are free: make room there, or move the file and name its place with the option "
            "database in perfd.conf"
        )


def _refuse_newer(path: Path, found: int, known: int) -> None:
    if found > known:
        raise SchemaVersionError(
            f"the database {path} is of the newer version {found} (this Perfd has {known}); "
            "update Perfd, or choose another file with the option database in perfd.conf"
        )
