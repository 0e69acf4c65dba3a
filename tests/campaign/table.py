"""What came of a campaign, as a table by fault; ``python -m tests.campaign.table FILES`` adds up several."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.campaign.plan import KINDS


@attrs.frozen
class Injected:
    """A fault that happened: its kind, and the seconds from its end until a run succeeded, None if none did."""

    kind: str
    recovery: float | None


@attrs.frozen
class Results:
    """What came of instances; results can be added."""

    instances: int = 0
    injected: tuple[Injected, ...] = ()
    lost: int = 0  # records that only the log or only the database has, after kills
    violations: tuple[str, ...] = ()

    def __add__(self, other: Results) -> Results:
        return Results(
            self.instances + other.instances,
            self.injected + other.injected,
            self.lost + other.lost,
            self.violations + other.violations,
        )

    def as_dict(self) -> dict[str, Any]:
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Results:
        return cls(
            given["instances"],
            tuple(Injected(**each) for each in given["injected"]),
            given["lost"],
            tuple(given["violations"]),
        )


def text(results: Results) -> str:
    """The table, as Markdown."""
    lines = ["| fault | injected | recovered | median, s | worst, s | records lost |", "|---|---|---|---|---|---|"]
    lines += [_row(kind, results) for kind in sorted({each.kind for each in results.injected})]
    lines += [
        _row("all", results),
        "",
        f"{results.instances} instances, {len(results.violations)} violations",
    ]
    return "\n".join(lines)


def _row(kind: str, results: Results) -> str:
    found = [each.recovery for each in results.injected if kind in (each.kind, "all")]
    times = [each for each in found if each is not None]
    median = f"{statistics.median(times):.1f}" if times else ""
    worst = f"{max(times):.1f}" if times else ""
    lost = results.lost if kind == "all" or KINDS[kind].kills else 0  # of others that is a violation
    return f"| {kind} | {len(found)} | {len(times)} | {median} | {worst} | {lost} |"


def main(paths: Sequence[str]) -> None:
    """Print the table of all results together."""
    found = (Results.from_dict(json.loads(Path(path).read_text())) for path in paths)
    sys.stdout.write(f"{text(sum(found, Results()))}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
