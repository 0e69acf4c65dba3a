"""A SOCKS 5 proxy that relays as it should until it is told to be rude, and so can be the server behind it."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress

import attrs

HELD = 60.0
"""Seconds for which a rude peer holds a connection at most."""


@attrs.frozen
class Rudeness:
    """What a peer sends, and what it does then: ``close``, ``reset``, ``hold``, or send it ``again`` and again."""

    data: bytes
    then: str


def _each(data: bytes) -> list[Rudeness]:
    return [Rudeness(data, then) for then in ("close", "reset", "hold")]


SOCKS: Sequence[Rudeness] = (
    *_each(b""),
    *_each(b"\x05"),
    *_each(b"\x05\xff"),
    *_each(b"\x04\x5a\0\0\0\0\0\0"),
    *_each(b"\x05\x00\x05\x01\x00\x01\0\0\0\0\0\0"),
    *_each(b"\x05\x00\x05\x00\x00\x7f"),
    *_each(b"\x05\x00\x05\x00\x00\x03\xff" + b"a" * 20),
    *_each(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    *_each(bytes(range(256)) * 8),
    Rudeness(b"\x05\x00" * 1000, "again"),
)
HTTP: Sequence[Rudeness] = (
    *_each(b""),
    *_each(b"HTTP/1.1 200 OK\r\nContent-Le"),
    *_each(b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + b"x" * 100),
    *_each(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n" + b"x" * 2000),
    *_each(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    *_each(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n"),
    *_each(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    *_each(b"HTTP/9.9 999 \xff\r\n\r\n"),
    *_each(bytes(range(256)) * 8),
    Rudeness(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "again"),
    Rudeness(b"A: " + b"a" * 4000 + b"\r\n", "again"),
)


class Proxy:
    """Listens on ``port`` of this machine; ``socks`` and ``server`` are what to draw rudeness from, if any."""

    def __init__(self) -> None:
        self.socks: Sequence[Rudeness] = ()
        self.server: Sequence[Rudeness] = ()
        self.draw = random.Random(0)
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._serve(self._listener)

    def go(self) -> None:
        """Be gone: connections are refused."""
        with suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def come(self) -> None:
        """Be there again, on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._serve(self._listener)

    def close(self) -> None:
        self._over.set()
        self.go()

    def _serve(self, listener: socket.socket) -> None:
        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        client.settimeout(HELD)
        with suppress(OSError, struct.error), client:
            if self.socks:
                client.recv(4096)
                self._play(client, self.draw.choice(self.socks))
                return
            host, port = self._asked(client)
            if self.server:
                client.sendall(b"\x05\x00\x00\x01\0\0\0\0\0\0")
                client.recv(4096)
                self._play(client, self.draw.choice(self.server))
                return
            with socket.create_connection((host, port), timeout=10) as server:
                client.sendall(b"\x05\x00\x00\x01\0\0\0\0\0\0")
                back = threading.Thread(target=_relay, args=(server, client), daemon=True)
                back.start()
                _relay(client, server)
                back.join(HELD)

    @staticmethod
    def _asked(client: socket.socket) -> tuple[str, int]:
        """Go through the handshake (RFC 1928, and RFC 1929 if nothing else is offered)."""
        _, count = _exactly(client, 2)
        if 0 in _exactly(client, count):
            client.sendall(b"\x05\x00")
        else:
            client.sendall(b"\x05\x02")
            for length in (_exactly(client, 2)[1], None):
                _exactly(client, _exactly(client, 1)[0] if length is None else length)
            client.sendall(b"\x01\x00")
        kind = _exactly(client, 4)[3]
        host = _exactly(client, 4 if kind == 1 else 16 if kind == 4 else _exactly(client, 1)[0])
        families = {1: socket.AF_INET, 4: socket.AF_INET6}
        name = socket.inet_ntop(families[kind], host) if kind in families else host.decode()
        (port,) = struct.unpack(">H", _exactly(client, 2))
        return name, port

    def _play(self, client: socket.socket, rudeness: Rudeness) -> None:
        client.sendall(rudeness.data)
        while rudeness.then == "again" and not self._over.wait(0.001):
            client.sendall(rudeness.data)
        if rudeness.then == "hold":
            self._over.wait(HELD)
        if rudeness.then == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            raise OSError("it has closed")
        data += piece
    return data


def _relay(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
