"""Tries of the lab study: what was asked and found, kept in a file as they come, and their table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from perfd.analysis.proportion import exact_interval

SAME, SLOWED = "A/A", "+3 %"
KINDS: Mapping[str, str] = {SAME: "0%", SLOWED: "3%"}
"""What is tried, and by how much B is slowed down."""

PROMISED = {SAME: (0.05, "at most 5 %"), SLOWED: (0.95, "at least 95 %")}
"""How often a difference may be found where there is none, and must be where there is one."""


@attrs.frozen(kw_only=True)
class Settings:
    """What all tries of a study have in common; those of others are not counted with them."""

    delay: str
    size: str
    relays: str


@attrs.frozen(kw_only=True)
class Try:
    """One comparison: ``found`` is what it says of B, None if it could not be made, for the ``trouble``."""

    kind: str
    seed: int
    settings: Settings
    seconds: float
    found: str | None = None  # slower, not slower or undecided, by a margin of 0
    change: tuple[float, float, float] | None = None  # estimate and interval
    runs: int = 0
    blocks: int = 0
    planned: int = 0
    trouble: str = ""

    @property
    def has_difference(self) -> bool:
        """Whether it says that B is faster or slower."""
        return self.found in ("slower", "not slower")

    @property
    def line(self) -> str:
        """In words."""
        if self.change is None:
            return f"{self.kind}, seed {self.seed}: not made: {self.trouble}"
        change, low, high = (f"{each * 100:.1f}" for each in self.change)
        return (
            f"{self.kind}, seed {self.seed}: {self.found}, {change} % ({low} to {high}), "
            f"{self.blocks} of {self.planned} blocks, {self.runs} runs, {self.seconds:.0f} s"
        )


def concluded(kind: str, seed: int, settings: Settings, seconds: float, conclusion: Mapping[str, Any]) -> Try:
    """The try whose conclusion ``perfd compare --json`` printed."""
    effect = conclusion["primary"]
    return Try(
        kind=kind,
        seed=seed,
        settings=settings,
        seconds=seconds,
        found=conclusion["verdict"],
        change=(effect["ratio"], effect["low"], effect["high"]),
        runs=sum(effect["runs"]),
        blocks=conclusion["blocks"],
        planned=conclusion["design"]["blocks"],
    )


def append(path: Path, made: Try) -> None:
    """Keep it, as a line of JSON; behind one that was cut off it begins anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("" if is_whole else "\n") + json.dumps(attrs.asdict(made)) + "\n")


def read(path: Path, settings: Settings) -> Iterator[Try]:
    """Those that were kept, with the same settings; without a line that a kill cut off."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        change = row["change"]
        row |= {"settings": Settings(**row["settings"]), "change": None if change is None else tuple(change)}
        made = Try(**row)
        if made.settings == settings:
            yield made


def following(made: Sequence[Try], wanted: Mapping[str, int]) -> tuple[str, int] | None:
    """The kind and the seed of the next try; None when there are as many as are wanted.

    That of which the smaller share was made comes first. A seed is never tried again.
    """
    shares = {kind: _count(made, kind) / number for kind, number in wanted.items() if number}
    kind = min(shares, key=shares.__getitem__, default=None)
    if kind is None or shares[kind] >= 1:
        return None
    return kind, 1 + max((each.seed for each in made), default=0)


def _count(made: Iterable[Try], kind: str) -> int:
    return sum(each.kind == kind and each.found is not None for each in made)


def table(made: Sequence[Try], wanted: Mapping[str, int]) -> str:
    """How often a difference was found, with exact intervals."""
    lines = ["| B | tries | says that B differs | 95 % interval | promised | includes it | runs, median |"]
    lines.append("|---|---|---|---|---|---|---|")
    for kind, number in wanted.items():
        tries = [each for each in made if each.kind == kind and each.found is not None]
        found = sum(each.found == "slower" if kind == SLOWED else each.has_difference for each in tries)
        low, high = exact_interval(found, len(tries)) if tries else (0.0, 1.0)
        promised, words = PROMISED[kind]
        runs = sorted(each.runs for each in tries)
        lines.append(
            f"| {kind} | {len(tries)} of {number} | {found} | {low * 100:.0f} to {high * 100:.0f} % | {words} | "
            f"{'yes' if low <= promised <= high else 'no'} | {runs[len(runs) // 2] if runs else '-'} |"
        )
    if failed := sum(each.found is None for each in made):
        lines.append(f"\n{failed} tries could not be made.")
    return "\n".join(lines)
