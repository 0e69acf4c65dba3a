"""The files of an open database: whether they are still those that were opened.

SQLite does not notice when its files are deleted, moved or replaced: it goes on in those that it has open, where
nobody finds the records, and a new file beside an old write-ahead log is damaged by it
(https://www.sqlite.org/howtocorrupt.html, sections 1.2 to 1.4).

The files are looked at by name only. To open and close one would take away SQLite's locks on it (section 2.2).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

import attrs

from perfd.store.database import APPLICATION_ID, NoDatabaseError, connect_readonly

Identity = tuple[int, int]
"""Device and inode."""


def side_files(path: Path) -> tuple[Path, ...]:
    """The write-ahead log of the database at ``path``, and the index of it."""
    return tuple(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))


def identity(path: Path) -> Identity | None:
    """Which file is there; None if there is none, or its directory is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@attrs.define
class OpenFiles:
    """The files of a database that was just opened, or written to, at ``path``."""

    path: Path
    _identities: Mapping[Path, Identity | None] = MappingProxyType({})
    _content: tuple[int, int] | None = None  # size, and time of the last change in nanoseconds

    @classmethod
    def at(cls, path: Path) -> OpenFiles:
        """Those that are there now."""
        return cls(path, {each: identity(each) for each in (path, *side_files(path))}, _content(path))

    @property
    def is_moved(self) -> bool:
        """Whether the main file is another one now, or none."""
        return identity(self.path) != self._identities[self.path]

    def written(self) -> None:
        """Remember what it is after we wrote to it."""
        self._content = _content(self.path)

    def change(self) -> str | None:
        """What somebody did to the files, in words; None if nothing."""
        for path, before in self._identities.items():
            now = identity(path)
            if before is not None and now != before:
                what = "was deleted or moved" if now is None else "was replaced"
                return what if path == self.path else f"{what} ({path.name})"
        if _content(self.path) != self._content:  # by another process that may do so, or by one that may not
            if not _is_readable(self.path):
                return "was overwritten"
            self._content = _content(self.path)
        return None

    def finish(self, connection: sqlite3.Connection) -> None:
        """Close a connection to files of which some were moved, and leave each of them whole.

        What is in the write-ahead log goes into the main file, wherever that is now; then the log is emptied, so
        that it cannot be taken for that of a new file. Raises sqlite3.OperationalError if somebody who reads
        prevents that.
        """
        is_moved = self.is_moved
        log, _ = side_files(self.path)
        try:
            is_busy, frames, _ = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
            # Who uses a new file may have emptied the index of a log that was moved along: that is to stay.
            if not is_busy and (frames or identity(log) == self._identities[log]):
                (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            is_busy = False  # no log of it can be read
        if is_busy:
            raise sqlite3.OperationalError("its write-ahead log is in use")
        connection.close()
        if is_moved:
            for path in side_files(self.path):
                if identity(path) == self._identities[path] is not None:
                    path.unlink(missing_ok=True)


def _content(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _is_readable(path: Path) -> bool:
    """Whether the file is a database of Perfd, for whoever opens it now. What may pass (locked) is no reason."""
    content = _content(path)
    if content is not None and content[0] == 0:
        return False
    try:
        with closing(connect_readonly(path)) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except (sqlite3.OperationalError, NoDatabaseError):
        return True
    except sqlite3.DatabaseError:
        return False
    return bool(application == APPLICATION_ID)
