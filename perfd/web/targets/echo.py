"""``/echo``: sends back what it gets, to measure round-trip times with.

``GET /echo`` with ``Upgrade: perfd-echo`` (RFC 9110 section 7.8) makes the connection a plain stream of bytes. Only
measurements of this instance get one, so strangers can neither use it as a relay nor keep it busy.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.task import LoopingCall
from twisted.web.server import NOT_DONE_YET

from perfd.store.parameters import Parameter
from perfd.web.channel import Channel
from perfd.web.description import Readers, Response, Route
from perfd.web.errors import SERVER, WebError
from perfd.web.request import Described, Request
from perfd.web.stamps import Echoed
from perfd.wire.delivery import deliver
from perfd.wire.probes import CLIENTS, PROBE, RATE_HEADER, SERVERS, Blocks, probe

PROTOCOL = b"perfd-echo"

MOST_BYTES = 2**20
"""Bytes that one connection may send."""

HIGHEST_RATE = 100.0
"""Probes a second that the server sends at most."""

MOST_UNSENT = 2**16
"""Bytes that may wait for a client that does not read."""


UPGRADE = Parameter(
    "Upgrade", "the only protocol that there is", str, {"type": "string", "enum": [PROTOCOL.decode()]}
)
PROBES = Parameter(RATE_HEADER, "so many probes a second are sent by the server too", str, {"type": "number"})


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
            in_head=(UPGRADE, PROBES),
        )

    def render_GET(self, request: Request) -> int:
        if request.getHeader(b"Upgrade") != PROTOCOL:
            upgrade = {b"Upgrade": PROTOCOL, b"Connection": b"Upgrade"}
            raise WebError(426, "only Upgrade: perfd-echo can be had here", upgrade)
        if request.served is None:
            raise WebError(403, "only for measurements of this instance")
        channel = request.channel
        request.served.echoed = echoed = Echoed()
        rate = _rate(request.getHeader(RATE_HEADER.encode("ascii")))
        end = _End(channel, echoed) if rate is None else _ProbingEnd(channel, echoed)
        channel.echo = end.take
        deliver(
            channel.transport,
            b"HTTP/1.1 101 Switching Protocols\r\nServer: %b\r\nUpgrade: %b\r\nConnection: Upgrade\r\n\r\n"
            % (SERVER, PROTOCOL),
        )
        if isinstance(end, _ProbingEnd) and rate is not None:
            end.probe(1 / rate)
        return NOT_DONE_YET


def _rate(text: bytes | None) -> float | None:
    """How many probes a second the server is to send; None if it is to send none."""
    if text is None:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= HIGHEST_RATE:
        raise WebError(400, f"{RATE_HEADER} must be a number of probes a second, at most {HIGHEST_RATE:g}")
    return rate


class _End:
    """The server's end of an echo."""

    def __init__(self, channel: Channel, echoed: Echoed) -> None:
        self._channel = channel
        self._echoed = echoed
        self._count = 0  # bytes that came

    def take(self, data: bytes) -> None:
        """Send back what came."""
        self._count += len(data)
        # Whoever sends without reading would fill our memory.
        if self._count > MOST_BYTES or self._channel.meter.unsent > MOST_UNSENT:
            self._channel.transport.abortConnection()
            return
        self._answer(data)

    def _answer(self, data: bytes) -> None:
        came = self._count // PROBE - len(self._echoed.arrivals)
        self._echoed.arrivals += [self._channel.received] * came
        deliver(self._channel.transport, data)


class _ProbingEnd(_End):
    """One that sends probes too, until the client says that it is to stop."""

    def __init__(self, channel: Channel, echoed: Echoed) -> None:
        super().__init__(channel, echoed)
        self._blocks = Blocks()
        self._probing = LoopingCall(self._send)
        self._probing.clock = channel.site.reactor

    def probe(self, interval: float) -> None:
        """Begin to send one each ``interval`` seconds."""
        self._probing.start(interval)

    def _send(self) -> None:
        if not self._channel.transport.connected:
            self._probing.stop()
            return
        number = self._echoed.returns.send(self._channel.site.monotonic())
        deliver(self._channel.transport, probe(SERVERS, number))

    def _answer(self, data: bytes) -> None:
        stamp, back = self._channel.received, b""
        for block in self._blocks.of(data):
            if block[0] == SERVERS:
                if not self._echoed.returns.came_back(stamp):
                    self._channel.transport.abortConnection()
                    return
                continue
            if block[0] == CLIENTS:
                self._echoed.arrivals.append(stamp)
            elif self._probing.running:
                self._probing.stop()
            back += block
        deliver(self._channel.transport, back)
