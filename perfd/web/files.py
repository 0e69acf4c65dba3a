"""Files of the disk as responses. All that waits for the disk, or unpacks, is done in another thread."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.web.http import CACHED

from perfd.web.request import Request
from perfd.wire.keystream import PIECE
from perfd.wire.pieces import send_in_pieces

T = TypeVar("T")


class Threads(Protocol):
    """Where functions run that wait for the disk."""

    def call(self, function: Callable[[], T]) -> Deferred[T]: ...


class OpenedFile:
    """A file that does not change, for a thread, one call at a time.

    ``unpack`` reads what was compressed in a file of gzip's format; less than 4 GiB, and in one go.
    """

    def __init__(self, opened: BinaryIO, *, unpack: bool) -> None:
        found = os.fstat(opened.fileno())
        self._opened = opened
        self._source = gzip.GzipFile(fileobj=opened) if unpack else opened
        self.size = _unpacked_size(opened, found.st_size) if unpack else found.st_size
        self.modified = found.st_mtime
        self.tag = b'"%x-%x%b"' % (found.st_mtime_ns, found.st_size, b"-unpacked" if unpack else b"")

    def read(self) -> bytes:
        """The next piece; nothing at the end, or if the rest is damaged."""
        try:
            return self._source.read(PIECE)
        except (OSError, EOFError, zlib.error):
            return b""

    def close(self) -> None:
        self._opened.close()


def open_file(path: Path, *, unpack: bool = False) -> OpenedFile | None:
    """The file ``path``; None if there is no such file, or it is no plain file. Waits for the disk."""
    try:
        # Never wait for a pipe that somebody put there, and never follow a link out of the directory.
        opened = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb")
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        return None
    return OpenedFile(opened, unpack=unpack)


async def send_file(request: Request, opened: OpenedFile, threads: Threads) -> None:
    """Send ``opened`` as the whole response, as fast as the client takes it, and close it.

    The content type must be set. If the file ends too early, the connection is broken off, so that the client sees
    that the rest is missing.
    """
    try:
        if request.setETag(opened.tag) is CACHED or request.setLastModified(opened.modified) is CACHED:
            request.respond(b"")
            return
        request.setHeader(b"Content-Length", b"%d" % opened.size)
        request.write(b"")
        left = 0 if request.method == b"HEAD" else opened.size
        while left:
            piece = (await threads.call(opened.read))[:left]
            if not piece:
                request.channel.transport.abortConnection()
                return
            left -= len(piece)
            await send_in_pieces(request, piece)
        request.finish()
    finally:
        # A read may still be under way if the client has gone, and closing waits for its end.
        threads.call(opened.close)


def _unpacked_size(opened: BinaryIO, size: int) -> int:
    """What the last four bytes say (RFC 1952, section 2.3.1); 0 of a file that is too short to have any."""
    if size < 18:
        return 0
    opened.seek(-4, os.SEEK_END)
    unpacked = int.from_bytes(opened.read(4), "little")
    opened.seek(0)
    return unpacked
