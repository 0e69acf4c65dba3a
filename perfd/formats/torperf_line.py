"""One result line of the ``@type torperf`` format, to a measurement and back. ``torperf`` has the files of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

import attrs

from perfd.formats import imported, keyvalue, published, values
from perfd.formats.errors import FormatError, shown
from perfd.formats.values import INT32
from perfd.record import Kind, Measurement, Outcome

TIMES = (
    "START",
    "SOCKET",
    "CONNECT",
    "NEGOTIATE",
    "REQUEST",
    "RESPONSE",
    "DATAREQUEST",
    "DATARESPONSE",
    "DATACOMPLETE",
)
"""The times that every line has; ``0.0`` is a missing one."""

REQUIRED = frozenset(("SOURCE", "FILESIZE", *TIMES, "WRITEBYTES", "READBYTES"))
"""The keys that every line has."""

CIRCUIT = ("TIMEOUT", "QUANTILE", "CIRC_ID", "PATH", "BUILDTIMES")
"""The keys that are written together, when path and build times are known."""

INT32_KEYS = frozenset(("FILESIZE", "WRITEBYTES", "READBYTES", "TIMEOUT", "CIRC_ID", "USED_BY"))

MAX_PAIRS = 256

_PLACEHOLDERS: Mapping[str, str] = {
    **dict.fromkeys(TIMES, "0.0"),
    **dict.fromkeys(("WRITEBYTES", "READBYTES"), "0"),
    **dict.fromkeys(("ENDPOINTLOCAL", "ENDPOINTPROXY", "ENDPOINTREMOTE"), imported.UNKNOWN_ENDPOINT),
    **dict.fromkeys(("HOSTNAMELOCAL", "HOSTNAMEREMOTE"), imported.UNKNOWN_HOSTNAMES[0]),
    "SOURCEADDRESS": imported.UNKNOWN_ADDRESS,
}
"""What is written in the place of what is unknown."""

_KINDS: Mapping[str, Kind] = {key: field.kind for key, field in keyvalue.SINGLE.items()}
# Interned, as the names in Measurement's signature are: equal but not the same, they would double the time to read.
_INTS = frozenset(key for key, kind in _KINDS.items() if kind is Kind.INT)
_NAMES: Mapping[str, str] = {keyvalue.DERIVED: "didtimeout"} | {
    key: sys.intern(field.name) for key, field in keyvalue.SINGLE.items()
}

# Reading

_SECONDS = r"[0-9]*+\.[0-9]++"
_HOP = r"\$[0-9A-Fa-f]{40}"

_TIME_VALUE = (_SECONDS, "a time is seconds with decimals, such as 1475366401.23")
_INT_VALUE = (r"[0-9]{1,18}", "a whole number is expected")
_ANY_VALUE = (r"[^ =]++", "a value is expected")
_PATH_VALUE = (f"{_HOP}(?:,{_HOP})*+", "a path is a comma list of $ and 40 hexadecimal digits")
_BUILDTIMES_VALUE = (f"{_SECONDS}(?:,{_SECONDS})*+", "build times are a comma list of seconds with decimals")

_VALUES: Mapping[str, tuple[str, str]] = {"PATH": _PATH_VALUE, "BUILDTIMES": _BUILDTIMES_VALUE}

_DECODERS: Mapping[Kind, Callable[[str], Any]] = {
    Kind.FLOAT: values.decode_float,
    Kind.BOOL: values.decode_bool,
    Kind.TEXTS: partial(values.decode_items, decode_item=values.decode_foreign),
    Kind.FLOATS: values.decode_floats,
}

_DECODERS_BY_KEY: Mapping[str, Callable[[str], Any]] = {
    "DIDTIMEOUT": values.decode_bool,
    "OUTCOME": Outcome,
    "PATH": lambda value: tuple(value.upper().split(",")),
    "BUILDTIMES": lambda value: tuple([round(seconds, 6) for seconds in map(float, value.split(","))]),
    "HOSTNAMELOCAL": lambda value: imported.known_hostname(values.decode_foreign(value)),
    "HOSTNAMEREMOTE": lambda value: imported.known_hostname(values.decode_foreign(value)),
    "ENDPOINTLOCAL": lambda value: imported.known_endpoint(values.decode_foreign(value)),
    "ENDPOINTPROXY": lambda value: imported.known_endpoint(values.decode_foreign(value)),
    "ENDPOINTREMOTE": lambda value: imported.known_endpoint(values.decode_foreign(value)),
    "SOURCEADDRESS": lambda value: imported.known_address(values.decode_foreign(value)),
}


def _value_of(key: str) -> tuple[str, str]:
    """The regular expression of a key's value, and the same in words."""
    kind = Kind.TIME if keyvalue.counted(key) else _KINDS.get(key)
    if kind is Kind.TIME:
        return _TIME_VALUE
    return _INT_VALUE if kind is Kind.INT else _VALUES.get(key, _ANY_VALUE)


