"""Torperf's .data and .extradata together: as CollecTor merged them, and as .mergedata.

A .mergedata file holds sorted ``KEY=value`` pairs, with the times split into STARTSEC, STARTUSEC and so on.
Everything here works in one pass, since both files are in order of ending.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from perfd.formats.errors import Damage, FormatError
from perfd.formats.legacy import (
    PASSED_OVER,
    Extra,
    data_measurement,
    data_numbers,
    extra_from,
    extra_of,
    extra_pairs,
    read_lines,
    split_pairs,
)
from perfd.formats.torperf_line import TIMES
from perfd.record import FIELDS, Measurement, Outcome

SLACK = 1.0
"""Seconds between the end of a run and that of the stream which carried it."""

KEYS = (
    *(f"{name}{unit}" for name in TIMES for unit in ("SEC", "USEC")),
    *("WRITEBYTES", "READBYTES", "DIDTIMEOUT"),
)
"""The keys of a run in .mergedata: the 21 columns that the script which wrote it knew."""


def pair(
    data: Iterable[Measurement | Damage], extra: Iterable[Extra | Damage]
) -> Iterator[tuple[Measurement | None, Extra | None] | Damage]:
    """Runs with the circuits that carried them, both in order of ending; what has no partner comes alone.

    A stream belongs to a run if it ended within a second of it, and to the first such run.
    """
    extras = iter(extra)
    waiting: Extra | Damage | None = None
    for measurement in data:
        if isinstance(measurement, Damage):
            yield measurement
            continue
        partner = None
        while partner is None and (ended := _ended(measurement)):
            waiting = waiting or next(extras, None)
            if waiting is None:
                break
            if isinstance(waiting, Damage):
                yield waiting
            elif waiting.used_at is not None and abs(waiting.used_at - ended) <= SLACK:
                partner = waiting
            elif waiting.used_at is not None and waiting.used_at > ended:
                break
            else:
                yield None, waiting
            waiting = None
        yield measurement, partner
    for rest in (*([waiting] if waiting else []), *extras):
        yield rest if isinstance(rest, Damage) else (None, rest)


def _ended(measurement: Measurement) -> float:
    """The run's DATACOMPLETE as CollecTor compares it, cut to hundredths; 0 if there is none."""
    seconds, microseconds = data_numbers(measurement)[16:18]
    return float(f"{seconds}.{microseconds // 10000:02d}")


def merge(
    data: Iterable[Measurement | Damage], extra: Iterable[Extra | Damage], resume: float = 0.0
) -> Iterator[Measurement | Damage]:
    """Every run of .data, with its circuit from .extradata if there is one, as CollecTor made .tpf of them.

    Both must be in order of ending, and so is the result (CollecTor sorted by START). Of runs with the same
    START behind one another the one of which more is known stays. What ended before ``resume`` is passed over: give
    the earlier of the last DATACOMPLETE and the last USED_AT to continue where a merge ended.
    """
    held: Measurement | None = None
    new_data = (m for m in data if isinstance(m, Damage) or _ended(m) >= resume)
    new_extra = (e for e in extra if isinstance(e, Damage) or e.used_at is None or e.used_at >= resume)
    for found in pair(new_data, new_extra):
        if isinstance(found, Damage):
            yield found
        elif found[0] is not None:
            merged = _merged(found[0], found[1])
            if held and held.id == merged.id:
                held = max(held, merged, key=_known)
                continue
            if held:
                yield held
            held = merged
    if held:
        yield held


def _known(measurement: Measurement) -> int:
    return sum(getattr(measurement, field.name) is not None for field in FIELDS)


def _merged(measurement: Measurement, extra: Extra | None) -> Measurement:
    if extra is None:
        return measurement
    # .tpf files that CollecTor merged have the reasons as they came, and so do the keys of ours.
    reasons = {"FAIL_REASONS": extra.fail_reasons, "STREAM_FAIL_REASONS": extra.stream_fail_reasons}
    return attrs.evolve(
        measurement,
        used_by=extra.used_by,
        used_at=extra.used_at,
        circ_id=extra.circ_id,
        launch=extra.launch,
        path=extra.path or None,
        guard=extra.path[0] if extra.path else None,
        buildtimes=extra.buildtimes or None,
        timeout=extra.timeout,
        quantile=extra.quantile,
        extra={**measurement.extra, **{key: text for key, text in reasons.items() if text}},
    )


# .mergedata


def consolidate(
    data: Iterable[Measurement | Damage], extra: Iterable[Extra | Damage]
) -> Iterator[Measurement | Extra | Damage]:
    """What Torperf puts into .mergedata: runs with their circuits, and what is unmatched of both."""
    for found in pair(data, extra):
        if isinstance(found, Damage):
            yield found
        elif found[0] is not None:
            yield _merged(found[0], found[1])
        elif found[1] is not None:
            yield found[1]


def read_merged(
    lines: Iterable[str], source: str, filesize: int, file: str = ""
) -> Iterator[Measurement | Extra | Damage]:
    """The runs and the unused circuits of a .mergedata file, and a report for each line that is damaged."""

    def parse(line: str) -> Measurement | Extra | None:
        if not line or line.startswith(PASSED_OVER):
            return None
        pairs = split_pairs(line)
        if "STARTSEC" not in pairs:
            return extra_from(pairs)
        keys = [key for key in KEYS if key in pairs]
        for key in KEYS[:20]:
            if key not in pairs:
                raise FormatError("the required key is missing", key=key)
        measurement = data_measurement([pairs[key] for key in keys], source, filesize)
        return _merged(measurement, extra_from(pairs) if "CIRC_ID" in pairs else None)

    return read_lines(lines, parse, file)


def write_merged(items: Iterable[Measurement | Extra]) -> Iterator[str]:
    """Runs and unused circuits as the text of a .mergedata file. Runs that did not complete are left out."""
    for item in items:
        if isinstance(item, Extra):
            pairs = extra_pairs(item)
        elif _ended(item) and item.outcome is not Outcome.SKIPPED:
            circuit = extra_of(item)
            pairs = dict(zip(KEYS, map(str, data_numbers(item)), strict=False))
            pairs |= extra_pairs(circuit) if circuit else {}
        else:
            continue
        yield " ".join(f"{key}={pairs[key]}" for key in sorted(pairs)) + "\n"
