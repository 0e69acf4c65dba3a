"""Made-up page loads with real pictures, for the tests of what becomes of them."""

from __future__ import annotations

import struct
import zlib
from typing import Any

from perfd.browser.records import Frame, PageLoad, PageRequest, PageTask
from perfd.proxy.records import ProxyConnection
from perfd.record import Circuit, Hop, Outcome, Stream
from perfd.tor.events.join import Joined

NOW = 1795444800.25
"""2026-11-23, 14:40 UTC."""

DAY = "2026-11-23"
ID = "0123456789abcdef0123456789abcdef"


def png(black_rows: int = 0, size: tuple[int, int] = (20, 100)) -> bytes:
    """A white PNG whose first rows are black."""
    width, height = size
    rows = b"".join(b"\0" + (b"\0" if row < black_rows else b"\xff") * 3 * width for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def page_load(**changes: Any) -> PageLoad:
    """A page with two requests, over one connection, and a screenshot."""
    first = PageRequest(
        url="http://site.example/",
        started=NOW + 0.1,
        connect_start=NOW + 0.11,
        connect_end=NOW + 0.5,
        request_start=NOW + 0.5,
        response_start=NOW + 0.9,
        response_end=NOW + 1.0,
        status=200,
        response_headers=(("Content-Type", "text/html"),),
        is_navigation=True,
    )
    second = PageRequest(
        url="http://site.example/a.css",
        started=NOW + 1.1,
        request_start=NOW + 1.1,
        response_start=NOW + 1.4,
        response_end=NOW + 1.5,
        status=200,
    )
    values: dict[str, Any] = {
        "task": PageTask(url="http://site.example/", proxy_port=9, timeout=60.0),
        "driver": "bidi",
        "browser": "firefox",
        "browser_version": "140.0",
        "outcome": Outcome.OK,
        "start": NOW,
        "navigation_start": NOW + 0.1,
        "load": NOW + 1.6,
        "end": NOW + 3.5,
        "requests": (first, second),
        "screenshot": png(50),
    }
    return PageLoad(**{**values, **changes})


def frames() -> tuple[Frame, ...]:
    """Nothing, then 90 % of the page 400 ms after the navigation began, then all of it after 900 ms."""
    return tuple(Frame(NOW + at, png(rows)) for at, rows in ((0.1, 0), (0.5, 90), (1.0, 100)))


def connection(**changes: Any) -> ProxyConnection:
    """The connection that carried the requests of ``page_load``."""
    path = tuple(Hop("$" + letter * 40) for letter in "ABC")
    circuit = Circuit(id="x-c5", source="s", tor="t", circ_id=5, status="BUILT", path=path)
    stream = Stream(id="x-s7", source="s", tor="t", stream_id=7, status="CLOSED")
    values: dict[str, Any] = {
        "number": 1,
        "host": "site.example",
        "port": 80,
        "start": NOW + 0.111,
        "request": NOW + 0.12,
        "response": NOW + 0.49,
        "closed": NOW + 3.4,
        "end": NOW + 3.5,
        "localport": 40001,
        "code": 0,
        "joined": Joined(stream=stream, circuit=circuit),
    }
    return ProxyConnection(**{**values, **changes})
