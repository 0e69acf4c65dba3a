"""Reading the filmstrips of page loads: ZIP files of pictures, whose names tell when they were taken."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from zipfile import BadZipFile, ZipFile

PICTURES = {".png": "image/png", ".jpg": "image/jpeg"}
"""The media types of the pictures in a filmstrip."""

MOST_BYTES = 8 * 2**20
"""Of a picture."""

_NAME = re.compile(r"\d+-(\d+)ms\.(?:png|jpg)")


def times_of(path: Path) -> list[int]:
    """The milliseconds of each picture; none where there is no filmstrip."""
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, BadZipFile, ValueError, NotImplementedError):
        return []
    found = [_NAME.fullmatch(name) for name in names]
    return [int(each.group(1)) for each in found if each is not None] if all(found) else []


def read_picture(path: Path, number: int) -> tuple[str, bytes] | None:
    """The media type and the bytes of a picture in a filmstrip; None if there is none. Waits for the disk."""
    try:
        with ZipFile(path) as archive:
            found = archive.infolist()[number - 1 : number]
            for each in found:
                content_type = PICTURES.get(Path(each.filename).suffix)
                if content_type is not None and each.file_size <= MOST_BYTES:
                    return content_type, archive.read(each)
    except (OSError, BadZipFile, ValueError, NotImplementedError, EOFError, zlib.error):
        pass  # it is none, or is damaged
    return None
