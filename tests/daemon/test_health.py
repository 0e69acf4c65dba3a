"""Health: the last successes, over restarts and clock steps; what `perfd status` says of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock as FakeReactor
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from perfd.cli.daemon import _health_lines
from perfd.clock import Clock
from perfd.daemon.health import PAUSE, WORTH_A_LINE, Health, HealthHistory, iso
from perfd.logfile.file import LogStatus
from perfd.record import Error, Outcome
from perfd.store.reader import History
from perfd.variant import Variant
from tests.support.instance import SOCKS_CONFIG, TestInstance, wait_for
from tests.support.strategies import typical
from tests.support.tors import SomeTor

START = 1_700_000_000.0
INTERVAL = 300.0
WAY = Variant("default", "public")


@attrs.frozen
class TroubledTor(SomeTor):
    """One that is tried again and again."""

    trouble: str | None


class HealthCase(SynchronousTestCase):
    """One experiment of five minutes."""

    variants: Sequence[Variant] = (WAY,)

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.step = 0.0  # by which the wall clock is off
        self.clock = Clock(
            wall=lambda: START + self.step + self.reactor.seconds(), monotonic=lambda: 5000 + self.reactor.seconds()
        )
        self.trouble: str | None = None
        self.replaced: float | None = None
        self.health = self.start()

    def start(self) -> Health:
        """Perfd is started, now."""
        health = Health(
            self.clock,
            "example",
            "1.2",
            database=lambda: LogStatus(self.trouble, self.replaced),
            log=lambda: LogStatus(None, None),
        )
        health.watch("fast", INTERVAL, lambda: START + 600, self.variants)
        return health

    def end(self, outcome: Outcome = Outcome.OK, **changes: Any) -> None:
        """A measurement has ended."""
        now = self.clock.wall()
        self.health.record(typical(start=now - 1, end=now, experiment="fast", outcome=outcome, **changes))

    @property
    def healthy(self) -> bool:
        healthy: bool = self.health.report()["healthy"]
        return healthy

    @property
    def experiment(self) -> dict[str, Any]:
        """Its one variant."""
        (experiment,) = self.health.report()["experiments"]
        (variant,) = experiment["variants"]
        return dict(variant)


class ReportTests(HealthCase):
    """What the report says."""

    def test_a_tor_that_cannot_start(self) -> None:
        """It makes Perfd unhealthy at once, and no longer when it is ready."""
        for trouble, healthy in (("tor a stopped: exit code 1", False), (None, True)):
            self.health.watch_tors([TroubledTor("a", None, "tor a is starting", trouble)])  # type: ignore[list-item]
            report = self.health.report()
            self.assertEqual((report["healthy"], report["tors"][0]["healthy"]), (healthy, healthy))

    def test_all(self) -> None:
        """Everything of it, ready for JSON."""
        tors = [SomeTor("a", "0.4.9.11", None), SomeTor("b", None, "bootstrapping: 5 %")]
        self.health.watch_tors(tors)  # type: ignore[arg-type]
        self.end()
        self.reactor.advance(10)
        self.end(Outcome.FAILED)
        self.end(Outcome.SKIPPED)
        self.assertEqual(
            self.health.report(),
            {
                "healthy": True,
                "source": "example",
                "version": "1.2",
                "time": "2023-11-14T22:13:30Z",
                "database": "ok",
                "log": "ok",
                "database_replaced": None,
                "log_replaced": None,
                "public_address": None,
                "tors": [
                    {"name": "a", "healthy": True, "state": "ready", "version": "0.4.9.11"},
                    {"name": "b", "healthy": True, "state": "bootstrapping: 5 %", "version": None},
                ],
                "experiments": [
                    {
                        "name": "fast",
                        "healthy": True,
                        "next_slot": "2023-11-14T22:23:20Z",
                        "interval": 300.0,
                        "variants": [
                            {
                                "tor": "default",
                                "server": "public",
                                "browser": None,
                                "optimistic": None,
                                "url": None,
                                "healthy": True,
                                "last_success": "2023-11-14T22:13:20Z",
                                "last_outcome": "skipped",
                                "failures": 2,
                                "counts": {"failed": 1, "ok": 1, "skipped": 1},
                            }
                        ],
                    }
                ],
                "comparisons": [],
            },
        )

    def test_comparisons(self) -> None:
        """What keeps one from going on is told, and is no verdict."""
        self.health.watch_comparisons({"a": lambda: None, "b": lambda: "tor b-1 is starting"})
        report = self.health.report()
        states = [{"name": "a", "state": "ok"}, {"name": "b", "state": "tor b-1 is starting"}]
        self.assertEqual((report["healthy"], report["comparisons"]), (True, states))

    def test_streak(self) -> None:
        """A success ends the streak; what the operator cancelled is no failure, nor is another experiment's."""
        self.end(Outcome.FAILED)
        self.end(Outcome.TIMEOUT)
        self.end(Outcome.CANCELLED, errorcode=Error.STOPPED)
        self.health.record(typical(experiment="another", outcome=Outcome.FAILED))
        self.assertEqual(self.experiment["failures"], 2)
        self.end()
        self.assertEqual(self.experiment["failures"], 0)

    def test_series(self) -> None:
        """A series counts, the requests that it consists of do not."""
        self.end(type="request")
        self.end(Outcome.FAILED, type="request")
        self.end(Outcome.FAILED, type="series")
        self.assertEqual((self.experiment["failures"], self.experiment["counts"]), (1, {"failed": 1}))

    def test_database(self) -> None:
        """Trouble with the database is unhealthy, and named."""
        self.trouble = "disk full"
        self.assertEqual((self.healthy, self.health.report()["database"]), (False, "disk full"))

    def test_replaced(self) -> None:
        """A file that was replaced works again, so that is healthy, but it is told when that was."""
        self.replaced = START
        report = self.health.report()
        self.assertEqual((self.healthy, report["database_replaced"]), (True, iso(START)))
        self.assertIn(
            f"database: ok; it was deleted, moved or replaced at {iso(START)}", _health_lines(report, "tor")
        )


