"""Torperf's own files of 2009 to 2017, .data and .extradata. ``legacy_merge`` puts them together.

- .data: one line of integers per run, in order of ending: pairs of seconds and microseconds for the nine steps,
  then WRITEBYTES, READBYTES, DIDTIMEOUT (missing in the oldest files) and pairs for DATAPERC10 to 90 (since 2012).
- .extradata: one line of ``KEY=value`` pairs per circuit that ended, with the stream that used it.

A .data file does not say what was measured, so source and file size are arguments. Times keep their microseconds,
where CollecTor cut them to hundredths; ids are made from hundredths cut as CollecTor did, so that a run is
recognised in its .tpf too. Everything here works line by line.
"""

from __future__ import annotations

import heapq
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, TypeVar

import attrs

from perfd.formats import imported, published, torperf, values
from perfd.formats.errors import Damage, FormatError, Refuse, damage_of, shown
from perfd.formats.torperf_line import TIMES
from perfd.record import Circuit, Hop, Measurement, Outcome, Stream

T = TypeVar("T")

COLUMNS = (20, 21, 39)
"""The numbers of columns that .data has had."""

_STEPS = tuple(sys.intern(name.lower()) for name in TIMES)  # as in torperf_line
_DECILES = tuple(range(10, 100, 10))
PASSED_OVER = ("BUILDTIMEOUT_SET ", "ok ", "error ")
"""How lines of .extradata begin that tell of no circuit."""

_RELAY = re.compile(r"(\$[0-9A-Fa-f]{40})(?:[~=].*)?")


def read_lines(lines: Iterable[str], parse: Callable[[str], T | None], file: str) -> Iterator[T | Damage]:
    """What ``parse`` makes of each line, and a report for each that it cannot read."""
    for number, line in enumerate(lines, 1):
        try:
            values.check_line(line)
            if record := parse(line.rstrip("\r\n")):
                yield record
        except ValueError as error:
            yield damage_of(error, file, number)


# .data


def parse_data(line: str, source: str, filesize: int) -> Measurement:
    """The measurement of a line of .data. Raises FormatError."""
    words = line.split()
    if len(words) not in COLUMNS:
        raise FormatError(f"the line has {len(words)} columns", remedy="20, 21 or 39 are expected")
    return data_measurement(words, source, filesize)


def data_measurement(words: Sequence[str], source: str, filesize: int) -> Measurement:
    """The measurement of the columns of .data. Raises FormatError."""
    joined = "".join(words)
    if not (joined.isascii() and joined.isdigit()) or not all(words) or max(map(len, words)) > 18:
        raise FormatError("a column is not a whole number")
    numbers = list(map(int, words))
    pairs = [*numbers[:18], *numbers[21:]]
    seconds, microseconds = pairs[::2], pairs[1::2]
    if max(microseconds) >= 1_000_000 or max(seconds) >= values.LATEST:
        raise FormatError("a pair of columns is not a time in seconds and microseconds")
    stamps = [round(s + us / 1e6, 6) or None for s, us in zip(seconds, microseconds, strict=True)]
    if stamps[0] is None:
        raise FormatError("the time is missing", key="START")
    if len(numbers) > 20 and numbers[20] > 1:
        raise FormatError(f"{numbers[20]} is neither 0 nor 1", key="DIDTIMEOUT")
    fields: dict[str, Any] = dict(zip(_STEPS, stamps, strict=False))
    fields |= {
        "source": source,
        "filesize": filesize,
        "writebytes": numbers[18],
        "readbytes": numbers[19],
        "dataperc": {n: at for n, at in zip(_DECILES, stamps[9:], strict=False) if at is not None},
        "experiment": f"torperf-{filesize}",
        "id": imported.measurement_id(source, filesize, f"{seconds[0]}.{microseconds[0] // 10000:02d}", None),
    }
    imported.conclude(fields, bool(numbers[20]) if len(numbers) > 20 else None)
    return Measurement(**fields)


def read_data(lines: Iterable[str], source: str, filesize: int, file: str = "") -> Iterator[Measurement | Damage]:
    """The measurements of a .data file, in its order, and a report for each line that is none."""
    return read_lines(lines, lambda line: parse_data(line, source, filesize), file)


def format_data(measurement: Measurement, columns: int = 39) -> str:
    """A measurement as a line of .data. The DATACOMPLETE of an error is the time at which the run was over."""
    return " ".join(map(str, data_numbers(measurement)[:columns]))


