"""The lab with network namespaces: nothing of it is left behind, however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfd.processes.modules import module_command, module_environment
from perfd.record import Outcome
from perfd.tor.testnet import link_process
from perfd.tor.testnet.links import netns
from perfd.tor.testnet.network import network_status
from perfd.tor.testnet.relays import State
from tests.support.instance import TestInstance, processes_in, running, wait_for

pytestmark = [
    pytest.mark.tor,
    pytest.mark.long,
    pytest.mark.skipif(netns.trouble() is not None, reason=f"links = netns: {netns.trouble()}"),
]

CONFIG = """
[perfd]
source = lab
network = testnet
[server]
listen = 127.0.0.1:{port}
[testnet]
links = netns
delay = 5 ms
seed = 1
[experiment:fast]
size = 50 KiB
interval = 5 s
"""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[TestInstance]:
    """An instance with links, whatever of it runs is ended at the end."""
    made = TestInstance(tmp_path, CONFIG)
    yield made
    made.perfd("stop")
    made.perfd("testnet", "stop", "testnet")


def devices() -> set[str]:
    """The TUN devices of links."""
    listed = subprocess.run(["ip", "-o", "link", "show"], capture_output=True, text=True, check=True).stdout
    return {line.split(":")[1].strip() for line in listed.splitlines() if ": perfd-" in line}


def namespaces_of(directory: Path | None = None) -> set[str]:
    """All network namespaces but ours that a process is in, or holds; of those in a directory, or of all."""
    found = set()
    ours = os.readlink("/proc/self/ns/net")
    everything = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    numbers = everything if directory is None else processes_in(directory)
    for process in (Path(f"/proc/{number}") for number in numbers):
        for link in (process / "ns" / "net", *(process / "fd").glob("*")):
            try:
                name = os.readlink(link)
            except OSError:
                continue
            if name.startswith("net:") and name != ours:
                found.add(name)
    return found


def test_kill_of_the_daemon(instance: TestInstance) -> None:
    """Relays, links, namespaces and the device are gone soon after a kill -9, with which nobody could clean up."""
    before = devices()
    instance.start()
    records = instance.wait_for_measurements(2, outcome=Outcome.OK)
    assert {record.links for record in records} == {"netns:relays=6,delay=5ms,seed=1"}
    device = json.loads(link_process.plan_file(instance.directory / "testnet").read_text())["device"]
    assert device in devices() - before
    made = namespaces_of(instance.directory)
    assert len(made) == 6
    instance.kill(signal.SIGKILL)
    wait_for(lambda: not processes_in(instance.directory), "the end of all processes")
    assert device not in devices()
    assert not made & namespaces_of()


def test_kill_of_the_links(instance: TestInstance) -> None:
    """The device goes with them, and the daemon starts the network anew and goes on."""
    instance.start()
    instance.wait_for_measurements(1, outcome=Outcome.OK)
    network = instance.directory / "testnet"
    pid = network_status(network).links_pid
    assert pid is not None
    device = json.loads(link_process.plan_file(network).read_text())["device"]
    assert device in devices()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: link_process.running(network) not in (None, pid), "other links")
    count = len(instance.wait_for_measurements(1, outcome=Outcome.OK))
    instance.wait_for_measurements(count + 2, outcome=Outcome.OK)
    assert device in devices()
    assert instance.perfd("stop").returncode == 0
    assert not processes_in(instance.directory)
    assert device not in devices()


def test_kill_of_a_start(tmp_path: Path) -> None:
    """Nothing is left of a network that was to have no owner, if who starts it is killed half-way."""
    network = tmp_path / "network"
    command = module_command("perfd", "testnet", "start", str(network), "--relays", "4", "--links", "netns")
    with running([*command, "--delay", "5ms"], stdout=subprocess.DEVNULL, env=module_environment()) as starter:
        wait_for(lambda: any(network_status(network).pids), "the first relay")
        device = json.loads(link_process.plan_file(network).read_text())["device"]
        assert device in devices()
        made = namespaces_of(network)
        assert len(made) == 4
        starter.kill()
    wait_for(lambda: not processes_in(network), "the end of all processes", timeout=15)
    assert device not in devices()
    assert not made & namespaces_of()


def test_guards_and_weights(instance: TestInstance) -> None:
    """Of eight relays the consensus says who are guards and exits, and has the weights that the seed drew.

    Those of the authorities tor does not count.
    """
    done = instance.perfd("testnet", "start", "testnet", "--relays", "8", "--seed", "7", timeout=180)
    assert done.returncode == 0, done.stderr
    state = State.load(instance.directory / "testnet")
    assert state is not None
    consensus = state.relays[-1].directory / "cached-microdesc-consensus"
    drawn = zip(state.listed, state.weights, strict=True)
    weights = {relay.nickname: weight for relay, weight in drawn if not relay.authority}
    assert len(set(weights.values())) == 5

    def told() -> bool:
        found = re.findall(r"^w Bandwidth=(\d+)$", consensus.read_text(), re.MULTILINE)
        return sorted(map(int, found)) == sorted(weights.values())

    wait_for(told, "the weights", timeout=60)
    entry = r"^r (\S+) [^\n]*\n(?:[^rw][^\n]*\n)*s ([^\n]*)\n(?:[^rw][^\n]*\n)*w Bandwidth=(\d+)([^\n]*)$"
    relays = re.findall(entry, consensus.read_text(), re.MULTILINE)
    assert {name: int(weight) for name, _, weight, unmeasured in relays if not unmeasured} == weights
    assert {name for name, flags, *_ in relays if "Guard" in flags.split()} == {"guard1", "guard2"}
    exits = {relay.nickname for relay in state.exits}
    assert {name for name, flags, *_ in relays if "Exit" in flags.split()} == exits
