"""What the relays of a network know of each other: the consensus and the microdescriptors (dir-spec)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import attrs


@attrs.frozen
class Consensus:
    """What the authorities agreed on. Times in seconds since the epoch (UTC)."""

    valid_after: float
    valid_until: float
    running: frozenset[str]  # nicknames
    exits: frozenset[str]

    def lists(self, relays: Iterable[str], exits: Iterable[str]) -> bool:
        """Whether all ``relays`` are in it, and all ``exits`` as exits."""
        return self.running.issuperset(relays) and self.exits.issuperset(exits)


def read_consensus(data_directory: Path) -> Consensus | None:
    """The consensus that the tor in ``data_directory`` has, None if it has none yet."""
    return parse_consensus(_read(data_directory / "cached-microdesc-consensus"))


def count_microdescriptors(data_directory: Path) -> int:
    """How many microdescriptors the tor in ``data_directory`` has."""
    texts = (_read(data_directory / name) for name in ("cached-microdescs", "cached-microdescs.new"))
    return sum(text.count("onion-key\n") for text in texts)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def parse_consensus(text: str) -> Consensus | None:
    """Read a consensus of either flavour (dir-spec, section 3.4.1), None if it is not whole."""
    valid_after, valid_until = time_in(text, "valid-after"), time_in(text, "valid-until")
    if valid_after is None or valid_until is None or "\ndirectory-signature " not in text:
        return None
    running, exits, nickname = set(), set(), ""
    for line in text.splitlines():
        keyword, _, rest = line.partition(" ")
        if keyword == "r":
            nickname = rest.partition(" ")[0]
        elif keyword == "s" and "Running" in rest.split():
            running.add(nickname)
            if "Exit" in rest.split():
                exits.add(nickname)
    return Consensus(valid_after, valid_until, frozenset(running), frozenset(exits))


def time_in(text: str, keyword: str) -> float | None:
    """The time after ``keyword`` in a directory document, in seconds since the epoch; None if there is none."""
    match = re.search(rf"^{keyword} (\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d)$", text, re.MULTILINE)
    if match is None:
        return None
    try:
        moment = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp()
