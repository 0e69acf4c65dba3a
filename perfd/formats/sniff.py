"""Which format a file of results is in, and all of its records, whatever it is.

The name's ending decides, or else the content. Files may be compressed with xz. What is damaged is reported, never
raised, so that one bad file out of thousands costs itself only.
"""

from __future__ import annotations

import io
import lzma
import re
from collections.abc import Iterator
from pathlib import Path

from perfd.formats import legacy, legacy_merge, onionperf, table, torperf, values
from perfd.formats.errors import Damage
from perfd.record import Circuit, Measurement, Stream

Record = Measurement | Circuit | Stream
_Opened = io.BufferedReader | lzma.LZMAFile

MAX_DOCUMENT = 1 << 27
"""Bytes of a JSON document, uncompressed; larger ones are not read."""

FORMATS = ("tpf", "onionperf", "data", "extradata", "mergedata", "json")

_ENDINGS = {
    ".tpf": "tpf",
    ".onionperf.analysis.json": "onionperf",
    ".extradata": "extradata",
    ".mergedata": "mergedata",
    ".data": "data",
    "measurements.json": "json",  # as perfd export calls it
}
_STARTS = {
    "json": re.compile(r"\{ ?\"start\" ?:"),
    "onionperf": re.compile(r"\{"),
    "data": re.compile(r"[0-9]{9,10} [0-9]{1,6} [0-9]"),
    "mergedata": re.compile(r".*\bSTARTSEC="),
    "extradata": re.compile(r"(CIRC_ID=|BUILDTIMEOUT_SET |ok |error )"),
    "tpf": re.compile(r"@type torperf |.* SOURCE=.* START="),
}

_WRITTEN_ONLY = (".csv", ".parquet")
_XZ = b"\xfd7zXZ\x00"
_LEGACY_NAME = re.compile(r"(?:(?P<source>.+?)-)?(?P<number>[0-9]{1,10})(?P<unit>b|kb|mb)?")
_UNITS = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, None: 1}


def sniff(name: str, head: str) -> str | None:
    """The one of ``FORMATS`` that a file is in, by its name and the beginning of its text; None if it is none."""
    stem = name.removesuffix(".xz").lower()
    start = head.lstrip("\ufeff \t\r\n").partition("\n")[0]
    by_name = (found for ending, found in _ENDINGS.items() if stem.endswith(ending))
    by_content = (found for found, pattern in _STARTS.items() if pattern.match(start))
    return next(by_name, None) or next(by_content, None)


def parse_legacy_name(name: str) -> tuple[str | None, int | None]:
    """Source and file size from the name of a legacy file: ``moria-50kb.data`` is ``("moria", 51200)``."""
    match = _LEGACY_NAME.fullmatch(name.removesuffix(".xz").rpartition(".")[0])
    if match is None:
        return None, None
    return match["source"], int(match["number"]) * _UNITS[match["unit"]]


def read_path(path: Path, *, source: str | None = None, filesize: int | None = None) -> Iterator[Record | Damage]:
    """All records of a file, and a report for all that is damaged.

    Legacy files do not hold their source and file size; they are taken from the name, unless given. A .data file is
    merged with the .extradata file of the same name beside it, if there is one; that one by itself gives its
    circuits and streams.
    """
    try:
        with _open(path) as opened:
            head = opened.peek(4096)[:4096].decode("utf-8", "replace")
            found = sniff(path.name, head)
            if found is None and path.suffix in _WRITTEN_ONLY:
                remedy = "export with --format json and import that"
                yield Damage(str(path), None, f"{path.suffix[1:]} is for other programs and not read; {remedy}")
            elif found is None:
                yield Damage(str(path), None, f"the format is not known; these are: {', '.join(FORMATS)}")
            elif found == "onionperf":
                yield from _read_document(opened, str(path))
            elif found == "tpf":
                yield from torperf.read(_lines(opened), str(path))
            elif found == "json":
                yield from table.read_json_lines(_lines(opened), str(path))
            else:
                named = parse_legacy_name(path.name)
                yield from _read_legacy(found, opened, path, source or named[0], filesize or named[1])
    except (OSError, EOFError, lzma.LZMAError) as error:
        yield Damage(str(path), None, f"the file cannot be read: {error}")


def _open(path: Path) -> _Opened:
    with path.open("rb") as opened:
        is_xz = opened.read(len(_XZ)) == _XZ
    return lzma.LZMAFile(path) if is_xz else path.open("rb")


def _read_document(opened: _Opened, file: str) -> Iterator[Record | Damage]:
    document = opened.read(MAX_DOCUMENT + 1)
    if len(document) > MAX_DOCUMENT:
        yield Damage(file, None, f"the document is larger than {MAX_DOCUMENT} bytes")
    else:
        yield from onionperf.read(document, file)


def _lines(opened: _Opened) -> Iterator[str]:
    """The lines of a file. Of one that is too long comes only so much that the readers see it."""
    limit = values.MAX_LINE + 1
    text = io.TextIOWrapper(opened, encoding="utf-8", errors="surrogateescape", newline="\n")
    try:
        while line := text.readline(limit):
            yield line
            while len(line) == limit and not line.endswith("\n"):
                line = text.readline(limit)
    finally:
        text.detach()  # the file is closed by who opened it


def _read_legacy(
    found: str, opened: _Opened, path: Path, source: str | None, filesize: int | None
) -> Iterator[Record | Damage]:
    """The records of a legacy file."""
    if source is None or (filesize is None and found != "extradata"):
        remedy = "rename it, such as moria-50kb.data, or give them"
        yield Damage(str(path), None, f"the file's name does not tell its source and file size; {remedy}")
        return
    items: Iterator[Measurement | legacy.Extra | Damage]
    if found == "extradata":
        items = legacy.read_extra(_lines(opened), str(path))
    elif found == "mergedata":
        items = legacy_merge.read_merged(_lines(opened), source, filesize or 0, str(path))
    else:
        data = legacy.read_data(_lines(opened), source, filesize or 0, str(path))
        items = legacy_merge.merge(data, _extra_beside(path))
    for item in items:
        if isinstance(item, legacy.Extra):
            yield legacy.circuit_of(item, source)
            if stream := legacy.stream_of(item, source):
                yield stream
        else:
            yield item


def _extra_beside(path: Path) -> Iterator[legacy.Extra | Damage]:
    """The .extradata file of the same name as the .data file ``path``."""
    beside = path.with_name(path.name.replace(".data", ".extradata"))
    if beside == path or not beside.is_file():
        return
    with _open(beside) as opened:
        yield from legacy.read_extra(_lines(opened), str(beside))
