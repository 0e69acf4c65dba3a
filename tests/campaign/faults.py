"""The faults: how each is brought about, and when it is over."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress

from tests.campaign import floods, peers
from tests.campaign.instances import Subject, take_port
from tests.campaign.plan import PlannedFault
from tests.support.instance import is_alive, wait_for


class UnavailableError(Exception):
    """This machine, or this user, cannot have the fault happen."""


def inject(subject: Subject, fault: PlannedFault) -> None:
    """Have the fault happen, and return when it is over. Raises AssertionError for what does not hold meanwhile,
    and ``UnavailableError``.
    """
    _FAULTS[fault.kind](subject, fault)


def _signal_daemon(number: int) -> Callable[[Subject, PlannedFault], None]:
    return lambda subject, _: os.kill(subject.pid, number)


def _kill_daemon(subject: Subject, fault: PlannedFault) -> None:
    pid = subject.pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(pid), "the end of the daemon")
    time.sleep(fault.seconds)
    subject.start()


def _stop_and_start(subject: Subject, fault: PlannedFault) -> None:
    done = subject.perfd("stop")
    assert done.returncode == 0, f"perfd stop gave {done.returncode}: {done.stdout}{done.stderr}"
    time.sleep(fault.seconds)
    subject.start()


def _restart(subject: Subject, _: PlannedFault) -> None:
    done = subject.perfd("restart")
    assert done.returncode == 0, f"perfd restart gave {done.returncode}: {done.stdout}{done.stderr}"


def _freeze_daemon(subject: Subject, fault: PlannedFault) -> None:
    _freeze(subject.pid, fault.seconds)


def _freeze(pid: int, seconds: float) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)


def _take_port(subject: Subject, fault: PlannedFault) -> None:
    assert subject.perfd("stop").returncode == 0
    with take_port(subject.port):
        time.sleep(fault.seconds)
        done = subject.perfd("start")
        assert done.returncode == 1, f"perfd start gave {done.returncode} with its port taken"
        assert "cannot listen on" in done.stderr, done.stderr
    subject.start()


def _fill_disk(subject: Subject, fault: PlannedFault) -> None:
    """Fill its file system; where it has none of its own, its files may not become longer."""
    if not subject.has_disk:
        _, hard = resource.prlimit(subject.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(subject.pid, resource.RLIMIT_FSIZE, (0, hard))
        time.sleep(fault.seconds)
        resource.prlimit(subject.pid, resource.RLIMIT_FSIZE, (hard, hard))
        return
    filler = subject.directory / "filler"
    with filler.open("wb", buffering=0) as file:
        until = time.monotonic() + fault.seconds
        while time.monotonic() < until:
            with suppress(OSError):  # it is full, until something else is deleted
                file.write(bytes(65536))
                continue
            with suppress(OSError):
                file.write(bytes(512))
            time.sleep(0.01)
    filler.unlink()


def _freeze_disk(subject: Subject, fault: PlannedFault) -> None:
    """Have all that writes to its file system wait."""
    if not subject.has_disk:
        raise UnavailableError
    subprocess.run(["fsfreeze", "--freeze", str(subject.directory)], check=True)
    try:
        time.sleep(fault.seconds)
        status, body = subject.get("/health")
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(subject.directory)], check=True)
    assert status in (200, 503), f"/health answered {status} while the disk was frozen: {body[:200]!r}"


def _lock_database(subject: Subject, fault: PlannedFault) -> None:
    with closing(subject.connect()) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(fault.seconds)
        connection.execute("ROLLBACK")


def _delete_database(subject: Subject, _: PlannedFault) -> None:
    for suffix in ("", "-wal", "-shm"):
        subject.database.with_name(subject.database.name + suffix).unlink(missing_ok=True)


def _move_database(subject: Subject, _: PlannedFault) -> None:
    for suffix in ("", "-wal", "-shm"):
        path = subject.database.with_name(subject.database.name + suffix)
        with suppress(FileNotFoundError):
            path.rename(path.with_name(f"moved-{path.name}"))


def _replace_database(subject: Subject, _: PlannedFault) -> None:
    scratch = subject.database.with_name("empty")
    scratch.touch()
    for suffix in ("-wal", "-shm"):
        subject.database.with_name(subject.database.name + suffix).unlink(missing_ok=True)
    scratch.replace(subject.database)


def _delete_log(subject: Subject, _: PlannedFault) -> None:
    subject.log.unlink(missing_ok=True)


def _move_log(subject: Subject, fault: PlannedFault) -> None:
    with suppress(FileNotFoundError):
        subject.log.rename(subject.log.with_name(f"perfd.log.moved-{fault.seed}"))


def _step_clock(sign: int) -> Callable[[Subject, PlannedFault], None]:
    def step(subject: Subject, fault: PlannedFault) -> None:
        subject.clock.set(subject.clock.seconds + sign * fault.seconds)

    return step


def _flood(flood: Callable[[int, float], None]) -> Callable[[Subject, PlannedFault], None]:
    def begin(subject: Subject, fault: PlannedFault) -> None:
        subject.tail.successes()
        flood(subject.port, fault.seconds)
        # Strangers keep no measurement out. A run that ended just before is none of the flood's.
        if subject.measured == "small" and fault.seconds > 2 * subject.intervals["small"] + 1:
            assert subject.tail.successes(), f"no run succeeded in {fault.seconds} s beside it"

    return begin


def _fuzz_http(subject: Subject, fault: PlannedFault) -> None:
    assert floods.fuzz_http(subject.port, fault.seconds, random.Random(fault.seed))


def _fuzz_socks(subject: Subject, fault: PlannedFault) -> None:
    port = subject.socks_port()
    assert port is not None, "there is no SOCKS port"
    assert floods.fuzz_socks(port, fault.seconds, random.Random(fault.seed))


def _rude(name: str, what: object) -> Callable[[Subject, PlannedFault], None]:
    def begin(subject: Subject, fault: PlannedFault) -> None:
        proxy = subject.proxy
        assert proxy is not None
        proxy.draw = random.Random(fault.seed)
        setattr(proxy, name, what)
        time.sleep(fault.seconds)
        setattr(proxy, name, ())

    return begin


def _proxy_gone(subject: Subject, fault: PlannedFault) -> None:
    assert subject.proxy is not None
    subject.proxy.go()
    time.sleep(fault.seconds)
    subject.proxy.come()


def _kill_tor(subject: Subject, _: PlannedFault) -> None:
    subject.kill_tor()


def _freeze_tor(subject: Subject, fault: PlannedFault) -> None:
    _freeze(subject.tor_pid(), fault.seconds)


def _freeze_tor_for_good(subject: Subject, _: PlannedFault) -> None:
    with suppress(ProcessLookupError):
        os.kill(subject.tor_pid(), signal.SIGSTOP)


def _freeze_relay_for_good(subject: Subject, fault: PlannedFault) -> None:
    pids = [pid for pid in subject.relay_pids() if pid is not None]
    with suppress(ProcessLookupError):
        os.kill(random.Random(fault.seed).choice(pids), signal.SIGSTOP)


def _cut_control(subject: Subject, _: PlannedFault) -> None:
    assert subject.forwarder is not None
    subject.forwarder.cut()


def _hold_control(subject: Subject, fault: PlannedFault) -> None:
    assert subject.forwarder is not None
    subject.forwarder.hold()
    time.sleep(fault.seconds)
    subject.forwarder.let_go()


def _kill_firefox(subject: Subject, fault: PlannedFault) -> None:
    time.sleep(fault.seconds)
    for pid in wait_for(subject.browsers, "a Firefox"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _freeze_firefox(subject: Subject, fault: PlannedFault) -> None:
    pids = wait_for(subject.browsers, "a Firefox")
    for number, pause in ((signal.SIGSTOP, fault.seconds), (signal.SIGCONT, 0.0)):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(pause)


_FAULTS: Mapping[str, Callable[[Subject, PlannedFault], None]] = {
    "daemon killed": _kill_daemon,
    "daemon stopped and started": _stop_and_start,
    "daemon restarted": _restart,
    "daemon frozen": _freeze_daemon,
    "SIGHUP": _signal_daemon(signal.SIGHUP),
    "SIGUSR1": _signal_daemon(signal.SIGUSR1),
    "port taken at the start": _take_port,
    "disk full": _fill_disk,
    "disk frozen": _freeze_disk,
    "database locked": _lock_database,
    "database deleted": _delete_database,
    "database moved away": _move_database,
    "database replaced by nothing": _replace_database,
    "log deleted": _delete_log,
    "log moved away": _move_log,
    "clock stepped forward": _step_clock(1),
    "clock set back": _step_clock(-1),
    "flood of silent connections": _flood(floods.silent),
    "flood of slow heads": _flood(floods.slow_heads),
    "flood of downloads": _flood(floods.downloads),
    "flood of slow bodies": _flood(floods.slow_bodies),
    "flood of slow reads": _flood(floods.slow_reads),
    "flood of all kinds": _flood(floods.mixed),
    "fuzzed HTTP": _fuzz_http,
    "fuzzed SOCKS": _fuzz_socks,
    "hostile SOCKS proxy": _rude("socks", peers.SOCKS),
    "hostile server": _rude("server", peers.HTTP),
    "proxy gone": _proxy_gone,
    "tor killed": _kill_tor,
    "tor frozen": _freeze_tor,
    "tor frozen for good": _freeze_tor_for_good,
    "relay frozen for good": _freeze_relay_for_good,
    "control connection cut": _cut_control,
    "control connection hangs": _hold_control,
    "Firefox killed": _kill_firefox,
    "Firefox frozen": _freeze_firefox,
}
