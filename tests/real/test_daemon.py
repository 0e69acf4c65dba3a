"""The daemon with a real tor on the private network: the main job, and what it does when tor has trouble."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from perfd.record import Error, Measurement, Outcome
from tests.support.instance import TestInstance, is_alive, processes_in, wait_for

pytestmark = pytest.mark.tor

CONFIG = """
[perfd]
source = test
network = testnet
testnet = {testnet}
[server]
listen = 127.0.0.1:{port}
[tor]
bootstrap-timeout = 120 s
[experiment:small]
size = 50 KiB
interval = 2 s
timeout = {timeout}
"""

LARGE = """
[experiment:large]
size = 5 MiB
interval = 5 s
offset = 1 s
timeout = 60 s
"""


def configuration(testnet: Path, timeout: str = "30 s") -> str:
    """A perfd.conf for the network in ``testnet``."""
    return CONFIG.replace("{testnet}", str(testnet)).replace("{timeout}", timeout)


@pytest.fixture
def instance(tmp_path: Path, testnet: Any) -> Iterator[TestInstance]:
    """An instance on the private network of this test run, started."""
    made = TestInstance(tmp_path, configuration(testnet.directory))
    made.start()
    yield made
    made.perfd("stop")
    for pid in processes_in(tmp_path):
        os.kill(pid, signal.SIGKILL)


def tor_pid(instance: TestInstance) -> int | None:
    """The tor that the daemon launched."""
    pids = processes_in(instance.directory / "tor" / "default")
    return pids[0] if pids else None


def test_reload(instance: TestInstance, testnet: Any) -> None:
    """perfd.conf is taken over while the same tor runs; what needs another tor waits for a restart."""
    instance.wait_for_measurements(1, outcome=Outcome.OK)
    pid, tor = instance.pid, tor_pid(instance)
    other = "[tor:other]\n[experiment:elsewhere]\ntor = other\ninterval = 5 s\ntimeout = 4 s\n"
    text = configuration(testnet.directory) + LARGE + other
    instance.configure(
        text.replace("[tor]", "[tor]\ntorrc = SafeLogging 0").replace("interval = 2 s", "interval = 3 s")
    )
    done = instance.perfd("reload")
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [
            "[experiment:small] interval",
            "[experiment:large] added",
            "needs `perfd restart`:",
            "  [tor:default] torrc",
            "  [tor:other] added",
            "  [experiment:elsewhere] needs the tor other, which was not launched",
        ],
    ), done.stderr
    instance.wait_for_measurements(2, experiment="large", outcome=Outcome.OK)
    assert (instance.pid, tor_pid(instance)) == (pid, tor)
    logged = instance.logged()
    assert not [m for m in logged if m.experiment == "elsewhere"]
    small = [m.slot for m in logged if m.experiment == "small" and m.slot is not None]
    assert len(small) == len(set(small))
    gaps = [b - a for a, b in pairwise(sorted(small))]
    turn = gaps.index(3.0)
    assert set(gaps[turn:]) == {3.0}
    between = gaps[max(0, turn - 1) : turn]  # it may be anything less than the sum of both intervals
    assert set(gaps[: max(0, turn - 1)]) <= {2.0}
    assert set(between) <= {1.0, 2.0, 4.0}
    instance.configure(configuration(testnet.directory))
    assert "[experiment:large] removed" in instance.perfd("reload").stdout
    assert instance.perfd("stop").returncode == 0
    assert not processes_in(instance.directory)


def test_measures_tor(instance: TestInstance, testnet: Any) -> None:
    """Real circuits: a log line, a row and a result for each size, and no tor left when the daemon has stopped."""
    instance.configure(configuration(testnet.directory) + LARGE)
    instance.perfd("restart")
    small = instance.wait_for_measurements(2, experiment="small", outcome=Outcome.OK)[-1]
    large = instance.wait_for_measurements(1, experiment="large", outcome=Outcome.OK)[-1]
    for measured in (small, large):
        check_steps(measured)
        wait_for(lambda measured=measured: instance.get(f"/results/{measured.id}")[0] == 200, "the result")
    assert large.payloadbytes == 5242880
    assert set(large.partial) == {10240, 20480, 51200, 102400, 204800, 512000, 1048576, 2097152, 5242880}
    assert small.torversion is not None
    # Until tor was ready, slots are there too.
    for skipped in (each for each in instance.logged() if each.outcome is Outcome.SKIPPED):
        assert skipped.errorcode in (Error.NOTREADY, Error.BUSY, Error.LATE, Error.DOWN, Error.STOPPED)
        assert skipped.reason is not None
    assert instance.perfd("stop").returncode == 0
    assert processes_in(instance.directory) == []


def test_ipv6(instance: TestInstance, testnet: Any) -> None:
    """Exits reach a server that listens on ::1."""
    instance.configure(configuration(testnet.directory).replace("127.0.0.1:{port}", "[::1]:{port}"))
    instance.perfd("restart")
    (measured, *_) = instance.wait_for_measurements(1, hostnameremote="::1", outcome=Outcome.OK)
    check_steps(measured)
    assert measured.path is not None
    assert instance.perfd("status").returncode == 0


def check_steps(measured: Measurement) -> None:
    """Every step was stamped, in order."""
    names = (
        *("start", "socket", "connect", "negotiate", "request", "response", "datarequest", "serverrequest"),
        *("serverresponse", "dataresponse", "datacomplete", "end"),
    )
    times = [getattr(measured, name) for name in names]
    assert times == sorted(times)
    assert measured.servercomplete is not None
    assert measured.servercomplete <= measured.datacomplete  # type: ignore[operator]


def test_killed_tor(instance: TestInstance) -> None:
    """kill -9 of tor: every slot still ends in a record, and tor comes back."""
    instance.wait_for_measurements(1, experiment="small", outcome=Outcome.OK)
    pid = tor_pid(instance)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: tor_pid(instance) not in (None, pid), "another tor")
    wait_for_success(instance)
    slots = sorted(m.slot for m in instance.logged() if m.experiment == "small" and m.slot is not None)
    assert [b - a for a, b in pairwise(slots)] == [2.0] * (len(slots) - 1)


def test_killed_daemon_leaves_no_tor(instance: TestInstance) -> None:
    """kill -9 of the daemon takes its tor with it, and the next start works."""
    instance.wait_for_measurements(1, experiment="small", outcome=Outcome.OK)
    pid = tor_pid(instance)
    assert pid is not None
    instance.kill()
    wait_for(lambda: not is_alive(pid), "the end of tor")
    instance.start()
    wait_for_success(instance)


@pytest.mark.long
def test_hung_tor(instance: TestInstance, testnet: Any) -> None:
    """A tor that hangs (SIGSTOP) costs runs, each of them a record at its deadline, and nothing else."""
    instance.configure(configuration(testnet.directory, timeout="5 s"))
    instance.perfd("restart")
    wait_for_success(instance)
    pid = tor_pid(instance)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        timeout = instance.wait_for_measurements(1, experiment="small", outcome=Outcome.TIMEOUT)[0]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert timeout.errorcode in (Error.TIMEOUT, Error.STALL)
    assert timeout.socket is not None
    assert timeout.datacomplete is None
    wait_for_success(instance)


@pytest.mark.long
def test_hung_tor_is_replaced(instance: TestInstance) -> None:
    """A tor that hangs for good is noticed and replaced within a minute; the slots meanwhile say so."""
    instance.wait_for_measurements(1, experiment="small", outcome=Outcome.OK)
    pid = tor_pid(instance)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    wait_for(lambda: tor_pid(instance) not in (None, pid), "another tor")
    assert time.monotonic() - began < 60
    assert not is_alive(pid)
    wait_for_success(instance)
    said = {m.reason for m in instance.logged() if m.errorcode == Error.NOTREADY}
    assert "tor default does not answer on its control port" in said


def wait_for_success(instance: TestInstance) -> None:
    """A small download that succeeds from now on."""
    seen = len(instance.logged())
    wait_for(
        lambda: [m for m in instance.logged()[seen:] if m.experiment == "small" and m.outcome is Outcome.OK],
        "a success",
    )
