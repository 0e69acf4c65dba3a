"""The groups of ``perfd analyze``: which runs are in them, and how their table is as CSV."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import attrs

from perfd.record import Measurement, Outcome
from tests.support.stored import Stored


def run(n: int, **values: object) -> Measurement:
    """One that ended well, of which no times are known."""
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


def test_csv(tmp_path: Path) -> None:
    """Its columns do not depend on what was measured, but for those of errors, which come last."""
    stored = Stored(tmp_path / "instance")

    def table() -> tuple[list[str], list[dict[str, str]]]:
        code, out, err = stored.perfd("analyze", "--csv")
        assert code == 0, err
        reader = csv.DictReader(io.StringIO(out))
        return list(reader.fieldnames or ()), list(reader)

    stored.add([])
    nothing, _ = table()
    stored.add([run(0)])
    columns, _ = table()
    assert columns == nothing
    start = run(1).start
    lost = {"outcome": Outcome.FAILED, "tor": "beta"}
    stored.add(
        [
            attrs.evolve(run(1), tor="beta", dataresponse=start + 1, datacomplete=start + 3),
            attrs.evolve(run(2), errorcode="TOR/END/MISC", **lost),  # type: ignore[arg-type]
            attrs.evolve(run(3), errorcode="TIMEOUT", **lost),  # type: ignore[arg-type]
        ]
    )
    with_errors, (beta, without_times) = table()
    assert with_errors == [*columns, "errors_TIMEOUT", "errors_TOR/END/MISC"]
    assert columns[:3] == ["name", "experiment", "source"]
    assert columns[-6:] == [f"throughput_p{p}" for p in (5, 25, 50, 75, 95, 99)]
    assert (without_times["complete_p50"], without_times["outcomes_failed"]) == ("", "0")
    assert (beta["complete_p50"], beta["outcomes_failed"], beta["errors_TIMEOUT"]) == ("3.0", "2", "1")
