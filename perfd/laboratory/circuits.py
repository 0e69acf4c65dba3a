"""The circuits that experiments over chosen relays are measured on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from perfd.config import ExperimentConfig
from perfd.experiments.scan import ScanChoice, ScanState
from perfd.experiments.ways import MeasuredTor, WayIn
from perfd.interfaces import WayToServer
from perfd.tor.circuits.chosen import Chosen, FixedChoice

Scans = Callable[[str, str, str], Awaitable[ScanState | None]]
"""Gives how far the scan of a name over a tor and a way to the server had come; None: it had not begun."""


async def no_scans(_experiment: str, _tor: str, _server: str) -> ScanState | None:
    """None has begun."""
    return None


def chosen(config: ExperimentConfig, tor: WayIn, server: WayToServer, scans: Scans) -> Chosen | None:
    """The relays of an experiment over a tor; None if it is left to that which relays it takes."""
    if not isinstance(tor, MeasuredTor) or tor.circuits is None:
        return None
    if config.scan is not None:
        resume = partial(scans, config.name, tor.name, server.name)
        return Chosen(tor.circuits, ScanChoice(config.scan, config.relays, resume))
    return None if config.relays is None else Chosen(tor.circuits, FixedChoice(config.relays))
