"""Files of the disk as responses, read in pieces, as fast as the client takes them."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from twisted.web.http import CACHED

from perfd.web.request import Request


def open_file(path: Path) -> BinaryIO | None:
    """The file ``path`` for reading; None if there is no such file, or it is no plain file."""
    try:
        # Never wait for a pipe that somebody put there, and never follow a link out of the directory.
        opened = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb")
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        return None
    return opened


def send_file(request: Request, opened: BinaryIO, *, unpack: bool = False) -> None:
    """Send a file that does not change as the whole response, and close it. The content type must be set.

    ``unpack`` sends what was compressed in a file of gzip's format; less than 4 GiB, and in one go.
    """
    found = os.fstat(opened.fileno())
    tag = b'"%x-%x%b"' % (found.st_mtime_ns, found.st_size, b"-unpacked" if unpack else b"")
    if request.setETag(tag) is CACHED or request.setLastModified(found.st_mtime) is CACHED:
        opened.close()
        request.respond(b"")
        return
    size = _unpacked_size(opened, found.st_size) if unpack else found.st_size
    request.stream(size, _unpacking(opened) if unpack else opened.read, opened.close)


def _unpacked_size(opened: BinaryIO, size: int) -> int:
    """What the last four bytes say (RFC 1952, section 2.3.1); 0 of a file that is too short to have any."""
    if size < 18:
        return 0
    opened.seek(-4, os.SEEK_END)
    unpacked = int.from_bytes(opened.read(4), "little")
    opened.seek(0)
    return unpacked


def _unpacking(opened: BinaryIO) -> Callable[[int], bytes]:
    unpacked = gzip.GzipFile(fileobj=opened)

    def take(count: int) -> bytes:
        try:
            return unpacked.read(count)
        except (OSError, EOFError, zlib.error):  # it is damaged
            return b""

    return take
