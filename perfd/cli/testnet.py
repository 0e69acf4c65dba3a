"""``perfd testnet start|stop|status DIR``: a private Tor network that lives on after the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError

from perfd.cli.foreground import Interruption, run_reactor
from perfd.cli.output import complain, say
from perfd.cli.terminal import Progress
from perfd.processes.programs import ProgramMissingError
from perfd.reactor import installed_reactor
from perfd.tor.testnet.network import NetworkStatus, Testnet, network_status
from perfd.tor.testnet.relays import TestnetError


def run(action: str, directory: Path, tor_binary: str, *, as_json: bool) -> int:
    """Do ``action`` with the network in ``directory``; the exit code."""
    reactor = installed_reactor()
    codes: list[int] = []

    async def main(_: Interruption) -> None:
        codes.append(await actions[action]())

    async def start() -> int:
        with Progress("starting the private network") as progress:
            started = await Testnet(directory, tor_binary).start(
                reactor, progress=lambda done, total, step: progress.update(step, done, total)
            )
        say(f"the private network in {directory} {'runs' if started else 'already runs'}")
        say("a tor uses it with these lines in its torrc:")
        for line in Testnet(directory).client_options:
            say(f"  {line}")
        return 0

    async def stop() -> int:
        stopped = await Testnet(directory, tor_binary).stop(reactor)
        say(f"the private network in {directory} {'has stopped' if stopped else 'did not run'}")
        return 0

    async def status() -> int:
        state = network_status(directory)
        sys.stdout.write((json.dumps(_as_dict(state)) if as_json else _in_words(state)) + "\n")
        return 0 if state.ready else 1

    actions = {"start": start, "stop": stop, "status": status}
    try:
        run_reactor(reactor, main)
    except (TestnetError, ProgramMissingError) as error:
        complain(str(error))
    except CancelledError:
        complain(f"interrupted; perfd testnet status {directory} says what runs")
    return codes[0] if codes else 1


def _as_dict(status: NetworkStatus) -> dict[str, Any]:
    relays = status.state.relays if status.state is not None else ()
    return {
        "directory": str(status.directory),
        "ready": status.ready,
        "relays": [
            {"nickname": relay.nickname, "or_port": relay.or_port, "pid": pid}
            for relay, pid in zip(relays, status.pids, strict=True)
        ],
        "client_options": list(status.state.client_options) if status.state is not None else [],
    }


def _in_words(status: NetworkStatus) -> str:
    if status.state is None:
        return f"there is no private network in {status.directory}"
    summary = "works" if status.ready else "does not run" if status.stopped else "runs, but is not ready"
    lines = [f"the private network in {status.directory} {summary}"]
    for relay, pid in zip(status.state.relays, status.pids, strict=True):
        lines.append(f"  {relay.nickname}: port {relay.or_port}, {f'pid {pid}' if pid else 'not running'}")
    return "\n".join(lines)
