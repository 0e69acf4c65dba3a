"""The bridges of the private network: what tor needs to be one, and what clients need to use them.

They publish nothing, so nobody knows them but those who have their lines. Each takes Tor's own protocol, and obfs4
if its program is there.
"""

from __future__ import annotations

import re
from pathlib import Path

from perfd.processes.programs import ProgramMissingError, find_program
from perfd.tor.testnet.relays import Relay, State, TestnetError, fingerprint

OBFS4_PROGRAMS = ("obfs4proxy", "lyrebird")
"""Programs that speak obfs4, as Debian's packages name them; lyrebird is what became of obfs4proxy."""

VANILLA = "vanilla"

TRANSPORTS = (VANILLA, "obfs4")
"""What bridges take here."""

_OPTIONS = (
    "BridgeRelay 1",
    "PublishServerDescriptor 0",
    # A bridge asks for the consensus as clients do, which is not before somebody uses it. This one is to be ready.
    "FetchDirInfoEarly 1",
)


def obfs4_program() -> str | None:
    """The path of a program that speaks obfs4; None if there is none."""
    for name in OBFS4_PROGRAMS:
        try:
            return find_program(name)
        except ProgramMissingError:
            continue
    return None


def torrc(relay: Relay, obfs4: str | None) -> str:
    """What the torrc of a bridge has besides that of every relay; nothing for others."""
    if relay.role != "bridge":
        return ""
    lines = list(_OPTIONS)
    if relay.obfs4_port is not None:
        # Not the loopback address: behind a link that is this machine's.
        lines.append(f"ExtORPort {relay.address}:auto")
        lines.append(f"ServerTransportPlugin obfs4 exec {obfs4}")
        lines.append(f"ServerTransportListenAddr obfs4 {relay.address}:{relay.obfs4_behind or relay.obfs4_port}")
    return "\n".join(lines) + "\n"


def bridge_options(directory: Path, transport: str) -> tuple[str, ...]:
    """The torrc lines by which a tor uses the bridges of the network in ``directory``, and no other way in.

    Raises ``TestnetError`` if it has none that takes ``transport``.
    """
    state = State.load(directory)
    bridges = [] if state is None else [relay for relay in state.relays if relay.role == "bridge"]
    if transport == "obfs4":
        lines = [_obfs4_line(bridge) for bridge in bridges if bridge.obfs4_port is not None]
        plugins = [f"ClientTransportPlugin obfs4 exec {state.obfs4}"] if state is not None else []
    else:
        lines = [f"Bridge {bridge.address}:{bridge.or_port} {fingerprint(bridge)}" for bridge in bridges]
        plugins = []
    if not lines:
        raise TestnetError(f"the private network in {directory} has no bridge that takes {transport}")
    return ("UseBridges 1", *plugins, *lines)


def _obfs4_line(bridge: Relay) -> str:
    """With the key in the line that the bridge's obfs4 has written for its operator."""
    try:
        text = bridge.obfs4_line.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise TestnetError(f"{bridge.obfs4_line} cannot be read: {error}") from None
    match = re.search(r"^Bridge obfs4 .* (cert=\S+ iat-mode=\d)$", text, re.MULTILINE)
    if match is None:
        raise TestnetError(f"{bridge.obfs4_line} has no line of a bridge")
    return f"Bridge obfs4 {bridge.address}:{bridge.obfs4_port} {fingerprint(bridge)} {match[1]}"
