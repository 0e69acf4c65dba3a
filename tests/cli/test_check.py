"""What ``perfd check`` refuses cannot run, and what it passes starts."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from perfd.cli.command import main
from perfd.instance import Instance
from perfd.processes.programs import find_processes
from tests.support.instance import TestInstance, free_port, wait_for

HEAD = "[perfd]\nsource = x\n[server]\nlisten = 127.0.0.1:{port}\n"
EXPERIMENT = "[experiment:e]\nsize = 1 KiB\ninterval = 1 h\n"
OBFS4 = f"obfs4 192.0.2.1:443 0123456789ABCDEF0123456789ABCDEF01234567 cert={70 * 'A'} iat-mode=0"

REFUSED = {
    "a program that is no tor": ("[tor]\nbinary = /bin/ls\n", ["[tor:default] binary: /bin/ls is no tor"]),
    "an option that tor does not know": (
        "[tor]\ntorrc =\n    NoSuchOption 1\n",
        ["[tor:default] torrc: tor would not take it", "NoSuchOption"],
    ),
    "a value that tor refuses": (
        "[tor]\ntorrc =\n    MaxCircuitDirtiness soon\n",
        ["torrc: tor would not take it", "MaxCircuitDirtiness"],
    ),
    "no plugin for the bridges": (
        f"[tor]\nbridges = {OBFS4}\n",
        ["[tor] bridges: nothing provides the transport obfs4", "transport-plugins = obfs4 exec"],
    ),
    "a plugin that is not there": (
        f"[tor]\nbridges = {OBFS4}\ntransport-plugins = obfs4 exec /nowhere/obfs4proxy\n",
        ["[tor:default] transport-plugins: /nowhere/obfs4proxy does not exist"],
    ),
    "a private network that is a file": (
        "[perfd]\ntestnet = perfd.conf\n",
        ["testnet: ", "perfd.conf is no directory"],
    ),
    "a page port that is the server's": (
        "[server]\npage-ports = {port}, 0\n",
        ["[server] page-ports: {port} is the port of listen"],
    ),
    "the same page port twice": ("[server]\npage-ports = 7777, 7777\n", ["page-ports: each must be another one"]),
    "several at once": (
        "[tor]\nbinary = /bin/ls\n[tor:b]\nbinary = tor\ntorrc =\n    Nonsense 1\n[perfd]\ntestnet = perfd.conf\n",
        ["[tor:default] binary", "[tor:b] torrc", "is no directory", "3 problems"],
    ),
}

PASSED = {
    "pasted keywords": (
        f"[tor]\nbridges =\n    Bridge {OBFS4}\ntransport-plugins =\n    ClientTransportPlugin obfs4 exec plugin\n"
    ),
    "a plugin in the torrc": f"[tor]\nbridges = {OBFS4}\ntorrc =\n    ClientTransportPlugin obfs4 exec /bin/true\n",
    "a program beside perfd.conf": "[tor]\nbinary = bin/tor\n",
    "snowflake": (
        "[tor]\nbridges = snowflake 192.0.2.3:80 2B280B23E1107BB62ABFC40DDCC8824814F80A72 "
        "url=https://broker.example/ fronts=a.example ice=stun:stun.example:3478\n"
        "transport-plugins = snowflake exec path/plugin\n"
    ),
    "bridges of the private network": "[testnet]\nbridges = 1\n[tor]\nbridges = testnet\n",
    "a plugin beside perfd.conf": f"[tor]\nbridges = {OBFS4}\ntransport-plugins = obfs4 exec path/plugin\n",
}

WARNED = {
    "a far target over a private network": (
        "[perfd]\nnetwork = testnet\n",
        "[experiment:e]\nurl = http://example.org/\n",
        "url: with network = testnet all of Tor is on this machine",
    ),
    "no experiment": ("", "", "there is no experiment"),
    "a timeout over the interval": (
        "",
        "[experiment:e]\ninterval = 5 s\ntimeout = 10 s\n",
        "longer than the interval of 5 s",
    ),
    "the source of examples": (
        "[perfd]\nnetwork = tor\nsource = example\n[server]\npublic-address = 192.0.2.1:80\n",
        EXPERIMENT,
        "example names no instance",
    ),
    "a name that is none": (
        "[perfd]\nnetwork = tor\n[server]\npublic-address = no-such-host.invalid:80\n",
        EXPERIMENT,
        "no-such-host.invalid cannot be looked up",
    ),
    "a server that nobody reaches": (
        "[perfd]\nnetwork = tor\n[server]\npublic-address = 192.0.2.1:80\n",
        EXPERIMENT,
        "is reached from this machine only",
    ),
}


def merged(*texts: str) -> str:
    """Sections of the same name as one; of an option that comes twice the last."""
    sections: dict[str, dict[str, str]] = {}
    options: dict[str, str] = {}
    last = ""
    for line in "\n".join(texts).splitlines():
        if line.startswith("["):
            options = sections.setdefault(line, {})
        elif line.startswith(" "):
            options[last] += f"\n{line}"
        elif line:
            last = line.partition("=")[0].strip()
            options[last] = line
    return "\n".join(line for name, found in sections.items() for line in (name, *found.values())) + "\n"


@pytest.fixture
def instance(tmp_path: Path) -> TestInstance:
    found = TestInstance(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tor").symlink_to(shutil.which("tor") or "/usr/sbin/tor")
    plugin = tmp_path / "path" / "plugin"
    plugin.parent.mkdir()
    plugin.write_text("#!/bin/sh\n")
    plugin.chmod(0o755)
    found.environment = {**os.environ, "PATH": f"{plugin.parent}:{os.environ['PATH']}"}
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_refused(instance: TestInstance, name: str) -> None:
    """With file, section, option and remedy, all at once; a start refuses the same, and starts nothing."""
    text, words = REFUSED[name]
    instance.configure(merged(HEAD, EXPERIMENT, text))
    for command in ("check", "start"):
        done = instance.perfd(command)
        assert done.returncode == 1, done.stdout
        for word in words:
            assert word.replace("{port}", str(instance.port)) in done.stderr
        assert all(line.startswith("perfd: ") for line in done.stderr.splitlines()), done.stderr
    assert not (instance.directory / "perfd.sqlite").exists()


@pytest.mark.parametrize("name", PASSED)
def test_passed(instance: TestInstance, name: str) -> None:
    """What is right in another form."""
    instance.configure(merged(HEAD, EXPERIMENT, PASSED[name]))
    done = instance.perfd("check")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("name", WARNED)
def test_warned(instance: TestInstance, name: str) -> None:
    """What is hardly meant is said, and no mistake."""
    head, experiment, words = WARNED[name]
    instance.configure(merged(HEAD, head, experiment))
    done = instance.perfd("check")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if words in line]
    assert line.startswith("perfd: warning: ")


def test_page_port_in_use(instance: TestInstance) -> None:
    """Found before the start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        instance.configure(merged(HEAD, EXPERIMENT, f"[server]\npage-ports = {port}\n"))
        done = instance.perfd("check")
    assert (done.returncode, f"page-ports: cannot listen on 127.0.0.1:{port}" in done.stderr) == (1, True)


