"""Torperf's results, ``@type torperf 1.1`` (.tpf): one line of ``KEY=value`` pairs per measurement.

The format of Torperf, OnionPerf and CollecTor, as metrics-lib reads it. Perfd's own fields are further keys, which
the format allows: the upper-case names of ``record.FIELDS`` and of the experiment type's ``extra``. Texts are
percent-encoded where they hold spaces or "=".

The reader takes all of 1.x. Times of 0 become None. Lines that Perfd did not write get what they lack from
``imported``; their experiment is ``torperf-FILESIZE``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from perfd.formats import values
from perfd.formats.errors import Damage, FormatError, damage_of, shown
from perfd.formats.torperf_line import LineParser, format_line
from perfd.record import Measurement, Outcome

ANNOTATION = "@type torperf 1.1"

SOURCE = re.compile(r"[A-Za-z0-9-]{1,63}")


def read(lines: Iterable[str], file: str = "") -> Iterator[Measurement | Damage]:
    """The measurements of a .tpf file, and a report for each line that is none.

    A missing annotation is reported, but the line is read. Lines behind the annotation of another format are
    passed over.
    """
    parse = LineParser()
    annotated = False
    foreign = False
    for number, ended in enumerate(lines, 1):
        line = ended.rstrip("\r\n")
        if line.startswith("@"):
            annotated = True
            words = line.split()
            foreign = words[:2] != ["@type", "torperf"] or len(words) != 3 or not words[2].startswith("1.")
            if foreign:
                yield Damage(file, number, f"{shown(line)} cannot be read; expected {ANNOTATION}")
            continue
        if foreign:
            continue
        if not annotated:
            annotated = True
            yield Damage(file, number, f"the file does not begin with {ANNOTATION}")
        try:
            yield parse(line)
        except ValueError as error:
            yield damage_of(error, file, number)


def write(measurements: Iterable[Measurement], decimals: int = 2) -> Iterator[str]:
    """The measurements as text of a .tpf file, in the order given, one annotated line each.

    Skipped slots are left out: nothing was measured. ``decimals``: see ``format_line``. Raises FormatError.
    """
    for measurement in measurements:
        if measurement.outcome is not Outcome.SKIPPED:
            yield annotated_line(measurement, decimals)


def annotated_line(measurement: Measurement, decimals: int = 2) -> str:
    """A measurement as in a .tpf file. Raises FormatError."""
    return f"{ANNOTATION}\n{format_line(measurement, decimals)}\n"


def filename(measurement: Measurement) -> str:
    """``SOURCE-FILESIZE-DATE.tpf``, the file in which CollecTor wants the measurement.

    All lines of a file have the same source, which must be the first label of the publishing host's name, the same
    size, and START on the same UTC date. Raises FormatError if the source cannot be one.
    """
    if not SOURCE.fullmatch(measurement.source):
        raise FormatError(
            f"{shown(measurement.source)} cannot be the source of published files",
            key="SOURCE",
            remedy="use the first label of this host's name: letters, digits and hyphens",
        )
    return f"{measurement.source}-{measurement.filesize}-{values.utc_date(measurement.start)}.tpf"