def data_numbers(measurement: Measurement) -> list[int]:
    """The 39 columns of .data."""
    if measurement.filesize > values.LARGEST:
        raise FormatError(f"{measurement.filesize} is too large", key="FILESIZE")
    stamps = [getattr(measurement, name) for name in _STEPS]
    is_error = published.is_error(measurement)
    if is_error:
        stamps[-1] = published.datacomplete(measurement) or measurement.end
    stamps += [measurement.dataperc.get(n) for n in _DECILES]
    split = [number for stamp in stamps for number in divmod(round((stamp or 0.0) * 1e6), 1_000_000)]
    totals = [measurement.writebytes or 0, measurement.readbytes or 0, int(is_error)]
    return [*split[:18], *totals, *split[18:]]


def write_data(measurements: Iterable[Measurement], columns: int = 39) -> Iterator[str]:
    """Measurements as the text of a .data file, which is in order of ending. Skipped slots are left out."""
    if columns not in COLUMNS:
        raise ValueError("a .data file has 20, 21 or 39 columns")
    for measurement in measurements:
        if measurement.outcome is not Outcome.SKIPPED:
            yield format_data(measurement, columns) + "\n"


# .extradata


@attrs.frozen(kw_only=True)
class Extra:
    """A circuit that ended, and the stream that used it, as a line of .extradata tells them."""

    circ_id: int
    launch: float | None = None
    path: tuple[str, ...] = ()  # as $fingerprint
    buildtimes: tuple[float, ...] = ()
    fail_reasons: str | None = None  # the circuit's, LOCAL or LOCAL:REMOTE
    stream_fail_reasons: str | None = None
    used_at: float | None = None  # the stream's end
    used_by: int | None = None  # the stream's id
    timeout: int | None = None  # ms
    quantile: float | None = None


def parse_extra(line: str) -> Extra | None:
    """The circuit of a line of .extradata; None for lines that have none. Raises FormatError."""
    if not line or line.startswith(PASSED_OVER):
        return None
    return extra_from(split_pairs(line))


def split_pairs(line: str) -> dict[str, str]:
    """The pairs of a line of .extradata or .mergedata. A reason that was split by a space is put together again."""
    pairs: dict[str, str] = {}
    last = ""
    for word in line.split():
        key, equals, value = word.partition("=")
        if not equals and last == "STREAM_FAIL_REASONS":
            pairs[last] += f":{word}"
            continue
        if not equals or not key or "=" in value:
            raise FormatError(f"{shown(word)} is not KEY=value")
        if key in pairs:
            raise FormatError("the key occurs more than once", key=key)
        pairs[key] = value
        last = key
    return pairs


def extra_from(pairs: Mapping[str, str]) -> Extra:
    """The circuit of a line's pairs. Raises FormatError."""

    def known(key: str, decode: Callable[[str], T]) -> T | None:
        text = pairs.get(key)
        if not text:
            return None
        try:
            return decode(text)
        except ValueError as error:
            raise FormatError(str(error), key=key) from None

    circ_id = known("CIRC_ID", _whole)
    if circ_id is None:
        raise FormatError("the required key is missing", key="CIRC_ID")
    return Extra(
        circ_id=circ_id,
        launch=known("LAUNCH", _stamp) or None,
        path=known("PATH", _path) or (),
        buildtimes=known("BUILDTIMES", lambda text: tuple(map(_stamp, text.split(",")))) or (),
        fail_reasons=known("FAIL_REASONS", str),
        stream_fail_reasons=known("STREAM_FAIL_REASONS", str),
        used_at=known("USED_AT", _stamp) or None,
        used_by=known("USED_BY", _whole),
        timeout=known("TIMEOUT", _whole),
        quantile=known("QUANTILE", values.decode_float),
    )


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError(f"{shown(text)} is not a whole number")
    return int(text)


def _stamp(text: str) -> float:
    seconds = round(values.decode_float(text), 6)
    if not 0.0 <= seconds < values.LATEST:
        raise ValueError(f"{shown(text)} is not a time")
    return seconds


def _path(text: str) -> tuple[str, ...]:
    relays = [_RELAY.fullmatch(relay) for relay in text.split(",")]
    if not all(relays):
        raise ValueError("a path is a comma list of $ and 40 hexadecimal digits")
    return tuple(relay[1].upper() for relay in relays if relay)


def read_extra(lines: Iterable[str], file: str = "") -> Iterator[Extra | Damage]:
    """The circuits of an .extradata file, in its order, and a report for each line that is damaged."""
    return read_lines(lines, parse_extra, file)


def format_extra(extra: Extra) -> str:
    """A line of .extradata."""
    return " ".join(f"{key}={value}" for key, value in extra_pairs(extra).items())


