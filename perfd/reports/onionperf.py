"""The table that OnionPerf's ``visualize`` writes beside its plots, with the same definitions.

Its first byte is that of the payload, DATAPERC0; where that is not known, DATARESPONSE stands for it. In
OnionPerf's documents that is within a tenth of a millisecond of their ``first_byte``, which records do not keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from perfd.charts.model import Cell
from perfd.reports.groups import Group
from perfd.reports.runs import Run

COLUMNS = (
    *("id", "time_to_first_byte", "time_to_last_byte", "error_code", "mbps", "label", "filesize_bytes", "server"),
    *("start", "guard"),
)


def rows(groups: Iterable[Group]) -> Iterator[tuple[Cell, ...]]:
    """A row for each run; what was skipped is no run. ``mbps`` is of 1 MiB and 5 MiB only, as it is there."""
    for group in groups:
        for run in group.runs:
            if run.is_ok or run.has_failed:
                yield _row(group, run)


def _row(group: Group, run: Run) -> tuple[Cell, ...]:
    has_mbps = run.is_ok and run.filesize in (2**20, 5 * 2**20)
    return (
        run.id,
        _rounded(run.first_byte if run.first_payload is None else run.first_payload),
        _rounded(run.complete),
        None if run.is_ok else run.errorcode,
        _rounded(run.throughput) if has_mbps else None,
        group.name,
        run.filesize,
        group.variant.server,
        datetime.fromtimestamp(run.start, UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
        run.guard.lstrip("$").upper() if run.guard else None,
    )


def _rounded(value: float | None) -> float | None:
    """To microseconds: more is not known."""
    return None if value is None else round(value, 6)
