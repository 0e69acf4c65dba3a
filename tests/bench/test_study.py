"""The lab study's tries: kept, counted with exact intervals, and continued where they were."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from bench.study.tries import SAME, SLOWED, Settings, Try, append, concluded, following, read, table

SETTINGS = Settings(delay="10ms", size="50KiB", relays="6")
WANTED = {SAME: 20, SLOWED: 10}


def made(kind: str, seed: int, found: str | None = "undecided") -> Try:
    change = None if found is None else (0.01, -0.01, 0.03)
    trouble = "" if found is not None else "no network"
    return Try(kind=kind, seed=seed, settings=SETTINGS, seconds=60.0, found=found, change=change, trouble=trouble)


def test_kept(tmp_path: Path) -> None:
    """What was kept comes back, without the tries of other settings."""
    path = tmp_path / "study" / "tries.jsonl"
    tries = [made(SAME, 1), made(SLOWED, 2, None), attrs.evolve(made(SLOWED, 3, "slower"), runs=900)]
    for each in (*tries, attrs.evolve(tries[0], settings=attrs.evolve(SETTINGS, delay="25ms"))):
        append(path, each)
    assert [*read(path, SETTINGS)] == tries


def test_nothing_kept(tmp_path: Path) -> None:
    """A study begins without a file."""
    assert [*read(tmp_path / "tries.jsonl", SETTINGS)] == []


def test_cut_off(tmp_path: Path) -> None:
    """A line that a kill cut off is passed over, and does no harm to the next."""
    path = tmp_path / "tries.jsonl"
    append(path, made(SAME, 1))
    with path.open("a") as file:
        file.write('{"kind": "A/A", "se')
    assert [*read(path, SETTINGS)] == [made(SAME, 1)]
    append(path, made(SAME, 2))
    assert [*read(path, SETTINGS)] == [made(SAME, 1), made(SAME, 2)]


def test_following() -> None:
    """Both kinds keep step, a seed comes once, and a try that could not be made is made again with the next."""
    assert following([], WANTED) == (SAME, 1)
    assert following([made(SAME, 1)], WANTED) == (SLOWED, 2)
    assert following([made(SAME, 1), made(SLOWED, 2, None)], WANTED) == (SLOWED, 3)
    tries = [made(SAME, n) for n in range(20)] + [made(SLOWED, n) for n in range(20, 30)]
    assert following(tries, WANTED) is None
    assert following([], {SAME: 0, SLOWED: 1}) == (SLOWED, 1)


def test_table() -> None:
    """A/A counts both directions, +3 % only that B is slower; intervals are those of Clopper and Pearson."""
    tries = [made(SAME, n) for n in range(18)] + [made(SAME, 18, "slower"), made(SAME, 19, "not slower")]
    tries += [made(SLOWED, n, "slower") for n in range(20, 29)]
    tries += [made(SLOWED, 29, "not slower"), made(SLOWED, 30, None)]
    text = table(tries, WANTED)
    assert "| A/A | 20 of 20 | 2 | 1 to 32 % | at most 5 % | yes |" in text
    assert "| +3 % | 10 of 10 | 9 | 55 to 100 % | at least 95 % | yes |" in text
    assert "1 tries could not be made." in text


def test_concluded() -> None:
    """What perfd compare says becomes a try, and a line."""
    conclusion = {
        "verdict": "slower",
        "blocks": 22,
        "primary": {"ratio": 0.031, "low": 0.004, "high": 0.058, "runs": [132, 131]},
        "design": {"blocks": 110},
    }
    found = concluded(SLOWED, 4, SETTINGS, 61.4, conclusion)
    assert found.has_difference
    assert found.line == "+3 %, seed 4: slower, 3.1 % (0.4 to 5.8), 22 of 110 blocks, 263 runs, 61 s"


@pytest.mark.parametrize("seed", [1, 77])
def test_not_made(seed: int) -> None:
    """The trouble is told."""
    assert made(SAME, seed, None).line == f"A/A, seed {seed}: not made: no network"
