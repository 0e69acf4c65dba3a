"""What must hold of an instance, whatever has happened to it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from perfd.logfile.line import DamagedLine, parse_file
from perfd.record import Measurement
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader

MORE_BYTES = 48 << 20
"""Resident bytes by which a daemon may have grown: caches fill, and a flood leaves its marks in the allocator."""

MORE_DESCRIPTORS = 12
"""Descriptors by which it may have: connections of runs, of the database, of those who have just left."""

CUT_OFF = " [cut off]"


@attrs.frozen
class Tolerance:
    """What the faults of an instance may have cost: the database or the log as they were before, or by ``kills``
    kills what was not written yet. A slot before ``both`` may be in neither: each of them was lost at that time or
    later.
    """

    database: bool = False
    log: bool = False
    kills: int = 0
    both: float = -math.inf


@attrs.frozen
class Kept:
    """What an instance has written."""

    stored: Sequence[Measurement]
    logged: Sequence[Measurement]
    damaged: Sequence[DamagedLine]
    log_text: str

    @classmethod
    def of(cls, directory: Path) -> Kept:
        """Everything in an instance's directory, which no daemon works in any more."""
        with StoreReader(directory / "perfd.sqlite") as reader:
            stored = [m for page in reader.pages(Filter(limit=None, oldest_first=True)) for m in page]
        logs = sorted(directory.glob("perfd.log*"), key=lambda path: path.stat().st_mtime)
        found = [each for path in logs for each in parse_file(path)]
        return cls(
            stored=stored,
            logged=[each for each in found if isinstance(each, Measurement)],
            damaged=[each for each in found if isinstance(each, DamagedLine)],
            log_text="".join(path.read_text(encoding="utf-8", errors="replace") for path in logs),
        )

    def lost(self) -> list[str]:
        """The ids that are in one of both, the log and the database, and not in the other."""
        return sorted({m.id for m in self.stored} ^ {m.id for m in self.logged})


def coverage(measurements: Iterable[Measurement], intervals: Mapping[str, float]) -> dict[str, Counter[int]]:
    """How many records cover each slot of each variant; slots that came again do not count."""
    found: dict[str, Counter[int]] = {}
    for m in measurements:
        if m.slot is None or m.extra.get("REPEATED"):
            continue
        interval = intervals[m.experiment]
        first = float(m.extra.get("FROM", m.slot))
        slots = range(round(first / interval), round(float(m.extra.get("UNTIL", first)) / interval) + 1)
        variant = f"{m.experiment} {m.tor} {m.server} {m.extra.get('BROWSER', '')}".rstrip()
        found.setdefault(variant, Counter()).update(slots)
    return found


def violations(
    kept: Kept, intervals: Mapping[str, float], began: float, committed: set[str], tolerance: Tolerance
) -> Iterator[str]:
    """What does not hold, in words; ``committed`` are the ids that were in the database and must be.

    Slots from ``began`` on must be covered; none before it must, where the clock was set back to before the start.
    """
    stored, logged = coverage(kept.stored, intervals), coverage(kept.logged, intervals)
    for variant in sorted(stored.keys() | logged.keys()):
        rows, lines = stored.get(variant, Counter()), logged.get(variant, Counter())
        first = math.ceil(max(began, tolerance.both) / intervals[variant.split()[0]])
        if tolerance.database and tolerance.log:  # then nobody knows what was before both
            first = max(first, min(rows | lines))
        yield from _several(f"{variant}: in the database", rows)
        yield from _missing(f"{variant}: in the database", first, rows, lines if tolerance.database else ())
        if not (tolerance.kills or tolerance.database):
            yield from _several(f"{variant}: in the log", lines)
        yield from _missing(
            f"{variant}: in the log", first, lines, rows if tolerance.log or tolerance.kills else ()
        )
    gone = committed - {m.id for m in kept.stored}
    if gone:
        yield f"{len(gone)} committed rows are gone, such as {min(gone)}"
    lost = kept.lost()
    if lost and not (tolerance.kills or tolerance.database or tolerance.log):
        yield f"{len(lost)} records are in the log or the database only, such as {lost[0]}"
    if len(kept.damaged) > tolerance.kills:
        worst = kept.damaged[0]
        yield f"{len(kept.damaged)} lines cannot be read, such as {worst.path.name}:{worst.number}: {worst.reason}"
    yield from _bad_lines(kept.log_text)


def _several(where: str, slots: Counter[int]) -> Iterator[str]:
    several = sorted(slot for slot, count in slots.items() if count > 1)
    if several:
        yield f"{where}, {len(several)} slots have several records, such as slot number {several[0]}"


def _missing(where: str, first: int, slots: Counter[int], elsewhere: Iterable[int]) -> Iterator[str]:
    """The slots between the ``first`` and the last that are covered neither here nor ``elsewhere``."""
    missing = set(range(first, max(slots, default=first) + 1)) - set(slots) - set(elsewhere)
    if missing:
        yield f"{where}, {len(missing)} slots have no record, such as slot number {min(missing)}"


def _bad_lines(text: str) -> Iterator[str]:
    for word in ("Traceback", "Unhandled", "mistake in Perfd"):
        if word in text:
            line = next(line for line in text.splitlines() if word in line)
            yield f"the log has {word!r}: {line[:200]}"
    for line in text.splitlines():
        # A line of its own, or one that goes on the one before.
        if line and not line.startswith("\t") and "] " not in line and not line.endswith(("]", CUT_OFF)):
            yield f"a line of the log has another form: {line[:200]!r}"
            return


def web_violations(health: tuple[int, bytes], results: tuple[int, bytes]) -> Iterator[str]:
    """What is wrong with the answers to /health and /results."""
    for name, (status, body), wanted in (("health", health, (200, 503)), ("results", results, (200,))):
        try:
            json.loads(body)
        except ValueError:
            yield f"/{name} answered {status} and no JSON: {body[:100]!r}"
        else:
            if status not in wanted:
                yield f"/{name} answered {status}: {body[:200]!r}"


def growth_violations(before: tuple[int, int], after: tuple[int, int]) -> Iterator[str]:
    """What has grown too much: resident bytes, and descriptors."""
    if after[0] > before[0] + MORE_BYTES:
        yield f"its memory has grown from {before[0] >> 20} to {after[0] >> 20} MiB"
    if after[1] > before[1] + MORE_DESCRIPTORS:
        yield f"its descriptors have grown from {before[1]} to {after[1]}"
