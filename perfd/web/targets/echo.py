"""``/echo``: sends back what it gets, to measure round-trip times with.

``GET /echo`` with ``Upgrade: perfd-echo`` (RFC 9110 section 7.8) makes the connection a plain stream of bytes. Only
measurements of this instance get one, so strangers can neither use it as a relay nor keep it busy.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.web.server import NOT_DONE_YET

from perfd.store.parameters import Parameter
from perfd.web.description import Readers, Response, Route
from perfd.web.errors import SERVER, WebError
from perfd.web.request import Described, Request
from perfd.wire.delivery import deliver

PROTOCOL = b"perfd-echo"

MOST_BYTES = 2**20
"""Bytes that one connection may send."""

MOST_UNSENT = 2**16
"""Bytes that may wait for a client that does not read."""


UPGRADE = Parameter(
    "Upgrade", "the only protocol that there is", str, {"type": "string", "enum": [PROTOCOL.decode()]}
)


class Echo(Described):
    """The upgrade of a connection to an echo."""

    isLeaf = True

    def describe(self, path: str) -> Iterator[Route]:
        yield Route(
            path,
            "Bytes come back, to measure round-trip times with; for measurements only",
            {101: Response(doc="The connection is an echo now")},
            errors=(426,),
            readers=Readers.MEASUREMENTS,
            in_head=(UPGRADE,),
        )

    def render_GET(self, request: Request) -> int:
        if request.getHeader(b"Upgrade") != PROTOCOL:
            upgrade = {b"Upgrade": PROTOCOL, b"Connection": b"Upgrade"}
            raise WebError(426, "only Upgrade: perfd-echo can be had here", upgrade)
        if request.served is None:
            raise WebError(403, "only for measurements of this instance")
        channel = request.channel
        left = MOST_BYTES

        def echo(data: bytes) -> None:
            # Whoever sends without reading would fill our memory.
            nonlocal left
            left -= len(data)
            if left < 0 or channel.meter.unsent > MOST_UNSENT:
                channel.transport.abortConnection()
                return
            deliver(channel.transport, data)

        channel.echo = echo
        deliver(
            channel.transport,
            b"HTTP/1.1 101 Switching Protocols\r\nServer: %b\r\nUpgrade: %b\r\nConnection: Upgrade\r\n\r\n"
            % (SERVER, PROTOCOL),
        )
        return NOT_DONE_YET
