"""What scans will cost, as `perfd check` says it."""

from __future__ import annotations

from pathlib import Path

from perfd.config import parse_config
from perfd.laboratory.costs import scan_costs

CONFIG = """
[perfd]
network = {network}
[server]
public-address = 192.0.2.1:8080
[experiment:all]
type = scan
interval = 5 min
[experiment:exits]
type = scan
relays = Exit
place = exit
size = 1 MiB
interval = 10 min
[experiment:other]
"""

RELAY = "r {name} {identity} 2038-01-01 00:00:00 192.0.2.1 9001 0\ns {flags}Running Valid\nw Bandwidth=100\n"


def test_costs(tmp_path: Path) -> None:
    """Circuits and bytes a day, and how long a pass takes as soon as the relays are known."""
    private, exits = scan_costs(parse_config(CONFIG.format(network="testnet"), tmp_path / "perfd.conf"))
    assert private == (
        "all costs the network 288 circuits and 14.5 MiB a day, which 3 relays carry each: 43.5 MiB in all; "
        "a pass over 6 relays takes 30 min"
    )
    assert exits == (
        "exits costs the network 144 circuits and 148.6 MiB a day, which 3 relays carry each: 445.9 MiB in all; "
        "how many relays it has is not known before tor has a consensus"
    )
    consensus = tmp_path / "tor" / "default" / "cached-microdesc-consensus"
    consensus.parent.mkdir(parents=True)
    relays = [(f"r{number}", "A" * 26 + chr(66 + number), "Exit " if number < 3 else "") for number in range(7)]
    consensus.write_text("".join(RELAY.format(name=n, identity=i, flags=f) for n, i, f in relays))
    lines = scan_costs(parse_config(CONFIG.format(network="tor"), tmp_path / "perfd.conf"))
    ends = [line.partition("; ")[2] for line in lines]
    assert ends == ["a pass over 7 relays takes 35 min", "a pass over 3 relays takes 30 min"]
