"""The key figures of a measurement in a table's row: those of its kind."""

from __future__ import annotations

from perfd.config.kinds import kind_of
from perfd.record import Measurement

A_YEAR = 366 * 86400.0


OF_ALL = ("HELDUP", "SUSPECT")
"""Of every kind, the keys that tables show."""


def highlights(m: Measurement) -> list[str]:
    """The key figures, as ``KEY=value``."""
    keys = (*kind_of(m.type).highlights, *OF_ALL)
    return [f"{key}={_shown(m.extra[key], m.start)}" for key in keys if key in m.extra]


def _shown(value: str | float, start: float) -> str:
    """A value for the table; a time as the seconds since START."""
    is_time = isinstance(value, float) and abs(value - start) < A_YEAR
    return f"{value - start:.3f}s" if is_time else str(value)  # type: ignore[operator]
