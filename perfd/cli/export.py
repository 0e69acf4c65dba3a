"""``perfd export``: measurements out of the database into files, page by page.

A file is written under a name with ``.new`` at its end and renamed when all are complete. To the formats' own
names: ``SOURCE-SIZE-DATE.tpf``, ``DATE.SOURCE.onionperf.analysis.json.xz`` (as CollecTor keeps them),
``SOURCE-SIZE.data`` with ``.extradata`` beside it, ``measurements.csv``, ``.json`` and ``.parquet``.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import count, groupby
from pathlib import Path
from types import TracebackType

import attrs

from perfd.cli.terminal import Progress
from perfd.config import Config
from perfd.daemon.upkeep.days import DAY, Archivist, day_of
from perfd.formats import legacy, onionperf_writer, table, torperf
from perfd.formats.errors import FormatError
from perfd.formats.values import utc_date
from perfd.record import Measurement, Outcome
from perfd.store.database import database_path
from perfd.store.reader import Filter, StoreReader

DECIMALS = 6
"""Decimals of times in exported .tpf files: all that Perfd knows. (Published ones have fewer.)"""

GROUP = 5000
"""Measurements that are read, and written to a file, at a time."""

PAUSE = 10.0
"""Seconds between two lines about the progress, where nobody watches."""

Pages = Iterator[list[Measurement]]


class NoOutputError(OSError):
    """The format cannot be written to what ``--output`` names."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)


class Files:
    """Files that appear together, when the block ends well; nothing of them stays if it does not."""

    def __init__(self) -> None:
        self._new: dict[Path, Path] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path, unfinished in self._new.items():
            if kind is None:
                unfinished.replace(path)
            else:
                unfinished.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._new)

    def new(self, path: Path) -> Path:
        """Where to write what will be ``path``; empty the first time."""
        if path not in self._new:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._new[path] = path.with_name(path.name + ".new")
            self._new[path].write_bytes(b"")
        return self._new[path]

    def append(self, path: Path, texts: Iterable[str]) -> None:
        """Add text to what will be ``path``. The file is not kept open, since there may be thousands."""
        with self.new(path).open("a", encoding="utf-8", newline="") as opened:
            opened.writelines(texts)


class Refusals:
    """The measurements that a format cannot hold: reported on standard error, and counted."""

    def __init__(self) -> None:
        self.count = 0

    def each(
        self, write: Callable[[Measurement], str | None], measurements: Iterable[Measurement]
    ) -> Iterator[str]:
        """What ``write`` makes of each measurement that it does not raise FormatError for."""
        for measurement in measurements:
            try:
                text = write(measurement)
            except FormatError as error:
                self.refuse(measurement, error)
            else:
                if text is not None:
                    yield text

    def refuse(self, measurement: Measurement, error: FormatError) -> None:
        """Report one."""
        self.count += 1
        sys.stderr.write(f"perfd: {measurement.id} cannot be written: {error.message}\n")


def export(config: Config, wanted: Filter, form: str, output: Path | None) -> int:
    """Write the wanted measurements in the format ``form`` to a file, a directory or standard output.

    The exit code: 1 if something could not be written in this format. Raises StoreError, sqlite3.Error, OSError.
    """
    refusals = Refusals()
    is_directory = output is not None and (output.is_dir() or form in ("onionperf", "data"))
    if form in ("onionperf", "data") and output is None:
        raise NoOutputError(f"{form} has a name for each of its files: give a directory with --output DIR")
    if form == "parquet" and output is None:
        raise NoOutputError("parquet cannot be written to standard output: give --output FILE.parquet")
    with StoreReader(database_path(config.database, config.directory)) as reader, Files() as files:
        if output is None:
            sys.stdout.writelines(_texts(form, reader.pages(wanted, GROUP), refusals))
            return 1 if refusals.count else 0
        with Progress(f"exporting to {output}", PAUSE) as progress:
            pages = _watched(progress, reader, wanted)
            if form == "tpf" and is_directory:
                _by_day(pages, output, files, refusals)
            elif form == "onionperf":
                _analyses(reader, wanted, output, files, refusals, progress)
            elif form == "data":
                _legacy(pages, output, files, refusals)
            else:
                path = output / f"measurements.{form}" if is_directory else output
                _one_file(form, path, pages, files, refusals)
        count = len(files)
    sys.stderr.write(f"perfd: wrote {count} file{'' if count == 1 else 's'}")
    sys.stderr.write(
        f"; {refusals.count} not written, since the format cannot hold them\n" if refusals.count else "\n"
    )
    return 1 if refusals.count else 0


