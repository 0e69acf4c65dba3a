"""The lines of perfd.log: one line of KEY=value pairs for each measurement.

The pairs are those of ``perfd.formats.keyvalue``, all of them, in the order of the record's fields. ``parse`` gives
the record back as it was. The file itself is written by ``perfd.logfile.file``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import attrs
from twisted.logger import Logger

from perfd.formats import keyvalue
from perfd.formats.errors import FormatError, shown
from perfd.formats.values import decode
from perfd.record import FIELDS, Kind, Measurement, Outcome

MAX_LINE = 1 << 20
"""Bytes of a line that are read; no measurement is nearly as long."""

_PREFIX = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:Z|[+-]\d{4})? \[[^\]]*\] ")


class LogLineError(ValueError):
    """A measurement's line is damaged; the message names the key."""


# Lines.


def render(measurement: Measurement) -> str:
    """The line of ``measurement``, without prefix and line end.

    Raises FormatError, a ValueError, when a key of ``extra`` is empty or a field's, or a number is not finite.
    """
    return keyvalue.line(measurement)


def parse(line: str) -> Measurement:
    """The measurement of ``line``, which may have the log's time and system in front.

    Keys that no field has go to ``extra``. Raises LogLineError.
    """
    values: dict[str, Any] = {"extra": {}}
    try:
        pairs = keyvalue.split(_message(line))
    except FormatError as error:
        raise LogLineError(error.message) from None
    for key, raw in pairs.items():
        _take(values, key, raw)
    for field in FIELDS:
        if field.required and field.name not in values:
            raise LogLineError(f"{field.key} is missing")
    return Measurement(**values)


def _message(line: str) -> str:
    return _PREFIX.sub("", line.rstrip("\r\n"), count=1)


def _take(values: dict[str, Any], key: str, raw: str) -> None:
    """Put the value of one pair where it belongs in ``values``."""
    if field := keyvalue.SINGLE.get(key):
        value = _value(key, field.kind, raw)
        values[field.name] = _outcome(value) if field.name == "outcome" else value
    elif count := keyvalue.counted(key):
        name, n = count
        values.setdefault(name, {})[n] = _value(key, Kind.TIMES, raw)
    elif key == keyvalue.DERIVED:
        _value(key, Kind.BOOL, raw)
    else:
        values["extra"][_extra_key(key)] = _value(key, Kind.EXTRA, raw)


def _extra_key(key: str) -> str:
    try:
        name = decode(key)
    except ValueError as error:
        raise LogLineError(str(error)) from None
    if keyvalue.is_taken(name):
        raise LogLineError(f"{shown(key)} is not a legal key")
    return name


def _value(key: str, kind: Kind, raw: str) -> Any:
    codec = keyvalue.CODECS[kind]
    try:
        return codec.decode(raw)
    except ValueError:
        raise LogLineError(f"{key}: {shown(raw)} is not {codec.words}") from None


def _outcome(text: str) -> Outcome:
    try:
        return Outcome(text)
    except ValueError:
        raise LogLineError(f"OUTCOME: {shown(text)} is not an outcome") from None


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
