"""Groups: the runs of one variant of one experiment, which can be put together, and their figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Any, Protocol

import attrs

from perfd.analysis.quantiles import of_sorted
from perfd.record import Outcome
from perfd.reports.runs import Run
from perfd.units import format_size
from perfd.variant import COLUMNS, Variant, names

_ABOUT = ("name", "experiment", "source", "type", "filesize", "arm", *COLUMNS, "count")

PERCENTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@attrs.frozen
class Measure:
    """What is shown of runs."""

    name: str  # in JSON and in names of files
    label: str
    unit: str
    value: Callable[[Run], float | None]
    counts_failures: bool = True  # a run that failed is one that took for ever

    @property
    def is_duration(self) -> bool:
        """Whether runs with more of it are the slow ones."""
        return self.unit == "s"


MEASURES = (
    Measure("first-byte", "time to first byte", "s", lambda run: run.first_byte),
    Measure("complete", "time to last byte", "s", lambda run: run.complete),
    Measure("throughput", "throughput", "Mbit/s", lambda run: run.throughput, counts_failures=False),
)


@attrs.define(slots=False)
class Group:
    """Runs of one kind. ``name`` tells it from all others of the report.

    Those of an arm of a comparison are over all of its tors, which are the other arm's as well.
    """

    experiment: str
    source: str
    variant: Variant
    filesize: int
    arm: str | None
    type: str
    name: str = ""
    runs: list[Run] = attrs.field(factory=list)
    _values: dict[str, list[float]] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    @cached_property
    def done(self) -> list[Run]:
        """Those that ended well; to be asked for when all runs are there."""
        return [run for run in self.runs if run.is_ok]

    @cached_property
    def failed(self) -> list[Run]:
        """Those that were run and did not end well."""
        return [run for run in self.runs if run.has_failed]

    @cached_property
    def outcomes(self) -> Counter[str]:
        """Slots by outcome."""
        found: Counter[str] = Counter()
        for run in self.runs:
            found[run.outcome] += run.slots
        return found

    @cached_property
    def errors(self) -> Counter[str]:
        """Slots of runs that did not end well, by error code."""
        found: Counter[str] = Counter()
        for run in self.runs:
            if not run.is_ok:
                found[run.errorcode or run.outcome] += run.slots
        return found

    def values(self, measure: Measure) -> list[float]:
        """Sorted, of the successes; to be asked for when all runs are there."""
        if measure.name not in self._values:
            known = map(measure.value, self.done)
            self._values[measure.name] = sorted([value for value in known if value is not None])
        return self._values[measure.name]

    def sample(self, measure: Measure) -> list[float]:
        """The same with infinity for each run that failed, where that makes sense."""
        values = self.values(measure)
        failed = len(self.failed) if values and measure.counts_failures else 0
        return [*values, *[math.inf] * failed]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "experiment": self.experiment,
            "source": self.source,
            "type": self.type,
            "filesize": self.filesize,
            "arm": self.arm,
            **attrs.asdict(self.variant),
            "count": self.outcomes.total(),
            "outcomes": dict(self.outcomes),
            "errors": dict(self.errors.most_common()),
            **{_key(measure): percentiles(self.values(measure)) for measure in MEASURES},
        }


def as_rows(groups: Sequence[Group]) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of a table of the figures of groups, and its rows.

    The columns are the same for all periods, in which some outcomes and measures may be missing; but for those of
    error codes, which come last, in the order of names.
    """
    codes = sorted({code for group in groups for code in group.errors})
    columns = [
        *_ABOUT,
        *(f"outcomes_{outcome.value}" for outcome in Outcome),
        *(f"{_key(measure)}_{_name(p)}" for measure in MEASURES for p in PERCENTILES),
        *(f"errors_{code}" for code in codes),
    ]
    rows = [
        {
            **group.as_dict(),
            "outcomes": {outcome.value: group.outcomes[outcome.value] for outcome in Outcome},
            "errors": {code: group.errors[code] for code in codes},
        }
        for group in groups
    ]
    return columns, rows


def percentiles(ordered: Sequence[float]) -> dict[str, float] | None:
    """Percentiles of sorted values by linear interpolation, Torperf's definition; None of none."""
    if not ordered:
        return None
    return {_name(p): round(of_sorted(ordered, p), 6) for p in PERCENTILES}


def _name(percentile: float) -> str:
    return f"p{round(percentile * 100)}"


def _key(measure: Measure) -> str:
    """In JSON and in CSV."""
    return measure.name.replace("-", "_")


def grouped(runs: Iterable[Run]) -> list[Group]:
    """The runs in groups, in the order of their names."""
    found: dict[tuple[str, str, Variant, int, str | None], Group] = {}
    for run in runs:
        variant = run.variant if run.arm is None else over_all_tors(run.variant)
        key = run.experiment, run.source, variant, run.filesize, run.arm
        group = found.get(key)
        if group is None:
            group = found[key] = Group(*key, run.type)
        group.runs.append(run)
    give_names(found.values())
    return sorted(found.values(), key=lambda group: (group.experiment, group.name))


@lru_cache
def over_all_tors(variant: Variant) -> Variant:
    """That of an arm, whose tors are the other arm's as well."""
    return attrs.evolve(variant, tor=None)


class Named(Protocol):
    """What is called by its experiment, and by that in which it differs from others."""

    experiment: str
    source: str
    variant: Variant
    filesize: int
    arm: str | None
    name: str


def give_names(groups: Iterable[Named]) -> None:
    """Give each a name that tells it from all others."""
    by_experiment: dict[str, list[Named]] = {}
    for group in groups:
        by_experiment.setdefault(group.experiment, []).append(group)
    for experiment, some in by_experiment.items():
        named = names(experiment, [group.variant for group in some])
        has_sizes = len({group.filesize for group in some}) > 1
        has_sources = len({group.source for group in some}) > 1
        for group in some:
            size = [format_size(group.filesize)] if has_sizes else []
            source = [f"of {group.source}"] if has_sources else []
            arm = [] if group.arm is None else [group.arm]
            group.name = " ".join([named[group.variant], *size, *source, *arm])
