"""Responses of servers that are not ours: what is expected of them, and the reading of it."""

from __future__ import annotations

import hashlib

import attrs

from perfd.client.chunks import Chunks
from perfd.client.response import Response, ResponseError
from perfd.record import Error

REDIRECTS = (301, 302, 303, 307, 308)
"""The statuses that lead to another address (RFC 9110, 15.4)."""

_BODILESS = (204, 304)


@attrs.frozen(kw_only=True)
class Expected:
    """What a response must be. ``size`` None: its payload may have any number of bytes up to ``most``."""

    most: int
    size: int | None = None
    statuses: tuple[int, ...] = (200,)
    digest: str | None = None  # SHA-256 of the payload, in hexadecimal
    is_head: bool = False  # the answer to HEAD, which has no payload; ``size`` is its Content-Length then


class ForeignResponse(Response):
    """A response with a status, a size and a digest that are ``expected``.

    Its body may be in chunks, and in an encoding that nobody asked for: then that is the payload.
    ``location`` is where a redirect leads, as the server says it; that ends the response with REDIRECTS.
    """

    def __init__(self, expected: Expected) -> None:
        super().__init__(expected.size)
        self.location: str | None = None
        self._expected = expected
        self._chunks: Chunks | None = None
        self._digest = None if expected.digest is None else hashlib.sha256()

    @property
    def total(self) -> int | None:
        return self.expect if self._length is None else self._length

    def close(self) -> None:
        if self._head is None and self._chunks is not None:
            raise ResponseError(Error.CLOSED, f"the connection was closed after {self.payload} bytes in chunks")
        super().close()

    def _check_status(self, status: int) -> None:
        if status not in self._expected.statuses and status not in REDIRECTS:
            raise ResponseError(Error.STATUS, f"HTTP status {status}")

    def _read_header(self, name: bytes, value: bytes) -> None:
        if name == b"location":
            self.location = value.decode("latin-1")
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise ResponseError(Error.HTTP, f"Transfer-Encoding {value[:32]!r}: only chunks can be read")
            self._chunks = Chunks()
        elif name != b"content-encoding":
            super()._read_header(name, value)

    def _check_head(self) -> None:
        if self.status not in self._expected.statuses:
            if self.location is None:
                raise ResponseError(Error.STATUS, f"HTTP status {self.status}")
            raise ResponseError(Error.REDIRECTS, f"HTTP status {self.status} leads to {self.location[:256]}")
        self.location = None  # of what was asked for it is no redirect
        if self._chunks is not None:
            self._length = None  # RFC 9112, 6.3
        self._check_room(self._length or 0)

    def _feed_body(self, data: bytes) -> None:
        if self._expected.is_head or self.status in _BODILESS:
            self._end()
        elif self._chunks is not None:
            for piece in self._chunks.feed(data):
                self._take(piece)
            if self._chunks.ended:
                self._end()
        elif self._length is not None:
            self._take(data[: self._length - self.payload])
            if self.payload == self._length:
                self._end()
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        self.payload += len(data)
        if self._digest is not None:
            self._digest.update(data)
        self._check_room(self.payload)

    def _check_room(self, size: int) -> None:
        """Raises ``ResponseError`` if there are, or will be, too many bytes."""
        if self.expect is not None and size > self.expect:
            raise ResponseError(Error.LONG, f"more than the {self.expect} bytes that were expected")
        if size > self._expected.most and not self._expected.is_head:
            raise ResponseError(Error.LONG, f"more than the {self._expected.most} bytes of size-limit")

    def _end(self) -> None:
        self.ended = True
        size = self._length if self._expected.is_head else self.payload
        if self.expect is not None and size != self.expect:
            raise ResponseError(Error.SHORT, f"the whole response has {size or 0} of {self.expect} bytes")
        if self._digest is not None and self._digest.hexdigest() != self._expected.digest:
            raise ResponseError(Error.DIGEST, f"the SHA-256 of the payload is {self._digest.hexdigest()}")
