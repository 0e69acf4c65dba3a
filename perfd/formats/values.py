"""Single values as text between the spaces and equals signs of ``KEY=value`` lines. ``keyvalue`` has the lines.

A value holds neither a space nor "=", so texts are percent-encoded (as in URLs, in UTF-8) where they must be, and
members of comma lists also where they hold a comma. All ``decode_...`` functions raise ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from math import isfinite
from urllib.parse import quote, unquote_to_bytes

from perfd.formats.errors import FormatError, shown

LATEST = 253402300800.0
"""Times are before this one, the year 10000."""

MAX_LINE = 1 << 18
"""Characters of a line that are read; no result's line is nearly as long."""

INT32 = 2**31 - 1
"""The largest integer that metrics-lib knows."""

LARGEST = 2**63 - 1
"""Integers are up to this one, the largest that databases hold."""

_LEGAL = "!\"#$&'()*+,/:;<>?[\\]^`{|}"  # besides the letters, digits and "_.-~" that quote() never touches
_LEGAL_ITEM = _LEGAL.replace(",", "")
_MUST_ENCODE = re.compile(r"[^!-~]|[%=@]")
_MUST_ENCODE_ITEM = re.compile(r"[^!-~]|[%=@,]")

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

_INT = re.compile(r"-?[0-9]{1,19}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TIME = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,9})?")

# What reads back as a number where the type is not known. Other spellings of a number are texts.
_FREE_INT = re.compile(r"0|-?[1-9][0-9]{0,18}")
_FREE_FLOAT = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400}(?:e[+-]?[0-9]{1,3})?|e[+-]?[0-9]{1,3})")


def check_line(line: str) -> None:
    """Raise FormatError for a line that cannot be text of results, whatever its format."""
    if len(line) > MAX_LINE:
        raise FormatError(f"the line is longer than {MAX_LINE} characters")
    try:
        line.encode()
    except UnicodeEncodeError:
        raise FormatError("the line is not UTF-8 text") from None


def encode(text: str) -> str:
    """``text`` without spaces, "=", control and non-ASCII characters; even one that is not Unicode survives."""
    return quote(text, safe=_LEGAL, errors="surrogatepass") if _MUST_ENCODE.search(text) else text


def decode(value: str) -> str:
    """What ``encode`` was given."""
    if "%" not in value:
        return value
    if _BAD_ESCAPE.search(value):
        raise ValueError(f"{shown(value)} is not percent-encoded text")
    return unquote_to_bytes(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def decode_foreign(value: str) -> str:
    """What ``encode`` was given, or, where others wrote a "%" of their own, ``value`` as it is."""
    try:
        text = decode(value)
        text.encode()
    except ValueError:
        return value
    return text


def encode_items(items: Iterable[str]) -> str:
    """Texts as a comma list."""
    return ",".join(
        quote(item, safe=_LEGAL_ITEM, errors="surrogatepass") if _MUST_ENCODE_ITEM.search(item) else item
        for item in items
    )


def decode_items(value: str, decode_item: Callable[[str], str] = decode) -> tuple[str, ...]:
    """What ``encode_items`` was given."""
    return tuple(map(decode_item, value.split(","))) if value else ()


def encode_floats(numbers: Iterable[float]) -> str:
    """Numbers as a comma list."""
    return ",".join(map(encode_float, numbers))


def decode_floats(value: str) -> tuple[float, ...]:
    """What ``encode_floats`` was given."""
    return tuple(map(decode_float, value.split(","))) if value else ()


def encode_free(value: str | int | float) -> str:
    """A value whose type the format does not tell: a number, or a text that does not look like one."""
    if isinstance(value, int):
        if not -LARGEST - 1 <= value <= LARGEST:
            raise FormatError(f"{value} is out of range")
        return encode_int(value)
    if isinstance(value, float):
        return encode_float(value)
    text = encode(value)
    return text if _free_number(text) is None else f"%{ord(text[0]):02X}{text[1:]}"


def decode_free(value: str, decode_text: Callable[[str], str] = decode) -> str | int | float:
    """What ``encode_free`` was given."""
    number = _free_number(value)
    return decode_text(value) if number is None else number


def _free_number(value: str) -> int | float | None:
    if _FREE_INT.fullmatch(value) and -LARGEST - 1 <= (integer := int(value)) <= LARGEST:
        return integer
    if _FREE_FLOAT.fullmatch(value) and isfinite(number := float(value)):
        return number
    return None


def encode_int(number: int) -> str:
    """A whole number; a truth value is 0 or 1."""
    return str(int(number))


def decode_int(value: str) -> int:
    """A whole number in ASCII digits."""
    if not _INT.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a whole number")
    return int(value)


def encode_float(number: float) -> str:
    """The shortest text that reads back as ``number``."""
    if not isfinite(number):
        raise FormatError(f"{number} is not a number that can be written")
    return repr(float(number))


def decode_float(value: str) -> float:
    """A finite number in decimal notation."""
    if not _FLOAT.fullmatch(value) or not isfinite(number := float(value)):
        raise ValueError(f"{shown(value)} is not a number")
    return number


def decode_bool(value: str) -> bool:
    """True for 1, False for 0."""
    if value not in ("0", "1"):
        raise ValueError(f"{shown(value)} is neither 0 nor 1")
    return value == "1"


def encode_time(seconds: float, decimals: int) -> str:
    """Seconds since the epoch with ``decimals`` decimals, rounded."""
    if not 0.0 <= seconds < LATEST:
        raise FormatError(f"{seconds} is not a time between the years 1970 and 9999")
    return f"{seconds:.{decimals}f}"


def decode_time(value: str) -> float:
    """Seconds since the epoch, to the nanosecond at most."""
    if not _TIME.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a time")
    return float(value)


def utc_date(seconds: float) -> str:
    """The UTC date of a time, ``2016-10-02``."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d")
