"""The daemon: what it is made of, in which order it starts and stops. The only module that knows everything.

twistd calls ``makeService`` before it changes directory, forks and drops privileges. So nothing is opened there:
the port is bound in ``privilegedStartService``, everything else begins in ``startService``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Application, IServiceCollection, Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher
from twisted.python import usage
from zope.interface import implementer

from perfd import __version__, routes
from perfd.browser.files.writer import MaterialWriter
from perfd.clock import Clock
from perfd.config import Config, ConfigError, load_config
from perfd.daemon.downtime import Downtime
from perfd.daemon.health import Health, HealthHistory
from perfd.daemon.metrics import Metrics
from perfd.daemon.order import OrderedServices, StartError
from perfd.daemon.schedule import Grid, Schedule
from perfd.daemon.sinks import EventFanOut, FanOut
from perfd.daemon.upkeep.daily import DailyService
from perfd.daemon.upkeep.work import Work
from perfd.experiments.run import TorExperiment
from perfd.instance import FAILED, READY, Instance, InstanceError, InstanceLock
from perfd.laboratory import Laboratory
from perfd.logfile.file import LogFile, LogStatus, reopen_on_signal
from perfd.logfile.line import LogSink
from perfd.preflight import check_machine
from perfd.reactor import Reactor, installed_reactor
from perfd.record import Outcome
from perfd.store.database import StoreError, database_path
from perfd.store.page_files import DIRECTORY as LOAD_FILES
from perfd.store.reader import AsyncReader, History
from perfd.store.worker import ThreadWorker
from perfd.store.writer import StoreSink
from perfd.tor.events.listener import ControlEvents
from perfd.variant import Variant
from perfd.web.results.answers import Access, PublicDatabase

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
    """Keeps a second daemon out of the instance directory, and says there how far this one is."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._lock: InstanceLock | None = None

    def startService(self) -> None:
        super().startService()
        try:
            self._lock = InstanceLock(self._instance.lock_file)
            self.say("starting")
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


class StoreService(Service):
    """The database: its writer and its reader.

    ``opened`` is called when it is open, ``unusable`` when it can never be used as it is.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        sink: StoreSink,
        reader: AsyncReader,
        opened: Callable[[], None],
        unusable: Callable[[StoreError], None],
    ) -> None:
        self._sink = sink
        self._reader = reader
        self._opened = opened
        self._unusable = unusable
        self._looking = LoopingCall(sink.look)
        self._looking.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._reader.start()
        starting = Deferred.fromCoroutine(self._sink.start())
        starting.addCallbacks(lambda _: self._opened(), self._not_started)
        self._looking.start(LOOK, now=False)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._looking.stop()
        self._reader.stop()
        return Deferred.fromCoroutine(self._sink.stop())

    def _not_started(self, failure: Any) -> None:
        if failure.check(StoreError):
            self._unusable(failure.value)
        else:
            self._log.failure("the database was not opened", failure)


class Perfd(OrderedServices):
    """The daemon of one instance. Its parts start in the order in which they are added, and stop the other way."""

    _log = Logger()

    def __init__(self, reactor: Reactor, clock: Clock, config: Config) -> None:
        super().__init__()
        self.setName("perfd")
        self.has_failed = False  # it cannot go on, so whoever runs it is to be told
        self._reactor = reactor
        self._config = config
        instance = Instance(config.directory)
        database = database_path(config.database, config.directory)
        store = StoreSink(reactor, ThreadWorker(reactor, "perfd-writer"), database)
        reader = AsyncReader(ThreadWorker(reactor, "perfd-reader", 2), database)
        log = LogService(reactor, instance.log_file, config.keep_logs)
        health = Health(clock, config.source, __version__, database=lambda: store.status, log=lambda: log.status)
        metrics = Metrics(config.source, __version__, lambda: store.status.pending)
        sinks = FanOut({"log": LogSink(), "database": store, "health": health, "metrics": metrics})
        public = PublicDatabase(reader, Access(config.server.results))
        pages = routes.read(public, config.directory, health.report, metrics.exposition)
        material = MaterialWriter(reactor, config.directory / LOAD_FILES)
        laboratory = Laboratory(reactor, clock, config, pages, EventFanOut({"database": store}), material)
        health.watch_tors(list(laboratory.tors.values()))
        unparsed = {name: partial(count_unparsed, events) for name, events in laboratory.events.items()}
        metrics.watch_tors(list(laboratory.tors.values()), unparsed)
        metrics.watch_server(lambda: laboratory.sent)
        metrics.watch_hold_ups(lambda: laboratory.held_up)

        self._lock = LockService(instance)
        self._lock.setServiceParent(self)
        log.setServiceParent(self)
        StoreService(reactor, store, reader, self._ready, self._give_up).setServiceParent(self)
        HealthHistory(reactor, health, partial(read_history, reader)).setServiceParent(self)
        laboratory.setServiceParent(self)
        downtime = Downtime(reactor, partial(read_last_slot, reader, config.source))
        for experiment in config.experiments:
            variants = laboratory.experiments(experiment)
            grid = Grid(experiment.interval, experiment.offset)
            schedule = Schedule(reactor, clock, experiment.name, grid, variants, sinks)
            watched = variants_of(variants)
            health.watch(experiment.name, experiment.interval, partial(getattr, schedule, "next_slot"), watched)
            metrics.watch(experiment.name, experiment.type, watched)
            downtime.watch(experiment.name, schedule, watched)
            schedule.setServiceParent(self)
        downtime.setServiceParent(self)  # behind the schedules, which know then where they begin
        DailyService(reactor, clock, Work.from_config(config)).setServiceParent(self)

    def startService(self) -> None:
        super().startService()
        self._log.info(
            "Perfd {version} was started: source {source}, network {network}, {count} experiments, {directory}",
            version=__version__,
            source=self._config.source,
            network=self._config.network,
            count=len(self._config.experiments),
            directory=self._config.directory,
        )

    def stopService(self) -> Deferred[None]:
        """Stop everything. A second Ctrl-C does not interrupt it, since there are records to write."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._log.info("Perfd is stopping already"))
        return super().stopService()

    def _ready(self) -> None:
        """All that a start consists of is done: ports are bound before, and the schedules are started."""
        self._lock.say(READY)

    def _give_up(self, error: StoreError) -> None:
        self._log.critical("Perfd stops: {error}", error=error)
        self.has_failed = True
        self._lock.say(f"{FAILED}{error}")
        self._reactor.stop()


