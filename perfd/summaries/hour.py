"""What the runs of an hour come to, for each way of measuring."""

from __future__ import annotations

import json
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import attrs

from perfd.reports.groups import MEASURES
from perfd.reports.runs import Run
from perfd.variant import Variant

HOUR = 3600.0
"""Seconds."""

MOST_VALUES = 1000
"""Values of one measure that are kept of an hour: all of them, unless a test runs without pause."""

VALUES: Mapping[str, Callable[[Run], float | None]] = {
    **{measure.name: measure.value for measure in MEASURES},
    "load": lambda run: run.times.get("LOAD"),
    "rtt": lambda run: run.rtt_idle,
}
"""The measures whose values are kept, by name."""


@attrs.frozen(kw_only=True)
class Hour:
    """An hour of one way of measuring.

    ``samples`` are the sorted values of successes by measure, all of them up to MOST_VALUES; of more, so many order
    statistics at equal distances, of which a quantile is off by at most one rank in MOST_VALUES. Put together
    with other hours, such an hour counts as MOST_VALUES runs.
    """

    hour: int  # it began so many hours after the epoch
    source: str
    experiment: str
    type: str
    filesize: int
    variant: Variant
    outcomes: Mapping[str, int]  # slots
    errors: Mapping[str, int]  # runs that failed, by error code or else outcome
    last_success: float | None  # the start of the last one
    samples: Mapping[str, Sequence[float]]
    arm: str | None = None  # of a comparison

    @property
    def start(self) -> float:
        """When it began, in seconds since the epoch."""
        return self.hour * HOUR

    @property
    def failed(self) -> int:
        """Runs that were made and did not end well."""
        return sum(self.errors.values()) if self.errors else 0

    @property
    def done(self) -> int:
        """Runs that were made."""
        return self.failed + self.outcomes.get("ok", 0)

    def row(self) -> tuple[Any, ...]:
        """As the table ``hours`` has it."""
        packed = array("d", (value for name in self.samples for value in self.samples[name]))
        return (
            *(self.hour, self.source, self.experiment, self.type, self.filesize),
            json.dumps(attrs.astuple(self.variant)),
            json.dumps(self.outcomes),
            json.dumps(self.errors),
            self.last_success,
            json.dumps({name: len(values) for name, values in self.samples.items()}),
            _little(packed).tobytes(),
            self.arm,
        )

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Hour:
        """The hour of a row."""
        hour, source, experiment, kind, filesize, variant, outcomes, errors, last_success, sizes, packed, arm = row
        values = _little(array("d", packed))
        samples, begin = {}, 0
        for name, size in _read(sizes).items():
            samples[name] = values[begin : begin + size]
            begin += size
        return cls(
            hour=hour,
            source=source,
            experiment=experiment,
            type=kind,
            filesize=filesize,
            variant=_variant(variant),
            outcomes=_read(outcomes),
            errors=_read(errors),
            last_success=last_success,
            samples=samples,
            arm=arm,
        )


def hours_of(runs: Iterable[Run]) -> list[Hour]:
    """The hours of ``runs``, in any order."""
    found: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        key = (int(run.start / HOUR), run.source, run.experiment, run.type, run.filesize, run.variant, run.arm)
        found.setdefault(key, []).append(run)
    return [_hour(key, some) for key, some in found.items()]


def _hour(key: tuple[Any, ...], runs: Sequence[Run]) -> Hour:
    hour, source, experiment, kind, filesize, variant, arm = key
    outcomes: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for run in runs:
        outcomes[run.outcome] += run.slots
        if run.has_failed:
            errors[run.errorcode or run.outcome] += run.slots
    done = [run for run in runs if run.is_ok]
    samples = {name: _kept(value, done) for name, value in VALUES.items()}
    return Hour(
        hour=hour,
        source=source,
        experiment=experiment,
        type=kind,
        filesize=filesize,
        variant=variant,
        outcomes=dict(outcomes),
        errors=dict(errors),
        last_success=max((run.start for run in done), default=None),
        samples={name: values for name, values in samples.items() if values},
        arm=arm,
    )


def _kept(value: Callable[[Run], float | None], runs: Sequence[Run]) -> Sequence[float]:
    values = array("d", sorted(each for run in runs if (each := value(run)) is not None))
    if len(values) <= MOST_VALUES:
        return values
    last = len(values) - 1
    return array("d", (values[round(n * last / (MOST_VALUES - 1))] for n in range(MOST_VALUES)))


@lru_cache(maxsize=4096)
def _read(text: str) -> Mapping[str, int]:
    """JSON that most hours have in common."""
    return MappingProxyType(json.loads(text))


@lru_cache(maxsize=4096)
def _variant(text: str) -> Variant:
    return Variant(*json.loads(text))


def _little(values: array[float]) -> array[float]:
    """In the order of bytes that the database has, or from it."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
