"""Single values as text between the spaces and equals signs of ``KEY=value`` lines.

A value may hold neither a space nor "=" and may not be empty, so texts are percent-encoded (as in URLs, in UTF-8)
where they must be. What is None, or an empty text, has no value and is left out by the callers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from math import isfinite
from urllib.parse import quote, unquote

from perfd.formats.errors import FormatError, shown

LATEST = 253402300800.0
"""Times are before this one, the year 10000."""

MAX_LINE = 1 << 18
"""Characters of a line that are read; no result's line is nearly as long."""

LARGEST = 2**63 - 1
"""Integers are up to this one, the largest that databases hold."""

_LEGAL = "!\"#$&'()*+,/:;<>?[\\]^`{|}"  # besides the letters, digits and "_.-~" that quote() never touches
_LEGAL_ITEM = _LEGAL.replace(",", "")
_MUST_ENCODE = re.compile(r"[^!-~]|[%=@]")
_MUST_ENCODE_ITEM = re.compile(r"[^!-~]|[%=@,]")

# What reads back as a number. Other spellings of a number are texts.
_INT = re.compile(r"0|-?[1-9][0-9]{0,18}")
_FLOAT = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400}(?:e[+-]?[0-9]{1,3})?|e[+-]?[0-9]{1,3})")


def check_line(line: str) -> None:
    """Raise FormatError for a line that cannot be text of results, whatever its format."""
    if len(line) > MAX_LINE:
        raise FormatError(f"the line is longer than {MAX_LINE} characters")
    try:
        line.encode()
    except UnicodeEncodeError:
        raise FormatError("the line is not UTF-8 text") from None


def encode(text: str) -> str:
    """``text`` without spaces, "=", control and non-ASCII characters."""
    return quote(text, safe=_LEGAL, errors="replace") if _MUST_ENCODE.search(text) else text


def decode(value: str) -> str:
    """What ``encode`` was given."""
    return unquote(value) if "%" in value else value


def encode_items(items: Iterable[str]) -> str:
    """Texts as a comma list."""
    return ",".join(
        quote(item, safe=_LEGAL_ITEM, errors="replace") if _MUST_ENCODE_ITEM.search(item) else item
        for item in items
    )


def decode_items(value: str) -> tuple[str, ...]:
    """What ``encode_items`` was given."""
    return tuple(map(decode, value.split(",")))


def encode_free(value: str | int | float) -> str:
    """A value whose type the format does not tell: a number, or a text that does not look like one."""
    if isinstance(value, int):
        if not -LARGEST - 1 <= value <= LARGEST:
            raise FormatError(f"{value} is out of range")
        return str(value)
    if isinstance(value, float):
        return encode_float(value)
    text = encode(value)
    if isinstance(decode_free(text), str):
        return text
    return f"%{ord(text[0]):02X}{text[1:]}"


def decode_free(value: str) -> str | int | float:
    """What ``encode_free`` was given."""
    if _INT.fullmatch(value) and -LARGEST - 1 <= (integer := int(value)) <= LARGEST:
        return integer
    if _FLOAT.fullmatch(value) and isfinite(number := float(value)):
        return number
    return decode(value)


def decode_float(value: str) -> float:
    """A finite number in decimal notation. Raises ValueError."""
    number = float(value)
    if not isfinite(number) or "_" in value:
        raise ValueError(f"{shown(value)} is not a number")
    return number


def encode_float(number: float) -> str:
    """The shortest text that reads back as ``number``."""
    if not isfinite(number):
        raise FormatError(f"{number} is not a number that can be written")
    return repr(float(number))


def decode_bool(value: str) -> bool:
    """True for 1, False for 0. Raises ValueError."""
    if value not in ("0", "1"):
        raise ValueError(f"{shown(value)} is neither 0 nor 1")
    return value == "1"


def encode_time(seconds: float, decimals: int) -> str:
    """Seconds since the epoch with ``decimals`` decimals, rounded."""
    if not 0.0 <= seconds < LATEST:
        raise FormatError(f"{seconds} is not a time between the years 1970 and 9999")
    return f"{seconds:.{decimals}f}"


def utc_date(seconds: float) -> str:
    """The UTC date of a time, ``2016-10-02``."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d")