def variants_of(experiments: Iterable[TorExperiment]) -> list[Variant]:
    """The variants that records of ``experiments`` will have."""
    return [Variant.of(blank) for each in experiments for blank in each.blanks(None, Outcome.SKIPPED, "", "")]


def read_history(reader: AsyncReader, experiment: str, variant: Variant, before: float) -> Deferred[History | None]:
    """How ``variant`` of ``experiment`` went on until ``before``."""
    return reader.run(lambda store: store.history(experiment, variant, before))


def read_last_slot(
    reader: AsyncReader, source: str, experiment: str, variant: Variant, before: float
) -> Deferred[float | None]:
    """The last slot of ``variant`` of ``experiment`` before ``before`` that has a record of this instance."""
    return reader.run(lambda store: store.last_slot(source, experiment, variant, before))


def count_unparsed(events: ControlEvents) -> int:
    """How many events were not in the form of control-spec."""
    return events.counts.unparsed.total()


class Options(usage.Options):
    """What ``twistd perfd`` understands."""

    synopsis = "[--config FILE]"
    longdesc = "Measures the performance of Tor as perfd.conf says. `perfd --help` has more commands."
    optParameters = [["config", "c", "perfd.conf", "The configuration, or the directory that it is in."]]


def makeService(options: Options) -> Perfd:
    """The service for twistd. Ends the program with all problems on standard error if there are any."""
    return _make(Path(options["config"]))


def make_application(config: Path) -> Any:
    """The application for ``perfd.tac``."""
    application = Application("perfd")
    _make(config).setServiceParent(application)
    return application


def _make(path: Path) -> Perfd:
    try:
        config = load_config(path)
        check_machine(config)
    except ConfigError as error:
        raise SystemExit("\n".join(f"perfd: {problem}" for problem in error.problems)) from None
    return Perfd(installed_reactor(), Clock(), config)


def run_twistd() -> None:
    """twistd's main function, with an exit code that tells whether Perfd could go on.

    What prevents the start is one line on standard error.
    """
    # Only for the process that is to be twistd, whose own main function keeps the application to itself.
    from twisted.application import app  # noqa: PLC0415
    from twisted.scripts._twistd_unix import ServerOptions, UnixApplicationRunner  # noqa: PLC0415

    def run_application(options: Any) -> None:
        runner = UnixApplicationRunner(options)
        runner.run()
        if IServiceCollection(runner.application).getServiceNamed("perfd").has_failed:
            raise SystemExit(1)
        if runner._exitSignal is not None:
            app._exitWithSignal(runner._exitSignal)

    try:
        app.run(run_application, ServerOptions)
    except (StartError, OSError) as error:
        os.write(2, f"perfd: {error}\n".encode())  # twistd has put its log in the place of sys.stderr
        raise SystemExit(1) from None


@implementer(ILogObserver)
class NoTwistdLog:
    """For twistd's option ``--logger``: twistd needs no log of its own, since Perfd writes perfd.log."""

    def __call__(self, event: LogEvent) -> None:
        pass
