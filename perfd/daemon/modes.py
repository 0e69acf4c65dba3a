"""Who may read the files of an instance: with the option ``results`` other than ``all``, its user and group."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from perfd.config import Config
from perfd.instance import Instance, umask
from perfd.store.database import database_path
from perfd.store.page_files import DIRECTORY as LOAD_FILES


def close_to_others(config: Config) -> None:
    """What stands there from before is for others no more than what the daemon makes now, see ``umask``."""
    forbidden = umask(config.server.results)
    for path in _made(config):
        with suppress(OSError):  # it is gone
            found = path.lstat()
            # By name: a file of the database that is opened and closed here would lose SQLite's locks (fcntl(2)).
            if found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode) and found.st_mode & forbidden:
                path.chmod(stat.S_IMODE(found.st_mode) & ~forbidden)


def _made(config: Config) -> Iterator[Path]:
    """The files, and the directories of files, that the daemon makes."""
    instance = Instance(config.directory)
    database = database_path(config.database, config.directory)
    yield from (instance.lock_file, instance.pid_file, config.directory / LOAD_FILES, config.directory / "archive")
    for path in (instance.log_file, database):  # and what has such a name and more: older logs, the database's -wal
        yield from path.parent.glob(f"{path.name}*")
