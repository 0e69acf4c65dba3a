"""Errors as strangers see them: JSON of one shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from perfd import __version__

SERVER = f"perfd/{__version__}".encode()
"""What the header Server says."""


def error_document(status: int, message: str) -> dict[str, object]:
    """The one shape that errors have."""
    return {"error": {"status": status, "message": message}}


def refusal(status: int, message: str, headers: Mapping[bytes, bytes] | None = None) -> bytes:
    """A whole response, for when there is no request that it could be written to."""
    body = json.dumps(error_document(status, message)).encode() + b"\n"
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode(),
        b"Server: " + SERVER,
        b"Connection: close",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        *(b"%b: %b" % header for header in (headers or {}).items()),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class WebError(Exception):
    """A request that cannot be answered; raise it anywhere in a resource to send it as JSON."""

    def __init__(self, status: int, message: str, headers: Mapping[bytes, bytes] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}
