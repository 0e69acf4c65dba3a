"""The daemon: what it is made of, in which order it starts and stops. The only module that knows everything.

twistd calls ``makeService`` before it changes directory, forks and drops privileges. So nothing is opened there:
the port is bound in ``privilegedStartService``, everything else begins in ``startService``.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Application, IServiceCollection
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.python import usage
from zope.interface import implementer

from perfd import __version__, descriptors, routes
from perfd.browser.files.writer import MaterialWriter
from perfd.clock import Clock
from perfd.comparison.judge import Judge
from perfd.comparison.running import Place, in_turn
from perfd.comparison.service import ComparisonService, Overlaps
from perfd.config import Config, ConfigError, load_config
from perfd.config.records import ComparisonConfig
from perfd.daemon.changes import Changes, compare
from perfd.daemon.disk import DiskService
from perfd.daemon.downtime import Downtime
from perfd.daemon.files import LockService, LogService, StoreService
from perfd.daemon.health import Health, HealthHistory, iso
from perfd.daemon.marks import Marks
from perfd.daemon.metrics import Metrics
from perfd.daemon.modes import close_to_others
from perfd.daemon.notify import Notifications, Notifier
from perfd.daemon.order import OrderedServices, StartError
from perfd.daemon.reachable import PublicAddressService
from perfd.daemon.reload import Reloads
from perfd.daemon.schedules import Schedules
from perfd.daemon.sinks import EventFanOut, FanOut
from perfd.daemon.state import daemon_state
from perfd.daemon.stored import StoredDesigns, StoredMarks, read_history, read_last_slot
from perfd.daemon.upkeep.daily import DailyService
from perfd.daemon.upkeep.work import Work
from perfd.experiments.scan import ScanState
from perfd.instance import FAILED, READY, Instance, ReloadReport, umask
from perfd.laboratory import Laboratory
from perfd.laboratory.costs import scan_costs
from perfd.laboratory.wanted import is_public_wanted
from perfd.logfile.line import LogSink
from perfd.pages.process import PagesProcess
from perfd.preflight import check_machine
from perfd.processes.orphans import Orphans
from perfd.processes.signals import end_on_hangup
from perfd.processes.users import User
from perfd.reactor import Reactor, installed_reactor
from perfd.store.database import StoreError, database_path
from perfd.store.page_files import DIRECTORY as LOAD_FILES
from perfd.store.reader import AsyncReader
from perfd.store.scans import last_pass
from perfd.store.schema import open_database
from perfd.store.worker import ThreadWorker
from perfd.store.writer import StoreSink
from perfd.tor.events.listener import ControlEvents
from perfd.tor.launch import TorService
from perfd.web.results.answers import MOST_SECONDS, Access, PublicDatabase
from perfd.web.results.people import People


class Perfd(OrderedServices):
    """The daemon of one instance. Its parts start in the order in which they are added, and stop the other way."""

    _log = Logger()

    def __init__(self, reactor: Reactor, clock: Clock, config: Config, notifier: Notifier | None = None) -> None:
        super().__init__()
        self.setName("perfd")
        self.has_failed = False  # it cannot go on, so whoever runs it is to be told
        self._reactor = reactor
        self._config = config
        self._made_in = os.getpid()
        self._notifier = notifier or Notifier()
        instance = Instance(config.directory)
        database = database_path(config.database, config.directory)
        connect = partial(open_database, tell=partial(reactor.callFromThread, self._tell_upgrade))
        store = StoreSink(reactor, ThreadWorker(reactor, "perfd-writer"), database, connect)
        reader = AsyncReader(ThreadWorker(reactor, "perfd-reader", 2), database)
        strangers = AsyncReader(ThreadWorker(reactor, "perfd-strangers", 2), database, MOST_SECONDS)
        self._log_service = log = LogService(reactor, instance.log_file, config.keep_logs)
        self._health = health = Health(
            clock, config.source, __version__, database=lambda: store.status, log=lambda: log.status
        )
        metrics = Metrics(config.source, __version__, lambda: store.status.pending)
        made_pages = PagesProcess(reactor, database)
        disk = DiskService(reactor, config.directory)
        people = People(
            reactor,
            made_pages,
            lambda: daemon_state(self._config, health.report(), disk.room, clock.wall()),
            clock.monotonic,
        )
        sinks = FanOut({"log": LogSink(), "database": store, "health": health, "metrics": metrics, "pages": people})
        self._access = Access(config.server.results, reader.call)
        public = PublicDatabase(strangers, self._access, local=reader, people=people)
        pages = routes.read(
            public, config.directory, health.report, metrics.exposition, is_indexed=config.server.is_indexed
        )
        material = MaterialWriter(reactor, config.directory / LOAD_FILES)
        events = EventFanOut({"database": store})
        self._laboratory = laboratory = Laboratory(
            *(reactor, clock, config, pages, events, material, store.record_curve),
            scans=partial(read_scan, reader, config.source),
        )
        health.watch_tors(list(laboratory.tors.values()))
        unparsed = {name: partial(count_unparsed, events) for name, events in laboratory.events.items()}
        metrics.watch_tors(list(laboratory.tors.values()), unparsed)
        metrics.watch_server(lambda: laboratory.sent)
        metrics.watch_hold_ups(lambda: laboratory.held_up)
        metrics.watch_health(health.variants)
        reached = PublicAddressService(reactor, config.server.public_address)
        health.watch_address(lambda: reached.state)
        metrics.watch_disk(lambda: disk.room)
        self._schedules = Schedules(reactor, clock, sinks, health, metrics)
        for experiment in config.experiments:
            self._schedules.set(experiment, laboratory.experiments(experiment))
        comparisons = self._make_comparisons(clock, sinks, StoredDesigns(reader, store))
        self._marks = Marks(reactor, clock, config, StoredMarks(reader, store, config.source))
        sinks.add("notes", self._marks)
        downtime = Downtime(reactor, partial(read_last_slot, reader, config.source))
        self._schedules.make_up(downtime)
        self._daily = DailyService(reactor, clock, Work.from_config(config))
        self._lock = LockService(instance, str(config.server.listen))
        self._notifications = Notifications(reactor, self._notifier, self._summary)
        self._reloads = Reloads(self._read_config, self._take, self._tell_reload)
        for service in (
            self._lock,
            log,
            self._notifications,
            StoreService(reactor, store, (reader, strangers), self._ready, self._give_up),
            self._marks,
            HealthHistory(reactor, health, partial(read_history, reader)),
            disk,
            made_pages,
            laboratory,
            self._schedules,
            *comparisons,
            *([reached] if is_public_wanted(config) else []),
            downtime,  # behind the schedules, which know then where they begin
            self._daily,
            Orphans(reactor),
        ):
            service.setServiceParent(self)

    def _make_comparisons(self, clock: Clock, sinks: FanOut, designs: StoredDesigns) -> Sequence[ComparisonService]:
        overlaps = Overlaps(self._schedules.measuring)
        sinks.add("overlaps", overlaps)
        source, judge = self._config.source, Judge(self._reactor)
        made = {
            each.name: ComparisonService(
                *(self._reactor, clock, each, source, places_of(each, self._laboratory), sinks, designs, overlaps),
                judge,
            )
            for each in self._config.comparisons
        }
        self._health.watch_comparisons({name: partial(getattr, each, "hindrance") for name, each in made.items()})
        return [*made.values()]

    def privilegedStartService(self) -> None:
        descriptors.raise_limit()  # before sites see how many they can have
        super().privilegedStartService()

    def startService(self) -> None:
        self._watch_for_hangup()  # before there are processes that would be left
        super().startService()
        close_to_others(self._config)
        gc.collect()
        gc.freeze()  # to look through all that stays, again and again, would hold the reactor for some 40 ms
        self._log.info(
            "Perfd {version} was started: source {source}, network {network}, {count} experiments, {directory}",
            version=__version__,
            source=self._config.source,
            network=self._config.network,
            count=len(self._config.experiments),
            directory=self._config.directory,
        )
        for cost in scan_costs(self._config):
            self._log.info("{cost}", cost=cost)
        if shortage := descriptors.shortage(self._config, descriptors.most()):
            self._log.warn("{shortage}", shortage=shortage)

    def stopService(self) -> Deferred[None]:
        """Stop everything. A second Ctrl-C does not interrupt it, since there are records to write."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._log.info("Perfd is stopping already"))
        self._notifications.stopping()
        return super().stopService()

    def reload(self) -> None:
        """Reopen the log, and take over what perfd.conf says now. Returns at once; signals may call it."""
        self._log_service.reopen()
        self._reactor.callFromThread(self._reloads.request)

    def _tell_upgrade(self, step: str) -> None:
        """The database is being upgraded, which can take minutes."""
        self._lock.say(step)
        self._log.info("{step}", step=step)

    def _watch_for_hangup(self) -> None:
        """SIGHUP reloads a daemon. In the foreground it says that the terminal is gone, which ends Perfd."""
        signal.signal(signal.SIGUSR2, lambda *_: self.reload())
        if os.getpid() != self._made_in or self._notifier.is_wanted:
            signal.signal(signal.SIGHUP, lambda *_: self.reload())
        else:
            end_on_hangup()

    def _read_config(self) -> Deferred[Config]:
        # By its absolute name: twistd may have gone to another directory.
        path = self._config.directory / self._config.path.name
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), _checked_config, path)

    def _take(self, config: Config) -> Changes:
        if not self.running:
            raise ConfigError(["Perfd is stopping"])
        changes = compare(self._config, config, self._laboratory.lacks)
        self._config = config = changes.config
        if self._access.allowed != config.server.results:
            self._access.allowed = config.server.results
            os.umask(umask(config.server.results))
            close_to_others(config)
        self._log_service.keep(config.keep_logs)
        self._daily.change(Work.from_config(config))
        self._laboratory.change(config)
        self._marks.configured(config)
        for experiment in changes.measured:
            self._schedules.set(experiment, self._laboratory.experiments(experiment))
        for name in changes.removed:
            self._schedules.remove(name)
        return changes

    def _tell_reload(self, report: ReloadReport) -> None:
        if report.done < report.begun:
            self._notifications.reloading()
        else:
            self._notifications.reloaded()
        self._lock.report(report)

    def _summary(self) -> str:
        """One line for the service manager."""
        slot = self._schedules.next_slot
        health = "healthy" if self._health.report()["healthy"] else "unhealthy, see `perfd status`"
        return f"{len(self._config.experiments)} experiments, next at {iso(slot) or 'no time'}; {health}"

    def _ready(self) -> None:
        """All that a start consists of is done: ports are bound before, and the schedules are started."""
        self._lock.say(READY)
        self._notifications.ready()

    def _give_up(self, error: StoreError) -> None:
        self._log.critical("Perfd stops: {error}", error=error)
        self.has_failed = True
        self._lock.say(f"{FAILED}{error}")
        self._notifications.failed(str(error))
        self._reactor.stop()