def random_configuration(chance: random.Random) -> str:
    """Some perfd.conf, most likely without mistakes."""

    def pick(*options: str) -> str:
        return chance.choice(options)

    lines = [
        "[perfd]",
        "network = socks",
        pick("", "source = a-b", "keep = 3 d"),
        pick("", "archive = no", "keep-events = 1 d"),
        "[server]",
        "listen = 127.0.0.1:{port}",
        pick("", "results = local", "results = none"),
        pick("", "max-size = 64 KiB", "max-rate = 1 MiB/s", "max-rate = none", "max-connections = 600"),
        pick("", f"page-ports = {free_port()}", "page-ports ="),
    ]
    for number in range(chance.randrange(4)):
        lines += [
            f"[experiment:e{number}]",
            pick("", "type = upload", "type = rtt\nsize = 10 KiB\nduration = 1 s", "type = series\nrequests = 2"),
            pick("interval = 2 s", "interval = 1 h", "interval = 10 s\noffset = 3 s"),
            pick("", "tor = none", "circuit = reuse", "skip-until-cbt = yes", "timeout = 30 s"),
        ]
    return "\n".join(filter(None, lines)) + "\n"


@pytest.mark.parametrize("seed", range(4))
def test_what_passes_starts(tmp_path: Path, seed: int) -> None:
    """Whatever it says."""
    instance = TestInstance(tmp_path)
    instance.configure(random_configuration(random.Random(seed)))
    checked, started = instance.perfd("check"), instance.perfd("start")
    try:
        assert checked.returncode == started.returncode, (checked.stderr, started.stderr)
        if checked.returncode:
            assert started.stderr.splitlines()[:-1] == checked.stderr.splitlines()[:-1]
    finally:
        assert instance.perfd("stop").returncode == 0


def test_port_of_a_tor_that_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A port that somebody has is a mistake; what a killed daemon has left has it only until the next launch."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = f"SocksPort {taken.getsockname()[1]}"
        (tmp_path / "perfd.conf").write_text(
            f"[server]\nlisten = 127.0.0.1:{free_port()}\n[tor]\ntorrc = {line}\n[experiment:a]\n"
        )
        assert main(["check", "--config", str(tmp_path)]) == 1
        assert f"{line}: cannot listen on" in capsys.readouterr().err
        torrc = Instance(tmp_path).tor_data("default") / "torrc"
        fake = tmp_path / "tor"
        fake.write_text("#!/bin/sh\nsleep 60\n")
        fake.chmod(0o755)
        with subprocess.Popen([fake, "-f", torrc]) as left:
            try:
                wait_for(lambda: find_processes([torrc]), "the program")
                assert main(["check", "--config", str(tmp_path)]) == 0
            finally:
                left.kill()