@attrs.frozen
class _Shape:
    """What a line with certain keys in a certain order means.

    The lines of one writer have few shapes. Each is worked out once, as one regular expression and the groups of it
    that go through one C function each: this is what makes reading fast.
    """

    keys: tuple[str, ...]
    pattern: re.Pattern[str]
    times: itemgetter[Any]  # first those of ``time_names``, then ``dataperc``, then ``partial``
    time_names: tuple[str, ...]
    dataperc: tuple[int, ...]
    partial: tuple[int, ...]
    ints: itemgetter[Any]
    int_names: tuple[str, ...]
    texts: itemgetter[Any]
    text_names: tuple[str, ...]
    others: tuple[tuple[int, str, Callable[[str], Any]], ...]  # (place, attribute, decoder)
    extra: tuple[tuple[int, str], ...]  # (place, key)


@lru_cache(maxsize=256)
def _shape(keys: tuple[str, ...]) -> _Shape:
    """The shape of lines with these keys. Raises FormatError if a line must not have them."""
    _check_keys(keys)
    places: dict[str, list[tuple[int, Any]]] = {
        n: [] for n in ("time", "dataperc", "partial", "int", "text", "extra")
    }
    others: list[tuple[int, str, Callable[[str], Any]]] = []
    for place, key in enumerate(keys):
        kind = _KINDS.get(key)
        decoder = _DECODERS_BY_KEY.get(key) or (_DECODERS.get(kind) if kind else None)
        if decoder:
            others.append((place, _NAMES[key], decoder))
        elif kind:
            places[kind.value].append((place, _NAMES[key]))
        elif count := keyvalue.counted(key):
            places[count[0]].append((place, count[1]))
        else:
            places["extra"].append((place, _extra_key(key)))

    def getter(*groups: str) -> itemgetter[Any]:
        return itemgetter(*(place for group in groups for place, _ in places[group]))

    def names(group: str) -> tuple[Any, ...]:
        return tuple(name for _, name in places[group])

    if len(places["text"]) == 1:  # itemgetter would give the item itself, not a tuple
        places["text"] *= 2
    return _Shape(
        keys=keys,
        pattern=re.compile(" ".join(f"{re.escape(key)}=({_value_of(key)[0]})" for key in keys)),
        times=getter("time", "dataperc", "partial"),
        time_names=names("time"),
        dataperc=names("dataperc"),
        partial=names("partial"),
        ints=getter("int"),
        int_names=names("int"),
        texts=getter("text"),
        text_names=names("text"),
        others=tuple(others),
        extra=tuple(places["extra"]),
    )


def _extra_key(key: str) -> str:
    name = values.decode_foreign(key)
    return key if keyvalue.is_taken(name) else name


def _check_keys(keys: tuple[str, ...]) -> None:
    if len(keys) > MAX_PAIRS:
        raise FormatError(f"the line has {len(keys)} pairs", remedy=f"{MAX_PAIRS} are allowed")
    for key in sorted(REQUIRED.difference(keys)):
        raise FormatError("the required key is missing", key=key)


def _shape_of(line: str) -> _Shape:
    """The shape of ``line``, read pair by pair. Raises FormatError if it has none."""
    if not line:
        raise FormatError("the line is empty")
    pairs = keyvalue.split(line)
    for key, value in pairs.items():
        if not value:
            raise FormatError("the value is empty", key=key)
    return _shape(tuple(pairs))


class LineParser:
    """Turns result lines into measurements; quick for lines that have the same keys as the one before."""

    def __init__(self) -> None:
        self._shape: _Shape | None = None

    def __call__(self, line: str) -> Measurement:
        """The measurement of one result line, without its line end. Raises FormatError."""
        if len(line) > values.MAX_LINE or not line.isascii():
            values.check_line(line)
        shape = self._shape
        match = shape and shape.pattern.fullmatch(line)
        if not shape or not match:
            self._shape = shape = _shape_of(line)
            match = shape.pattern.fullmatch(line)
            if match is None:
                raise _wrong_value(line)
        return _measurement(shape, match.groups(), encoded="%" in line)


def parse(line: str) -> Measurement:
    """The measurement of a single result line, without its line end. Raises FormatError."""
    return LineParser()(line)


def _wrong_value(line: str) -> FormatError:
    """Which value of ``line`` is not what its key demands."""
    for pair in line.split(" "):
        key, _, value = pair.partition("=")
        pattern, remedy = _value_of(key)
        if not re.fullmatch(pattern, value):
            return FormatError(f"{shown(value)} cannot be read", key=key, remedy=remedy)
    return FormatError("the line cannot be read")


