"""Times as people give them: also ``1h`` (so long ago), ``yesterday``, ``today``, ``2026-11``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from perfd.units import parse_duration

_DURATION = re.compile(r"[0-9.]+ ?(ms|s|min|h|d)", re.ASCII)
_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})", re.ASCII)


def parse_time(text: str, now: float, read: Callable[[str], float]) -> float:
    """Seconds since the epoch. ``read`` knows all other forms, and raises ValueError.

    ``now`` is in seconds since the epoch; days and months begin as in UTC.
    """
    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    words = {"now": now, "today": midnight.timestamp(), "yesterday": (midnight - timedelta(days=1)).timestamp()}
    word = text.strip().lower()
    if word in words:
        return words[word]
    if _DURATION.fullmatch(word):
        return max(0.0, now - parse_duration(word))
    if month := _MONTH.fullmatch(word):
        return read(f"{month.group()}-01")
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{error}, nor 1h, yesterday or 2026-11") from None
