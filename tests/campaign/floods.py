"""What strangers can do to a port: many connections, slow ones, greedy ones, and nonsense."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

MANY = 600
"""More connections than Perfd takes (``max-connections``)."""

GREEDY = 8

_SILENCE = (b"", b"")
_HEAD = (b"", b"G")
_BODY = (b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n", b"x")
_READ = (b"GET /random/1GiB HTTP/1.1\r\nHost: a\r\n\r\n", b"")
"""What a stranger says at first, and then again and again."""

_REQUESTS: Sequence[bytes] = (
    b"GET /random/1024 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /results?limit=5&since=2026-01-01 HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n",
    b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n" + b"x" * 20,
    b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET /page/ HTTP/1.0\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
)
_SOCKS: Sequence[bytes] = (
    b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x01",
    b"\x05\x02\x00\x02\x01\x01a\x01b\x05\x01\x00\x03\x09localhost\x00\x50",
    b"\x04\x01\x00\x50\x7f\x00\x00\x01user\x00",
    b"\x04\x01\x00\x50\x00\x00\x00\x01user\x00localhost\x00",
    b"\x05\x01\x00\x05\xf0\x00\x03\x09localhost\x00\x00",
)


def silent(port: int, seconds: float) -> None:
    """Connect often, and say nothing."""
    _crowd(port, seconds, [_SILENCE])


def slow_heads(port: int, seconds: float) -> None:
    """Connect often, and send a head byte by byte."""
    _crowd(port, seconds, [_HEAD])


def slow_bodies(port: int, seconds: float) -> None:
    """Connect often, and send a body byte by byte."""
    _crowd(port, seconds, [_BODY])


def slow_reads(port: int, seconds: float) -> None:
    """Connect often, ask for very much, and read none of it."""
    _crowd(port, seconds, [_READ])


def mixed(port: int, seconds: float) -> None:
    """Connect often, each connection in another of these ways."""
    _crowd(port, seconds, [_SILENCE, _HEAD, _BODY, _READ])


def downloads(port: int, seconds: float) -> None:
    """Download as fast as possible, over several connections."""
    until = time.monotonic() + seconds
    with ExitStack() as stack:
        connections = [stack.enter_context(_connect(port)) for _ in range(GREEDY)]
        for each in connections:
            each.sendall(b"GET /random/100000000 HTTP/1.1\r\nHost: a\r\n\r\n")
            each.setblocking(False)
        while time.monotonic() < until:
            for each in connections:
                with suppress(OSError):
                    each.recv(1 << 20)
            time.sleep(0.002)


def fuzz_http(port: int, seconds: float, draw: random.Random) -> int:
    """Send requests that are damaged at random; how many."""
    return _fuzz(port, seconds, draw, _REQUESTS)


def fuzz_socks(port: int, seconds: float, draw: random.Random) -> int:
    """The same, to a SOCKS port."""
    return _fuzz(port, seconds, draw, _SOCKS)


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The bytes with some of them changed, left out, repeated or added."""
    made = bytearray(data)
    for _ in range(draw.randint(0, 6)):
        place = draw.randrange(len(made) + 1)
        match draw.randrange(4):
            case 0:
                made[place : place + 1] = draw.randbytes(1)
            case 1:
                del made[place : place + draw.randint(1, 8)]
            case 2:
                made[place:place] = made[place : place + draw.randint(1, 60)] * draw.choice((1, 2, 500))
            case _:
                made[place:place] = draw.randbytes(draw.randint(1, 20))
    return bytes(made)


def _fuzz(port: int, seconds: float, draw: random.Random, valid: Sequence[bytes]) -> int:
    until = time.monotonic() + seconds
    sent = 0
    while time.monotonic() < until:
        data = b"".join(damaged(draw.choice(valid), draw) for _ in range(draw.choice((1, 1, 2, 5))))
        with suppress(OSError), _connect(port) as connection:
            connection.settimeout(0.05)
            connection.sendall(data)
            if draw.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
            connection.recv(4096)
        sent += 1
    return sent


def _crowd(port: int, seconds: float, ways: Sequence[tuple[bytes, bytes]]) -> None:
    until = time.monotonic() + seconds
    with ExitStack() as stack:
        connections: list[tuple[socket.socket, bytes]] = []
        while time.monotonic() < until:
            if len(connections) < MANY:
                first, more = ways[len(connections) % len(ways)]
                with suppress(OSError):
                    connection = stack.enter_context(_connect(port))
                    connections.append((connection, more))
                    connection.sendall(first)
            else:
                time.sleep(0.05)
            for connection, more in connections[-20:]:
                with suppress(OSError):
                    connection.send(more)


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=2)
