"""Publishing: the results of finished UTC days as files that CollecTor fetches, each written once.

For each day, ``SOURCE-SIZE-DATE.tpf`` for each size, and then ``DATE.onionperf.analysis.json.xz``, whose presence
says that the day is complete. A file appears by renaming and is never changed again: CollecTor fetches each once
only. Days that were missed (Perfd did not run, the disk was full) are made up for whenever ``publish`` is called.

Only what this instance measured is published, not what was imported. ``index.xml`` (OnionPerf's) and
``index.html``, the listing that CollecTor reads, are made anew when a file was added.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

import attrs

from perfd.daemon.upkeep.days import DAY, Archivist, day_of
from perfd.formats import outputs, published
from perfd.formats.errors import FormatError
from perfd.formats.outputs import Documents, Lines, Output
from perfd.formats.values import utc_date
from perfd.record import Measurement
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader
from perfd.whole import is_scratch, scratch_name, whole

DIRECTORY = "archive"
"""The directory of the published files, in that of the instance."""

DECIMALS = 3
"""Decimals of times in .tpf files: metrics-lib keeps milliseconds."""

GRACE = 600.0
"""Seconds after the last deadline of a day's runs until it is published: their records must be in the database."""

Say = Callable[[str], object]


@attrs.frozen
class _Day:
    """A UTC day: what of it is published, and how many of what are not."""

    start: float
    runs: list[Measurement]
    left_out: Mapping[str, int]

    @classmethod
    def of(cls, start: float, measurements: Iterable[Measurement]) -> _Day:
        """Divide the measurements of a day. Those that are too large would only be refused, day after day."""
        runs: list[Measurement] = []
        left_out: Counter[str] = Counter()
        for measurement in measurements:
            reason = published.left_out(measurement)
            if reason is None and published.is_too_large(measurement):
                reason = published.TOO_LARGE
            if reason is None:
                runs.append(measurement)
            else:
                left_out[reason] += 1
        return cls(start, runs, left_out)


@attrs.frozen
class Archive:
    """The published files of ``source`` in ``directory``. ``say`` gets a line for everything noteworthy."""

    directory: Path
    source: str
    say: Say

    def publish(self, reader: StoreReader, finished: float) -> int:
        """Write the files of all days that ended before ``finished`` and are not complete yet; how many files.

        Raises OSError (a full disk), StoreError and sqlite3.Error; the next call goes on where this one ended.
        """
        self.directory.mkdir(exist_ok=True)
        for leftover in self.directory.iterdir():
            if is_scratch(leftover.name):
                leftover.unlink()
        written = 0
        for day in self._unpublished(reader, finished):
            written += self._publish_day(reader, day)
        if written or not (self.directory / "index.html").exists():
            self._write_indexes()
        return written

    def oldest_unpublished(self, reader: StoreReader, finished: float) -> float | None:
        """The begin of the oldest day that ended before ``finished`` and should be published, but is not yet."""
        return next((day.start for day in self._unpublished(reader, finished)), None)

    def _unpublished(self, reader: StoreReader, finished: float) -> Iterator[_Day]:
        """The days without a document that have something to publish, the oldest first."""
        oldest = Filter(source=self.source, oldest_first=True, limit=1)
        while found := reader.measurements(oldest):
            start = day_of(found[0].start)
            if start + DAY > finished:
                return
            if not all(self._document(row, start).exists() for row in _documents()):
                found = reader.measurements(
                    Filter(source=self.source, since=start, until=start + DAY, oldest_first=True)
                )
                day = _Day.of(start, (measurement for measurement in found if measurement.network is not None))
                if day.runs:
                    yield day
            oldest = attrs.evolve(oldest, since=start + DAY)

    def _document(self, row: Output, start: float) -> Path:
        return self.directory / f"{utc_date(start)}{row.suffix}"

    def _publish_day(self, reader: StoreReader, day: _Day) -> int:
        """Write what is missing of a day, the documents last: their presence says that the rest is there."""
        start, runs = day.start, day.runs
        written = 0
        try:
            for row in outputs.OUTPUTS:
                if row.archived and isinstance(row.writer, Lines):
                    written += self._publish_lines(row.writer, runs)
        except FormatError as error:
            self.say(f"the results of {utc_date(start)} cannot be published: {error.message}")
            return 0
        for row in _documents():
            assert isinstance(row.writer, Documents)
            document = Archivist(reader).document(row.writer, self.source, start, runs, self._refuse)
            if document is not None:
                write_once(self._document(row, start), document)
                written += 1
        if written:
            counts = "".join(f"; {count} {reason} left out" for reason, count in sorted(day.left_out.items()))
            self.say(f"published {len(runs)} results of {utc_date(start)} in {written} files{counts}")
        return written

    def _publish_lines(self, form: Lines, runs: list[Measurement]) -> int:
        """A file for each size. Raises FormatError if the source cannot be one."""
        assert form.filename is not None
        texts: dict[str, list[str]] = {}
        for run in sorted(runs, key=lambda run: run.start):
            name = form.filename(run)
            try:
                texts.setdefault(name, []).append(form.line(run, DECIMALS))
            except FormatError as error:
                self._refuse(run, error)
        written = 0
        for name in sorted(texts):
            if texts[name] and not (self.directory / name).exists():  # it does if we were stopped in mid-day
                write_once(self.directory / name, "".join([form.header, *texts[name]]).encode())
                written += 1
        return written

    def _refuse(self, record: Any, error: FormatError) -> None:
        self.say(f"{record.id} cannot be published: {error.message}")

    def _write_indexes(self) -> None:
        entries = {}
        known = read_index(self.directory / "index.xml")
        for item in sorted(os.scandir(self.directory), key=lambda item: item.name):
            if item.is_file(follow_symlinks=False) and not item.name.startswith((".", "index.")):
                stat = item.stat()
                entry = Entry(item.name, stat.st_size, _date(stat.st_mtime), "")
                old = known.get(item.name)
                if old is None or attrs.evolve(old, sha256="") != entry:
                    digest = sha256(Path(item.path).read_bytes()).digest()
                    old = attrs.evolve(entry, sha256=b64encode(digest).decode("ascii"))
                entries[item.name] = old
        replace(self.directory / "index.xml", index_xml(entries.values()))
        replace(self.directory / "index.html", listing(entries.values()))


