"""``perfd logs``: perfd.log as a person reads it, a short line for each measurement, and all else as it is."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from rich.text import Text

from perfd.cli.csv_output import CSV
from perfd.cli.results import seconds
from perfd.cli.tables import STYLES, Display, printable
from perfd.experiments.highlights import highlights
from perfd.formats.table import csv_header, csv_line
from perfd.logfile.line import LogLineError, parse
from perfd.record import Measurement
from perfd.units import format_size

PAUSE = 0.5
"""Seconds between two looks for new lines."""

Wanted = Callable[[Measurement], bool]


class Tail:
    """The lines of a log as it grows, over its rotation; with ``at_end`` only those that come from now on.

    Raises OSError unless ``at_end``: then a log that is not there yet may come.
    """

    def __init__(self, path: Path, *, at_end: bool = False) -> None:
        self._path = path
        self._rest = b""
        self._file: BinaryIO | None = None
        if not at_end or path.exists():
            self._file = path.open("rb")
            self._file.seek(0, os.SEEK_END if at_end else os.SEEK_SET)

    def lines(self) -> Iterator[str]:
        """Those that were added since the last call, each whole."""
        while True:
            if self._file is not None:
                yield from self._added(self._file)
                if not self._is_rotated(self._file):
                    return
                self._file.close()
            elif not self._path.exists():
                return
            self._file = self._path.open("rb")
            self._rest = b""

    def _added(self, file: BinaryIO) -> Iterator[str]:
        for line in file:
            if not line.endswith(b"\n"):
                self._rest += line
                return
            yield (self._rest + line).decode("utf-8", "replace").rstrip("\r\n")
            self._rest = b""

    def _is_rotated(self, file: BinaryIO) -> bool:
        """Whether another file has its name by now; while there is none, it is the same."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return not os.path.samestat(there, os.fstat(file.fileno()))


def show_logs(
    path: Path,
    count: int,
    wanted: Wanted | None,
    display: Display | CSV | None,
    *,
    follow: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Print the last ``count`` lines; without a ``display`` those of measurements, as JSON, and as CSV these too.

    With ``follow`` further ones come, until Ctrl-C.

    ``wanted`` says which measurements; lines of something else are shown only without it. Raises OSError.
    """
    tail = Tail(path)
    if isinstance(display, CSV):
        sys.stdout.write(csv_header())
    for line in deque(filter(None, (_shown(line, wanted, display) for line in tail.lines())), maxlen=count):
        _print(line, display)
    while follow:
        sys.stdout.flush()
        sleep(PAUSE)
        for line in filter(None, (_shown(line, wanted, display) for line in tail.lines())):
            _print(line, display)
    return 0


def _shown(line: str, wanted: Wanted | None, display: Display | CSV | None) -> Text | None:
    """What is printed of a line; None: nothing."""
    try:
        m = parse(line)
    except LogLineError:
        return Text(printable(line)) if wanted is None and isinstance(display, Display) else None
    if wanted is not None and not wanted(m):
        return None
    if display is None:
        return Text(json.dumps(m.as_dict()))
    if isinstance(display, CSV):
        return Text(csv_line(m).rstrip("\n"))
    return _sentence(m, display)


def _sentence(m: Measurement, display: Display) -> Text:
    words = [display.time(m.start), m.experiment]
    words += [word for word in (m.tor, m.server if m.server != "public" else None) if word]
    words += [format_size(m.filesize)] if m.filesize else []
    line = Text(printable("  ".join(words)) + "  ")
    line.append(m.outcome.value, style=STYLES.get(m.outcome.value, "green"))
    steps = (("first byte", m.dataresponse), ("complete", m.datacomplete))
    told = [f"{name} {seconds(at - m.start)}" for name, at in steps if at is not None]
    told += highlights(m)
    told += [": ".join(word for word in (m.errorcode, m.reason) if word)] if m.errorcode else []
    return line.append(printable("".join(f"  {word}" for word in told)))


def _print(line: Text, display: Display | CSV | None) -> None:
    if not isinstance(display, Display):
        sys.stdout.write(line.plain + "\n")
    else:
        display.show_line(line)
