"""A kind of experiment that Perfd does not have: its record, and the module that runs it."""

from __future__ import annotations

import sys

import attrs

from perfd.cli.command import main
from perfd.config.kinds import KINDS, Context, Kind
from perfd.config.options import Option, size
from perfd.config.records import ExperimentConfig
from perfd.config.section import Section
from perfd.config.values import positive, whole_number
from perfd.experiments.run import EMPTY, Extra, Record, Run, Setup
from perfd.experiments.transfer import Transfer
from perfd.experiments.types import MAKERS, runs_of
from perfd.record import Outcome


def _check_times(section: Section, config: ExperimentConfig, context: Context) -> None:
    if config.options["times"] > context.max_connections:
        section.problem("times", "too often")


EXAMPLE = Kind(
    name="example",
    plural="examples",
    doc="the same download again and again",
    options=(
        size("1 KiB"),
        Option("times", positive(whole_number), "2", "how often"),
    ),
    checks=(_check_times,),
    highlights=("TIMES",),
    is_timed=True,
)


class ExampleRun(Run):
    """``times`` downloads, one after the other; the record is that of the last one."""

    def __init__(
        self, setup: Setup, slot: float | None, record: Record, extra: Extra = EMPTY, *, times: int
    ) -> None:
        super().__init__(setup, slot, record, extra)
        self.extra["TIMES"] = times

    async def exchange(self) -> bool:
        for _ in range(int(self.extra["TIMES"])):
            self._transfer = Transfer(self.setup, self.id, self.user)
            if (await self._transfer.fetch(self.setup.size, self.setup.timeout)).outcome is Outcome.CANCELLED:
                return False
        return True

    async def finish(self) -> None:
        found = await self._transfer.result(self.slot)
        self.record(attrs.evolve(found, extra={**self.extra, **found.extra}))


def with_example() -> None:
    """Have Perfd know the kind: its record, and the row of its module."""
    KINDS[EXAMPLE.name] = EXAMPLE
    MAKERS[EXAMPLE.name] = runs_of(ExampleRun)


def without_example() -> None:
    """Have Perfd forget it."""
    del KINDS[EXAMPLE.name], MAKERS[EXAMPLE.name]


if __name__ == "__main__":
    with_example()
    sys.exit(main())
