"""``perfd export``: measurements out of the database into files, page by page, in the formats of ``outputs``.

A file is written under a name with ``.new`` at its end and renamed when all are complete. In a directory files have
the names that their format gives them, or are ``measurements`` and the format's suffix. Documents are
``DATE.SOURCE.onionperf.analysis.json.xz``, as CollecTor keeps them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from types import TracebackType

import attrs

from perfd.cli.terminal import Progress
from perfd.config import Config
from perfd.daemon.upkeep.days import DAY, Archivist, day_of
from perfd.formats import outputs, published
from perfd.formats.errors import FormatError
from perfd.formats.outputs import Documents, Files, Lines, Output, Pieces, Table
from perfd.formats.values import utc_date
from perfd.record import Measurement
from perfd.store.database import database_path
from perfd.store.filters import Filter
from perfd.store.reader import StoreReader

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


class NewFiles:
    """Files that appear together, when the block ends well; nothing of them stays if it does not."""

    def __init__(self) -> None:
        self._new: dict[Path, Path] = {}

    def __enter__(self) -> NewFiles:
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
    """The measurements that are not written: what a format cannot hold, and what it has no place for."""

    def __init__(self) -> None:
        self.count = 0  # of those that it cannot hold
        self.left_out: Counter[str] = Counter()  # of the others, by what they are

    def refuse(self, measurement: Measurement, error: FormatError) -> None:
        """Report one that the format cannot hold."""
        self.count += 1
        sys.stderr.write(f"perfd: {measurement.id} cannot be written: {error.message}\n")

    def carried(self, row: Output, measurements: Iterable[Measurement], *, asked: bool) -> list[Measurement]:
        """Those for which the format has a place."""
        found = []
        for measurement in measurements:
            if reason := row.left_out(measurement, asked=asked):
                self.left_out[reason] += 1
            else:
                found.append(measurement)
        return found

    def report(self) -> None:
        """Say what was left out."""
        if self.left_out:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))
            remedy = "; --type TYPE exports those of a type" if set(self.left_out) - {published.SKIPPED} else ""
            sys.stderr.write(f"perfd: left out {counts}{remedy}\n")


def export(config: Config, wanted: Filter, form: str, output: Path | None) -> int:
    """Write the wanted measurements in the format ``form`` to a file, a directory or standard output.

    The exit code: 1 if something could not be written in this format. Raises StoreError, sqlite3.Error, OSError.
    """
    row = outputs.named(form)
    refusals = Refusals()
    asked = wanted.type is not None
    _check_place(row, output)
    with StoreReader(database_path(config.database, config.directory)) as reader, NewFiles() as files:
        if output is None:
            assert isinstance(row.writer, Lines)
            pages = (refusals.carried(row, page, asked=asked) for page in reader.pages(wanted, GROUP))
            sys.stdout.writelines(_text(row.writer, pages, refusals))
            refusals.report()
            return 1 if refusals.count else 0
        with Progress(f"exporting to {output}", PAUSE) as progress:
            if isinstance(row.writer, Documents):
                _write_documents(row, reader, wanted, output, files, refusals, progress)
            else:
                watched = _watched(progress, reader, wanted)
                pages = (refusals.carried(row, page, asked=asked) for page in watched)
                _write_files(row, pages, output, files, refusals)
        count = len(files)
    sys.stderr.write(f"perfd: wrote {count} file{'' if count == 1 else 's'}")
    sys.stderr.write(
        f"; {refusals.count} not written, since the format cannot hold them\n" if refusals.count else "\n"
    )
    refusals.report()
    return 1 if refusals.count else 0


def _check_place(row: Output, output: Path | None) -> None:
    """Raise NoOutputError if the format cannot be written there."""
    if output is None and isinstance(row.writer, Documents | Files):
        raise NoOutputError(f"{row.name} has a name for each of its files: give a directory with --output DIR")
    if output is None and isinstance(row.writer, Table):
        raise NoOutputError(f"{row.name} cannot be written to standard output: give --output FILE{row.suffix}")


def _watched(progress: Progress, reader: StoreReader, wanted: Filter) -> Pages:
    total = reader.count(wanted)
    total = total if wanted.limit is None else min(total, wanted.limit)
    done = 0
    for page in reader.pages(wanted, GROUP):
        yield page
        done += len(page)
        progress.update(f"{done} of {total} measurements", done, total)


def _text(form: Lines, pages: Pages, refusals: Refusals) -> Iterator[str]:
    """The whole text, for one file."""
    yield form.header
    for measurement in chain.from_iterable(pages):
        try:
            yield form.line(measurement, DECIMALS)
        except FormatError as error:
            refusals.refuse(measurement, error)


def _write_files(row: Output, pages: Pages, output: Path, files: NewFiles, refusals: Refusals) -> None:
    """One file, or a directory of them."""
    form = row.writer
    if isinstance(form, Files):
        _append(form.pieces(chain.from_iterable(pages), refusals.refuse), output, files)
    elif isinstance(form, Lines) and form.filename and output.is_dir():
        _append(_divided(form, pages, refusals), output, files)
    else:
        new = files.new(output / f"measurements{row.suffix}" if output.is_dir() else output)
        if isinstance(form, Table):
            with form.open(new) as writer:
                for page in pages:
                    writer.write(page)
        elif isinstance(form, Lines):
            with new.open("w", encoding="utf-8", newline="") as opened:
                opened.writelines(_text(form, pages, refusals))


def _divided(form: Lines, pages: Pages, refusals: Refusals) -> Pieces:
    """The lines, each with the name of its file, which begins with the header."""
    assert form.filename is not None
    begun: set[str] = set()
    for measurement in chain.from_iterable(pages):
        try:
            name, text = form.filename(measurement), form.line(measurement, DECIMALS)
        except FormatError as error:
            refusals.refuse(measurement, error)
            continue
        if name not in begun:
            begun.add(name)
            yield name, form.header
        yield name, text


def _append(pieces: Pieces, directory: Path, files: NewFiles) -> None:
    """Write pieces to their files, many at a time: there may be thousands of files, and they are not kept open."""
    while group := list(islice(pieces, GROUP)):
        texts: dict[str, list[str]] = {}
        for name, text in group:
            texts.setdefault(name, []).append(text)
        for name, parts in texts.items():
            files.append(directory / name, parts)


def _write_documents(
    row: Output,
    reader: StoreReader,
    wanted: Filter,
    directory: Path,
    files: NewFiles,
    refusals: Refusals,
    progress: Progress,
) -> None:
    """DATE.SOURCE and the suffix: a document for each day and source, with the circuits and streams of that day."""
    assert isinstance(row.writer, Documents)
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
        carried = refusals.carried(row, runs, asked=wanted.type is not None)
        for source in sorted({run.source for run in carried}):
            of_source = [run for run in carried if run.source == source]
            span = archivist.span(source, start)
            document = archivist.document(row.writer, source, start, of_source, refusals.refuse, span)
            if document is not None:
                files.new(directory / f"{utc_date(start)}.{source}{row.suffix}").write_bytes(document)
        progress.update(utc_date(start))
        wanted = attrs.evolve(wanted, since=start + DAY)
