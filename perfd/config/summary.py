"""What a configuration comes to: how often what is measured, how much that is, and who can see what."""

from __future__ import annotations

from perfd.config.records import Config, ExperimentConfig
from perfd.units import format_duration

DAY = 86400.0
MONTH = 30

OF_RECORD = 5 * 1024
"""Bytes of disk for a measurement, in database, archive and log (docs/disk.md)."""

OF_CURVES = 3 * 1024
"""Bytes of disk for the curves of a measurement (docs/disk.md)."""

OF_CIRCUIT = 1500
"""Bytes of disk for a circuit with its stream (docs/disk.md)."""

CIRCUITS_OF_TOR = 500
"""Circuits a day that a tor builds without being asked."""


def summary(config: Config) -> list[str]:
    """Some lines for people."""
    lines = [_experiment(experiment) for experiment in config.experiments]
    runs = sum(runs_a_day(experiment) for experiment in config.experiments)
    payload = sum(runs_a_day(experiment) * experiment.size for experiment in config.experiments)
    tors = {tor for experiment in config.experiments for tor in experiment.tors}
    if runs:
        lines.append(f"a day: {runs:,.0f} runs, {_bytes(payload)} of payload, over {_count(len(tors), 'tor')}")
        lines.append(f"disk: about {_bytes(disk(config, runs, len(tors)))} after a month")
    public = config.server.public_address
    address = f"{config.server.listen}, reached at {public}" if public != config.server.listen else str(public)
    whose = {"all": "everybody", "local": "this machine", "none": "nobody"}[config.server.results]
    lines.append(f"server: {address}; random bytes for everybody, results over HTTP for {whose}")
    return lines


def runs_a_day(experiment: ExperimentConfig) -> float:
    """Over all tors, ways to the server and browsers."""
    variants = len(experiment.tors) * len(experiment.servers) * max(1, len(experiment.browsers))
    return DAY / experiment.interval * variants


def disk(config: Config, runs: float, tors: int) -> float:
    """Bytes after a month, from what a record, its curves and a circuit take on the average."""
    days = MONTH if config.keep is None else min(MONTH, config.keep)
    circuits = (runs + CIRCUITS_OF_TOR * tors) * OF_CIRCUIT if config.network != "socks" else 0.0
    curves = runs * OF_CURVES * min(MONTH, config.keep_curves)
    return runs * OF_RECORD * days + curves + circuits * min(MONTH, config.keep_events)


def _experiment(experiment: ExperimentConfig) -> str:
    ways = ", ".join((*experiment.tors, *(way for way in experiment.servers if way != "public")))
    size = f" of {_bytes(experiment.size)}" if experiment.size else ""
    return f"{experiment.name}: {experiment.type}{size} every {format_duration(experiment.interval)} over {ways}"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
