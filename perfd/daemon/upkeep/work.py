"""What is done once a day: publishing the days that have finished, deleting what is too old, summarizing hours.

It would hold up the measurements, so it is done by a child process, ``python -m perfd.daemon.upkeep.work``,
which ``DailyService`` starts and gives its ``Work`` on standard input, as JSON: what the daemon was started
with, whatever stands in perfd.conf by now.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from perfd.config import Config
from perfd.daemon.upkeep.archive import DIRECTORY, GRACE, Archive
from perfd.daemon.upkeep.days import DAY, day_of
from perfd.daemon.upkeep.retention import delete_old, give_back
from perfd.store import page_files
from perfd.store.database import NoDatabaseError, StoreError, database_path
from perfd.store.reader import StoreReader
from perfd.store.schema import open_database
from perfd.summaries.kept import summarize


@attrs.frozen(kw_only=True)
class Work:
    """What is to be done; the options of the same names in perfd.conf. ``keep...`` are in days."""

    source: str
    directory: Path  # of the instance
    database: Path
    archive: bool
    keep: int | None  # None: for ever
    keep_events: int
    keep_har: int
    keep_curves: int
    grace: float  # seconds from midnight until the records of all runs that were started before are in the database

    @classmethod
    def from_config(cls, config: Config) -> Work:
        """The work of the instance with this configuration."""
        return cls(
            source=config.source,
            directory=config.directory.absolute(),
            database=database_path(config.database, config.directory).absolute(),
            archive=config.archive,
            keep=config.keep,
            keep_events=config.keep_events,
            keep_har=config.keep_har,
            keep_curves=config.keep_curves,
            grace=max((experiment.timeout for experiment in config.experiments), default=0.0) + GRACE,
        )

    def to_json(self) -> bytes:
        """As ``from_json`` reads it."""
        return json.dumps(attrs.asdict(self), default=str).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Work:
        """Raises ValueError, KeyError and TypeError for what ``to_json`` has not written."""
        given: dict[str, Any] = json.loads(text)
        paths = {name: Path(given[name]) for name in ("directory", "database")}
        return cls(**{**given, **paths})


def run(work: Work, now: float, say: Callable[[str], object]) -> bool:
    """Do the day's work; False if something failed. ``now`` is seconds since the epoch."""
    # First, because a full disk can prevent all else.
    is_done = _delete_load_files(work, now, say)
    try:
        if work.archive:
            _publish(work, now, say)
    except NoDatabaseError:
        return is_done
    except (StoreError, sqlite3.Error, OSError) as error:
        say(f"publishing failed: {error}; nothing is deleted before it succeeds")
        return False
    try:
        _delete(work, now, say)
    except (StoreError, sqlite3.Error, OSError) as error:
        say(f"deleting old records failed: {error}")
        return False
    try:
        if work.database.exists():
            summarize(work.database, now)
    except (StoreError, sqlite3.Error) as error:
        say(f"summarizing hours failed: {error}")
        return False
    return is_done


def _delete_load_files(work: Work, now: float, say: Callable[[str], object]) -> bool:
    """Delete the files of page loads that are older than ``keep-har``, or whose measurements ``keep`` deletes."""
    days = work.keep_har if work.keep is None else min(work.keep_har, work.keep)
    try:
        deleted = page_files.delete_files_before(work.directory / page_files.DIRECTORY, day_of(now) - days * DAY)
    except OSError as error:
        say(f"deleting old files of page loads failed: {error}")
        return False
    if deleted:
        say(f"deleted the files of page loads of {deleted} days, which were too old")
    return True


def _publish(work: Work, now: float, say: Callable[[str], object]) -> None:
    with StoreReader(work.database) as reader:
        _archive(work, say).publish(reader, now - work.grace)


def _archive(work: Work, say: Callable[[str], object]) -> Archive:
    return Archive(work.directory / DIRECTORY, work.source, say)


def _delete(work: Work, now: float, say: Callable[[str], object]) -> None:
    if not work.database.exists():
        return
    today = day_of(now)
    measurements_before = None if work.keep is None else today - work.keep * DAY
    events_before = today - work.keep_events * DAY
    unpublished = _oldest_unpublished(work, now, say) if work.archive else None
    if unpublished is not None:
        if unpublished < max(events_before, measurements_before or 0.0):
            day = datetime.fromtimestamp(unpublished, UTC).date()
            say(f"nothing from {day} on is deleted before that day is published")
        if measurements_before is not None:
            measurements_before = min(measurements_before, unpublished)
        # Its document has circuits that were launched on the day before.
        events_before = min(events_before, unpublished - DAY)
    days = work.keep_curves if work.keep is None else min(work.keep_curves, work.keep)
    with closing(open_database(work.database)) as connection:
        curves_before = today - days * DAY
        deleted = delete_old(connection, work.source, measurements_before, events_before, curves_before)
        freed = give_back(connection)
    if any(deleted.values()):
        records = ", ".join(f"{number} {name}" for name, number in deleted.items() if number)
        say(f"deleted {records}, which were too old; the database is {max(0, freed) // 1024} KiB smaller")


def _oldest_unpublished(work: Work, now: float, say: Callable[[str], object]) -> float | None:
    """The begin of the oldest finished day that is not published; nothing from then on may be deleted."""
    with StoreReader(work.database) as reader:
        return _archive(work, say).oldest_unpublished(reader, now)


def main() -> int:
    """The child process: its exit code is 0 if all was done."""
    os.nice(19)
    work = Work.from_json(sys.stdin.buffer.read())

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    return 0 if run(work, time.time(), say) else 1


if __name__ == "__main__":
    sys.exit(main())
