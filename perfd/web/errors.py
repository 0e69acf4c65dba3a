"""Errors as strangers see them: JSON of one shape."""

from __future__ import annotations

import json
from http import HTTPStatus

from perfd import __version__

SERVER = f"perfd/{__version__}".encode()
"""What the header Server says."""


def error_document(status: int, message: str) -> dict[str, object]:
    """The one shape that errors have."""
    return {"error": {"status": status, "message": message}}


def refusal(status: int, message: str) -> bytes:
    """A whole response, for when there is no request that it could be written to."""
    body = json.dumps(error_document(status, message)).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nServer: {SERVER.decode()}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
