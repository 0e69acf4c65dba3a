"""The files that page loads leave besides their records: where they are, and how old ones are deleted.

``har/DATE/ID.har.gz`` and so on: a directory for each UTC day on which measurements started, so that a day can be
found and deleted without looking at the measurements.
"""

from __future__ import annotations

import os
import re
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

DIRECTORY = "har"
"""The directory of these files, in that of the instance."""

HAR = ".har.gz"
SCREENSHOT = ".png"
FILMSTRIP = ".filmstrip.zip"

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")


def is_id(text: str) -> bool:
    """Whether a measurement of ``text`` as its id may have files; no path of it leads elsewhere."""
    return bool(_ID.fullmatch(text))


def file_of(directory: Path, start: float, measurement: str, suffix: str) -> Path:
    """The file of a page load that started at ``start``, in seconds since the epoch; ``directory`` has all."""
    if not is_id(measurement):
        raise ValueError(f"{measurement[:64]!r} is no id of a measurement")
    return directory / datetime.fromtimestamp(start, UTC).date().isoformat() / (measurement + suffix)


def delete_files_before(directory: Path, before: float) -> int:
    """Delete the days that are over by ``before``; how many. What is no day stays. Raises ``OSError``."""
    oldest = datetime.fromtimestamp(before, UTC).date()
    deleted = 0
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except FileNotFoundError:
        return 0
    for entry in entries:
        day = _day(entry.name)
        if day is not None and day < oldest and entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
            deleted += 1
    return deleted


def _day(name: str) -> date | None:
    try:
        return date.fromisoformat(name) if _DATE.fullmatch(name) else None
    except ValueError:
        return None