def places_of(comparison: ComparisonConfig, laboratory: Laboratory) -> list[Place]:
    """The data directories of a comparison, or the one tor that is there, which serves both arms."""
    of_arms = in_turn([laboratory.experiments(each) for each in comparison.experiments])
    tors = [laboratory.tors.get(name) for name in comparison.experiments[0].tors]
    is_ours = bool(comparison.tors)
    return [
        Place(tor if is_ours and isinstance(tor, TorService) else None, comparison.arms, of_place)
        for tor, of_place in zip(tors, zip(*of_arms, strict=True), strict=True)
    ]


def _checked_config(path: Path) -> Config:
    """The configuration in ``path``, of which this machine has what it needs. Raises ConfigError."""
    config = load_config(path)
    check_machine(config, may_run=True)
    return config


async def read_scan(reader: AsyncReader, source: str, experiment: str, tor: str, server: str) -> ScanState | None:
    """How far a scan over this tor and way had come. Raises StoreError and sqlite3.Error."""
    found = await reader.run(lambda store: last_pass(store, source, experiment, tor, server))
    return None if found is None else ScanState(*found)


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
    parent: Mapping[str, object] = options.parent or {}
    ids = (None if parent.get(name) is None else str(parent[name]) for name in ("uid", "gid"))
    return _make(Path(options["config"]), User(*ids))


def make_application(config: Path) -> Any:
    """The application for ``perfd.tac``."""
    application = Application("perfd")
    _make(config, User()).setServiceParent(application)
    return application


def _make(path: Path, user: User) -> Perfd:
    """``user``: whom twistd becomes after it has bound the ports."""
    try:
        config = load_config(path)
        check_machine(config, user)
    except ConfigError as error:
        raise SystemExit("\n".join(f"perfd: {problem}" for problem in error.problems)) from None
    return Perfd(installed_reactor(), Clock(), config, Notifier.from_environment())


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
