"""What scans of relays will cost the network, which is to be known before they begin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perfd.config import Config, ExperimentConfig
from perfd.config.relays import AUTO, PLACES, ScanConfig
from perfd.instance import Instance
from perfd.tor.circuits.path import UP, fit_for
from perfd.tor.circuits.selection import matching, ranked
from perfd.tor.events.relays import RouterStatus, RouterStatusReader
from perfd.units import format_duration

DAY = 86400.0

CELL = 514 / 498
"""Bytes of cells for a byte of payload (tor-spec, 3 and 6.1)."""

FILES = ("cached-microdesc-consensus", "cached-consensus")


def scan_costs(config: Config) -> list[str]:
    """A line for each scan. Reads the consensuses that tors have kept."""
    return [_cost(config, each) for each in config.experiments if each.scan is not None]


def _cost(config: Config, experiment: ExperimentConfig) -> str:
    ways = len(experiment.tors) * experiment.ways
    circuits = DAY / experiment.interval * ways
    payload = circuits * experiment.size * CELL
    cost = (
        f"{experiment.name} costs the network {circuits:,.0f} circuits and {_mebibytes(payload)} a day, which "
        f"{len(PLACES)} relays carry each: {_mebibytes(len(PLACES) * payload)} in all"
    )
    count = _count(config, experiment)
    if count is None:
        return f"{cost}; how many relays it has is not known before tor has a consensus"
    return f"{cost}; a pass over {count:,} relays takes {format_duration(count * experiment.interval)}"


def _mebibytes(count: float) -> str:
    return f"{count / 2**20:,.1f} MiB"


def _count(config: Config, experiment: ExperimentConfig) -> int | None:
    """The relays of a scan, as far as that is known."""
    scan = experiment.scan
    assert scan is not None
    for tor in experiment.tors:
        relays = _relays(Instance(config.directory).tor_data(tor))
        if relays:
            return _matching(scan, relays)
    if config.network == "testnet" and str(scan.relays) == "Running" and scan.place in (AUTO, PLACES[1]):
        return config.private_network.relays
    return None


def _matching(scan: ScanConfig, relays: Sequence[RouterStatus]) -> int | None:
    if any(condition.kind == "country" for condition in scan.relays.conditions):
        return None  # which a tor must tell
    fit = relays if scan.place == AUTO else fit_for(scan.place, relays, scan.relays)
    return len(matching(scan.relays, ranked(fit)))


def _relays(data: Path) -> list[RouterStatus]:
    """Those in the consensus that a tor has kept; none if it has kept none."""
    found: list[RouterStatus] = []
    reader = RouterStatusReader(found.append)
    for name in FILES:
        try:
            with (data / name).open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    reader.line(line.rstrip("\n"))
        except OSError:
            continue
        if found:
            break
    return [relay for relay in found if relay.flags >= UP]