class OutageTests(HealthCase):
    """Unhealthy after three intervals without a success."""

    def test_never_succeeded(self) -> None:
        """Counted from the start."""
        self.reactor.advance(3 * INTERVAL)
        self.assertTrue(self.healthy)
        self.reactor.advance(1)
        self.assertFalse(self.healthy)
        self.assertFalse(self.experiment["healthy"])

    def test_success_ends_it(self) -> None:
        """Counted from the last success, whatever failed since."""
        self.reactor.advance(4 * INTERVAL)
        self.end()
        self.assertTrue(self.healthy)
        self.reactor.advance(3 * INTERVAL)
        self.end(Outcome.FAILED)
        self.assertTrue(self.healthy)
        self.reactor.advance(1)
        self.assertFalse(self.healthy)

    def test_learning_the_build_timeout(self) -> None:
        """Slots skipped until tor has learnt it are no failures, and the three intervals begin after them."""
        self.end(Outcome.FAILED)
        for _ in range(5):
            self.reactor.advance(INTERVAL)
            self.end(Outcome.SKIPPED, errorcode=Error.NOCBT)
        self.assertEqual((self.healthy, self.experiment["failures"]), (True, 1))
        self.assertIsNone(self.experiment["last_success"])
        for _ in range(3):
            self.reactor.advance(INTERVAL)
            self.end(Outcome.SKIPPED, errorcode=Error.NOTREADY)
        self.assertTrue(self.healthy)
        self.reactor.advance(1)
        self.assertEqual((self.healthy, self.experiment["failures"]), (False, 4))

    def test_wall_clock_steps(self) -> None:
        """Steps of the wall clock by an hour neither raise an alarm nor hide an outage."""
        self.end()
        self.step = 3600.0
        self.assertTrue(self.healthy)
        self.step = -3600.0
        self.reactor.advance(3 * INTERVAL + 1)
        self.assertFalse(self.healthy)
        self.end()
        self.assertTrue(self.healthy)


