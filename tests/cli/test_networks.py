"""Private networks on command lines: one that runs is not taken for another that was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from perfd.cli.networks import differing_network
from perfd.config.testnet import Link, TestnetConfig, nicknames
from perfd.tor.testnet.link_process import described
from perfd.tor.testnet.relays import State, plan
from perfd.tor.testnet.weights import drawn_weights
from tests.support.instance import TestInstance, running, wait_for

DELAYED = TestnetConfig(links="proxy", link=Link(delay=0.005))
LINKS = "proxy:relays=6,delay=5ms"


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Path]:
    """The directory of a network of six relays with links, of which one seems to run."""
    directory = tmp_path / "network"
    state = attrs.evolve(plan(directory, nicknames(6), None), links=LINKS)
    relay = state.relays[0]
    relay.directory.mkdir(parents=True)
    relay.torrc.write_text("read line")  # a shell, whose command line is one of tor
    state.save(directory)
    with running(["tor", "-f", str(relay.torrc)], executable="/bin/sh", stdin=-1) as process:
        relay.pid_file.write_text(str(process.pid))
        wait_for(lambda: differing_network(directory, attrs.evolve(DELAYED, relays=8)), "the relay")
        yield directory


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (DELAYED, None),
        (TestnetConfig(), None),
        (TestnetConfig(keep=60.0), None),
        (attrs.evolve(DELAYED, keep=60.0), None),
        (TestnetConfig(relays=8, seed=1), "has 6 relays, not 8"),
        (
            attrs.evolve(DELAYED, link=Link(delay=0.025)),
            f"has the links {LINKS}, not proxy:relays=6,delay=25ms",
        ),
        (attrs.evolve(DELAYED, seed=7), f"not {LINKS},seed=7"),
    ],
)
def test_differing(network: Path, wanted: TestnetConfig, message: str | None) -> None:
    """What nobody asked for may be as it is."""
    found = differing_network(network, wanted)
    assert (found is None) if message is None else (message in str(found))


def test_no_links(network: Path) -> None:
    """A network without links is none with links."""
    state = State.load(network)
    assert state is not None
    attrs.evolve(state, links=None).save(network)
    assert "has no links, not proxy:relays=6,delay=5ms" in str(differing_network(network, DELAYED))


def test_other_links(network: Path) -> None:
    """Networks of which as many relays have links of their own are not the same for that."""
    state = State.load(network)
    assert state is not None
    one = attrs.evolve(DELAYED, links_by_relay={"exit1": Link(delay=0.08), "exit2": DELAYED.link})
    attrs.evolve(state, links=described("proxy", one)).save(network)
    assert differing_network(network, one) is None
    for link in ({"exit2": Link(delay=0.08)}, {"exit1": Link(delay=0.07)}):
        other = attrs.evolve(DELAYED, links_by_relay=link)
        found = str(differing_network(network, other))
        assert re.search(r"has the links \S+,others=1:[0-9a-f]{8}, not \S+,others=1:[0-9a-f]{8};", found)


def test_seed_without_links(network: Path) -> None:
    """Another seed is another network, whose relays have other weights."""
    state = State.load(network)
    assert state is not None
    attrs.evolve(state, links=None, weights=drawn_weights(nicknames(6), 1)).save(network)
    assert differing_network(network, TestnetConfig(seed=1)) is None
    found = str(differing_network(network, TestnetConfig(seed=7)))
    assert "has relays with other weights than those of the seed 7; stop it first" in found


def test_commands_refuse(network: Path, tmp_path: Path) -> None:
    """Both that make networks say so, with what to do."""
    instance = TestInstance(tmp_path, "[perfd]\nsource = lab\n")
    compare = ("compare", "--arm", "a=", "--arm", "b=", "--testnet", str(network), "--delay", "9ms")
    for command in (compare, ("testnet", "start", str(network), "--delay", "9ms")):
        done = instance.perfd(*command, "--links", "proxy")
        assert done.returncode == 1
        assert f"the private network in {network} runs already, and has the links {LINKS}" in done.stderr
        assert f"stop it first: perfd testnet stop {network}" in done.stderr


def test_stopped(tmp_path: Path) -> None:
    """One that does not run is started as it is wanted, whatever it was."""
    attrs.evolve(plan(tmp_path, nicknames(6), None), links=LINKS).save(tmp_path)
    assert differing_network(tmp_path, attrs.evolve(DELAYED, relays=8)) is None
