"""Reloading perfd.conf: one at a time, as a whole or not at all; and a real daemon that does it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from perfd.config import Config, ConfigError, parse_config
from perfd.daemon.changes import Changes
from perfd.daemon.reload import Reloads
from perfd.instance import Instance, InstanceLock, ReloadReport
from perfd.record import Error, Outcome
from tests.support.instance import SOCKS_CONFIG, TestInstance, processes_in, running, wait_for

SLOW = SOCKS_CONFIG.replace("50 KiB", "1000 GiB").replace("900 ms", "3500 ms").replace("1 s", "5 s")
SLOW = SLOW.replace("[server]", "[server]\nmax-size = 1000 GiB")
"""A run that takes 3.5 s."""


class ReloadsTests(SynchronousTestCase):
    """The file is read when the test says so."""

    def setUp(self) -> None:
        self.config = parse_config(SOCKS_CONFIG.replace("{port}", "1"), Path("perfd.conf"))
        self.reading: list[Deferred[Config]] = []
        self.taken: list[Config] = []
        self.told: list[ReloadReport] = []
        self.reloads = Reloads(self.read, self.take, self.told.append)

    def read(self) -> Deferred[Config]:
        self.reading.append(Deferred())
        return self.reading[-1]

    def take(self, config: Config) -> Changes:
        self.taken.append(config)
        return Changes(config, ("a",), ("b",), (), ())

    def test_done(self) -> None:
        """It is told when it begins, and what came of it."""
        self.reloads.request()
        self.assertEqual(self.told, [ReloadReport(1, 0)])
        self.reading[0].callback(self.config)
        self.assertEqual(self.told[1:], [ReloadReport(1, 1, (), ("a",), ("b",))])

    def test_refused(self) -> None:
        """Of a file with mistakes nothing is taken over, and all of them are told."""
        self.reloads.request()
        self.reading[0].errback(ConfigError(["one", "two"]))
        self.assertEqual((self.taken, self.told[-1]), ([], ReloadReport(1, 1, ("one", "two"))))

    def test_meanwhile(self) -> None:
        """Who asks while the file is read gets another reload, however many ask."""
        for _ in range(3):
            self.reloads.request()
        self.reading[0].callback(self.config)
        self.assertEqual((len(self.reading), self.told[-1].begun, self.told[-1].done), (2, 2, 1))
        self.reading[1].callback(self.config)
        self.assertEqual((len(self.reading), self.told[-1].done), (2, 2))

    def test_error_inside(self) -> None:
        """An error of our own is told as well, and does not prevent the next one."""
        self.reloads.request()
        self.reading[0].errback(ZeroDivisionError("oops"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.told[-1].problems, ("ZeroDivisionError: oops",))
        self.reloads.request()
        self.reading[1].callback(self.config)
        self.assertEqual(self.told[-1].done, 2)


def test_report_in_the_lock(tmp_path: Path) -> None:
    """What the daemon tells stands beside its state; half of it is nothing."""
    found = Instance(tmp_path)
    lock = InstanceLock(found.lock_file)
    lock.write_state("ready")
    assert found.reload_report() == ReloadReport()
    report = ReloadReport(2, 1, ("a\nb", "ü"), ("c",), ())
    lock.write_report(report)
    assert (found.reload_report(), found.state()) == (report, "ready")
    lock.write_state("other")
    assert found.reload_report() == report
    found.lock_file.write_text(found.lock_file.read_text()[:-20] + "\n")
    assert found.reload_report() is None
    lock.release()


REPORTS = (
    ReloadReport(1, 0),
    ReloadReport(1, 1, (), ("[server] results",)),
    ReloadReport(2, 1, (), ("[server] results",)),
    ReloadReport(2, 2, tuple(f"a problem on line {n}" for n in range(9, 12))),
    ReloadReport(3, 2),
)
"""What a daemon tells one after the other; some are shorter than the one before."""


def test_lock_between_the_steps_of_a_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at any time finds who holds the lock, and no report but the last or the new one."""
    found = Instance(tmp_path)
    lock = InstanceLock(found.lock_file)
    lock.write_state("ready")
    lock.write_report(REPORTS[0])
    looks: list[tuple[int | None, ReloadReport | None]] = []

    def watched(step: Callable[..., int | None]) -> Callable[..., int | None]:
        def call(*arguments: object) -> int | None:
            done = step(*arguments)
            looks.append((found.recorded_pid(), found.reload_report()))
            return done

        return call

    for name in ("pwrite", "ftruncate"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    for last, new in pairwise(REPORTS):
        looks.clear()
        lock.write_report(new)
        assert looks
        assert {pid for pid, _ in looks} == {os.getpid()}
        assert {report for _, report in looks} <= {None, last, new}
    lock.release()


def test_lock_of_two_writings(tmp_path: Path) -> None:
    """What the system may give of a writing that goes on, cut or a part of each, is taken for no third report."""
    found = Instance(tmp_path)
    lock = InstanceLock(found.lock_file)
    lock.write_state("ready")
    contents: list[bytes] = []
    for report in REPORTS:
        lock.write_report(report)
        contents.append(found.lock_file.read_bytes())
    for (last, new), reports in zip(pairwise(contents), pairwise(REPORTS), strict=True):
        for n in range(max(len(last), len(new))):
            for given in (new[:n], new[:n] + last[n:], last[:n] + new[n:]):
                found.lock_file.write_bytes(given)
                assert found.reload_report() in {None, *reports}
    lock.release()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[TestInstance]:
    """An instance that is not started."""
    made = TestInstance(tmp_path)
    yield made
    made.perfd("stop")


def test_command(instance: TestInstance) -> None:
    """`perfd reload` says what has changed and what needs a restart, and that is so; or what is wrong."""
    assert instance.perfd("reload").returncode == 7
    instance.start()
    pid = instance.pid
    instance.wait_for_measurements(1, outcome=Outcome.OK)
    more = "\n[experiment:later]\nsize = 20 KiB\ninterval = 1 s\n"
    limits = "[server]\nresults = none\nmax-size = 2 MiB"
    instance.configure(SOCKS_CONFIG.replace("[server]", limits).replace("= test\n", "= other\n") + more)
    done = instance.perfd("reload")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "[server] results, max-size",
        "[experiment:later] added",
        "needs `perfd restart`:",
        "  [perfd] source",
    ]
    assert "needs `perfd restart`: [perfd] source" in instance.perfd("status").stdout
    assert json.loads(instance.perfd("status", "--json").stdout)["restart"] == ["[perfd] source"]
    (later, *_) = instance.wait_for_measurements(2, experiment="later", outcome=Outcome.OK)
    assert later.source == "test"
    assert (instance.get("/results")[0], instance.get("/random/3MiB")[0], instance.get("/random/2MiB")[0]) == (
        403,
        413,
        200,
    )
    assert {(instance.directory / name).stat().st_mode & 0o7 for name in ("perfd.log", "perfd.sqlite")} == {0}
    wait_for(lambda: b'"maximum": 2097152' in instance.get("/openapi.json")[1], "the description")
    instance.configure(SOCKS_CONFIG.replace("interval", "intervall").replace("= 50 KiB", "= big"))
    done = instance.perfd("reload")
    assert (done.returncode, done.stdout) == (1, "")
    for text in (
        "[experiment:fast] intervall: unknown option",
        "[experiment:fast] size: ",
        "perfd goes on as it was",
    ):
        assert text in done.stderr
    assert "perfd.conf has mistakes" in instance.log.read_text()
    instance.configure(SOCKS_CONFIG.replace("127.0.0.1:{port}", "127.0.0.1:1"))
    assert instance.perfd("reload").stdout.splitlines() == [
        "[server] results, max-size",
        "[experiment:later] removed",
        "needs `perfd restart`:",
        "  [server] listen, public-address",
    ]
    status = instance.perfd("status")  # the web server is asked where it listens, not where it will
    assert (status.returncode, "does not answer" in status.stdout) == (0, False)
    instance.configure(SOCKS_CONFIG)
    instance.perfd("reload")
    assert instance.perfd("reload").stdout == "nothing has changed\n"
    assert "restart" not in instance.perfd("status").stdout
    instance.configure(SOCKS_CONFIG.replace("[server]", "[server]\nmax-rate = 100 KiB/s"))
    assert instance.perfd("reload").stdout == "[server] max-rate\n"
    before = time.monotonic()
    assert len(instance.get("/random/200KiB")[1]) == 200 * 1024
    assert time.monotonic() - before > 1.5
    instance.configure(SOCKS_CONFIG)
    instance.perfd("reload")
    seen = len(instance.wait_for_measurements(1, experiment="later"))
    instance.wait_for_measurements(len(instance.logged()) + 2)
    assert len(instance.wait_for_measurements(1, experiment="later")) == seen
    assert instance.get("/random/3MiB")[0] == 200
    assert instance.pid == pid
    status = json.loads(instance.perfd("status", "--json").stdout)
    assert [each["name"] for each in status["health"]["experiments"]] == ["fast"]


