"""Which format a file of results is in, and all of its records, whatever it is.

The name's ending decides, or else the content. Files may be compressed and in archives (``unpacking``). What is
damaged is reported, never raised, so that one bad file out of thousands costs itself only.
"""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from perfd.formats import legacy, legacy_merge, onionperf, table, torperf, unpacking, values
from perfd.formats.errors import Damage, FormatError
from perfd.record import Circuit, Document, Measurement, Stream

Record = Measurement | Circuit | Stream | Document

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
_HEAD = 4096  # bytes that tell what a file is
_LEGACY_NAME = re.compile(r"(?:(?P<source>.+?)-)?(?P<number>[0-9]{1,10})(?P<unit>b|kb|mb)?")
_UNITS = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, None: 1}


def sniff(name: str, head: str) -> str | None:
    """The one of ``FORMATS`` that a file is in, by its name and the beginning of its text; None if it is none."""
    stem = unpacking.stem(name)
    start = head.lstrip("\ufeff \t\r\n").partition("\n")[0]
    by_name = (found for ending, found in _ENDINGS.items() if stem.endswith(ending))
    by_content = (found for found, pattern in _STARTS.items() if pattern.match(start))
    return next(by_name, None) or next(by_content, None)


def is_result(name: str) -> bool:
    """Whether a file has a name that results have, or may hold some: a tar archive."""
    return _is_single(name) or unpacking.stem(name).endswith(".tar")


def _is_single(name: str) -> bool:
    return sniff(name, "") is not None or unpacking.stem(name).endswith(".analysis.json")


def parse_legacy_name(name: str) -> tuple[str | None, int | None]:
    """Source and file size from the name of a legacy file: ``moria-50kb.data`` is ``("moria", 51200)``."""
    for ending in unpacking.COMPRESSED:
        name = name.removesuffix(ending)
    match = _LEGACY_NAME.fullmatch(name.rpartition(".")[0])
    if match is None:
        return None, None
    return match["source"], int(match["number"]) * _UNITS[match["unit"]]


def read_path(path: Path, *, source: str | None = None, filesize: int | None = None) -> Iterator[Record | Damage]:
    """All records of a file, and a report for all that is damaged. A tar archive gives those of its members.

    Legacy files do not hold their source and file size; they are taken from the name, unless given. A .data file is
    merged with the .extradata file of the same name beside it, if there is one; that one by itself gives its
    circuits and streams.
    """
    try:
        with path.open("rb") as opened:
            allowance = unpacking.allowance_of(opened)
            content = unpacking.unpacked(opened, allowance)
            if unpacking.is_archive(path.name, content.peek(_HEAD)):
                yield from _Archive(str(path), allowance, source, filesize).records(content)
            else:
                file = _File(path.name, str(path), content, _extra_beside(path))
                yield from _read(file, source, filesize)
    except FormatError as error:
        yield error.damage(str(path))
    except unpacking.UNREADABLE as error:
        yield Damage(str(path), None, f"the file cannot be read: {error}")


@attrs.frozen
class _File:
    """A file to read. ``name`` says what it is, ``label`` stands in messages, ``extra`` is what lies beside it."""

    name: str
    label: str
    content: io.BufferedReader
    extra: Iterator[legacy.Extra | Damage]


def _read(file: _File, source: str | None, filesize: int | None) -> Iterator[Record | Damage]:
    found = sniff(file.name, file.content.peek(_HEAD)[:_HEAD].decode("utf-8", "replace"))
    if found is None and file.name.endswith(_WRITTEN_ONLY):
        ending = file.name.rpartition(".")[2]
        remedy = "export with --format json and import that"
        yield Damage(file.label, None, f"{ending} is for other programs and not read; {remedy}")
    elif found is None:
        yield Damage(file.label, None, f"the format is not known; these are: {', '.join(FORMATS)}")
    elif found == "onionperf":
        yield from _read_document(file)
    elif found == "tpf":
        yield from torperf.read(_lines(file.content), file.label)
    elif found == "json":
        yield from table.read_json_lines(_lines(file.content), file.label)
    else:
        named = parse_legacy_name(file.name)
        yield from _read_legacy(found, file, source or named[0], filesize or named[1])


