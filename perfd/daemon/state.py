"""What pages are told of the daemon: its health, and of perfd.conf what everybody may know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfd import __version__
from perfd.config import Config
from perfd.daemon.disk import Room
from perfd.pages.records import DaemonState, Experiment
from perfd.store.page_files import DIRECTORY as PAGE_FILES
from perfd.units import format_size

GIB = 2**30


def daemon_state(config: Config, health: Mapping[str, Any], room: Room | None, now: float) -> DaemonState:
    """The state at ``now`` (epoch); ``health`` is the report of /health, ``room`` that on the disk, if known."""
    return DaemonState(
        now=now,
        source=config.source,
        version=__version__,
        network=config.network,
        title=config.server.title,
        description=config.server.description,
        contact=config.server.contact,
        health=health,
        disk="" if room is None else f"{room.free / GIB:,.1f} of {room.size / GIB:,.1f} GiB free",
        experiments=tuple(
            Experiment(
                name=each.name,
                type=each.type,
                size=each.size,
                interval=each.interval,
                timeout=each.timeout,
                tors=each.tors,
                servers=each.servers,
            )
            for each in config.experiments
        ),
        comparisons=tuple(each.name for each in config.comparisons),
        files=config.directory.absolute() / PAGE_FILES,
        settings=dict(_settings(config)),
    )


def _settings(config: Config) -> list[tuple[str, str]]:
    server = config.server
    rate = "no bound" if server.max_rate is None else f"{format_size(server.max_rate)} a second"
    return [
        ("Who may read results", {"all": "everybody", "local": "this machine", "none": "nobody"}[server.results]),
        ("Largest download", format_size(server.max_size)),
        ("What strangers get of random bytes", rate),
        ("Connections at a time", f"{server.max_connections:,}"),
        ("Measurements are kept", _days(config.keep)),
        ("Circuits, streams and events are kept", _days(config.keep_events)),
        ("Curves are kept", _days(config.keep_curves)),
        ("HAR files and pictures are kept", _days(config.keep_har)),
        ("Documents for others", "published for each day" if config.archive else "not published"),
    ]


def _days(count: int | None) -> str:
    return "for ever" if count is None else f"{count:,} days"