def _watched(progress: Progress, reader: StoreReader, wanted: Filter) -> Pages:
    total = reader.count(wanted)
    total = total if wanted.limit is None else min(total, wanted.limit)
    done = 0
    for page in reader.pages(wanted, GROUP):
        yield page
        done += len(page)
        progress.update(f"{done} of {total} measurements", done, total)


def _texts(form: str, pages: Pages, refusals: Refusals) -> Iterator[str]:
    """The text of the formats that can be one file."""
    if form == "csv":
        yield table.csv_header()
    for page in pages:
        if form == "csv":
            yield from table.csv_lines(page)
        elif form == "json":
            yield from table.json_lines(page)
        else:
            yield from refusals.each(tpf_text, page)


def tpf_text(measurement: Measurement, decimals: int = DECIMALS) -> str | None:
    """An annotated line of .tpf; None for a skipped slot. Raises FormatError."""
    return next(torperf.write([measurement], decimals), None)


def _one_file(form: str, path: Path, pages: Pages, files: Files, refusals: Refusals) -> None:
    new = files.new(path)
    if form == "parquet":
        with table.ParquetWriter(new) as writer:
            for page in pages:
                writer.write(page)
        return
    with new.open("w", encoding="utf-8", newline="") as opened:
        opened.writelines(_texts(form, pages, refusals))


def _by_day(pages: Pages, directory: Path, files: Files, refusals: Refusals) -> None:
    """SOURCE-SIZE-DATE.tpf."""
    for page in pages:
        named = []
        for measurement in page:
            try:
                named.append((torperf.filename(measurement), measurement))
            except FormatError as error:
                refusals.refuse(measurement, error)
        for name, group in groupby(sorted(named, key=lambda pair: pair[0]), key=lambda pair: pair[0]):
            texts = list(refusals.each(tpf_text, (measurement for _, measurement in group)))
            if texts:
                files.append(directory / name, texts)


def _analyses(
    reader: StoreReader, wanted: Filter, directory: Path, files: Files, refusals: Refusals, progress: Progress
) -> None:
    """DATE.SOURCE.onionperf.analysis.json.xz, with the circuits and streams of that day."""
    archivist = Archivist(reader)
    left = wanted.limit
    while left is None or left > 0:
        first = next(iter(reader.measurements(attrs.evolve(wanted, limit=1))), None)
        if first is None:
            return
        start = day_of(first.start)
        until = start + DAY if wanted.until is None else min(start + DAY, wanted.until)
        runs = reader.measurements(attrs.evolve(wanted, since=first.start, until=until, limit=left))
        left = None if left is None else left - len(runs)
        for source in sorted({run.source for run in runs}):
            name = f"{utc_date(start)}.{source}{onionperf_writer.SUFFIX}"
            document = archivist.analysis(source, start, [r for r in runs if r.source == source], refusals.refuse)
            if document is not None:
                files.new(directory / name).write_bytes(document)
        progress.update(utc_date(start))
        wanted = attrs.evolve(wanted, since=start + DAY)


@attrs.define
class _LegacyFile:
    """A .data file in the making: it is in order of ending, but runs come in order of starting."""

    waiting: list[tuple[float, int, Measurement]] = attrs.field(factory=list)

    def ended(self, now: float) -> list[Measurement]:
        """The runs that ended before ``now``, at which the next one starts, in order."""
        found = []
        while self.waiting and self.waiting[0][0] <= now:
            found.append(heapq.heappop(self.waiting)[2])
        return found


def _legacy(pages: Pages, directory: Path, files: Files, refusals: Refusals) -> None:
    """SOURCE-SIZE.data and SOURCE-SIZE.extradata."""
    making: dict[str, _LegacyFile] = {}
    numbers = count()
    for page in pages:
        for measurement in page:
            if measurement.type != "download" or measurement.outcome is Outcome.SKIPPED:
                continue
            try:
                name = torperf.filename(measurement)[: -len("-2026-11-23.tpf")]
                legacy.format_data(measurement)
            except FormatError as error:
                refusals.refuse(measurement, error)
                continue
            end = measurement.datacomplete or measurement.end or measurement.start
            heapq.heappush(making.setdefault(name, _LegacyFile()).waiting, (end, next(numbers), measurement))
        for name, waiting in making.items():
            _append_legacy(directory, name, waiting.ended(page[-1].start), files)
    for name, waiting in making.items():
        _append_legacy(directory, name, waiting.ended(float("inf")), files)


def _append_legacy(directory: Path, name: str, runs: list[Measurement], files: Files) -> None:
    extras = [extra for extra in map(legacy.extra_of, runs) if extra is not None]
    if runs:
        files.append(directory / f"{name}.data", legacy.write_data(runs))
    if extras:
        files.append(directory / f"{name}.extradata", legacy.write_extra(extras))
