"""The reactor of a process: its timers run by the monotonic clock."""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from perfd.reactor import use_monotonic_time
from tests.support.places import CHECKOUT

STEP = """
import time
from perfd.reactor import installed_reactor
reactor = installed_reactor()
began = time.monotonic()
wall = time.time
time.time = lambda: wall() + 3600  # a step of the clock, as far as this process can see
assert abs(reactor.seconds() - began) < 10
reactor.callLater(0.3, reactor.stop)
reactor.run()
assert time.monotonic() - began >= 0.3, time.monotonic() - began
"""


def test_a_step_of_the_clock_ends_no_deadline() -> None:
    """A deadline is kept although the clock of the machine is set forward by an hour."""
    subprocess.run([sys.executable, "-c", STEP], check=True, timeout=30)


def test_what_is_scheduled_keeps_its_time() -> None:
    """A reactor that has something scheduled keeps the clock by which that was."""
    reactor = Clock()
    use_monotonic_time(reactor)
    assert reactor.seconds is time.monotonic
    reactor = Clock()
    reactor.callLater(1, lambda: None)
    use_monotonic_time(reactor)
    assert reactor.seconds is not time.monotonic


# What a command runs its work with; argv is its module, and the command's arguments.
COMMAND = """
import importlib, sys, time
from unittest import mock
from perfd.cli.command import main
module = importlib.import_module(sys.argv[1])
with mock.patch.object(module, "run_reactor") as run:
    main(sys.argv[2:])
(reactor, *_), _ = run.call_args
assert reactor.seconds is time.monotonic
"""

# A command while the clock of the machine goes on by an hour in each tenth of a second.
RACE = """
import sys, time
from perfd.cli.command import main
began, wall = time.monotonic(), time.time
time.time = lambda: wall() + 36000 * (time.monotonic() - began)
sys.exit(main(sys.argv[1:]))
"""


def run(script: str, directory: Path, *arguments: str) -> str:
    """The output of a script in Perfd's place, which must succeed; its files are in ``directory``."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "XDG_CACHE_HOME": str(directory)}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("measure", ["--network", "socks"]),
        ("proxy", ["--network", "socks"]),
        ("testnet", ["status", "network"]),
    ],
)
def test_commands(command: str, arguments: list[str], tmp_path: Path) -> None:
    """Each command that waits for something does it by the monotonic clock."""
    run(COMMAND, tmp_path, f"perfd.cli.{command}", command, *arguments)


def test_measure(tmp_path: Path) -> None:
    """A clock that runs wild ends no measurement."""
    lines = run(RACE, tmp_path, "measure", "--network", "socks", "--count", "3", "--json").splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["ok"] * 3


def test_one_place() -> None:
    """Nobody else takes the reactor of the process, by whatever clock it would run."""
    takers = [
        path.name
        for path in (CHECKOUT / "perfd").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module == "twisted.internet"
        and "reactor" in [alias.name for alias in node.names]
    ]
    assert takers == ["reactor.py"]
