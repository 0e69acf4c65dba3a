"""The server's side of a measurement: when our own web server saw the request and answered it.

An experiment announces the id of its measurement, sends the id with its request, and takes the stamps afterwards.
Ids that were not announced leave no trace, so strangers can neither fill the registry nor write into a record.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs

from perfd.wire.meter import Meter
from perfd.wire.probes import Returns
from perfd.wire.tcp_info import TCPSeries

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@attrs.define
class Received:
    """What came of a request's body; stamps in raw monotonic seconds. None: it did not happen, or not yet."""

    size: int  # what was announced, in bytes
    count: int = 0  # bytes that came
    first: float | None = None  # the first byte had arrived
    last: float | None = None  # the last one had
    dataperc: dict[int, float] = attrs.Factory(dict)  # n percent had come
    partial: dict[int, float] = attrs.Factory(dict)  # n bytes had come
    digest: str | None = None  # SHA-256 of the whole body

    def copy(self) -> Received:
        """The same, which stays as it is now."""
        return attrs.evolve(self, dataperc=dict(self.dataperc), partial=dict(self.partial))


@attrs.define
class Echoed:
    """What an echo did; stamps in raw monotonic seconds."""

    arrivals: list[float] = attrs.Factory(list)  # of each of the client's probes
    returns: Returns = attrs.Factory(Returns)  # the server's own probes, if it was asked for any


@attrs.define
class Served:
    """The server's stamps of one exchange, in raw monotonic seconds. None: it did not happen, or not yet."""

    request: float | None = None  # the last byte of the request's head had arrived
    response: float | None = None  # the first byte of the response's head was handed to the socket, which took it
    complete: float | None = None  # the last byte of the response was
    received: Received | None = None  # the request's body, if it has one
    exact: bool = False  # the kernel stamped all that arrived
    echoed: Echoed | None = None  # if the connection was upgraded to an echo
    tcp: TCPSeries | None = attrs.field(default=None, eq=False)  # looks at the connection meanwhile


class ServerStamps:
    """The measurements that our web server should look out for, and the stamps that it took for them.

    Holds at most ``limit`` ids, each for at most ``max_age`` seconds; the oldest go first. ``monotonic`` is the
    clock of the whole process.
    """

    def __init__(self, monotonic: Callable[[], float], *, limit: int = 5000, max_age: float = 3600.0) -> None:
        self.monotonic = monotonic
        self.sent = 0  # bytes that sockets have taken, of all connections
        self._limit = limit
        self._max_age = max_age
        self._expected: dict[str, tuple[float, Served | None]] = {}  # when announced; oldest first

    def __len__(self) -> int:
        return len(self._expected)

    def expect(self, measurement: str) -> None:
        """Announce the id of a measurement: 1 to 64 letters, digits, hyphens or underscores, else ValueError."""
        if not ID.fullmatch(measurement):
            raise ValueError(f"{measurement!r} is not an id of a measurement")
        now = self.monotonic()
        for old in list(self._expected):
            if len(self._expected) < self._limit and self._expected[old][0] > now - self._max_age:
                break
            del self._expected[old]
        self._expected[measurement] = (now, None)

    def claim(self, measurement: str) -> Served | None:
        """The stamps to fill in for a request that names ``measurement``.

        None if that id was not announced or another request came first.
        """
        announced, served = self._expected.get(measurement, (0.0, None))
        if served is not None or measurement not in self._expected:
            return None
        served = Served()
        self._expected[measurement] = (announced, served)
        return served

    def look(self, measurement: str) -> Served:
        """The stamps of ``measurement``, which go on being filled in."""
        return self._expected.get(measurement, (0.0, None))[1] or Served()

    def take(self, measurement: str) -> Served:
        """The stamps of ``measurement`` as they are now; its id is forgotten. All None if no request named it."""
        _, served = self._expected.pop(measurement, (0.0, None))
        if served is None:
            return Served()
        received = served.received
        return attrs.evolve(served, received=None if received is None else received.copy())


class ResponseMeter(Meter):
    """Stamps the responses of one connection as its socket takes them, and counts the bytes of all connections."""

    def __init__(self, transport: Any, stamps: ServerStamps) -> None:
        super().__init__(transport, stamps.monotonic, self._sent)
        self._stamps = stamps
        self._served: Served | None = None  # the response on its way, if it is a measurement's
        self._ended = False  # all of it was written
        self._tcp: TCPSeries | None = None  # of its connection; strangers have none

    def begin(self, served: Served) -> None:
        """The next byte that is sent is the first of the response of ``served``; nothing may be unsent."""
        self._served, self._ended = served, False
        self._tcp = served.tcp = TCPSeries(self._transport)

    def end(self) -> None:
        """All of the response was written. Nothing is stamped if it is a stranger's."""
        self._ended = True
        self._complete(self.unsent)

    def _sent(self, count: int, stamp: float, left: int) -> None:
        self._stamps.sent += count
        if self._served is not None:
            if self._served.response is None:
                self._served.response = stamp
            self._look(stamp)
            self._complete(left)

    def _complete(self, left: int) -> None:
        if self._served is not None and self._ended and not left:
            self._served.complete = self.last_sent
            self._look(self.last_sent, is_last=True)
            self._served = None

    def _look(self, stamp: float, *, is_last: bool = False) -> None:
        if self._tcp is not None:
            self._tcp.look(stamp, is_last=is_last)