class VariantTests(HealthCase):
    """Each variant has to succeed; none of them speaks for another one."""

    variants = (WAY, Variant("none", "public"), Variant("default", "public", "cold", 1))

    def states(self) -> list[bool]:
        (experiment,) = self.health.report()["experiments"]
        self.assertEqual(experiment["healthy"], self.healthy)
        return [variant["healthy"] for variant in experiment["variants"]]

    def test_baseline(self) -> None:
        """A direct baseline that always succeeds does not hide a tor that never does."""
        for _ in range(4):
            self.reactor.advance(INTERVAL)
            self.end(Outcome.FAILED)
            self.end(tor="none")
            self.end(extra={"BROWSER": "cold", "OPTIMISTIC": 1})
        self.assertEqual((self.states(), self.healthy), ([False, True, True], False))
        self.end()
        self.assertEqual((self.states(), self.healthy), ([True] * 3, True))

    def test_no_records(self) -> None:
        """Nor one of which nothing ever came."""
        self.reactor.advance(4 * INTERVAL)
        self.end()
        self.end(tor="none")
        self.assertEqual(self.states(), [True, True, False])

    def test_history(self) -> None:
        """Each has its own."""
        self.reactor.advance(4 * INTERVAL)
        self.health = self.start()
        now = self.clock.wall()

        async def read(_: str, variant: Variant, before: float) -> History | None:
            return History(START, START, 4) if variant == WAY else History(START, before - 1, 0)

        self.successResultOf(Deferred.fromCoroutine(self.health.remember(read)))
        self.assertEqual(self.states(), [False, True, True])
        variants = self.health.report()["experiments"][0]["variants"]
        self.assertEqual([each["last_success"] for each in variants], [iso(START), iso(now - 1), iso(now - 1)])

    def test_strange(self) -> None:
        """A record of no variant that is configured counts for none."""
        self.end(Outcome.FAILED, tor="other")
        counts = [each["counts"] for each in self.health.report()["experiments"][0]["variants"]]
        self.assertEqual(counts, [{}] * 3)


class RestartTests(HealthCase):
    """What was before the start comes out of the database."""

    def restart(self, history: History | None, off: float = 10.0) -> None:
        """Perfd is stopped and started again, when ``off`` seconds have passed."""
        self.reactor.advance(off)
        self.health = self.start()
        self.asked: list[tuple[str, Variant, float]] = []

        def read(experiment: str, variant: Variant, before: float) -> Deferred[History | None]:
            self.asked.append((experiment, variant, before))
            return succeed(history)

        self.successResultOf(Deferred.fromCoroutine(self.health.remember(read)))

    def test_outage_goes_on(self) -> None:
        """Restarts in an outage, however many, do not hide it; the streak goes on too."""
        success = self.clock.wall()
        for _ in range(5):
            self.restart(History(success - 5000, success, 7), off=2 * INTERVAL)
        self.assertFalse(self.healthy)
        self.assertEqual(
            (self.experiment["failures"], self.experiment["last_success"]), (7, "2023-11-14T22:13:20Z")
        )
        self.end(Outcome.FAILED)
        self.assertEqual(self.experiment["failures"], 8)
        self.end()
        self.assertEqual((self.healthy, self.experiment["failures"]), (True, 0))

    def test_restart_in_good_times(self) -> None:
        """A restart neither raises an alarm nor begins the three intervals anew."""
        success = self.clock.wall()
        self.restart(History(success - 5000, success, 0), off=2 * INTERVAL)
        self.assertTrue(self.healthy)
        self.reactor.advance(INTERVAL + 1)
        self.assertFalse(self.healthy)

    def test_never_succeeded(self) -> None:
        """An experiment that has only failed is measured from its first failure."""
        first = self.clock.wall()
        self.restart(History(first, None, 4), off=4 * INTERVAL)
        self.assertEqual((self.healthy, self.experiment["last_success"]), (False, None))

    def test_new_experiment(self) -> None:
        """One that the database does not know has its three intervals."""
        self.restart(None)
        self.reactor.advance(3 * INTERVAL)
        self.assertTrue(self.healthy)

    def test_only_what_was_before(self) -> None:
        """The database is asked for what was before the start: nothing counts twice, nor what lies ahead."""
        self.restart(None)
        self.assertEqual(self.asked, [("fast", WAY, self.clock.wall())])

    def test_success_meanwhile(self) -> None:
        """What is read late does not undo what has happened since."""
        self.health = self.start()
        answer: Deferred[History | None] = Deferred()
        done = Deferred.fromCoroutine(self.health.remember(lambda *_: answer))
        self.end()
        answer.callback(History(START - 90000, START - 80000, 9))
        self.successResultOf(done)
        self.assertEqual((self.healthy, self.experiment["failures"]), (True, 0))

    def test_learning_meanwhile(self) -> None:
        """Nor does it take back that tor is learning; the last success is remembered all the same."""
        self.health = self.start()
        self.end(Outcome.SKIPPED, errorcode=Error.NOCBT)
        history = History(START - 90000, START - 80000, 9)
        self.successResultOf(Deferred.fromCoroutine(self.health.remember(lambda *_: succeed(history))))
        self.assertEqual((self.healthy, self.experiment["failures"]), (True, 9))
        self.assertEqual(self.experiment["last_success"], iso(START - 80000))