def _measurement(shape: _Shape, groups: tuple[str, ...], *, encoded: bool) -> Measurement:
    fields = _times(shape, list(map(float, shape.times(groups))))
    fields.update(zip(shape.int_names, map(int, shape.ints(groups)), strict=True))
    texts = shape.texts(groups)
    fields.update(zip(shape.text_names, map(values.decode_foreign, texts) if encoded else texts, strict=True))
    for place, name, decode in shape.others:
        try:
            fields[name] = decode(groups[place])
        except ValueError as error:
            raise FormatError(str(error), key=shape.keys[place]) from None
    if shape.extra:
        fields["extra"] = {
            key: values.decode_free(groups[place], values.decode_foreign) for place, key in shape.extra
        }
    imported.not_complete(fields)
    # What others wrote lacks what Perfd's own lines say: how it ended, what it belongs to, and an id.
    didtimeout = fields.pop("didtimeout", None)
    if "outcome" not in fields:
        imported.conclude(fields, didtimeout)
        if "path" in fields:
            fields.setdefault("guard", fields["path"][0])
    if "experiment" not in fields:
        fields["experiment"] = f"torperf-{fields['filesize']}"
    if "id" not in fields:
        start = f"{fields['start']:.2f}"
        fields["id"] = imported.measurement_id(
            fields["source"], fields["filesize"], start, fields.get("endpointlocal")
        )
    return Measurement(**fields)


def _times(shape: _Shape, stamps: list[Any]) -> dict[str, Any]:
    """The fields that are times; 0 is a missing one."""
    if max(stamps) >= values.LATEST:
        raise FormatError("a time is not before the year 10000")
    missing = 0.0 in stamps
    if missing:
        stamps = [stamp or None for stamp in stamps]
    fields: dict[str, Any] = dict(zip(shape.time_names, stamps, strict=False))
    if missing and fields["start"] is None:
        raise FormatError("the time is missing", key="START")
    first = len(shape.time_names)
    for name, counts in (("dataperc", shape.dataperc), ("partial", shape.partial)):
        if counts:
            known = dict(zip(counts, stamps[first:], strict=False))
            fields[name] = {n: at for n, at in known.items() if at is not None} if missing else known
            first += len(counts)
    return fields


# Writing


def format_line(measurement: Measurement, decimals: int = 2) -> str:
    """The result line of a measurement, without line end.

    ``decimals`` of times: 2 as all writers of the format, 3 as metrics-lib keeps, 6 for all that Perfd knows.
    START is cut, not rounded, where rounding would carry it into the next day. Texts that are empty are left out.
    Raises FormatError if the format cannot hold the measurement.
    """
    known = keyvalue.pairs(measurement, decimals)
    pairs = {**_PLACEHOLDERS, **{key: value for key, value in known.items() if value}}
    pairs[keyvalue.DERIVED] = "1" if published.is_error(measurement) else "0"
    pairs["START"] = _start(measurement.start, decimals)
    if complete := published.datacomplete(measurement):
        pairs["DATACOMPLETE"] = values.encode_time(complete, decimals)
    if measurement.path and measurement.buildtimes:
        pairs["BUILDTIMES"] = ",".join(f"{seconds:.{decimals}f}" for seconds in measurement.buildtimes)
    else:
        for key in CIRCUIT:
            pairs.pop(key, None)
    _check_limits(pairs)
    return " ".join([f"{key}={pairs[key]}" for key in sorted(pairs)])


def _start(seconds: float, decimals: int) -> str:
    text = values.encode_time(seconds, decimals)
    if values.utc_date(float(text)) == values.utc_date(seconds):
        return text
    return f"{int(seconds)}.{'9' * decimals}"


def _check_limits(pairs: Mapping[str, str]) -> None:
    if "SOURCE" not in pairs:
        raise FormatError("the name is empty", key="SOURCE")
    for key in _INTS.intersection(pairs):
        largest = INT32 if key in INT32_KEYS else 10**18 - 1
        if not 0 <= int(pairs[key]) <= largest:
            raise FormatError(f"{pairs[key]} is not between 0 and {largest}", key=key, remedy="export it as JSON")
    if "PATH" in pairs and not re.fullmatch(_PATH_VALUE[0], pairs["PATH"]):
        raise FormatError(f"{shown(pairs['PATH'])} is no path", key="PATH", remedy=_PATH_VALUE[1])
    if len(pairs) > MAX_PAIRS:
        raise FormatError(f"the line would have {len(pairs)} pairs", remedy=f"{MAX_PAIRS} are allowed")
