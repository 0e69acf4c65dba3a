"""Bodies in chunks (RFC 9112, section 7.1), read without input or output."""

from __future__ import annotations

import re
from collections.abc import Iterator

from perfd.client.response import ResponseError
from perfd.record import Error

LINE_LIMIT = 4096
"""The most bytes of a line: the size of a chunk with its extensions, or a header of the trailer."""

TRAILER_LIMIT = 16 * 1024

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;.*)?", re.DOTALL)


class Chunks:
    """Takes the bytes of such a body, and gives out those of the payload; ``ended`` after its last line."""

    def __init__(self) -> None:
        self.ended = False
        self._left = 0  # of the chunk
        self._line = bytearray()  # as far as it came
        self._is_after_chunk = False
        self._trailer: int | None = None  # its bytes; None: it has not begun

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces of payload in ``data``. Raises `ResponseError`."""
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                yield piece
            else:
                end = data.find(b"\n", at) + 1
                self._line += data[at : end or len(data)]
                if len(self._line) > LINE_LIMIT:
                    raise ResponseError(Error.HTTP, f"a line between two chunks is over {LINE_LIMIT} bytes")
                if not end:
                    return
                at = end
                self._take_line(bytes(self._line).rstrip(b"\r\n"))
                self._line.clear()

    def _take_line(self, line: bytes) -> None:
        if self._trailer is not None:
            self._trailer += len(line)
            if self._trailer > TRAILER_LIMIT:
                raise ResponseError(Error.HTTP, f"the response's trailer is over {TRAILER_LIMIT} bytes")
            self.ended = not line
        elif self._is_after_chunk:
            if line:
                raise ResponseError(Error.HTTP, f"a chunk is followed by {line[:16]!r}")
            self._is_after_chunk = False
        else:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise ResponseError(Error.HTTP, f"{line[:32]!r} is not the size of a chunk")
            self._left = int(match[1], 16)
            self._is_after_chunk = bool(self._left)
            self._trailer = None if self._left else 0
