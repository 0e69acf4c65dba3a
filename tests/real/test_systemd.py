"""The unit, run by systemd itself: started, reloaded, watched, stopped, and closed as it says."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.instance import SOCKS_CONFIG, TestInstance, wait_for
from tests.support.places import CHECKOUT
from tests.support.systemd import Systemd, booted, why_not

UNIT = (CHECKOUT / "init" / "perfd.service").read_text(encoding="utf-8")

QUICK = """
[Unit]
DefaultDependencies=no
[Service]
Environment=PYTHONPATH=/opt/perfd:/opt/libraries
WatchdogSec=2
RestartSec=1
StandardOutput=append:/var/lib/perfd/output
StandardError=append:/var/lib/perfd/output
"""
"""As the unit, but for how long it takes; the checkout's Perfd is run."""


def python() -> str | None:
    """A Python that another user than root can run Perfd with."""
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{sysconfig.get_path('purelib')}"}
    for each in (sys.executable, "/usr/bin/python3"):
        command = [each, "-c", "import perfd.service"]
        with suppress(OSError):
            if subprocess.run(command, user="nobody", cwd="/", env=environment, check=False).returncode == 0:
                return each
    return None


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What systemd finds in /opt and /var/lib."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    chosen = python()
    if chosen is None:
        pytest.skip("no Python and no checkout that others may read")
    for name in ("perfd", "twisted"):
        shutil.copytree(CHECKOUT / name, tmp_path / "opt" / "perfd" / name)
    directory = tmp_path / "lib" / "perfd"
    directory.mkdir(parents=True)
    script = (CHECKOUT / "perfd" / "templates" / "control-script").read_text().replace("@PYTHON@", chosen)
    (directory / "perfd").write_text(script)
    (directory / "perfd").chmod(0o755)
    return tmp_path


class Unit(TestInstance):
    """The instance of the unit. Its directory is where only systemd sees it."""

    def __init__(self, place: Path, config: str) -> None:
        self.systemd: Systemd | None = None
        self._place = place
        super().__init__(place / "lib" / "perfd", config)

    def configure(self, config: str) -> None:
        if self.systemd is None:
            return super().configure(config)
        done = subprocess.run(
            ["nsenter", "--target", str(self.systemd.pid), "--mount", "tee", "/var/lib/perfd/perfd.conf"],
            input=config.replace("{port}", str(self.port)),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.returncode == 0
        return None

    def succeeded(self, count: int) -> None:
        """Wait for so many more measurements that succeed."""
        before = sum(each["outcome"] == "ok" for each in self.results())
        wait_for(lambda: sum(each["outcome"] == "ok" for each in self.results()) >= before + count, f"{count} more")


@pytest.fixture
def unit(place: Path) -> Iterator[Unit]:
    """The unit, enabled and not started, with a port that needs its capability."""
    made = Unit(place, SOCKS_CONFIG)
    made.port = next(port for port in range(700, 1024) if _is_free(port))
    made.configure(SOCKS_CONFIG)
    with booted(place, {"perfd.service": UNIT}, {"perfd.service.d/quick.conf": QUICK}) as made.systemd:
        yield made


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_life(unit: Unit) -> None:
    """Start, status, reload, watchdog, kill, stop."""
    systemd = unit.systemd
    assert systemd is not None
    done = systemd.systemctl("start", "perfd")
    assert done.returncode == 0, done.stderr + systemd.run("tail", "/var/lib/perfd/output").stdout
    # It is started when it is ready, and no sooner.
    assert json.loads(unit.get("/health")[1])["source"] == "test"
    shown = systemd.show("perfd", "ActiveState", "StatusText", "MainPID", "Type")
    assert (shown["ActiveState"], shown["Type"]) == ("active", "notify")
    assert shown["StatusText"].startswith("1 experiments, next at 20")
    unit.succeeded(2)

    status = systemd.run("cat", f"/proc/{shown['MainPID']}/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["9876"] * 4
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert int(fields["CapBnd"], 16) == 1 << 10  # CAP_NET_BIND_SERVICE

    unit.configure(SOCKS_CONFIG.replace("interval = 1 s", "interval = 2 s"))
    done = systemd.systemctl("reload", "perfd")
    assert done.returncode == 0, done.stderr + systemd.systemctl("status", "perfd").stdout
    assert json.loads(unit.get("/health")[1])["experiments"][0]["interval"] == 2.0
    unit.configure(SOCKS_CONFIG.replace("interval", "intervall"))
    assert systemd.systemctl("reload", "perfd").returncode != 0
    assert systemd.show("perfd", "ActiveState", "MainPID") == {"ActiveState": "active", "MainPID": shown["MainPID"]}
    unit.configure(SOCKS_CONFIG)

    # A reactor that hangs is ended by the watchdog; that, and a kill, are followed by another start.
    for number in ("STOP", "KILL"):
        before = systemd.show("perfd", "MainPID")["MainPID"]
        systemd.run("kill", f"-{number}", before)
        wait_for(
            lambda before=before: (pid := systemd.show("perfd", "MainPID")["MainPID"]) not in ("0", before) and pid,
            "another start",
            30.0,
        )
        wait_for(lambda: systemd.show("perfd", "ActiveState")["ActiveState"] == "active", "READY", 30.0)
        unit.succeeded(1)

    time.sleep(3.0)  # longer than the watchdog waits: it is fed
    assert systemd.show("perfd", "NRestarts")["NRestarts"] == "2"
    assert systemd.systemctl("stop", "perfd").returncode == 0
    shown = systemd.show("perfd", "ActiveState", "Result", "ControlGroup", "TasksCurrent")
    assert (shown["ActiveState"], shown["Result"]) == ("inactive", "success")


def test_cannot_start(unit: Unit) -> None:
    """A Perfd that cannot start makes the start fail, with its reason."""
    assert unit.systemd is not None
    unit.configure("[perfd]\nnetwrok = tor\n")
    assert unit.systemd.systemctl("start", "perfd").returncode != 0


BROWSED = """
[perfd]
source = test
network = testnet
[server]
listen = 127.0.0.1:{port}
[experiment:small]
size = 50 KiB
interval = 5 s
timeout = 4 s
[experiment:page]
type = pageload
interval = 30 s
timeout = 25 s
"""


@pytest.mark.long
@pytest.mark.tor
def test_tor_and_firefox(unit: Unit) -> None:
    """What the unit closes, neither tor nor a Firefox with its sandbox need; nothing is left when it stops."""
    systemd = unit.systemd
    assert systemd is not None
    unit.configure(BROWSED)
    done = systemd.systemctl("start", "perfd")
    assert done.returncode == 0, done.stderr + systemd.run("tail", "/var/lib/perfd/output").stdout
    for experiment in ("small", "page"):
        wait_for(
            lambda name=experiment: unit.results(f"&experiment={name}&outcome=ok"), f"a success of {experiment}"
        )
    processes = systemd.run("sh", "-c", "cat /proc/[0-9]*/comm").stdout.split()
    assert "tor" in processes
    assert systemd.systemctl("stop", "perfd").returncode == 0
    processes = systemd.run("sh", "-c", "cat /proc/[0-9]*/comm").stdout.split()
    assert not [name for name in processes if name in ("tor", "python3") or "firefox" in name]
