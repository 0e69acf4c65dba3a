"""HTTP/1.1 responses, read without input or output."""

from __future__ import annotations

import re

from perfd.record import Error

HEAD_LIMIT = 16 * 1024
"""The most bytes that a response's head may have, interim responses included."""

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What a header's name must be."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")
_LENGTH = re.compile(rb"[0-9]{1,15}")


class ResponseError(Exception):
    """The response is not what was asked for; ``errorcode`` is one of `perfd.record.Error`."""

    def __init__(self, errorcode: str, reason: str) -> None:
        super().__init__(reason)
        self.errorcode = errorcode


class Response:
    """An HTTP/1.1 response that should carry ``expect`` bytes, fed in pieces as they were read.

    Does no input or output. Only the head is kept, and only until it is complete. ``ended`` is true once the whole
    response is there, ``continued`` once the server has said that it wants the request's body.
    """

    def __init__(self, expect: int | None) -> None:
        self.expect = expect  # None: any number
        self.status: int | None = None
        self.payload = 0  # bytes of the body so far, of a response with status 200
        self.ended = False
        self.continued = False
        self._head: bytearray | None = bytearray()  # None: the head is complete
        self._head_room = HEAD_LIMIT
        self._length: int | None = None  # Content-Length; None: the body ends with the connection

    @property
    def total(self) -> int | None:
        """The bytes that the payload will have; None as long as that is not known."""
        return self.expect

    @property
    def has_head(self) -> bool:
        """Whether the head is complete."""
        return self._head is None

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises `ResponseError`; progress up to there is kept."""
        body = data if self._head is None else self._feed_head(self._head, data)
        if body is not None:
            self._feed_body(body)

    def close(self) -> None:
        """The server closed the connection. Raises `ResponseError` if the response was not complete."""
        if self._head is not None:
            raise ResponseError(Error.CLOSED, "the connection was closed before the response's head was complete")
        if self._length is not None:
            raise ResponseError(
                Error.CLOSED, f"the connection was closed after {self.payload} of {self._length} bytes"
            )
        self._end()

    def _end(self) -> None:
        self.ended = True
        if self.payload != self.expect:
            raise ResponseError(Error.SHORT, f"the whole response has {self.payload} of {self.expect} bytes")

    def _feed_body(self, data: bytes) -> None:
        self.payload += len(data)
        if self._length is not None and self.payload >= self._length:
            self.payload = self._length  # what follows the response on its connection is not payload
            self._end()
        elif self.expect is not None and self.payload > self.expect:
            raise ResponseError(Error.LONG, f"more than the {self.expect} bytes that were asked for")

    def _feed_head(self, head: bytearray, data: bytes) -> bytes | None:
        """Take bytes of the head. Returns what came of the body with its end, None if it goes on."""
        seen = max(0, len(head) - 3)
        head += data
        while True:
            end = head.find(b"\r\n\r\n", seen, self._head_room)
            if end < 0:
                if not head.startswith(b"HTTP/1."[: len(head)]):
                    raise ResponseError(
                        Error.HTTP, f"the response starts with {bytes(head[:16])!r}, not with HTTP/1.1"
                    )
                if len(head) >= self._head_room:
                    raise ResponseError(Error.HTTP, f"the response's head is over {HEAD_LIMIT} bytes")
                return None
            status = self._read_head(bytes(head[:end]))
            del head[: end + 4]
            if status >= 200:
                self._head = None
                return bytes(head)
            # An interim response (RFC 9110 section 15.2): the real one follows.
            self._head_room -= end + 4
            seen = 0

    def _read_head(self, head: bytes) -> int:
        first, *lines = head.split(b"\r\n")
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            raise ResponseError(Error.HTTP, f"{first[:64]!r} is not an HTTP/1.1 status line")
        status = int(match.group(1))
        # Any number of interim responses may come before the response (RFC 9110, 15.2).
        if status < 200:
            self.continued |= status == 100
            return status
        self.status = status
        self._check_status(status)
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not TOKEN.fullmatch(name):
                raise ResponseError(Error.HTTP, f"{line[:64]!r} is not an HTTP header")
            self._read_header(name.lower(), value.strip(b" \t"))
        self._check_head()
        return status

    def _check_status(self, status: int) -> None:
        """The status was read. Raises `ResponseError` if it is not the right one."""
        if status != 200:
            raise ResponseError(Error.STATUS, f"HTTP status {status}")

    def _check_head(self) -> None:
        """All headers were read. Raises `ResponseError` if they say already that it is not the right response."""
        if self._length is not None and self.expect is not None and self._length > self.expect:
            raise ResponseError(Error.LONG, f"Content-Length is {self._length}, {self.expect} bytes asked for")

    def _read_header(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            if not _LENGTH.fullmatch(value) or self._length not in (None, int(value)):
                raise ResponseError(Error.HTTP, f"Content-Length {value[:32]!r} is not one number")
            self._length = int(value)
        elif name == b"transfer-encoding":
            raise ResponseError(Error.HTTP, f"Transfer-Encoding {value[:32]!r}: only plain bytes can be measured")
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise ResponseError(Error.HTTP, f"Content-Encoding {value[:32]!r} was not asked for")


class Answer(Response):
    """A short response of any length up to ``limit`` bytes, whose body is kept in ``body``."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.body = b""

    def _feed_body(self, data: bytes) -> None:
        self.body += data
        super()._feed_body(data)

    def _end(self) -> None:
        self.ended = True
        self.body = self.body[: self.payload]