def test_hangup(instance: TestInstance) -> None:
    """SIGHUP reopens the log of a daemon and reloads perfd.conf; each slot has its record, before and after."""
    instance.start()
    instance.wait_for_measurements(2)
    instance.log.rename(instance.directory / "old.log")
    instance.configure(SOCKS_CONFIG.replace("1 s", "2 s"))
    os.kill(instance.pid, signal.SIGHUP)
    found = instance.wait_for_measurements(3)
    text = instance.log.read_text()
    assert "perfd.conf was reloaded: [experiment:fast] interval" in text
    assert "while Perfd ran" not in text
    slots = [m.slot for m in found if m.slot is not None]
    assert all(b - a == 2 and a % 2 == 0 for a, b in pairwise(slots))


def test_run_in_flight(instance: TestInstance) -> None:
    """A run that goes on while its experiment is changed, or removed, ends by itself."""
    instance.configure(SLOW)
    instance.start()
    pid = instance.pid

    def wait_for_run() -> None:
        time.sleep(5 - time.time() % 5 + 0.7)

    wait_for_run()
    instance.configure(SLOW.replace("= 5 s", "= 1 h") + "optimistic = yes\n")
    assert instance.perfd("reload").stdout == "[experiment:fast] interval, optimistic\n"
    (first,) = instance.wait_for_measurements(1)
    assert (first.outcome, first.extra.get("OPTIMISTIC")) == (Outcome.TIMEOUT, None)
    instance.configure(SLOW)
    instance.perfd("reload")
    wait_for_run()
    instance.configure(SLOW.replace("experiment:fast", "experiment:slow"))
    assert instance.perfd("reload").stdout == "[experiment:slow] added\n[experiment:fast] removed\n"
    found = instance.wait_for_measurements(2, experiment="fast")
    assert {m.outcome for m in found} == {Outcome.TIMEOUT}
    assert instance.pid == pid


