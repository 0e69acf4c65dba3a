"""The files that the daemon has open from its start to its end: its lock, perfd.log and the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, globalLogPublisher

from perfd.daemon.order import StartError
from perfd.instance import Instance, InstanceError, InstanceLock, ReloadReport
from perfd.logfile.file import LogFile, LogStatus, reopen_on_signal
from perfd.reactor import Reactor
from perfd.store.database import StoreError
from perfd.store.reader import AsyncReader
from perfd.store.writer import StoreSink

LOOK = 5.0
"""Seconds between two looks at the database's files; it is looked at before each record too."""


class LogService(Service):
    """perfd.log, from the start of the daemon to its end."""

    def __init__(self, reactor: Reactor, path: Path, keep: int) -> None:
        self._reactor = reactor
        self._path = path
        self._keep = keep
        self._file: LogFile | None = None

    def startService(self) -> None:
        super().startService()
        try:
            self._file = LogFile(self._path, self._keep)
        except OSError as error:
            raise StartError(f"{self._path}: {error.strerror}") from None
        globalLogPublisher.addObserver(self._file)
        reopen_on_signal(self._file)

    def reopen(self) -> None:
        """See ``LogFile.reopen``."""
        if self._file is not None:
            self._file.reopen()

    def keep(self, days: int) -> None:
        """Keep the files of so many days from now on."""
        self._keep = days
        if self._file is not None:
            self._file.keep = days

    @property
    def status(self) -> LogStatus:
        """See ``LogFile.status``."""
        return LogStatus(None, None) if self._file is None else self._file.status

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        if self._file is None:
            return None
        globalLogPublisher.removeObserver(self._file)
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._file.close)


class LockService(Service):
    """Keeps a second daemon out of the instance directory, and says there how far this one is, and where its web
    server ``listens_on``.
    """

    _log = Logger()

    def __init__(self, instance: Instance, listens_on: str) -> None:
        self._instance = instance
        self._listens_on = listens_on
        self._lock: InstanceLock | None = None

    def startService(self) -> None:
        super().startService()
        try:
            self._lock = InstanceLock(self._instance.lock_file)
            self.say("starting")
            self._lock.write_address(self._listens_on)
            self._instance.write_pid_file()
        except InstanceError as error:
            raise StartError(str(error)) from None

    def stopService(self) -> None:
        super().stopService()
        if self._lock is not None:
            self._instance.pid_file.unlink(missing_ok=True)
            self._lock.release()

    def say(self, state: str) -> None:
        """See ``Instance.state``."""
        if self._lock is not None:
            self._lock.write_state(state)

    def report(self, report: ReloadReport) -> None:
        """See ``Instance.reload_report``. What prevents that (a full disk) is logged."""
        try:
            if self._lock is not None:
                self._lock.write_report(report)
        except InstanceError as error:
            self._log.error("{error}", error=error)


class StoreService(Service):
    """The database: its writer and its readers.

    ``opened`` is called when it is open, ``unusable`` when it can never be used as it is.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        sink: StoreSink,
        readers: Sequence[AsyncReader],
        opened: Callable[[], None],
        unusable: Callable[[StoreError], None],
    ) -> None:
        self._sink = sink
        self._readers = readers
        self._opened = opened
        self._unusable = unusable
        self._looking = LoopingCall(sink.look)
        self._looking.clock = reactor

    def startService(self) -> None:
        super().startService()
        for reader in self._readers:
            reader.start()
        starting = Deferred.fromCoroutine(self._sink.start())
        starting.addCallbacks(lambda _: self._opened(), self._not_started)
        self._looking.start(LOOK, now=False)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._looking.stop()
        for reader in self._readers:
            reader.stop()
        return Deferred.fromCoroutine(self._sink.stop())

    def _not_started(self, failure: Any) -> None:
        if failure.check(StoreError):
            self._unusable(failure.value)
        else:
            self._log.failure("the database was not opened", failure)
