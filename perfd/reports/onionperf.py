"""The table that OnionPerf's ``visualize`` writes beside its plots, with the same definitions.

Its first byte is that of the payload, DATAPERC0; where that is not known, DATARESPONSE stands for it. In
OnionPerf's documents that is within a tenth of a millisecond of their ``first_byte``, which records do not keep.
Lists stand in brackets, as Python writes them. What is said of guards but the first relay of the path is known of
imported circuits alone, where OnionPerf's document tells tor's guards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from perfd.charts.model import Cell
from perfd.record import Guard, Hop
from perfd.reports.groups import Group
from perfd.reports.runs import Run

COLUMNS = (
    *("id", "time_to_first_byte", "time_to_last_byte", "error_code", "mbps", "label", "filesize_bytes", "server"),
    *("start", "fingerprints", "guard_country_codes", "guards", "guard", "uses_guard", "guard_index"),
)

Path = tuple[tuple[Hop, ...], tuple[Guard, ...]]
"""The relays of a circuit, and tor's guards when it was launched."""

UNKNOWN: Path = ((), ())


def rows(groups: Iterable[Group], paths: Mapping[str, Path]) -> Iterator[tuple[Cell, ...]]:
    """A row for each run; what was skipped is no run. ``mbps`` is of 1 MiB and 5 MiB only, as it is there.

    ``paths`` are those of runs by their ids, where they tell more than the run does.
    """
    for group in groups:
        for run in group.runs:
            if run.is_ok or run.has_failed:
                yield _row(group, run, *paths.get(run.id, UNKNOWN))


def ids_of_less_known(groups: Iterable[Group]) -> list[str]:
    """Those of the runs that do not tell the nicknames of their relays."""
    return [run.id for group in groups for run in group.runs if run.path and not run.nicknames]


def _row(group: Group, run: Run, hops: tuple[Hop, ...], guards: tuple[Guard, ...]) -> tuple[Cell, ...]:
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
        _listed(_relays(run, hops)),
        _listed([guard.country or "N/A" for guard in guards]),
        len(guards) or None,
        *_guard(run.guard, [_plain(guard.fingerprint) for guard in guards]),
    )


def _relays(run: Run, hops: tuple[Hop, ...]) -> list[str]:
    """Those of the path as tor calls them: $FINGERPRINT~nickname."""
    names = run.nicknames.split(",") if run.nicknames else [hop.nickname or "" for hop in hops]
    if len(names) != len(run.path):
        names = [""] * len(run.path)
    return [f"{relay}~{name}" if name else relay for relay, name in zip(run.path, names, strict=True)]


def _guard(used: str | None, guards: list[str]) -> tuple[Cell, Cell, Cell]:
    """The first relay, whether it is one of tor's guards, and which, from 0 on; -1 if it is none."""
    if used is None:
        return None, None, None
    name = _plain(used)
    if not guards:
        return name, None, None
    return name, str(name in guards), guards.index(name) if name in guards else -1


def _plain(fingerprint: str) -> str:
    return fingerprint.lstrip("$").upper()


def _listed(words: list[str]) -> str | None:
    return str(words) if words else None


def _rounded(value: float | None) -> float | None:
    """To microseconds: more is not known."""
    return None if value is None else round(value, 6)
