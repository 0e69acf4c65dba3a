"""File descriptors: how many are needed, that they are enough, and what is said when there is none."""

from __future__ import annotations

import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from perfd import descriptors
from perfd.config import parse_config
from perfd.record import Outcome
from tests.support.instance import SOCKS_CONFIG, TestInstance, running

SERVER = "[server]\nlisten = 127.0.0.1:{port}"


def limited(soft: int, hard: int) -> Callable[[], None]:
    """For a child: so many descriptors."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def needed(experiments: str, network: str = "testnet") -> int:
    """Beyond what strangers and the daemon itself need."""
    text = f"[perfd]\nnetwork = {network}\n[server]\nmax-connections = 100\n[tor:a]\n[tor:b]\n{experiments}"
    config = parse_config(text, Path("perfd.conf"))
    return descriptors.needed(config) - descriptors.BASE - 200


@pytest.mark.parametrize(
    ("experiments", "streams", "tors", "sites"),
    [
        ("[experiment:x]\ntor = a", 2, 1, 1),
        ("[experiment:x]\ntor = a, b\nparallel = 10", 20, 2, 1),
        # One after the other on the same tor: the larger one counts.
        ("[experiment:x]\ntor = a\nparallel = 10\n[experiment:y]\ntor = a\nparallel = 7", 10, 1, 1),
        ("[experiment:x]\ntor = none\nparallel = 5", 5, 0, 1),
        ("[experiment:x]\ntor = a\nserver = public, onion\nparallel = 3", 3, 1, 2),
        ("[experiment:x]\ntor = a\ntype = pageload", descriptors.STREAMS_OF_PAGE, 1, 1),
        ("[experiment:x]\ntor = a\ntype = series\nrequests = 30\nstagger = 1 s", 30, 1, 1),
        ("[experiment:x]\ntor = a\ntype = series\nrequests = 30", 2, 1, 1),
    ],
)
def test_needed(experiments: str, streams: int, tors: int, sites: int) -> None:
    """Strangers of each site, and what runs at a time on each tor."""
    experiments = experiments.replace("parallel = ", "type = download\nparallel = ")
    if "download" not in experiments and "pageload" not in experiments and "series" not in experiments:
        experiments += "\nparallel = 2"
    expected = descriptors.OF_STREAM * streams + descriptors.OF_TOR * tors + 200 * (sites - 1)
    assert needed(experiments) == expected


def test_check(tmp_path: Path) -> None:
    """`perfd check` says the number that is needed where there are not so many; that is no mistake."""
    instance = TestInstance(tmp_path)
    command = [sys.executable, "-P", "-m", "perfd", "check"]

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=limited(256, 2000),
        )

    done = check()
    assert (done.returncode, done.stderr) == (0, "")
    instance.configure(SOCKS_CONFIG.replace("[server]", "[server]\nmax-connections = 1000"))
    done = check()
    number = descriptors.needed(parse_config((tmp_path / "perfd.conf").read_text(), Path("perfd.conf")))
    assert number > 2000
    assert (done.returncode, "no mistakes found" in done.stdout) == (0, True)
    assert f"can need {number} file descriptors, and no more than 2000 are allowed" in done.stderr


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[TestInstance]:
    """An instance that is not started."""
    made = TestInstance(tmp_path)
    yield made
    made.perfd("stop")


def start(instance: TestInstance, soft: int, hard: int) -> Any:
    """Run it in the foreground with so many descriptors."""
    return running(
        [sys.executable, "-P", "-m", "perfd", "run"],
        cwd=instance.directory,
        stdout=subprocess.DEVNULL,
        preexec_fn=limited(soft, hard),
    )


def flood(instance: TestInstance, stack: ExitStack, count: int) -> None:
    """Connect so many strangers, who say nothing."""
    for _ in range(count):
        stranger = stack.enter_context(socket.socket())
        stranger.settimeout(1.0)
        with suppress(OSError):
            stranger.connect(("127.0.0.1", instance.port))


def test_needed_is_enough(instance: TestInstance) -> None:
    """With the number that `check` asks for, strangers who take all that they can get disturb no measurement."""
    text = SOCKS_CONFIG.replace("[server]", "[server]\nmax-connections = 50") + "parallel = 20\n"
    instance.configure(text)
    number = descriptors.needed(parse_config((instance.directory / "perfd.conf").read_text(), Path("perfd.conf")))
    with start(instance, 64, number) as process, ExitStack() as stack:
        instance.wait_for_measurements(1, outcome=Outcome.OK)
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert re.search(rf"^Max open files +{number} +{number} ", limits, re.MULTILINE)
        flood(instance, stack, 400)
        before = len(instance.logged())
        instance.wait_for_measurements(before + 4)
        assert {m.outcome for m in instance.logged()[before:]} == {Outcome.OK}
        process.terminate()
        process.wait(60)
    assert "could not be accepted" not in instance.log.read_text()


@pytest.mark.parametrize("limit", [200, 256])
def test_too_few(instance: TestInstance, limit: int) -> None:
    """Where there are too few for max-connections, fewer strangers are served: measurements and health go on."""
    instance.configure(SOCKS_CONFIG.replace("[server]", "[server]\nmax-connections = 5000"))
    with start(instance, 64, limit) as process, ExitStack() as stack:
        instance.wait_for_measurements(1, outcome=Outcome.OK)
        assert "can need 10" in instance.log.read_text()
        flood(instance, stack, 1500)
        before = len(instance.logged())
        instance.wait_for_measurements(before + 4)
        assert {m.outcome for m in instance.logged()[before:]} == {Outcome.OK}
        assert instance.get("/health")[0] == 200
        process.terminate()
        process.wait(60)


def test_strangers_of_sites() -> None:
    """What measurements need is theirs; a site has what is left, and some in any case."""
    text = "[server]\nmax-connections = 100\n[experiment:x]\nserver = public, onion\n"
    config = parse_config(text, Path("perfd.conf"))
    besides = descriptors.needed(config) - 400
    assert descriptors.strangers(config, descriptors.needed(config)) == 100
    assert descriptors.strangers(config, besides + 80) == 20
    assert descriptors.strangers(config, 100) == descriptors.FEWEST


def test_strangers_take_all(instance: TestInstance) -> None:
    """Where there are none left at all, what cannot be accepted is counted, and costs no time."""
    instance.configure(SOCKS_CONFIG.replace("[server]", "[server]\nmax-connections = 5000"))
    with start(instance, 64, 200) as process, ExitStack() as stack:
        instance.wait_for_measurements(1, outcome=Outcome.OK)
        few = len(list(Path(f"/proc/{process.pid}/fd").iterdir())) + 6
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (few, few))
        flood(instance, stack, 400)
        before = processor_seconds(process.pid)
        time.sleep(3.0)
        assert processor_seconds(process.pid) - before < 1.5
        told = re.findall(r"(\d+) connections could not be accepted", instance.log.read_text())
        assert len(told) == 1
        stack.close()
        instance.wait_for_measurements(
            sum(m.outcome is Outcome.OK for m in instance.logged()) + 2, outcome=Outcome.OK
        )
        process.terminate()
        process.wait(60)
    told = re.findall(r"(\d+) connections could not be accepted", instance.log.read_text())
    assert (len(told), sum(map(int, told)) > 100) == (2, True)
    assert len(re.findall("EMFILE", instance.log.read_text())) <= 3


def processor_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