def _documents() -> list[Output]:
    """The rows of the archive whose files are made of a whole day."""
    return [row for row in outputs.OUTPUTS if row.archived and isinstance(row.writer, Documents)]


@attrs.frozen
class Entry:
    """A published file, as index.xml tells of it."""

    name: str
    size: int  # bytes
    last_modified: str  # UTC, YYYY-MM-DD HH:MM:SS
    sha256: str  # base64


def read_index(path: Path) -> dict[str, Entry]:
    """What our index.xml says, by name; nothing if there is none, or it is damaged."""
    try:
        root = ET.parse(path).getroot()  # we wrote it
        return {
            item.attrib["name"]: Entry(
                item.attrib["name"],
                int(item.attrib["size"]),
                item.attrib["last_modified"],
                item.attrib["sha256"],
            )
            for item in root.iter("file")
        }
    except (OSError, ET.ParseError, KeyError, ValueError):
        return {}


def index_xml(entries: Iterable[Entry]) -> bytes:
    """The text of index.xml, as OnionPerf publishes it, but with all times in UTC."""
    root = ET.Element("files")
    for entry in entries:
        values = {name: str(value) for name, value in attrs.asdict(entry).items()}
        ET.SubElement(root, "file", values)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def listing(entries: Iterable[Entry]) -> bytes:
    """An HTML page with one link per line, in which CollecTor looks for names."""
    rows = "".join(
        f'<tr><td><a href="{escape(entry.name)}">{escape(entry.name)}</a></td>'
        f"<td>{entry.last_modified}</td><td>{entry.size}</td></tr>\n"
        for entry in entries
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Published results</title></head>\n'
        "<body>\n<h1>Published results</h1>\n<table>\n"
        f"<tr><th>file</th><th>last modified (UTC)</th><th>bytes</th></tr>\n{rows}</table>\n</body>\n</html>\n"
    )
    return page.encode()


def write_once(path: Path, content: bytes) -> None:
    """Make the file ``path``, whole or not at all. It must not exist: FileExistsError if it does."""
    unfinished = scratch_name(path)
    try:
        with unfinished.open("xb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        os.link(unfinished, path)  # unlike a rename, this never replaces a file
    except PermissionError:  # a file system without links
        if path.exists():
            raise FileExistsError(path) from None
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def replace(path: Path, content: bytes) -> None:
    """Make or replace the file ``path``, whole or not at all."""
    with whole(path) as opened:
        opened.write(content)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S")
