"""What ``perfd testnet`` says of private networks."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from perfd.cli import testnet
from perfd.cli.csv_output import CSV
from perfd.cli.foreground import Interruption
from perfd.cli.tables import Display
from perfd.cli.testnet import _show
from perfd.tor.testnet.network import NetworkStatus
from perfd.tor.testnet.relays import Relay, State, TestnetError

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


class Failing:
    """Networks of which the third does not start."""

    links = None
    client_options = ()

    def __init__(self, directory: Path, *_: object, **__: object) -> None:
        self._directory = directory

    async def start(self, *_: object, **__: object) -> bool:
        if self._directory.name == "network3":
            raise TestnetError("it cannot be started")
        return True


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ((3, 4), []),
        ((1, 3, 4), ["the one in DIR/network1 keeps running; this stops what runs: perfd testnet stop DIR"]),
        (
            (1, 2, 3),
            ["those in DIR/network1, DIR/network2 keep running; this stops what runs: perfd testnet stop DIR"],
        ),
    ],
)
def test_those_before_one_that_fails(
    numbers: tuple[int, ...],
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They stay, which is said, and how to stop them."""

    def run_at_once(_: object, main: Callable[[Interruption], Coroutine[Any, Any, None]]) -> None:
        with contextlib.suppress(StopIteration):
            main(Interruption()).send(None)

    monkeypatch.setattr(testnet, "Testnet", Failing)
    monkeypatch.setattr(testnet, "run_reactor", run_at_once)
    monkeypatch.setattr(testnet, "installed_reactor", lambda: None)
    networks = {tmp_path / f"network{number}": None for number in numbers}
    assert testnet.run("start", networks, "tor", None) == 1
    lines = capsys.readouterr().err.replace(str(tmp_path), "DIR").splitlines()
    assert [line for line in lines if line.startswith("perfd: ")] == [
        f"perfd: {line}" for line in ("it cannot be started", *told)
    ]
