"""Numbers that a browser or a page tells: whatever JSON can hold, and none of it is to be relied on."""

from __future__ import annotations

import math

LATEST = 1e10
"""Seconds since the epoch (the year 2286); a time after it is none."""

MOST_BYTES = 1 << 53
"""Beyond it JavaScript's numbers are not exact."""


def number(value: object) -> float:
    """The value, 0 if it is no finite number: truth values, NaN and what a float cannot hold are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    try:
        return float(value) if math.isfinite(value) else 0.0
    except OverflowError:
        return 0.0


def moment(value: object, per_second: int = 1) -> float | None:
    """Seconds since the epoch, if the value, of which a second has ``per_second``, can be such a time."""
    seconds = number(value) / per_second
    return round(seconds, 6) if 0 < seconds < LATEST else None


def size(value: object) -> int | None:
    """A number of bytes, if the value can be one."""
    found = number(value)
    is_one = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= found < MOST_BYTES
    return int(found) if is_one and (found or value == 0) else None


def status(value: object) -> int | None:
    """An HTTP status, if the value can be one."""
    found = number(value)
    return int(found) if 100 <= found <= 999 else None
