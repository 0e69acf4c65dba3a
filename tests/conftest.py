"""What all tests share: one private Tor network per run, and a place for trial's temporary directories.

With pytest-xdist (``-n``) each worker is a session of its own. The network is started by the first one that needs
it, and stopped at the end by the process that runs the workers, or the only one.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

RUN = pytest.StashKey[Path]()
"""The directory that all processes of this test run share; its end is that of the run."""


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
def testnet(pytestconfig: pytest.Config) -> TestnetFixture:
    """The private network; started when the first test of all workers asks for it."""
    run = pytestconfig.stash[RUN]
    directory = run / "testnet"
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Does nothing if it runs already. A machine that is very busy can miss the deadline once.
        if _testnet("start", directory, "--bridges", "1").returncode:
            _succeed("start", directory, "--bridges", "1")
    status = json.loads(_succeed("status", directory, "--json"))
    return TestnetFixture(directory, tuple(status["client_options"]))


@pytest.fixture(scope="class")
def with_testnet(request: pytest.FixtureRequest, testnet: TestnetFixture) -> None:
    """The private network as the attribute ``testnet`` of a test class that asks with ``usefixtures``."""
    request.cls.testnet = testnet


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Agree on a directory for what the workers share."""
    config: Any = session.config
    given = getattr(config, "workerinput", {}).get("run")
    config.stash[RUN] = Path(given) if given else config._tmp_path_factory.mktemp("run")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker the directory."""
    node.workerinput["run"] = str(node.config.stash[RUN])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let workers begin with the tests that take long; those that share a fixture stay in one worker."""
    if not hasattr(config, "workerinput"):
        return
    items.sort(key=lambda item: item.get_closest_marker("tor") is None)
    for item in items:
        definitions = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009 - it has no public name
        names = [name for name in definitions if name != "with_testnet" and not name.startswith("_unittest_")]
        scopes = {definition.scope for name in names for definition in definitions[name]}
        if "module" in scopes:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
        elif "class" in scopes:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.rpartition("::")[0]))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the network once no worker is left."""
    directory = session.config.stash[RUN] / "testnet"
    if directory.exists() and not hasattr(session.config, "workerinput"):
        _succeed("stop", directory)


def _testnet(action: str, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perfd", "testnet", action, str(directory), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        stdin=subprocess.DEVNULL,
    )


def _succeed(action: str, directory: Path, *options: str) -> str:
    done = _testnet(action, directory, *options)
    assert done.returncode == 0, f"perfd testnet {action}: {done.stdout}{done.stderr}"
    return done.stdout