def _read_document(file: _File) -> Iterator[Record | Damage]:
    document = file.content.read(MAX_DOCUMENT + 1)
    if len(document) > MAX_DOCUMENT:
        yield Damage(file.label, None, f"the document is larger than {MAX_DOCUMENT} bytes")
    else:
        yield from onionperf.read(document, file.label)


def _lines(opened: io.BufferedReader) -> Iterator[str]:
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


def _read_legacy(found: str, file: _File, source: str | None, filesize: int | None) -> Iterator[Record | Damage]:
    """The records of a legacy file."""
    if source is None or (filesize is None and found != "extradata"):
        remedy = "rename it, such as moria-50kb.data, or give them"
        yield Damage(file.label, None, f"the file's name does not tell its source and file size; {remedy}")
        return
    items: Iterator[Measurement | legacy.Extra | Damage]
    if found == "extradata":
        items = legacy.read_extra(_lines(file.content), file.label)
    elif found == "mergedata":
        items = legacy_merge.read_merged(_lines(file.content), source, filesize or 0, file.label)
    else:
        data = legacy.read_data(_lines(file.content), source, filesize or 0, file.label)
        items = legacy_merge.merge(data, file.extra)
    for item in items:
        if isinstance(item, legacy.Extra):
            yield legacy.circuit_of(item, source)
            if stream := legacy.stream_of(item, source):
                yield stream
        else:
            yield item


def _extra_beside(path: Path, label: str | None = None) -> Iterator[legacy.Extra | Damage]:
    """The .extradata file of the same name as the .data file ``path``."""
    beside = path.with_name(path.name.replace(".data", ".extradata"))
    if beside == path or not beside.is_file():
        return
    with beside.open("rb") as opened:
        content = unpacking.unpacked(opened, unpacking.allowance_of(opened))
        yield from legacy.read_extra(_lines(content), label or str(beside))


@attrs.frozen
class _Archive:
    """A tar archive, read in one pass. A member that is damaged costs itself."""

    label: str
    allowance: unpacking.Allowance
    source: str | None
    filesize: int | None

    def records(self, content: io.BufferedReader) -> Iterator[Record | Damage]:
        """Of all members. They are in any order there, so .data and .extradata wait on the disk for each other."""
        found = 0
        with TemporaryDirectory(prefix="perfd-import-") as scratch:
            waiting = _Pairs(Path(scratch))
            for member in unpacking.members(content, self.label, _is_single):
                found += 1
                if isinstance(member, Damage):
                    yield member
                    continue
                label = f"{self.label}/{member.path}"
                try:
                    opened = unpacking.unpacked(member.opened, self.allowance)
                    if not waiting.take(member, label, opened):
                        yield from _read(_File(member.name, label, opened, iter(())), self.source, self.filesize)
                except FormatError as error:
                    yield error.damage(label)
                except unpacking.UNREADABLE as error:
                    yield Damage(label, None, f"the file cannot be read: {error}")
            yield from waiting.records(self.source, self.filesize)
        if not found:
            yield Damage(self.label, None, "the archive has no results")


class _Pairs:
    """.data and .extradata files of an archive, in ``scratch`` under names of ours, until both are there."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._numbers = count()
        self._found: dict[str, tuple[str, str, Path]] = {}  # by path without compression: name, label, where it is

    def take(self, member: unpacking.Member, label: str, opened: io.BufferedReader) -> bool:
        """Keep the file if it is such a one."""
        stem = unpacking.stem(member.path)
        before, _, kind = stem.rpartition(".")
        if kind not in ("data", "extradata"):
            return False
        partner = self._found.get(f"{before}.{'data' if kind == 'extradata' else 'extradata'}")
        number = partner[2].stem if partner else str(next(self._numbers))
        path = self._scratch / f"{number}.{kind}"
        with path.open("wb") as copy:
            shutil.copyfileobj(opened, copy)
        self._found[stem] = member.name, label, path
        return True

    def records(self, source: str | None, filesize: int | None) -> Iterator[Record | Damage]:
        """Of all that were kept."""
        for stem, (name, label, path) in self._found.items():
            beside = self._found.get(stem.removesuffix(".data") + ".extradata")
            with path.open("rb") as opened:
                file = _File(name, label, opened, _extra_beside(path, beside[1] if beside else None))
                yield from _read(file, source, filesize)
