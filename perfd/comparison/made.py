"""What the records of a comparison say that the daemon makes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perfd.analysis.sequential import LOOKS, confidence_sequence_margin, group_sequential
from perfd.comparison.conclusion import Conclusion, Design, TooLittleError, conclude
from perfd.comparison.design import is_by_block, is_whole, looks_of
from perfd.comparison.metrics import COUNTED, Run, samples
from perfd.comparison.stored import FIELDS
from perfd.config.comparison import LEARNT, NO_CBT, OFF
from perfd.config.values import Arm
from perfd.record import Outcome, StoredComparison
from perfd.units import format_duration

TUNED_FOR = 200
"""The number of blocks at which the interval of a comparison without an end is narrowest."""

LEAST_BLOCKS = 10
"""With fewer the confidence sequence, which is asymptotic, does not hold."""

MADE_FIELDS = (*FIELDS, "BLOCK", "ARM", "OVERLAP")
"""What must be known of each run."""


def conclude_made(stored: StoredComparison, runs: Sequence[Run]) -> Conclusion:
    """What ``runs`` say, in the order of time. Raises TooLittleError."""
    design = json.loads(stored.design)
    a, b = (arm[0] for arm in design["arms"])
    runs = [run for run in runs if run["BLOCK"] >= 0]  # without the pilot
    blocks, partial = _blocks(runs, design["block"])
    look, critical = _look(blocks, design)
    looks = design.get("looks", LOOKS)
    if look is not None:
        blocks = blocks[: looks_of(design["blocks"], looks)[look - 1]]
    runs = [run for block in blocks for run in block]
    overlapping = sum(run["OVERLAP"] is not None for run in runs)
    not_counted = sum(run["outcome"] not in COUNTED for run in runs)
    warnings = []
    if partial:
        warnings.append(f"{partial} blocks are not whole, since Perfd was stopped meanwhile, and are left out")
    if overlapping:
        warnings.append(f"during {overlapping} of {len(runs)} measurements other experiments ran")
    if not_counted:
        warnings.append(f"{not_counted} skipped or cancelled measurements are left out")
    size = design["block"]
    if len({options.get("tor") for *_, options in _arms(design)}) > 1:
        warnings.append(
            "each arm has a tor or client of its own: unless the guards of both are the same, what is found may be "
            "these relays, for months"
        )
    arms = [
        f"{name}: {'; '.join([*torrc, *filter(None, [binary]), *options]) or 'no options of tor'}"
        for name, *torrc, binary, options in _arms(design)
    ]
    looked = f"{looks} looks" if look is not None else "it may be looked at any time (confidence sequence)"
    text = "; ".join(
        (f"blocks of {size} + {size} runs in random order, {', '.join(arms)}", *_before(design), looked)
    )
    return conclude(
        Design(
            a=a,
            b=b,
            primary=design["primary"],
            margin=design["margin"],
            seed=stored.seed,
            text=text,
            blocks=design["blocks"],
            look=look,
            looks=None if look is None else looks,
            critical=critical,
            by_block=is_by_block(
                *(Arm(n, tuple(torrc), binary, options) for n, *torrc, binary, options in _arms(design))
            ),
        ),
        samples(_sides(block, a) for block in blocks),
        warnings,
    )


def _blocks(runs: Sequence[Run], size: int) -> tuple[list[list[Run]], int]:
    """The runs of each whole block, and how many were interrupted; the last one may be going on."""
    by_block: dict[int, list[Run]] = {}
    for run in runs:
        by_block.setdefault(run["BLOCK"], []).append(run)
    found, partial = list[list[Run]](), 0
    for number, of_block in sorted(by_block.items()):
        if not is_whole(len(of_block), sum(run["outcome"] == Outcome.CANCELLED.value for run in of_block), size):
            partial += number < max(by_block)
        else:
            found.append(of_block)
    return found, partial


def _sides(block: Sequence[Run], a: str) -> tuple[list[Run], list[Run]]:
    """The runs of a block that say something, those of ``a`` and the others."""
    counted = [run for run in block if run["outcome"] in COUNTED]
    return [run for run in counted if run["ARM"] == a], [run for run in counted if run["ARM"] != a]


def _before(design: Mapping[str, Any]) -> Iterator[str]:
    """What was there before the first block, in words."""
    if pilot := design.get("pilot"):
        needed = f", which asked for {pilot['needed']} blocks" if "needed" in pilot else ""
        took = format_duration(pilot["seconds"])
        yield f"after a pilot of {pilot['runs']} runs, which took {took} and are not counted{needed}"
    timeouts = design.get("build timeouts")
    if timeouts == LEARNT:
        yield "runs were made when the tor had learnt its circuit build timeout"
    elif timeouts == OFF:
        yield f"{NO_CBT} for both"


def _arms(design: Mapping[str, Any]) -> list[list[Any]]:
    """Of each arm its name, its lines of a torrc, its binary and its options."""
    arms: list[list[Any]] = design["arms"]
    return arms


def _look(blocks: Sequence[object], design: Mapping[str, Any]) -> tuple[int | None, float]:
    """The last look that there was, and its bound; None where one may look at any time."""
    if design["blocks"] is None:
        if len(blocks) < LEAST_BLOCKS:
            raise TooLittleError(f"{len(blocks)} blocks were measured; nothing is said before {LEAST_BLOCKS}")
        return None, confidence_sequence_margin(1.0, len(blocks), tuned_for=TUNED_FOR) * math.sqrt(len(blocks))
    looks = design.get("looks", LOOKS)
    planned = looks_of(design["blocks"], looks)
    done = sum(len(blocks) >= number for number in planned)
    if not done:
        raise TooLittleError(f"{len(blocks)} blocks were measured; the first look is after {planned[0]}")
    return done, group_sequential(looks).critical(done)
