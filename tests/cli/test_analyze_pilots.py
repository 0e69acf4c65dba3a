"""``perfd analyze`` of the runs before a comparison's first block."""

from __future__ import annotations

import json
from pathlib import Path

from perfd.record import Measurement, Outcome
from tests.support.stored import Stored


def run(n: int, **values: object) -> Measurement:
    return Measurement(
        id=f"run{n}",
        source="example",
        experiment="conflux",
        start=1_795_392_000.0 + 300 * n,
        server="public",
        tor="conflux-1",
        filesize=2**20,
        outcome=Outcome.OK,
        extra=values,  # type: ignore[arg-type]
    )


def test_pilots_are_left_out(tmp_path: Path) -> None:
    """They warm up: they are counted and said, and can be asked for. What is of no comparison is of no pilot."""
    stored = Stored(tmp_path / "instance")
    of_arm = {"COMPARISON": "conflux", "ARM": "plain"}
    stored.add(run(n, BLOCK=block, **of_arm) for n, block in enumerate((-2, -1, 0, 1)))
    stored.add([run(9)])

    def analyzed(*arguments: str) -> tuple[list[int], list[str]]:
        code, out, err = stored.perfd("analyze", "--json", *arguments)
        assert code == 0, err
        found = json.loads(out)
        return [group["count"] for group in found["groups"]], found["notes"]

    note = (
        "2 measurements of the pilots of comparisons are left out, since they warm up and do not count; "
        "--pilot any keeps them."
    )
    assert analyzed() == ([2, 1], [note])
    assert analyzed("--pilot", "any") == ([4, 1], [])
    assert analyzed("--pilot", "no") == (
        [2, 1],
        ["2 of 5 measurements of the period were left out by the filters."],
    )
    assert analyzed("--pilot", "yes")[0] == [2]
