"""What is done once a day: publishing the days that have finished, then deleting what is too old.

It is done by a child process, ``python -m perfd.daemon.upkeep.daily --config FILE``, since it would hold up the
measurements. ``DailyService`` starts it when the daemon has started, and then each day as soon as the last run of
the day before can have ended and been recorded.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from perfd.clock import Clock
from perfd.config import Config, ConfigError, load_config
from perfd.daemon.upkeep.archive import DIRECTORY, GRACE, Archive
from perfd.daemon.upkeep.days import DAY, day_of
from perfd.daemon.upkeep.retention import delete_old, give_back
from perfd.processes.child import Child, module_command, module_environment
from perfd.reactor import Reactor
from perfd.store import page_files
from perfd.store.database import NoDatabaseError, StoreError, database_path
from perfd.store.reader import StoreReader
from perfd.store.schema import open_database

FIRST_AFTER = 30.0
"""Seconds from the daemon's start to the first run: what was missed while it did not run."""

RETRY_AFTER = 600.0
LONGEST_RETRY = 6 * 3600.0
"""Seconds until the next try after a failure; each pause is twice the one before."""

MOST_TIME = 4 * 3600.0
"""Seconds after which a run is ended; the next one goes on where it stopped."""

STOP_TIMEOUT = 5.0
"""Seconds from SIGTERM to SIGKILL."""

MOST_LINES = 1000
"""Lines of a run that are logged."""


def grace(config: Config) -> float:
    """Seconds from midnight until the records of all runs that were started before are in the database."""
    return max((experiment.timeout for experiment in config.experiments), default=0.0) + GRACE


def run(config: Config, now: float, say: Callable[[str], object]) -> bool:
    """Do the day's work; False if something failed. ``now`` is seconds since the epoch."""
    # First, because a full disk can prevent all else.
    is_done = _delete_load_files(config, now, say)
    database = database_path(config.database, config.directory)
    try:
        if config.archive:
            _publish(config, database, now, say)
    except NoDatabaseError:
        return is_done
    except (StoreError, sqlite3.Error, OSError) as error:
        say(f"publishing failed: {error}; nothing is deleted before it succeeds")
        return False
    try:
        _delete(config, database, now, say)
    except (StoreError, sqlite3.Error, OSError) as error:
        say(f"deleting old records failed: {error}")
        return False
    return is_done


def _delete_load_files(config: Config, now: float, say: Callable[[str], object]) -> bool:
    """Delete the files of page loads that are older than ``keep-har``, or whose measurements ``keep`` deletes."""
    days = config.keep_har if config.keep is None else min(config.keep_har, config.keep)
    try:
        deleted = page_files.delete_files_before(config.directory / page_files.DIRECTORY, day_of(now) - days * DAY)
    except OSError as error:
        say(f"deleting old files of page loads failed: {error}")
        return False
    if deleted:
        say(f"deleted the files of page loads of {deleted} days, which were too old")
    return True


def _publish(config: Config, database: Path, now: float, say: Callable[[str], object]) -> None:
    with StoreReader(database) as reader:
        _archive(config, say).publish(reader, now - grace(config))


def _archive(config: Config, say: Callable[[str], object]) -> Archive:
    return Archive(config.directory / DIRECTORY, config.source, say)


def _delete(config: Config, database: Path, now: float, say: Callable[[str], object]) -> None:
    if not database.exists():
        return
    today = day_of(now)
    measurements_before = None if config.keep is None else today - config.keep * DAY
    events_before = today - config.keep_events * DAY
    unpublished = _oldest_unpublished(config, database, now, say) if config.archive else None
    if unpublished is not None:
        if unpublished < max(events_before, measurements_before or 0.0):
            day = datetime.fromtimestamp(unpublished, UTC).date()
            say(f"nothing from {day} on is deleted before that day is published")
        if measurements_before is not None:
            measurements_before = min(measurements_before, unpublished)
        # Its document has circuits that were launched on the day before.
        events_before = min(events_before, unpublished - DAY)
    with closing(open_database(database)) as connection:
        deleted = delete_old(connection, config.source, measurements_before, events_before)
        freed = give_back(connection)
    if any(deleted.values()):
        records = ", ".join(f"{number} {name}" for name, number in deleted.items() if number)
        say(f"deleted {records}, which were too old; the database is {max(0, freed) // 1024} KiB smaller")


def _oldest_unpublished(config: Config, database: Path, now: float, say: Callable[[str], object]) -> float | None:
    """The begin of the oldest finished day that is not published; nothing from then on may be deleted."""
    with StoreReader(database) as reader:
        return _archive(config, say).oldest_unpublished(reader, now)


class DailyService(Service):
    """Starts the child process in time, logs what it says, and starts it again when it failed."""

    _log = Logger()

    def __init__(self, reactor: Reactor, clock: Clock, config: Config, first_after: float = FIRST_AFTER) -> None:
        self._reactor = reactor
        self._wall = clock.wall
        self._config = config
        self._first_after = first_after
        self._next: IDelayedCall | None = None
        self._child: Child | None = None
        self._retry_after = RETRY_AFTER
        self._lines_left = 0

    def startService(self) -> None:
        super().startService()
        self._next = self._reactor.callLater(self._first_after, self._run)

    def stopService(self) -> Deferred[int] | None:
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        return None if self._child is None else Deferred.fromCoroutine(self._child.stop(STOP_TIMEOUT))

    def _run(self) -> None:
        self._next = None
        Deferred.fromCoroutine(self._work()).addCallback(self._worked)

    async def _work(self) -> int | None:
        """Run the child to its end; its exit code, None if it cannot be started."""
        self._lines_left = MOST_LINES
        arguments = module_command("perfd.daemon.upkeep.daily", "--config", str(self._config.path.absolute()))
        try:
            self._child = child = Child.spawn(
                self._reactor,
                arguments,
                environment=module_environment(),
                on_line=self._say_line,
            )
        except OSError as error:
            self._say(f"cannot be started: {error}")
            return None
        overdue = self._reactor.callLater(MOST_TIME, lambda: Deferred.fromCoroutine(child.stop(STOP_TIMEOUT)))
        code = await child.when_ended()
        if overdue.active():
            overdue.cancel()
        self._child = None
        return code

    def _worked(self, code: int | None) -> None:
        if not self.running:
            return
        if code == 0:
            self._retry_after = RETRY_AFTER
            pause = self._until_next_day()
        else:
            pause = min(self._retry_after, self._until_next_day())
            self._retry_after = min(2 * self._retry_after, LONGEST_RETRY)
            self._log.error(
                "the daily work (publishing, deleting) failed with {code}; it is tried again in {pause:.0f} s",
                code=code,
                pause=pause,
            )
        self._next = self._reactor.callLater(pause, self._run)

    def _until_next_day(self) -> float:
        """Seconds until the first day that is not finished now can be published."""
        now = self._wall()
        wait = grace(self._config)
        return day_of(now - wait) + DAY + wait - now + 1.0

    def _say_line(self, line: str) -> None:
        if self._lines_left:
            self._lines_left -= 1
            self._say(line)

    def _say(self, line: str) -> None:
        self._log.info("daily work: {line}", line=line)


def main() -> int:
    """The child process: its exit code is 0 if all was done."""
    parser = argparse.ArgumentParser(prog="python -m perfd.daemon.upkeep.daily", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="perfd.conf")
    options = parser.parse_args()
    os.nice(19)
    try:
        config = load_config(options.config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    return 0 if run(config, time.time(), say) else 1


if __name__ == "__main__":
    sys.exit(main())