def extra_pairs(extra: Extra) -> dict[str, str]:
    """The pairs of a line of .extradata."""
    pairs: dict[str, str] = {"CIRC_ID": str(extra.circ_id), "LAUNCH": _seconds(extra.launch)}
    # An empty value, in the .tpf file that CollecTor makes of it, would cost metrics-lib the whole file.
    if extra.path and extra.buildtimes:
        pairs |= {"PATH": ",".join(extra.path), "BUILDTIMES": ",".join(map(_seconds, extra.buildtimes))}
    if extra.fail_reasons:
        pairs["FAIL_REASONS"] = extra.fail_reasons
    if extra.stream_fail_reasons:
        pairs["STREAM_FAIL_REASONS"] = extra.stream_fail_reasons
    if extra.used_at is not None and extra.used_by is not None:
        pairs |= {"USED_AT": _seconds(extra.used_at), "USED_BY": str(extra.used_by)}
    if extra.timeout is not None and extra.quantile is not None:
        pairs |= {"TIMEOUT": str(extra.timeout), "QUANTILE": f"{extra.quantile:.6f}"}
    return pairs


def _seconds(seconds: float | None) -> str:
    return "0.00" if seconds is None else f"{seconds:.6f}"


def _hundredths(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"


def write_extra(extras: Iterable[Extra]) -> Iterator[str]:
    """Circuits as the text of an .extradata file, which is in order of USED_AT."""
    for extra in extras:
        yield format_extra(extra) + "\n"


def extra_of(measurement: Measurement) -> Extra | None:
    """The line of .extradata that belongs to a measurement; None if its circuit is not known."""
    if measurement.circ_id is None:
        return None
    return Extra(
        circ_id=measurement.circ_id,
        launch=measurement.launch,
        path=measurement.path or (),
        buildtimes=measurement.buildtimes or (),
        fail_reasons=str(measurement.extra.get("FAIL_REASONS", "")) or None,
        used_at=measurement.used_at,
        used_by=measurement.used_by,
        timeout=measurement.timeout,
        quantile=measurement.quantile,
    )


@attrs.define
class _Making:
    """A .data file in the making: it is in order of ending, but runs come in order of starting."""

    name: str  # without its ending
    waiting: list[tuple[float, int, Measurement]] = attrs.field(factory=list)

    def pieces(self, now: float) -> Iterator[tuple[str, str]]:
        """The lines of the runs that ended before ``now``, in order, each with the name of its file."""
        while self.waiting and self.waiting[0][0] <= now:
            run = heapq.heappop(self.waiting)[2]
            yield f"{self.name}.data", format_data(run) + "\n"
            if extra := extra_of(run):
                yield f"{self.name}.extradata", format_extra(extra) + "\n"


def pieces(measurements: Iterable[Measurement], refuse: Refuse) -> Iterator[tuple[str, str]]:
    """Runs, in order of starting, as lines of SOURCE-SIZE.data and .extradata, each with its file's name."""
    making: dict[str, _Making] = {}
    for number, measurement in enumerate(measurements):
        for file in making.values():
            yield from file.pieces(measurement.start)
        try:
            name = torperf.filename(measurement)[: -len("-2016-10-02.tpf")]
            data_numbers(measurement)
        except FormatError as error:
            refuse(measurement, error)
            continue
        end = measurement.datacomplete or measurement.end or measurement.start
        heapq.heappush(making.setdefault(name, _Making(name)).waiting, (end, number, measurement))
    for file in making.values():
        yield from file.pieces(inf)


def circuit_of(extra: Extra, source: str) -> Circuit:
    """The record of a circuit that .extradata tells of."""
    launch = extra.launch
    built: list[float | None] = [None if launch is None else round(launch + time, 6) for time in extra.buildtimes]
    built += [None] * (len(extra.path) - len(built))
    local, _, remote = (extra.fail_reasons or "").partition(":")
    return Circuit(
        id=imported.imported_id("circuit", source, extra.circ_id, _hundredths(launch)),
        source=source,
        tor=imported.UNKNOWN_TOR,
        circ_id=extra.circ_id,
        launch=launch,
        built=built[-1] if built and not extra.fail_reasons else None,
        status="FAILED" if extra.fail_reasons else "CLOSED",
        path=tuple(Hop(fingerprint, None, at) for fingerprint, at in zip(extra.path, built, strict=False)),
        failure_local=local or None,
        failure_remote=remote or None,
        timeout=extra.timeout,
        quantile=extra.quantile,
    )


def stream_of(extra: Extra, source: str) -> Stream | None:
    """The record of the stream that used the circuit; None if the line does not say which one did."""
    if extra.used_by is None:
        return None
    return Stream(
        id=imported.imported_id("stream", source, extra.used_by, _hundredths(extra.used_at)),
        source=source,
        tor=imported.UNKNOWN_TOR,
        stream_id=extra.used_by,
        end=extra.used_at,
        status="CLOSED",
        purpose="USER",
        circuit=circuit_of(extra, source).id,
    )
