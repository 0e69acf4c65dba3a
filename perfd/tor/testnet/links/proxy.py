"""Links without privileges: a listener in front of each relay, which delays what the connections carry.

A relay connects to others through another listener, of its own, by which it is known: tor sends that where it wants
to go (TCPProxy, HAProxy's PROXY protocol, version 1).

Bytes are never lost here, and connecting takes no longer. A sender is held up when a queue is full, by not reading.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random
from typing import cast

import attrs

from perfd.tor.testnet.links.line import Agenda, Lane, Way
from perfd.tor.testnet.links.plan import Endpoint, LinkPlan

QUEUE = 0.05
"""Seconds of backlog with which no more is read."""

CHUNK = 16 * 1024
"""The most bytes that are sent on as one."""

CHUNK_TIME = 0.002
"""The most seconds that one of these keeps a bottleneck busy."""

SMALLEST_CHUNK = 1448

LONGEST_LINE = 107
"""Bytes of the line of the PROXY protocol."""


@attrs.frozen
class Lanes:
    """The two directions of a relay's link."""

    up: Lane  # from the relay
    down: Lane


def make_lanes(plan: LinkPlan) -> dict[str, Lanes]:
    """The lanes of each relay, by nickname. What is random in them is of the plan's seed."""
    made = {}
    for relay in plan.relays:
        up, down = (Random(f"{plan.seed}/{relay.nickname}/{way}") for way in ("up", "down"))
        made[relay.nickname] = Lanes(Lane(relay.link, up), Lane(relay.link, down))
    return made


@attrs.frozen
class Listeners:
    """The listening sockets of one relay: of connections to it, of those that it makes, and of those with obfs4."""

    incoming: socket.socket
    outgoing: socket.socket
    obfs4: socket.socket | None = None  # None: it takes none


def listen(plan: LinkPlan) -> list[Listeners]:
    """The listeners, in the order of the relays. Raises OSError."""
    return [
        Listeners(
            _listen(relay, relay.port),
            _listen(relay, relay.outgoing or 0),
            None if relay.obfs4 is None else _listen(relay, relay.obfs4),
        )
        for relay in plan.relays
    ]


def _listen(relay: Endpoint, port: int) -> socket.socket:
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if relay.link.rate is not None:
            # What the kernel would buffer in front of the link is no part of it.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _buffer(relay.link.rate))
        made.bind((relay.address, port))
        made.listen(1024)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def _buffer(rate: float) -> int:
    return max(16 * 1024, min(1024 * 1024, int(rate / 8 * QUEUE)))


async def serve(plan: LinkPlan, listeners: list[Listeners]) -> None:
    """Begin to accept."""
    loop = asyncio.get_running_loop()
    proxies = _Proxies(plan)
    for relay, listening in zip(plan.relays, listeners, strict=True):
        await loop.create_server(partial(proxies.to_relay, relay), sock=listening.incoming)
        await loop.create_server(partial(proxies.from_relay, relay), sock=listening.outgoing)
        if listening.obfs4 is not None:
            behind = attrs.evolve(relay, behind=relay.obfs4_behind)
            await loop.create_server(partial(proxies.to_relay, behind), sock=listening.obfs4)


class _Proxies:
    """Makes the other half of each connection, and sends what both carry through the lanes of both ends."""

    def __init__(self, plan: LinkPlan) -> None:
        self._agenda = Agenda(asyncio.get_running_loop())
        self._lanes = make_lanes(plan)
        self._by_port = {relay.port: relay for relay in plan.relays}
        self._connecting: set[asyncio.Task[None]] = set()

    def to_relay(self, relay: Endpoint) -> _End:
        """One end of a connection of somebody who is no relay, and has no link."""
        return _End(self._agenda, lambda end: self._begin(end, None, relay))

    def from_relay(self, relay: Endpoint) -> _End:
        """One end of a connection that a relay makes: it says first where to."""
        return _End(self._agenda, None, lambda end, port: self._begin(end, relay, self._by_port.get(port)))

    def _begin(self, near: _End, source: Endpoint | None, target: Endpoint | None) -> None:
        near.transport.pause_reading()
        if target is None:  # no relay of this network
            near.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._connect(near, source, target))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, near: _End, source: Endpoint | None, target: Endpoint) -> None:
        assert target.behind is not None
        ours = (self._lanes[source.nickname],) if source is not None else ()
        theirs = self._lanes[target.nickname]
        there = (*(lanes.up for lanes in ours), theirs.down)
        back = (theirs.up, *(lanes.down for lanes in ours))
        try:
            _, far = await asyncio.get_running_loop().create_connection(
                lambda: _End(self._agenda, lambda end: end.transport.pause_reading()), target.address, target.behind
            )
        except OSError:
            near.transport.abort()
            return
        near.join(far, Way(self._agenda, there))
        far.join(near, Way(self._agenda, back))


