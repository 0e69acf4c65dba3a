"""``[comparison:NAME]``: two arms that the daemon compares, and what decides."""

from __future__ import annotations

from perfd.config.records import ComparisonConfig
from perfd.config.section import Section
from perfd.config.values import Arm, between, lines, nonempty, per_cent, positive, whole_number, yes_or_no
from perfd.units import parse_duration

block_size = between(2, 100)
"""The runs of each arm in a block."""

DIRECTORIES = 4
"""The data directories that both arms share."""

LEARNT, OFF = "learnt", "off"
"""What the tors of a comparison know of circuit build timeouts: all that they can, before it begins, or nothing."""

NO_CBT = "LearnCircuitBuildTimeout 0"
"""For both arms on a private network: what a tor learns of build times would differ from one to the next."""


MOST_LOOKS = 20


def arms(text: str) -> tuple[Arm, ...]:
    """One in each line."""
    found = tuple(Arm.parse(line) for line in lines(text))
    if len(found) != 2:
        raise ValueError("two arms are compared, A and then B, a line for each")
    return found


def read_comparison(section: Section, name: str) -> tuple[ComparisonConfig, str | None]:
    """The comparison ``name``, without its experiments, and the name of the experiment that it makes."""
    config = ComparisonConfig(
        name=name,
        arms=section.get("arms", arms, None) or (),
        block=section.get("block", block_size, None),
        blocks=section.get("blocks", positive(whole_number), None),
        looks=section.get("looks", between(1, MOST_LOOKS), "5"),
        primary=section.get("primary", nonempty, "complete"),
        margin=section.get("margin", per_cent, "3%"),
        pause=section.get("pause", parse_duration, "10 s"),
        beside=section.get("beside", yes_or_no, "no"),
    )
    if "arms" not in section:
        section.problem("arms", "needed: two lines, each NAME=OPTIONS")
    if "looks" in section and "blocks" not in section:
        section.problem("looks", "only used with blocks: what never ends may be looked at whenever one likes")
    experiment = section.get("experiment", nonempty, None)
    if experiment is None:
        section.problem("experiment", "needed: the name of the experiment that is made with both arms")
    section.finish()
    return config, experiment
