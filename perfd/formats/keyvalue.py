"""The pairs of ``KEY=value`` lines: one codec of measurements for perfd.log and for .tpf files.

The pairs are the fields in the order of ``record.FIELDS``, with single spaces between them. What is None has no
pair. ``dataperc`` and ``partial`` give a pair for each n; DIDTIMEOUT is there for those who know Torperf. Every
other key is one of ``extra``. How single values are written is in ``values``.

perfd.log has them all, as they come (``perfd.logfile.line``). A .tpf line has them sorted, leaves out empty values,
which its readers refuse, and fills in those that they require (``torperf_line``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

import attrs

from perfd.formats import values
from perfd.formats.errors import FormatError, shown
from perfd.record import FIELDS, Field, Kind, Measurement

DECIMALS = 6
"""Decimals of times that lose nothing of what Perfd knows."""

DERIVED = "DIDTIMEOUT"
"""The key that is not a field's, but follows from the outcome."""

SINGLE: Mapping[str, Field] = {field.key: field for field in FIELDS if field.kind not in (Kind.TIMES, Kind.EXTRA)}
"""The fields that have one pair, by key."""

_COUNTED = re.compile(r"(DATAPERC|PARTIAL)(0|[1-9][0-9]{0,17})")


@attrs.frozen
class Codec:
    """How the values of a kind are written and read; ``words`` are what such a value is called in messages."""

    encode: Callable[[Any], str]  # raises FormatError
    decode: Callable[[str], Any]  # raises ValueError
    words: str


_TIME = Codec(partial(values.encode_time, decimals=DECIMALS), values.decode_time, "seconds since the epoch")

CODECS: Mapping[Kind, Codec] = {
    Kind.TEXT: Codec(values.encode, values.decode, "percent-encoded text"),
    Kind.INT: Codec(values.encode_int, values.decode_int, "an integer"),
    Kind.FLOAT: Codec(values.encode_float, values.decode_float, "a number"),
    Kind.TIME: _TIME,
    Kind.BOOL: Codec(values.encode_int, values.decode_bool, "0 or 1"),
    Kind.TEXTS: Codec(values.encode_items, values.decode_items, "a comma list of percent-encoded texts"),
    Kind.FLOATS: Codec(values.encode_floats, values.decode_floats, "a comma list of numbers"),
    Kind.TIMES: _TIME,  # of each of the mapping's values
    Kind.EXTRA: Codec(values.encode_free, values.decode_free, "a number or percent-encoded text"),  # likewise
}


def counted(key: str) -> tuple[str, int] | None:
    """``("dataperc", 10)`` for DATAPERC10, ``("partial", 51200)`` for PARTIAL51200, None for other keys."""
    match = _COUNTED.fullmatch(key)
    if match is None or (match[1] == "DATAPERC" and int(match[2]) > 100):
        return None
    return match[1].lower(), int(match[2])


def is_taken(key: str) -> bool:
    """True if ``key`` has a meaning of its own, so that it cannot be one of ``Measurement.extra``."""
    return not key or key in SINGLE or key == DERIVED or counted(key) is not None


def split(line: str) -> dict[str, str]:
    """The pairs of ``line``, in its order, as they are written. Raises FormatError."""
    pairs: dict[str, str] = {}
    for pair in line.split(" "):
        key, equals, value = pair.partition("=")
        if not equals or not key or "=" in value:
            raise FormatError(f"{shown(pair)} is not KEY=value", remedy="pairs are separated by single spaces")
        if key in pairs:
            raise FormatError("the key occurs more than once", key=key if key.isprintable() else shown(key))
        pairs[key] = value
    return pairs


def pairs(measurement: Measurement, decimals: int = DECIMALS) -> dict[str, str]:
    """The pairs of ``measurement``, with so many decimals of times. Raises FormatError, which names the key."""
    found: dict[str, str] = {}
    for name, key, encode, members in _writers(decimals):
        value = getattr(measurement, name)
        if value is None:
            continue
        try:
            if members is None:
                found[key] = encode(value)
                continue
            for key, member in members(value):  # noqa: PLW2901 - an error is about the member's key
                found[key] = encode(member)
        except FormatError as error:
            raise FormatError(error.problem, key=error.key or key, remedy=error.remedy) from None
    return found


def line(measurement: Measurement) -> str:
    """All pairs of ``measurement``, without line end. Raises FormatError."""
    return " ".join(f"{key}={value}" for key, value in pairs(measurement).items())


def extra_pairs(extra: Mapping[str, Any]) -> list[str]:
    """The pairs of keys of ``extra`` alone, as in a line. Raises FormatError."""
    encode = CODECS[Kind.EXTRA].encode
    return [f"{key}={encode(value)}" for key, value in _extras(extra)]


Members = Callable[[Mapping[Any, Any]], Iterator[tuple[str, Any]]]


@lru_cache(maxsize=3)
def _writers(decimals: int) -> tuple[tuple[str, str, Callable[[Any], str], Members | None], ...]:
    """What each field's pairs are made with: attribute, key, encoder of a value, and how a mapping is divided."""
    if decimals not in (2, 3, 6):
        raise ValueError("times have 2, 3 or 6 decimals")
    time = partial(values.encode_time, decimals=decimals)
    encoders: Mapping[Kind, Callable[[Any], str]] = {Kind.TIME: time, Kind.TIMES: time}
    found: list[tuple[str, str, Callable[[Any], str], Members | None]] = []
    for field in FIELDS:
        encode = encoders.get(field.kind, CODECS[field.kind].encode)
        if field.name == "outcome":
            found.append((field.name, field.key, lambda outcome: str(outcome.value), None))
            found.append(("didtimeout", DERIVED, values.encode_int, None))
        elif field.kind is Kind.TIMES:
            found.append((field.name, field.key, encode, partial(_counts, field.key)))
        else:
            found.append((field.name, field.key, encode, _extras if field.kind is Kind.EXTRA else None))
    return tuple(found)


def _counts(prefix: str, times: Mapping[int, float]) -> Iterator[tuple[str, float]]:
    return ((f"{prefix}{n}", times[n]) for n in sorted(times))


def _extras(extra: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in extra.items():
        if is_taken(name):
            raise FormatError("the key of a value of the experiment's type is empty or taken", key=name)
        yield values.encode(name), value
