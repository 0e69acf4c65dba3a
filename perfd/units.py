"""Sizes and durations as people write them: ``50 KiB``, ``5 min``. A bare number is bytes or seconds."""

from __future__ import annotations

import re

SIZE_UNITS = {"B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
DURATION_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

_DURATION_WORDS = {
    "sec": "s",
    "second": "s",
    "m": "min",
    "min": "min",
    "minute": "min",
    "h": "h",
    "hr": "h",
    "hour": "h",
    "d": "d",
    "day": "d",
}
"""What other words for units mean, in lower case and without the s of the plural."""

_QUANTITY = re.compile(r"\s*(\d{1,40}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes; units B, KiB, MiB and GiB in any case. Raises ValueError."""
    remedy = "a size is a number with B, KiB, MiB or GiB, such as 50 KiB"
    number, unit = _split(text, remedy)
    factor = SIZE_UNITS.get(unit.upper() or "B")
    if factor is None and unit.upper() in ("K", "M", "G", "KB", "MB", "GB"):
        raise ValueError(f"unknown unit {unit!r}; did you mean '{number:.10g} {unit[0].upper()}iB'? {remedy}")
    if factor is None:
        raise ValueError(f"unknown unit {unit!r}; {remedy}")
    size = number * factor
    if size != int(size):
        raise ValueError(f"{text.strip()!r} is not a whole number of bytes")
    return int(size)


LONGEST = 3660 * 86400.0
"""Ten years, in seconds: the longest duration that makes sense anywhere."""


def parse_duration(text: str) -> float:
    """Seconds; units ms, s, min, h and d. Raises ValueError."""
    remedy = "a duration is a number with ms, s, min, h or d, such as 5 min"
    number, unit = _split(text, remedy)
    factor = DURATION_UNITS.get(unit or "s")
    if factor is None and (meant := _DURATION_WORDS.get(unit.lower().removesuffix("s"))) is not None:
        raise ValueError(f"unknown unit {unit!r}; did you mean '{number:.10g} {meant}'? {remedy}")
    if factor is None:
        raise ValueError(f"unknown unit {unit!r}; {remedy}")
    if number * factor > LONGEST:
        raise ValueError(f"{text.strip()!r} is more than ten years")
    return number * factor


BIT_RATE_UNITS = {"bit": 1.0, "kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9}


def parse_bit_rate(text: str) -> float:
    """Bits per second; units bit/s, kbit/s, Mbit/s and Gbit/s (``/s`` may be left out). Raises ValueError."""
    remedy = "a rate is a number with bit/s, kbit/s, Mbit/s or Gbit/s, such as 20 Mbit/s"
    number, unit = _split(text.strip().removesuffix("/s"), remedy)
    if unit not in BIT_RATE_UNITS:
        raise ValueError(f"unknown unit {unit!r}; {remedy}")
    return number * BIT_RATE_UNITS[unit]


def parse_percentage(text: str) -> float:
    """A share, 0 to 1, of what is given in per cent. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,9})?)\s*%", text.strip(), re.ASCII)
    if match is None or float(match[1]) > 100:
        raise ValueError(f"{text.strip()!r} is not a percentage such as 0.1 %")
    return float(match[1]) / 100


def _split(text: str, remedy: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text.strip()!r} cannot be read; {remedy}")
    return float(match.group(1)), match.group(2)


def format_size(size: int) -> str:
    """``51200`` as ``50 KiB``: the largest unit that gives a whole number."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


def format_duration(seconds: float) -> str:
    """``300.0`` as ``5 min``: the largest unit that gives a whole number."""
    for unit in ("d", "h", "min"):
        if seconds and seconds % DURATION_UNITS[unit] == 0:
            return f"{seconds / DURATION_UNITS[unit]:.10g} {unit}"
    return f"{seconds:.10g} s"
