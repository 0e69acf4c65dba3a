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
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

import perfd
from perfd.clock import Clock
from perfd.config import Config, ConfigError, load_config
from perfd.daemon.upkeep.archive import DIRECTORY, GRACE, Archive
from perfd.daemon.upkeep.days import DAY, day_of
from perfd.daemon.upkeep.retention import delete_old, give_back
from perfd.reactor import Reactor
from perfd.store.database import NoDatabaseError, StoreError, database_path
from perfd.store.page_files import DIRECTORY as LOAD_FILES
from perfd.store.page_files import delete_files_before
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
"""Lines of a run that are logged, each of at most ``MOST_CHARACTERS``."""

MOST_CHARACTERS = 500


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
        deleted = delete_files_before(config.directory / LOAD_FILES, day_of(now) - days * DAY)
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

    def startService(self) -> None:
        super().startService()
        self._next = self._reactor.callLater(self._first_after, self._run)

    def stopService(self) -> Deferred[int | None] | None:
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        return None if self._child is None else self._child.stop()

    def _run(self) -> None:
        self._next = None
        self._child = Child(self._reactor, self._say)
        self._child.ended.addCallback(self._ended)
        arguments = [
            sys.executable,
            "-m",
            "perfd.daemon.upkeep.daily",
            "--config",
            str(self._config.path.absolute()),
        ]
        # The child finds the same Perfd, also in a checkout that is not installed.
        path = os.pathsep.join(filter(None, (str(Path(perfd.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path}
        try:
            self._reactor.spawnProcess(self._child, arguments[0], args=arguments, env=environment)
        except OSError as error:
            self._say(f"cannot be started: {error}")
            self._child.ended.callback(None)

    def _ended(self, code: int | None) -> None:
        self._child = None
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

    def _say(self, line: str) -> None:
        self._log.info("daily work: {line}", line=line)


class Child(ProcessProtocol):
    """The process. ``ended`` fires with its exit code, None if it was ended by a signal or never started."""

    transport: Any  # twisted.internet.interfaces.IProcessTransport

    def __init__(self, reactor: Reactor, say: Callable[[str], object]) -> None:
        self._reactor = reactor
        self._say = say
        self._rest = b""
        self._lines = 0
        self._limit: IDelayedCall | None = None
        self.ended: Deferred[int | None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.closeStdin()
        self._limit = self._reactor.callLater(MOST_TIME, self._signal, "TERM")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:MOST_CHARACTERS]
        for line in lines:
            self._say_line(line)

    def processEnded(self, reason: Failure) -> None:
        self._say_line(self._rest)
        if self._limit is not None:
            self._limit.cancel()
        self.ended.callback(getattr(reason.value, "exitCode", None))

    def stop(self) -> Deferred[int | None]:
        """End it; fires when it has ended."""
        stopped: Deferred[int | None] = Deferred()
        self.ended.chainDeferred(stopped)
        self._signal("TERM")
        return stopped

    def _signal(self, name: str) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._limit = self._reactor.callLater(STOP_TIMEOUT, self._signal, "KILL") if name == "TERM" else None
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)

    def _say_line(self, line: bytes) -> None:
        if line.strip() and self._lines < MOST_LINES:
            self._lines += 1
            self._say(line.decode("utf-8", "backslashreplace")[:MOST_CHARACTERS])


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