@pytest.mark.long
def test_many_reloads(instance: TestInstance) -> None:
    """While perfd.conf is reloaded again and again, each slot has one record, and each command its answer."""
    instance.start()
    for n in range(4):
        instance.configure(SOCKS_CONFIG.replace("50 KiB", f"{20 + n} KiB"))
        with ThreadPoolExecutor() as pool:
            codes = list(pool.map(lambda _: instance.perfd("reload").returncode, range(2)))
        assert codes == [0, 0]
    instance.wait_for_measurements(1, filesize=23 * 1024)
    assert instance.perfd("stop").returncode == 0
    slots = [m.slot for m in instance.logged()]
    assert slots == [slots[0] + n for n in range(len(slots)) if slots[0] is not None]


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


FOREGROUND = {
    "run": ("run",),
    "measure": ("measure", "--experiment", "fast", "--count", "1000", "--json"),
    "proxy": ("proxy", "--listen", "127.0.0.1:{port}"),
}


CODES = {"run": -signal.SIGTERM, "measure": 1, "proxy": 0}
"""What each ends with on SIGTERM."""


@pytest.mark.parametrize("name", FOREGROUND)
def test_hangup_in_the_foreground(instance: TestInstance, name: str) -> None:
    """SIGHUP does what SIGTERM does: the run in flight is a record, and nothing is left."""
    instance.configure(SLOW)
    command = [word.replace("{port}", str(instance.port)) for word in FOREGROUND[name]]
    with running(
        [sys.executable, "-P", "-m", "perfd", *command],
        cwd=instance.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if name == "run":
            wait_for(lambda: instance.log.exists() and "was started" in instance.log.read_text(), "the start")
            time.sleep(5 - time.time() % 5 + 1.0)
        elif name == "measure":
            assert process.stderr is not None
            while "ready" not in process.stderr.readline():
                pass
            time.sleep(0.5)
        else:
            wait_for(lambda: is_open(instance.port), "the proxy's port")
        seen = len(instance.logged())
        process.send_signal(signal.SIGHUP)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == CODES[name]
    assert "Traceback" not in errors
    if name == "run":
        (cancelled,) = instance.logged()[seen:]
        assert (cancelled.outcome, cancelled.errorcode) == (Outcome.CANCELLED, Error.STOPPED)
    elif name == "measure":
        assert json.loads(output.splitlines()[-1])["outcome"] == "cancelled"
    assert not processes_in(instance.directory)


@pytest.mark.long
def test_nohup(instance: TestInstance) -> None:
    """Who has started it with nohup(1) wants it to go on."""
    command = ["nohup", sys.executable, "-P", "-m", "perfd", "run"]
    with running(
        command,
        cwd=instance.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    ) as process:
        instance.wait_for_measurements(1)
        process.send_signal(signal.SIGHUP)
        instance.wait_for_measurements(3)
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.parametrize("name", ["run", pytest.param("measure", marks=pytest.mark.long)])
def test_closed_terminal(instance: TestInstance, name: str) -> None:
    """When its terminal is closed, Perfd ends as it should: the run in flight is a record, and nothing is left."""
    instance.configure(SLOW)
    terminal, inside = pty.openpty()
    command = [sys.executable, "-P", "-m", "perfd", *FOREGROUND[name]]
    if name == "measure":
        command.remove("--json")
    with running(
        command,
        cwd=instance.directory,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(inside)
        seen = b""
        while b"next:" not in seen and b"0 done" not in seen and b"download" not in seen:
            seen += os.read(terminal, 65536)
        until = time.monotonic() + 5 - time.time() % 5 + 1.5
        while time.monotonic() < until:
            if select.select([terminal], [], [], 0.1)[0]:
                os.read(terminal, 65536)
        os.close(terminal)
        process.wait(60)
    wait_for(lambda: not processes_in(instance.directory), "the end of all")
    if name == "run":
        assert (instance.logged()[-1].outcome, instance.logged()[-1].errorcode) == (
            Outcome.CANCELLED,
            Error.STOPPED,
        )
