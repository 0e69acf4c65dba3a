"""Words of pages: what the state of Perfd is, in a sentence, and values with their units."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from perfd.charts.axes import number
from perfd.pages import elements
from perfd.pages.records import DaemonState

MOST_TEXT = 80
"""Characters of a name or an address in a table; the page of the thing itself has all of it."""


def clipped(text: str, most: int = MOST_TEXT) -> str:
    """``text``, or its beginning where it is too long for a table."""
    return text if len(text) <= most else text[: most - 3] + "..."


def with_unit(value: float | None, unit: str) -> str:
    """Three digits and the unit; empty if there is no value."""
    return "" if value is None else f"{number(value)} {unit}".strip()


def experiment_path(name: str) -> str:
    """The path of an experiment's page."""
    return f"/experiments/{quote(name, safe='')}"


def epoch(text: str | None) -> float | None:
    """Seconds since the epoch of a time of the report of /health."""
    return None if text is None else datetime.fromisoformat(text).timestamp()


def summary(state: DaemonState) -> str:
    """Whether all is right, in a sentence or two."""
    experiments = state.health["experiments"]
    ill = [each for each in experiments if not each["healthy"]]
    troubles = [*_tor_troubles(state.health), *_file_troubles(state.health)]
    if not experiments:
        said = "Nothing is measured: no experiment is configured"
    elif not ill:
        one = "The one experiment is" if len(experiments) == 1 else f"All {len(experiments)} experiments are"
        said = f"{one} healthy"
    else:
        said = f"{len(experiments) - len(ill)} of {len(experiments)} experiments healthy; {_ill(ill, state)}"
    return ". ".join([said, *troubles]) + "."


def _ill(ill: list[dict[str, Any]], state: DaemonState) -> str:
    name = clipped(ill[0]["name"], 60)
    last = [
        at for each in ill[0]["variants"] if not each["healthy"] and (at := epoch(each["last_success"])) is not None
    ]
    since = (
        f"has had no success for {elements.duration(state.now - max(last))}" if last else "has had no success yet"
    )
    others = f", and {len(ill) - 1} more" if len(ill) > 1 else ""
    return f"{name} {since}{others}"


def _tor_troubles(health: Any) -> list[str]:
    return [f"Tor {tor['name']} is {tor['state']}" for tor in health["tors"] if not tor["healthy"]]


def _file_troubles(health: Any) -> list[str]:
    return [f"The {name}: {health[name]}" for name in ("database", "log") if health[name] != "ok"]
