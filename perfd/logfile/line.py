"""The lines of perfd.log: one line of KEY=value pairs for each measurement.

The pairs are the fields in the order of ``record.FIELDS``, with single spaces between them. What is None has no
pair. ``dataperc`` and ``partial`` give a pair for each n; DIDTIMEOUT is there for those who know Torperf.
Spaces, ``=``, ``%`` and control characters inside a text are percent-encoded (UTF-8), and so are commas
inside the members of a list. ``parse`` gives the record back as it was.

The file itself is written by ``perfd.logfile.file``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

import attrs
from twisted.logger import Logger

from perfd.record import FIELDS, Field, Kind, Measurement, Outcome

MAX_LINE = 1 << 20
"""Bytes of a line that are read; no measurement is nearly as long."""


class LogLineError(ValueError):
    """A measurement's line is damaged; the message names the key."""


# How values are written and read.

_UNSAFE = re.compile(r"[%=\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNSAFE_IN_LIST = re.compile(r"[%=,\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TIME = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,9})?")
_INT = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,30})?(e[+-]?[0-9]{1,3})?")


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogatepass"))


def _quote(text: str) -> str:
    return _UNSAFE.sub(_percent, text)


def _unquote(raw: str) -> str:
    if "%" not in raw:
        return raw
    if _BAD_ESCAPE.search(raw):
        raise ValueError
    return unquote_to_bytes(raw.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def _read(pattern: re.Pattern[str], number: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(raw: str) -> Any:
        if not pattern.fullmatch(raw):
            raise ValueError
        value = number(raw)
        if not math.isfinite(value):
            raise ValueError
        return value

    return read


def _read_bool(raw: str) -> bool:
    if raw not in ("0", "1"):
        raise ValueError
    return raw == "1"


def _read_list(member: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda raw: tuple(member(part) for part in raw.split(",")) if raw else ()


def _write_time(value: float) -> str:
    return f"{value:.6f}"


def _write_extra(value: str | float) -> str:
    """A text that looks like a number gets its first character encoded, so that it is read as a text."""
    if isinstance(value, str):
        return f"%{ord(value[0]):02X}{value[1:]}" if _NUMBER.fullmatch(value) else _quote(value)
    return repr(value) if isinstance(value, float) else str(int(value))


def _read_extra(raw: str) -> str | int | float:
    if _INT.fullmatch(raw):
        return int(raw)
    return _read_float(raw) if _NUMBER.fullmatch(raw) else _unquote(raw)


_read_int = _read(_INT, int)
_read_float = _read(_NUMBER, float)
_read_time = _read(_TIME, float)


@attrs.frozen
class _Format:
    """How the values of one kind are written, read and called in messages."""

    write: Callable[[Any], str]
    read: Callable[[str], Any]
    words: str


_FORMATS: Mapping[Kind, _Format] = {
    Kind.TEXT: _Format(_quote, _unquote, "percent-encoded text"),
    Kind.INT: _Format(lambda value: str(int(value)), _read_int, "an integer"),
    Kind.FLOAT: _Format(lambda value: repr(float(value)), _read_float, "a number"),
    Kind.TIME: _Format(_write_time, _read_time, "seconds since the epoch"),
    Kind.BOOL: _Format(lambda value: str(int(value)), _read_bool, "0 or 1"),
    Kind.TEXTS: _Format(
        lambda texts: ",".join(_UNSAFE_IN_LIST.sub(_percent, text) for text in texts),
        _read_list(_unquote),
        "a comma list of percent-encoded texts",
    ),
    Kind.FLOATS: _Format(
        lambda numbers: ",".join(repr(float(number)) for number in numbers),
        _read_list(_read_float),
        "a comma list of numbers",
    ),
    Kind.TIMES: _Format(_write_time, _read_time, "seconds since the epoch"),  # of each of the mapping's values
    Kind.EXTRA: _Format(_write_extra, _read_extra, "a number or percent-encoded text"),  # likewise
}


# Lines.

_PREFIX = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:Z|[+-]\d{4})? \[[^\]]*\] ")
_EXTRA_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_N_KEY = re.compile(r"(DATAPERC|PARTIAL)(0|[1-9][0-9]{0,17})")
_BY_KEY: Mapping[str, Field] = {field.key: field for field in FIELDS}
_SINGLE = {field.key for field in FIELDS if field.kind not in (Kind.TIMES, Kind.EXTRA)}
_DERIVED = "DIDTIMEOUT"


def is_extra_key(key: str) -> bool:
    """True if ``key`` may be a key of ``Measurement.extra``: legal, and not that of a field."""
    return bool(_EXTRA_KEY.fullmatch(key)) and key not in (*_SINGLE, _DERIVED) and not _N_KEY.fullmatch(key)


def render(measurement: Measurement) -> str:
    """The line of ``measurement``, without prefix and line end.

    Raises ValueError when a key of ``extra`` is not a legal one.
    """
    pairs: list[str] = []
    for field in FIELDS:
        value = getattr(measurement, field.name)
        write = _FORMATS[field.kind].write
        if field.kind is Kind.TIMES:
            pairs.extend(f"{field.key}{n}={write(value[n])}" for n in sorted(value))
        elif field.kind is Kind.EXTRA:
            _check_extra_keys(value)
            pairs.extend(f"{key}={write(extra)}" for key, extra in value.items())
        elif value is not None:
            pairs.append(f"{field.key}={write(value)}")
        if field.name == "outcome":
            pairs.append(f"{_DERIVED}={int(measurement.didtimeout)}")
    return " ".join(pairs)


def _check_extra_keys(extra: Mapping[str, Any]) -> None:
    for key in extra:
        if not is_extra_key(key):
            raise ValueError(f"{key!r} cannot be a key of a measurement's extra fields")


def parse(line: str) -> Measurement:
    """The measurement of ``line``, which may have the log's time and system in front.

    Keys that no field has go to ``extra``. Raises LogLineError.
    """
    values: dict[str, Any] = {"extra": {}}
    seen: set[str] = set()
    for pair in _message(line).split(" "):
        key, equals, raw = pair.partition("=")
        if not equals or "=" in raw:
            raise LogLineError(f"{_short(pair)} is not KEY=value")
        if key in seen:
            raise LogLineError(f"{_short(key)} is there twice")
        seen.add(key)
        _take(values, key, raw)
    for field in FIELDS:
        if field.required and field.name not in values:
            raise LogLineError(f"{field.key} is missing")
    return Measurement(**values)


def _message(line: str) -> str:
    return _PREFIX.sub("", line.rstrip("\r\n"), count=1)


def _take(values: dict[str, Any], key: str, raw: str) -> None:
    """Put the value of one pair where it belongs in ``values``."""
    if key in _SINGLE:
        field = _BY_KEY[key]
        value = _value(key, field.kind, raw)
        values[field.name] = _outcome(value) if field.name == "outcome" else value
    elif match := _N_KEY.fullmatch(key):
        values.setdefault(_BY_KEY[match[1]].name, {})[int(match[2])] = _value(key, Kind.TIMES, raw)
    elif key == _DERIVED:
        _value(key, Kind.BOOL, raw)
    elif _EXTRA_KEY.fullmatch(key):
        values["extra"][key] = _value(key, Kind.EXTRA, raw)
    else:
        raise LogLineError(f"{_short(key)} is not a legal key")


def _value(key: str, kind: Kind, raw: str) -> Any:
    try:
        return _FORMATS[kind].read(raw)
    except ValueError:
        raise LogLineError(f"{key}: {_short(raw)} is not {_FORMATS[kind].words}") from None


def _outcome(text: str) -> Outcome:
    try:
        return Outcome(text)
    except ValueError:
        raise LogLineError(f"OUTCOME: {_short(text)} is not an outcome") from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")


# Files.


@attrs.frozen
class DamagedLine:
    """A measurement's line that could not be read."""

    path: Path
    number: int  # from 1
    reason: str


def parse_file(path: Path) -> Iterator[Measurement | DamagedLine]:
    """The measurements of a log, and where it is damaged, in the order of the lines.

    Lines without START and ID are not a measurement's and are passed over. A last line without its end is
    damaged, since its last value may have been cut. Raises OSError.
    """
    with path.open("rb") as file:
        for number, line in enumerate(_lines(file), start=1):
            try:
                text = line.decode("utf-8", "surrogateescape")
                if not _is_measurement(text):
                    continue
                yield _parse_raw(line)
            except LogLineError as error:
                yield DamagedLine(path, number, str(error))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines with their ends, each cut after ``MAX_LINE`` bytes."""
    while line := file.readline(MAX_LINE):
        rest = line
        while not rest.endswith(b"\n") and (rest := file.readline(MAX_LINE)):
            pass
        yield line


def _is_measurement(line: str) -> bool:
    message = _message(line)
    return "=" in message.split(" ", 1)[0] and bool(re.search(r"(?:^| )(?:START|ID)=", message))


def _parse_raw(line: bytes) -> Measurement:
    if not line.endswith(b"\n"):
        raise LogLineError("the line has no end")
    try:
        return parse(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise LogLineError("the line is not UTF-8") from None


class LogSink:
    """The sink that writes each measurement to the log."""

    _log = Logger(namespace="perfd")

    def __init__(self, log: Logger | None = None) -> None:
        if log is not None:
            self._log = log

    def record(self, measurement: Measurement) -> None:
        """Log the line, as from the system ``perfd.EXPERIMENT,TOR``."""
        system = f"perfd.{measurement.experiment},{measurement.tor or '-'}"
        self._log.info("{line}", line=render(measurement), log_system=re.sub(r"[^\w.,:-]", "_", system))
