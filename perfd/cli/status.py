"""``perfd status --csv``: a row for each part of the daemon, for spreadsheets and other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from perfd.cli.csv_output import CSV
from perfd.cli.daemon import FAILED, OK, STATUS_DEAD_WITH_PID_FILE, STATUS_NOT_RUNNING, listens_on, read_health
from perfd.cli.output import complain
from perfd.config import Config
from perfd.instance import Instance
from perfd.variant import COLUMNS as OF_VARIANTS

COLUMNS = (
    *("part", "name", "healthy", "state", *OF_VARIANTS, "last_success", "last_outcome", "failures", "next_slot"),
)


def status_as_csv(instance: Instance, load: Callable[[], Config]) -> int:
    """Print them; the exit code is that of ``perfd status``. ``load`` gives perfd.conf. Raises ConfigError."""
    csv = CSV()
    pid = instance.daemon_pid()
    if pid is None:
        csv.records([], COLUMNS)
        complain("perfd is not running")
        return STATUS_DEAD_WITH_PID_FILE if instance.pid_file.exists() else STATUS_NOT_RUNNING
    health = read_health(listens_on(instance, load()))
    healthy = health is not None and health.get("healthy") is True
    daemon = {"part": "daemon", "name": pid, "healthy": healthy, "state": _state(health)}
    csv.records([daemon, *_rows(health or {})], COLUMNS)
    return OK if healthy else FAILED


def _state(health: Mapping[str, Any] | None) -> str:
    if health is None:
        return "its web server does not answer"
    if "error" in health:  # results = none
        return f"its health cannot be read: {health['error'].get('message')}"
    return "runs"


def _rows(health: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for tor in health.get("tors", []):
        yield {"part": "tor", **tor}
    for experiment in health.get("experiments", []):
        for variant in experiment["variants"]:
            yield {
                **variant,
                "part": "experiment",
                "name": experiment["name"],
                "next_slot": experiment["next_slot"],
            }
    for comparison in health.get("comparisons", []):
        yield {"part": "comparison", **comparison}
    for file in ("database", "log"):
        if file in health:
            yield {"part": file, "healthy": health[file] == "ok", "state": health[file]}
    if address := health.get("public_address"):
        yield {"part": "public-address", "healthy": address == "ok", "state": address}
