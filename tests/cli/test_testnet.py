"""How ``perfd testnet status`` shows a private network."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from perfd.cli.csv_output import CSV
from perfd.cli.tables import Display
from perfd.cli.testnet import _show
from perfd.tor.testnet.network import NetworkStatus
from perfd.tor.testnet.relays import Relay, State

NETWORK = Path("/srv/network")
STATUS = NetworkStatus(
    NETWORK,
    State((Relay(NETWORK / "auth1", True, 5001, 5002), Relay(NETWORK / "exit1", False, 5003)), links="proxy 25ms"),
    pids=(4711, None),
    informed=(True, False),
    links_pid=4712,
)


@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_table(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each relay, which says whether it runs."""
    _show(STATUS, Display(Console(width=width, force_terminal=False, soft_wrap=True), width))
    lines = capsys.readouterr().out.splitlines()
    title = " ".join(lines[: lines.index("relay  OR port  process  state")])
    assert title == "The private network in /srv/network runs, but is not ready"
    rest = lines[lines.index("relay  OR port  process  state") + 1 :]
    assert rest == [
        "auth1     5001     4711  runs",
        "exit1     5003           does not run",
        "",
        "links: proxy 25ms, pid 4712",
    ]


def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON an object for the network, as CSV a row for each relay."""
    _show(STATUS, None)
    assert [relay["pid"] for relay in json.loads(capsys.readouterr().out)["relays"]] == [4711, None]
    _show(STATUS, CSV())
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["directory"], row["nickname"], row["pid"]) for row in rows] == [
        (str(NETWORK), "auth1", "4711"),
        (str(NETWORK), "exit1", ""),
    ]
    _show(NetworkStatus(NETWORK, None), Display(Console(), None))
    assert capsys.readouterr().out == "there is no private network in /srv/network\n"
