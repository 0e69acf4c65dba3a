"""What the records of a comparison say that the daemon makes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from perfd.analysis.blocks import Block
from perfd.analysis.sequential import LOOKS, confidence_sequence_margin, group_sequential
from perfd.comparison.conclusion import Conclusion, Design, TooLittleError, conclude
from perfd.comparison.design import looks_of
from perfd.comparison.metrics import COUNTED, METRICS
from perfd.comparison.stored import FIELDS
from perfd.record import StoredComparison

TUNED_FOR = 200
"""The number of blocks at which the interval of a comparison without an end is narrowest."""

LEAST_BLOCKS = 10
"""With fewer the confidence sequence, which is asymptotic, does not hold."""

Run = Mapping[str, Any]


MADE_FIELDS = (*FIELDS, "BLOCK", "ARM", "OVERLAP")
"""What must be known of each run."""


def conclude_made(stored: StoredComparison, runs: Sequence[Run]) -> Conclusion:
    """What ``runs`` say, in the order of time. Raises TooLittleError."""
    design = json.loads(stored.design)
    a, b = (arm[0] for arm in design["arms"])
    by_block: dict[int, tuple[list[Run], list[Run]]] = {}
    last = max((run["BLOCK"] for run in runs), default=-1)
    is_begun = sum(run["BLOCK"] == last for run in runs) < 2 * design["block"]
    for run in runs:
        if run["outcome"] in COUNTED and not (is_begun and run["BLOCK"] == last):
            by_block.setdefault(run["BLOCK"], ([], []))[0 if run["ARM"] == a else 1].append(run)
    blocks = [by_block[number] for number in sorted(by_block)]
    look, critical = _look(blocks, design)
    if look is not None:
        blocks = blocks[: looks_of(design["blocks"], LOOKS)[look - 1]]
    metrics = {
        name: [
            Block(*([value for run in side if (value := metric.value(run)) is not None] for side in block))
            for block in blocks
        ]
        for name, metric in METRICS.items()
    }
    overlapping = sum(run["OVERLAP"] is not None for run in runs)
    not_counted = sum(run["outcome"] not in COUNTED for run in runs)
    warnings = []
    if overlapping:
        warnings.append(f"during {overlapping} of {len(runs)} measurements other experiments ran")
    if not_counted:
        warnings.append(f"{not_counted} skipped or cancelled measurements are left out")
    size = design["block"]
    arms = [
        f"{name}: {'; '.join([*torrc, *filter(None, [binary]), *options]) or 'no options of tor'}"
        for name, *torrc, binary, options in _arms(design)
    ]
    looked = "five looks" if look is not None else "it may be looked at any time (confidence sequence)"
    return conclude(
        Design(
            a=a,
            b=b,
            primary=design["primary"],
            margin=design["margin"],
            seed=stored.seed,
            text=f"blocks of {size} + {size} runs in random order, {', '.join(arms)}; {looked}",
            blocks=design["blocks"],
            look=look,
            looks=None if look is None else LOOKS,
            critical=critical,
        ),
        metrics,
        warnings,
    )


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
    done = sum(len(blocks) >= number for number in looks_of(design["blocks"], LOOKS))
    if not done:
        first = looks_of(design["blocks"], LOOKS)[0]
        raise TooLittleError(f"{len(blocks)} blocks were measured; the first look is after {first}")
    return done, group_sequential(LOOKS).critical(done)