class HistoryServiceTests(HealthCase):
    """The service that reads it."""

    def service(self, read: Callable[..., Awaitable[History | None]]) -> HealthHistory:
        """The service, started."""
        service = HealthHistory(self.reactor, self.health, read)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def test_tried_again(self) -> None:
        """While the database is made or locked it is tried again; after many tries the log says so, once."""
        logged: list[LogEvent] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        left = WORTH_A_LINE + 3

        async def read(*_: object) -> History:
            nonlocal left
            left -= 1
            if left:
                raise OSError("locked")
            return History(START - 9000, START - 9000, 1)

        self.service(read)
        self.assertTrue(self.healthy)
        self.reactor.pump([PAUSE] * left)
        self.assertEqual((left, self.healthy, self.reactor.getDelayedCalls()), (0, False, []))
        self.assertEqual([str(event["error"]) for event in logged if "error" in event], ["locked"])

    def test_stopped(self) -> None:
        """A stop ends it, while it reads and while it waits for the next try."""
        for answer in (Deferred[History | None](), fail(OSError())):
            self.service(lambda *_, answer=answer: answer).stopService()
            self.assertTrue(answer.called)
            self.assertEqual(self.reactor.getDelayedCalls(), [])


def test_status_lines() -> None:
    """`perfd status` has a line for each tor, each variant of an experiment and the database."""
    way = {"tor": "a", "server": "public", "browser": None, "optimistic": None}
    bad = {**way, "healthy": False, "last_success": None, "failures": 3}
    experiment = {"name": "fast", "next_slot": None, "variants": [bad]}
    good = {**way, "healthy": True, "last_success": "2026-11-23T15:00:00Z", "failures": 0}
    several = {"name": "both", "next_slot": None, "variants": [bad, {**good, "tor": "none"}]}
    tors = [
        {"name": "a", "healthy": True, "state": "ready", "version": "0.4.9.11"},
        {"name": "b", "healthy": False, "state": "starting", "version": None},
    ]
    assert _health_lines({"tors": tors, "experiments": [experiment, several], "database": "ok"}, "tor") == [
        "tor a 0.4.9.11: ready",
        "tor b (version unknown): UNHEALTHY, starting",
        "fast: UNHEALTHY, last success never, 3 failures, next never",
        "both [a]: UNHEALTHY, last success never, 3 failures, next never",
        "both [none]: last success 2026-11-23T15:00:00Z, 0 failures since, next never",
        "database: ok",
    ]
    proxies = [{"name": "a", "healthy": True, "state": "ready", "version": None}]
    assert _health_lines({"tors": proxies, "database": "ok"}, "socks") == ["proxy a: ready", "database: ok"]
    assert _health_lines(None, "tor") == ["its web server does not answer"]
    assert _health_lines({"error": {"status": 403, "message": "closed"}}, "tor") == [
        "its health cannot be read: closed"
    ]


def last_success(instance: TestInstance) -> Any:
    """That of the one variant of the one experiment."""
    return json.loads(instance.get("/health")[1])["experiments"][0]["variants"][0]["last_success"]


@pytest.mark.long
def test_restarted_daemon(tmp_path: Path) -> None:
    """A daemon that is started again knows the last success of its predecessor, and that it is too long ago."""
    instance = TestInstance(tmp_path)
    instance.start()
    try:
        instance.wait_for_measurements(1, outcome=Outcome.OK)
        wait_for(instance.results, "the row")
        instance.perfd("stop")
        instance.configure(SOCKS_CONFIG.replace("50 KiB", "1 GiB"))  # which takes longer than its 900 ms
        instance.start()
        last = wait_for(lambda: last_success(instance), "memory")
        newest = max(m.start for m in instance.logged() if m.outcome is Outcome.OK)
        assert last == iso(newest)
        wait_for(lambda: instance.get("/health")[0] == 503, "the alarm")
        done = instance.perfd("status")
        assert (done.returncode, "UNHEALTHY" in done.stdout, iso(newest) in done.stdout) == (1, True, True)
        instance.perfd("restart")
        wait_for(lambda: instance.get("/health")[0] == 503, "the alarm again")
    finally:
        instance.perfd("stop")
