"""What comes out of the lab's links, in packets: delay, rate and loss are within 2 % of what was asked.

The machine must have time: what other programs keep it from doing counts as delay.
"""

from __future__ import annotations

import socket
import statistics
from pathlib import Path

import pytest

from perfd.analysis.proportion import exact_interval
from perfd.config.testnet import Link
from perfd.tor.testnet.links import netns
from perfd.tor.testnet.links.line import MOST_LATENESS
from tests.support.links import pings, raw_icmp, running_links, tcp_rate, udp_rate

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(netns.trouble() is not None, reason=f"links = netns: {netns.trouble()}"),
]

WITHIN = 0.02
RATE = 20e6


@pytest.mark.parametrize("jitter", [0.0, 0.005])
def test_delay(tmp_path: Path, jitter: float) -> None:
    """There and back over one link of 25 ms, and over those of two relays."""
    with running_links(tmp_path, Link(delay=0.025, jitter=jitter), "guard1", "exit1") as links:
        with raw_icmp() as machine:
            one = pings(machine, links.address("exit1"), 500, 0.02)
        with links.socket("guard1", socket.SOCK_RAW, socket.IPPROTO_ICMP) as relay:
            two = pings(relay, links.address("exit1"), 500, 0.02)
    assert None not in one + two
    times = [[each for each in found if each is not None] for found in (one, two)]
    assert [statistics.median(found) for found in times] == [
        pytest.approx(0.05, rel=WITHIN),
        pytest.approx(0.1, rel=WITHIN),
    ]
    assert min(times[0]) >= 2 * (0.025 - jitter - MOST_LATENESS)


def test_short_delay(tmp_path: Path) -> None:
    """Over the links of two relays, of 5 ms each."""
    with (
        running_links(tmp_path, Link(delay=0.005), "guard1", "exit1") as links,
        links.socket("guard1", socket.SOCK_RAW, socket.IPPROTO_ICMP) as relay,
    ):
        found = pings(relay, links.address("exit1"), 500, 0.02)
    times = [each for each in found if each is not None]
    assert statistics.median(times) == pytest.approx(0.02, rel=WITHIN)


def test_rate_of_packets(tmp_path: Path) -> None:
    """Of more than the link takes comes its rate."""
    with running_links(tmp_path, Link(delay=0.025, rate=RATE), "exit1") as links:
        assert udp_rate(links, "exit1", 30e6, seconds=6.0, skip=1.0) == pytest.approx(RATE, rel=WITHIN)


def test_rate_of_a_connection(tmp_path: Path) -> None:
    """One TCP flow fills the link, once it knows the way."""
    with running_links(tmp_path, Link(delay=0.025, rate=RATE), "exit1") as links:
        assert tcp_rate(links, "exit1", seconds=10.0, skip=3.0) == pytest.approx(RATE, rel=WITHIN)


def test_loss(tmp_path: Path) -> None:
    """So many pings have no answer as are lost on the way there or back."""
    with running_links(tmp_path, Link(delay=0.005, loss=0.01), "exit1") as links, raw_icmp() as machine:
        found = pings(machine, links.address("exit1"), 4000, 0.001)
    low, high = exact_interval(found.count(None), len(found))
    assert low <= 1 - 0.99**2 <= high
