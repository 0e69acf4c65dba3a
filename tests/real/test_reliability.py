"""What happens to measurements when tor, its control connection or the clock have trouble; with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perfd.record import Error, Measurement, Outcome
from tests.support.forwarder import Forwarder
from tests.support.instance import SOCKS_CONFIG, TestInstance, free_port, processes_in, running, wait_for
from tests.support.stepped_clock import SteppedClock

CONFIG = """
[perfd]
source = test
network = testnet
testnet = {testnet}
[server]
listen = 127.0.0.1:{port}
max-size = 10 GiB
[tor]
{tor}
[experiment:small]
size = {size}
interval = 2 s
timeout = 60 s
"""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory; what runs in it at the end is stopped."""
    yield tmp_path
    for pid in processes_in(tmp_path):
        os.kill(pid, signal.SIGKILL)


def configured(directory: Path, testnet: Any, tor: str = "", size: str = "50 KiB") -> TestInstance:
    """An instance on the private network of this test run."""
    config = CONFIG.replace("{testnet}", str(testnet.directory)).replace("{tor}", tor).replace("{size}", size)
    return TestInstance(directory, config)


def later(instance: TestInstance, seen: int, **wanted: Any) -> Measurement:
    """A measurement with the given fields after the first ``seen`` ones."""

    def matching() -> list[Measurement]:
        return [m for m in instance.logged()[seen:] if all(getattr(m, k) == v for k, v in wanted.items())]

    found: list[Measurement] = wait_for(matching, f"a measurement with {wanted}")
    return found[0]


@pytest.mark.long
@pytest.mark.tor
def test_tor_killed_in_a_run(directory: Path, testnet: Any) -> None:
    """kill -9 of tor in the middle of a run: a record with its reason; then tor, events and schedule go on."""
    instance = configured(directory, testnet, size="10 GiB")
    instance.start()
    for _ in range(4):  # on a slow machine the first may not have got any data yet
        seen = len(instance.logged())
        busy = later(instance, seen, errorcode=Error.BUSY)
        (pid,) = processes_in(directory / "tor" / "default")
        os.kill(pid, signal.SIGKILL)
        failed = later(instance, seen, outcome=Outcome.FAILED)
        if failed.payloadbytes:
            break
    assert failed.errorcode in (Error.CLOSED, Error.RESET)
    assert failed.reason
    assert failed.dataresponse is not None
    assert failed.datacomplete is None
    assert failed.payloadbytes
    assert failed.circ_id is not None
    assert busy.reason == "the run before it was still going on"
    instance.configure(
        CONFIG.replace("{testnet}", str(testnet.directory)).replace("{tor}", "").replace("{size}", "1 KiB")
    )
    seen = len(instance.logged())
    assert instance.perfd("restart").returncode == 0
    assert later(instance, seen, outcome=Outcome.OK).circ_id is not None
    pids = processes_in(directory / "tor" / "default")
    seen = len(instance.logged())
    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: processes_in(directory / "tor" / "default") not in ([], pids), "another tor")
    again = later(instance, seen, outcome=Outcome.OK)
    assert again.circ_id is not None
    assert again.path is not None
    assert len(again.path) == 3
    instance.perfd("stop")


@pytest.mark.long
@pytest.mark.tor
def test_control_connection_cut(directory: Path, testnet: Any) -> None:
    """An attached tor whose control connection is cut is attached to again, and events flow again."""
    data, control = directory / "data", free_port()
    data.mkdir(mode=0o700)
    torrc = directory / "torrc"
    lines = [f"DataDirectory {data}", "SocksPort 127.0.0.1:auto", f"ControlPort 127.0.0.1:{control}"]
    torrc.write_text("\n".join([*lines, "CookieAuthentication 1", *testnet.client_options]) + "\n")
    with running(["tor", "-f", str(torrc)], stdout=subprocess.DEVNULL) as tor:
        forwarder = Forwarder(control)
        instance = configured(directory, testnet, tor=f"control = 127.0.0.1:{forwarder.port}")
        instance.start()
        assert later(instance, 0, outcome=Outcome.OK).circ_id is not None
        seen = len(instance.logged())
        forwarder.cut()
        wait_for(lambda: "closed its control connection" in instance.log.read_text(), "the log of it")
        wait_for(lambda: [m for m in instance.logged()[seen + 1 :] if m.circ_id is not None], "events")
        assert instance.perfd("stop").returncode == 0
        assert tor.poll() is None  # it is not ours to stop


@pytest.mark.long
def test_wall_clock_steps(directory: Path) -> None:
    """The wall clock is stepped by an hour both ways: no duration is harmed, and every slot is recorded."""
    clock = SteppedClock(directory)
    instance = TestInstance(directory, SOCKS_CONFIG.replace("interval = 1 s", "interval = 2 s"))
    command = instance.twistd_command("-n", "perfd")
    with running(command, cwd=directory, env=clock.environment, stdout=subprocess.DEVNULL) as daemon:
        instance.wait_for_measurements(2, outcome=Outcome.OK)
        for seconds in (3600.0, 0.0):
            before = len(instance.logged())
            last = instance.logged()[-1].start
            clock.set(seconds)
            jumped = wait_for(
                lambda before=before, last=last: [
                    m for m in instance.logged()[before:] if m.outcome is Outcome.OK and abs(m.start - last) > 3000
                ],
                "a measurement by the new time",
            )
            seen = len(instance.logged())
            assert later(instance, seen, outcome=Outcome.OK).start - jumped[0].start < 60
        daemon.terminate()
        daemon.wait(120)
    ok = [m for m in instance.logged() if m.outcome is Outcome.OK]
    assert all(m.datacomplete is not None and 0 < m.datacomplete - m.start < 2 for m in ok)
    late = [m for m in instance.logged() if m.errorcode == Error.LATE]
    assert late
    assert all("jumped over it" in (m.reason or "") for m in late)
    assert not any(m.outcome is Outcome.TIMEOUT for m in instance.logged())