class _End(asyncio.BufferedProtocol):
    """One end of a connection: what comes here leaves the other end later."""

    transport: asyncio.Transport

    def __init__(
        self,
        agenda: Agenda,
        connected: Callable[[_End], object] | None,
        asked: Callable[[_End, int], object] | None = None,
    ) -> None:
        self._agenda = agenda
        self._connected = connected
        self._asked = asked  # called with the port that the first line asks for
        self._line = b""
        self._buffer = bytearray(CHUNK)
        self._other: _End | None = None
        self._way: Way | None = None
        self._chunk = CHUNK
        self._is_held = False  # by the queue
        self._is_full = False  # the other end takes no more
        self._is_gone = False

    def join(self, other: _End, way: Way) -> None:
        """Pass on to ``other`` from now on what comes here."""
        self._other, self._way = other, way
        rates = [lane.link.rate for lane in way.lanes if lane.link.rate is not None]
        if rates:
            self._chunk = max(SMALLEST_CHUNK, min(CHUNK, int(min(rates) / 8 * CHUNK_TIME)))
        self._read_or_not()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        made: socket.socket = transport.get_extra_info("socket")
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport.set_write_buffer_limits(high=4 * CHUNK)
        if self._connected is not None:
            self._connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        # Byte by byte until the first line is whole: what follows it belongs to the connection.
        return memoryview(self._buffer)[: self._chunk if self._asked is None else 1]

    def buffer_updated(self, nbytes: int) -> None:
        if self._asked is not None:
            self._read_line(bytes(self._buffer[:nbytes]))
            return
        assert self._other is not None
        assert self._way is not None
        other, data = self._other, bytes(self._buffer[:nbytes])
        self._way.send(nbytes, lambda: other.deliver(data))
        if not self._is_held and self._way.backlog() > QUEUE:
            self._is_held = True
            self._read_or_not()
            self._look_again()

    def _read_line(self, data: bytes) -> None:
        self._line += data
        if not self._line.endswith(b"\n") and len(self._line) < LONGEST_LINE:
            return
        words, asked, self._asked = self._line.split(), self._asked, None
        if len(words) == 6 and words[0] == b"PROXY" and words[5].isdigit() and asked is not None:
            asked(self, int(words[5]))
        else:
            self.transport.abort()

    def _look_again(self) -> None:
        assert self._way is not None
        backlog = self._way.backlog()
        if backlog > QUEUE:
            self._agenda.at(self._agenda.time() + backlog - QUEUE / 2, self._look_again)
        else:
            self._is_held = False
            self._read_or_not()

    def deliver(self, data: bytes) -> None:
        """Send what has arrived from the other end."""
        if not self._is_gone:
            self.transport.write(data)

    def pause_writing(self) -> None:
        self._hold_other(is_full=True)

    def resume_writing(self) -> None:
        self._hold_other(is_full=False)

    def _hold_other(self, *, is_full: bool) -> None:
        if self._other is not None:
            self._other._is_full = is_full
            self._other._read_or_not()

    def _read_or_not(self) -> None:
        if self._is_gone or self.transport.is_closing():
            return
        if self._is_held or self._is_full:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        if self._other is not None and self._way is not None:
            self._way.send(0, self._other.end)
        return True  # the other direction goes on

    def end(self) -> None:
        """Nothing more comes from the other end."""
        if not self._is_gone:
            with suppress(OSError):  # it was reset, which is told in a moment
                self.transport.write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_gone = True
        if self._other is not None and self._way is not None:
            self._way.send(0, self._other.close)

    def close(self) -> None:
        """The other end is gone."""
        if not self._is_gone:
            self.transport.close()
