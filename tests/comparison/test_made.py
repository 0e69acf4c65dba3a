"""What the daemon's comparison says: of whole blocks, without its pilot, at its own looks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from perfd.analysis.sequential import confidence_sequence_margin, group_sequential
from perfd.comparison.conclusion import TooLittleError
from perfd.comparison.design import is_same, is_whole
from perfd.comparison.made import MADE_FIELDS, TUNED_FOR, conclude_made
from perfd.record import StoredComparison

DESIGN: dict[str, Any] = {
    "arms": [["plain", None, {}], ["other", None, {}]],
    "block": 4,
    "blocks": 20,
    "looks": 5,
    "primary": "complete",
    "margin": 0.03,
}


def stored(**changes: Any) -> StoredComparison:
    design = json.dumps(DESIGN | changes)
    return StoredComparison(id="c", source="test", begun=0.0, seed=7, design=design)


def runs(first: int, last: int, factor: float = 1.0) -> Iterator[dict[str, Any]]:
    """Blocks of 4 + 4 runs; of the second arm they take ``factor`` times as long."""
    chance = Random(1)
    for block in range(first, last):
        for n in range(8):
            arm = ("plain", "other")[n % 2]
            start = 1000.0 * block + n
            seconds = chance.lognormvariate(0, 0.05) * (factor if arm == "other" else 1.0)
            known = {"start": start, "outcome": "ok", "type": "download", "datacomplete": start + seconds}
            yield dict.fromkeys(MADE_FIELDS) | known | {"BLOCK": block, "ARM": arm}


def test_pilot_does_not_count() -> None:
    """Its runs are in none of the blocks, and the text says how many there were, and how long they took."""
    pilot = {"runs": 56, "seconds": 90, "needed": 12}
    found = conclude_made(stored(pilot=pilot), [*runs(-7, 0, 9.0), *runs(0, 4)])
    assert (found.blocks, found.design.look) == (4, 1)
    assert "after a pilot of 56 runs, which took 90 s and are not counted, which asked for 12 blocks" in str(
        found.design.text
    )


def test_unit() -> None:
    """Arms with options of tor have tors of their own in each block, so that it is the unit."""
    arms = [["plain", None, {}], ["noconflux", "ConfluxEnabled 0", None, {}]]
    assert conclude_made(stored(arms=arms), [*runs(0, 20)]).design.by_block
    assert not conclude_made(stored(), [*runs(0, 20)]).design.by_block


@pytest.mark.parametrize(
    ("timeouts", "words"),
    [
        ("learnt", "runs were made when the tor had learnt its circuit build timeout"),
        ("off", "LearnCircuitBuildTimeout 0 for both"),
        ("", ""),
    ],
)
def test_build_timeouts(timeouts: str, words: str) -> None:
    """What tors know of them is told."""
    text = conclude_made(stored(**{"build timeouts": timeouts}), [*runs(0, 20)]).design.text
    assert words in text
    assert ("uild" in text) == bool(words)


def test_interrupted_blocks() -> None:
    """A block in which a run was cancelled, or that has too few, is left out and told; the last may be going on."""
    made = list(runs(0, 10))
    del made[8:11]  # of block 1
    cancelled = next(run for run in made if run["BLOCK"] == 3)
    cancelled |= {"outcome": "cancelled", "datacomplete": None}
    found = conclude_made(stored(), [*made, *list(runs(10, 11))[:3]])
    assert found.blocks == 8
    assert "2 blocks are not whole, since Perfd was stopped meanwhile, and are left out" in found.warnings
    assert not any(
        "left out" in each for each in conclude_made(stored(), [*runs(0, 4), *list(runs(4, 5))[:3]]).warnings
    )


def test_skipped_runs() -> None:
    """A run that was skipped is none that was interrupted: its block stays."""
    made = list(runs(0, 4))
    made[9] |= {"outcome": "skipped", "datacomplete": None}
    found = conclude_made(stored(), made)
    assert found.blocks == 4
    assert found.warnings == ("1 skipped or cancelled measurements are left out",)


def test_all_failed() -> None:
    """It is told, with what failed most often."""
    made = list(runs(0, 4))
    for n, run in enumerate(made):
        code = ("TOR/END/MISC", "PERFD/CLOSED", "PERFD/CLOSED", None)[n % 4] if n < 31 else "PERFD/RESET"
        run |= {"outcome": "timeout" if code is None else "failed", "datacomplete": None, "errorcode": code}
    with pytest.raises(TooLittleError) as caught:
        conclude_made(stored(), made)
    assert str(caught.value) == (
        "all runs failed, 16 of plain and 16 of other: PERFD/CLOSED (16), TOR/END/MISC (8), timeout (7), and others"
    )


def test_warnings_are_of_what_is_compared() -> None:
    """What ran meanwhile, or was skipped, behind the last look is not counted yet."""
    made = list(runs(0, 7))
    for place in (3, 40, 45):  # in the first block, and in the sixth
        made[place] |= {"OVERLAP": "other"}
    for place in (4, 41):
        made[place] |= {"outcome": "skipped", "datacomplete": None}
    found = conclude_made(stored(), made)
    assert found.blocks == 4
    assert found.warnings == (
        "during 1 of 32 measurements other experiments ran",
        "1 skipped or cancelled measurements are left out",
    )


def test_looks() -> None:
    """There are as many as the design says; before the first nothing is said."""
    found = conclude_made(stored(looks=2), [*runs(0, 12)])
    assert (found.blocks, found.design.look, found.design.looks) == (10, 1, 2)
    assert found.design.critical == group_sequential(2).critical(1)
    assert "2 looks" in found.design.text
    with pytest.raises(TooLittleError, match="9 blocks were measured; the first look is after 10"):
        conclude_made(stored(looks=2), [*runs(0, 9)])


def test_endless() -> None:
    """One without an end may be looked at at any time, with ten blocks or more, and is held to more for it."""
    endless = stored(blocks=None)
    with pytest.raises(TooLittleError, match="9 blocks were measured; nothing is said before 10"):
        conclude_made(endless, [*runs(0, 9)])
    found = conclude_made(endless, [*runs(0, 10)])
    assert (found.blocks, found.design.look, found.design.looks) == (10, None, None)
    margin = confidence_sequence_margin(1.0, 10, tuned_for=TUNED_FOR) * math.sqrt(10)
    assert found.design.critical == margin > group_sequential(5).critical(5)


def test_same_design() -> None:
    """What the pilot decided is no difference; what was asked for is."""
    begun = DESIGN | {"block": 9, "pilot": {"runs": 84}}
    asked = DESIGN | {"block": None}
    assert is_same(begun, asked)
    assert not is_same(begun, DESIGN)
    assert is_same(begun, DESIGN | {"block": 9})
    assert not is_same(begun, asked | {"margin": 0.01})
    assert not is_same(begun | {"urls": ["http://x"]}, asked)
    older = {name: value for name, value in begun.items() if name not in ("looks", "pilot")}
    assert is_same(older, asked)


def test_whole() -> None:
    """A block has all of its runs, of which none was cancelled."""
    assert is_whole(8, 0, 4)
    assert not is_whole(7, 0, 4)
    assert not is_whole(8, 1, 4)
