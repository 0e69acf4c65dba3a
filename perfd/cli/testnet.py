"""``perfd testnet start|stop|status DIR``: a private Tor network that lives on after the command."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError

from perfd.cli.csv_output import CSV
from perfd.cli.foreground import Interruption, run_reactor
from perfd.cli.networks import differing_network
from perfd.cli.output import complain, say
from perfd.cli.tables import Column, Display, Table
from perfd.cli.terminal import Progress
from perfd.config.testnet import TestnetConfig
from perfd.instance import InstanceError
from perfd.processes.programs import ProgramMissingError
from perfd.processes.users import user_name
from perfd.reactor import installed_reactor
from perfd.tor.testnet.network import NetworkStatus, Testnet, network_status
from perfd.tor.testnet.relays import TestnetError

RELAY_COLUMNS = (
    *(Column("relay"), Column("OR port", number=True), Column("process", number=True), Column("state")),
)
CSV_COLUMNS = ("directory", "ready", "links", "nickname", "or_port", "pid")
"""A row for each relay."""


def run(
    action: str, networks: Mapping[Path, TestnetConfig | None], tor_binary: str, display: Display | CSV | None
) -> int:
    """Do ``action`` with the networks in these directories, one after the other; the worst exit code.

    Their state is printed as JSON without a ``display``.
    """
    refuse_others(networks)
    reactor = installed_reactor()
    codes: list[int] = []

    async def main(_: Interruption) -> None:
        for directory, config in networks.items():
            codes.append(await actions[action](directory, config or TestnetConfig()))

    async def start(directory: Path, config: TestnetConfig) -> int:
        testnet = Testnet(directory, tor_binary, config=config)
        with Progress("starting the private network") as progress:
            started = await testnet.start(
                reactor, progress=lambda done, total, step: progress.update(step, done, total)
            )
        say(f"the private network in {directory} {'runs' if started else 'already runs'}")
        if testnet.links:
            say(f"its links: {testnet.links}")
        say("a tor uses it with these lines in its torrc:")
        for line in testnet.client_options:
            say(f"  {line}")
        return 0

    async def stop(directory: Path, _: TestnetConfig) -> int:
        stopped = await Testnet(directory, tor_binary).stop(reactor)
        say(f"the private network in {directory} {'has stopped' if stopped else 'did not run'}")
        return 0

    async def status(directory: Path, _: TestnetConfig) -> int:
        state = network_status(directory)
        _show(state, display)
        return 0 if state.ready else 1

    actions = {"start": start, "stop": stop, "status": status}
    try:
        _check_those_that_run(networks)
        run_reactor(reactor, main)
    except (TestnetError, ProgramMissingError) as error:
        complain(str(error))
    except CancelledError:
        directory = list(networks)[len(codes)]
        complain(f"interrupted; perfd testnet status {directory} says what runs")
    finally:
        _tell_what_stays(action, list(networks), len(codes))
    return max(codes) if len(codes) == len(networks) else 1


def refuse_others(directories: Iterable[Path]) -> None:
    """Raises InstanceError if root would work in what another user made, or where a link of another's leads."""
    for directory in directories if os.geteuid() == 0 else ():
        if os.path.lexists(directory) and (owner := directory.lstat().st_uid):
            raise InstanceError(
                f"{directory} belongs to {user_name(owner)}, and root would follow its links: do it as that user"
            )


def _show(status: NetworkStatus, display: Display | CSV | None) -> None:
    if display is None:
        sys.stdout.write(json.dumps(_as_dict(status)) + "\n")
    elif isinstance(display, CSV):
        network = _as_dict(status)
        display.records([{**network, **relay} for relay in network["relays"]], CSV_COLUMNS)
    elif status.state is None:
        sys.stdout.write(f"there is no private network in {status.directory}\n")
    else:
        rows = [
            (relay.nickname, str(relay.or_port), str(pid or ""), "runs" if pid else "does not run")
            for relay, pid in zip(status.state.relays, status.pids, strict=True)
        ]
        display.show([Table(_title(status), RELAY_COLUMNS, rows)], _links(status))


def _check_those_that_run(networks: Mapping[Path, TestnetConfig | None]) -> None:
    """Raises TestnetError if one that is to be started runs already, and is another than is wanted."""
    for directory, config in networks.items():
        if config is not None and (differing := differing_network(directory, config)):
            raise TestnetError(differing)


def _tell_what_stays(action: str, networks: Sequence[Path], started: int) -> None:
    """If one does not start: those before it stay, and would not be looked for."""
    if action == "start" and 0 < started < len(networks):
        one, *others = networks[:started]
        words = f"those in {', '.join(map(str, (one, *others)))} keep" if others else f"the one in {one} keeps"
        complain(f"{words} running; this stops what runs: perfd testnet stop {one.parent}")


def _as_dict(status: NetworkStatus) -> dict[str, Any]:
    relays = status.state.relays if status.state is not None else ()
    return {
        "directory": str(status.directory),
        "ready": status.ready,
        "links": status.state.links if status.state is not None else None,
        "relays": [
            {"nickname": relay.nickname, "or_port": relay.or_port, "pid": pid}
            for relay, pid in zip(relays, status.pids, strict=True)
        ],
        "client_options": list(status.state.client_options) if status.state is not None else [],
    }


def _title(status: NetworkStatus) -> str:
    summary = "works" if status.ready else "does not run" if status.stopped else "runs, but is not ready"
    return f"The private network in {status.directory} {summary}"


def _links(status: NetworkStatus) -> list[str]:
    if status.state is None or status.state.links is None:
        return []
    process = f"pid {status.links_pid}" if status.links_pid else "not running"
    return [f"links: {status.state.links}, {process}"]
