"""What all tests share: one private Tor network per run, and a place for trial's temporary directories."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest


@attrs.frozen
class TestnetFixture:
    """The private network of this test run: its directory, and the torrc lines of a tor that uses it."""

    __test__ = False

    directory: Path
    client_options: tuple[str, ...]


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell starts background jobs with SIGINT ignored, and children inherit that; our daemons shall not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _working_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trial makes a directory for each test class where it stands; let that not be the checkout."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("trial"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def testnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestnetFixture]:
    """The private network; started when the first test asks for it."""
    directory = tmp_path_factory.mktemp("testnet")
    _testnet("start", directory)
    try:
        status = json.loads(_testnet("status", directory, "--json"))
        yield TestnetFixture(directory, tuple(status["client_options"]))
    finally:
        _testnet("stop", directory)


@pytest.fixture(scope="class")
def with_testnet(request: pytest.FixtureRequest, testnet: TestnetFixture) -> None:
    """The private network as the attribute ``testnet`` of a test class that asks with ``usefixtures``."""
    request.cls.testnet = testnet


def _testnet(action: str, directory: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "perfd", "testnet", action, str(directory), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"perfd testnet {action}: {done.stdout}{done.stderr}"
    return done.stdout
