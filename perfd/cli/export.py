"""``perfd export``: measurements out of the database into files, page by page, in the formats of ``outputs``.

Files appear when all are complete (``destinations``). In a directory they have the names that their format gives
them, or are ``measurements`` and the format's suffix. Documents are ``DATE.SOURCE.onionperf.analysis.json.xz``, as
CollecTor keeps them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import attrs

from perfd.cli.destinations import Destinations, NoOutputError, is_standard_output, standard_output
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


class Refusals:
    """The measurements that are not written: what a format cannot hold, and what it has no place for."""

    def __init__(self) -> None:
        self.count = 0  # of those that it cannot hold
        self.filtered_out = (0, 0)  # by the filters, and of how many
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
        filtered_out, total = self.filtered_out
        if filtered_out:
            sys.stderr.write(f"perfd: the filters left out {filtered_out:,} of {total:,} measurements\n")
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
    with StoreReader(database_path(config.database, config.directory)) as reader, Destinations() as files:
        refusals.filtered_out = reader.filtered_out(wanted)
        if output is None or is_standard_output(output):
            pages = (refusals.carried(row, page, asked=asked) for page in reader.pages(wanted, GROUP))
            _write_standard_output(row, pages, refusals)
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
    if is_standard_output(output) and isinstance(row.writer, Documents | Files):
        raise NoOutputError(f"{row.name} has a name for each of its files: give a directory with --output DIR")
    if output is None and isinstance(row.writer, Table):
        raise NoOutputError(f"{row.name} is no text: give --output FILE{row.suffix}, or --output - for a pipe")


def _write_standard_output(row: Output, pages: Pages, refusals: Refusals) -> None:
    if isinstance(row.writer, Table):
        _write_table(row.writer, pages, standard_output())
    else:
        assert isinstance(row.writer, Lines)
        sys.stdout.writelines(_text(row.writer, pages, refusals))


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


def _write_table(form: Table, pages: Pages, opened: BinaryIO) -> None:
    writer = form.open(opened)
    for page in pages:
        writer.write(page)
    writer.close()


def _write_files(row: Output, pages: Pages, output: Path, files: Destinations, refusals: Refusals) -> None:
    """One file, or a directory of them."""
    form = row.writer
    if isinstance(form, Files):
        _append(form.pieces(chain.from_iterable(pages), refusals.refuse), output, files)
    elif isinstance(form, Lines) and form.filename and output.is_dir():
        _append(_divided(form, pages, refusals), output, files)
    else:
        path = output / f"measurements{row.suffix}" if output.is_dir() else output
        if isinstance(form, Table):
            with files.appending(path) as opened:
                _write_table(form, pages, opened)
        elif isinstance(form, Lines):
            files.append(path, _text(form, pages, refusals))


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


def _append(pieces: Pieces, directory: Path, files: Destinations) -> None:
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
    files: Destinations,
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
                with files.appending(directory / f"{utc_date(start)}.{source}{row.suffix}") as opened:
                    opened.write(document)
        progress.update(utc_date(start))
        wanted = attrs.evolve(wanted, since=start + DAY)
