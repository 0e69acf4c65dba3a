"""Which connection of the measuring proxy carried which request of a page load.

A browser does not say, so each request is matched by its target and by time. A match that another connection might
have been as well is "likely".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import attrs

from perfd.browser.records import PageLoad, PageRequest
from perfd.record import EMPTY

SLACK = 0.05
"""Seconds by which the browser's clock and Perfd's may differ."""

SURE = 0.001
"""Seconds between the starts of two connections from which on it is sure which of them the browser meant."""

EXACT = "exact"
LIKELY = "likely"

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_MULTIPLEXED = frozenset(("h2", "h3"))


@attrs.frozen(kw_only=True)
class EntryTor:
    """What Perfd knows of a connection that carried a request. Times are seconds since the epoch."""

    connection: int  # its number within the page load
    measurement: str | None = None  # the id of the measurement
    local_port: int | None = None  # of the connection towards tor
    stream_id: int | None = None
    circ_id: int | None = None
    path: tuple[str, ...] | None = None  # the circuit's relays
    reply: int | None = None  # tor's reply code to the SOCKS request
    times: Mapping[str, float] = EMPTY  # the proxy's steps

    def as_dict(self) -> dict[str, Any]:
        """The member ``_tor`` of an entry."""
        return {
            "connection": self.connection,
            "measurement": self.measurement,
            "localPort": self.local_port,
            "stream": self.stream_id,
            "circuit": self.circ_id,
            "path": None if self.path is None else list(self.path),
            "reply": self.reply,
            "times": dict(self.times),
        }


class Connection(Protocol):
    """A connection from the browser through the measuring proxy, as far as matching needs it."""

    @property
    def host(self) -> str:
        """What the browser asked the proxy to connect to."""

    @property
    def port(self) -> int: ...

    @property
    def opened(self) -> float:
        """The proxy accepted it, in seconds since the epoch."""

    @property
    def closed(self) -> float | None: ...

    @property
    def entry(self) -> EntryTor: ...


@attrs.frozen
class Match:
    """The connection that carried a request; ``how`` is ``EXACT`` or ``LIKELY``."""

    tor: EntryTor
    how: str


def match_connections(load: PageLoad, connections: Iterable[Connection]) -> tuple[Match | None, ...]:
    """For each request of ``load`` the connection that carried it, as far as one can be found.

    A request for which the browser connected belongs to the connection to the same host and port that was opened
    next; one that reused a connection, to one that was open and, unless it is multiplexed, idle.
    """
    by_target: dict[tuple[str, int], list[Connection]] = {}
    for connection in connections:
        by_target.setdefault((connection.host.lower().strip("[]"), connection.port), []).append(connection)
    asked: dict[tuple[str, int], list[int]] = {}
    for index, request in enumerate(load.requests):
        target = _target(request.url)
        if target in by_target and not request.from_cache:
            asked.setdefault(target, []).append(index)
    found: list[Match | None] = [None] * len(load.requests)
    for target, indexes in asked.items():
        matching = _Matching(load, indexes, sorted(by_target[target], key=lambda c: c.opened))
        for index, match in matching.matches():
            found[index] = match
    return tuple(found)


def _target(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port else None


class _Matching:
    """The requests to one host and port, and the connections to it in the order of their start."""

    def __init__(self, load: PageLoad, indexes: Sequence[int], connections: Sequence[Connection]) -> None:
        self._requests = {index: load.requests[index] for index in indexes}
        self._end = load.end
        self._connections = connections
        self._free_at = [connection.opened for connection in connections]

    def matches(self) -> Iterator[tuple[int, Match]]:
        started = self._started()
        own = {index: place for index, place in started.items() if has_own(self._requests[index])}
        for index, place in own.items():
            self._free_at[place] = self._finish(self._requests[index])
            yield index, self._match(place, self._is_sure(self._requests[index], place))
        others = [
            (went_out_at(request), index) for index, request in self._requests.items() if not has_own(request)
        ]
        for begin, index in sorted((begin, index) for begin, index in others if begin is not None):
            match = self._reused(self._requests[index], begin)
            if match is not None:
                yield index, match

    def _started(self) -> dict[int, int]:
        """The connection that the browser opened for each request; the request may have gone by another."""
        begun = sorted(
            (r.connect_start, index) for index, r in self._requests.items() if r.connect_start is not None
        )
        found: dict[int, int] = {}
        place = 0
        for number, (start, index) in enumerate(begun):
            while place < len(self._connections) and self._connections[place].opened < start - SLACK:
                place += 1
            spare = len(self._connections) - place - (len(begun) - number)
            while spare > 0 and self._distance(place + 1, start) < self._distance(place, start):
                place += 1
                spare -= 1
            if place == len(self._connections):
                break
            latest = self._requests[index].connect_end or self._finish(self._requests[index])
            if self._connections[place].opened <= latest + SLACK:
                found[index] = place
                place += 1
        return found

    def _reused(self, request: PageRequest, begin: float) -> Match | None:
        places = [
            place
            for place, connection in enumerate(self._connections)
            if connection.opened <= begin + SLACK and (connection.closed or math.inf) >= begin - SLACK
        ]
        if not places:
            return None
        if request.protocol in _MULTIPLEXED:
            return self._match(places[-1], len(places) == 1)
        idle = [place for place in places if self._free_at[place] <= begin]
        # Of several, browsers take the one that was used last.
        place = max(idle or places, key=lambda place: self._free_at[place])
        others_busy = all(self._free_at[n] > self._connections[n].opened for n in places if n != place)
        self._free_at[place] = max(self._free_at[place], self._finish(request))
        return self._match(place, len(idle) == 1 and others_busy)

    def _is_sure(self, request: PageRequest, place: int) -> bool:
        if len(self._connections) == 1:
            return True
        opened = self._connections[place].opened
        near = [n for n in (place - 1, place + 1) if 0 <= n < len(self._connections)]
        alone = all(self._distance(n, opened) > SURE for n in near)
        return alone and self._distance(place, request.connect_start or opened) <= SLACK

    def _distance(self, place: int, stamp: float) -> float:
        return abs(self._connections[place].opened - stamp)

    def _finish(self, request: PageRequest) -> float:
        return self._end if request.response_end is None else request.response_end

    def _match(self, place: int, sure: bool) -> Match:
        return Match(self._connections[place].entry, EXACT if sure else LIKELY)


def has_own(request: PageRequest) -> bool:
    """Whether a connection was opened for the request that carried it, or would have, had it been made.

    A browser gives a request to whichever connection is ready first; the steps of its own are then incomplete.
    """
    return request.connect_start is not None and (request.connect_end is not None or request.request_start is None)


def went_out_at(request: PageRequest) -> float | None:
    """When the request went out on a connection that existed; None if it never did."""
    if request.request_start is not None:
        return request.request_start
    if request.response_start is not None:
        return request.response_start
    return None if request.error is not None or request.response_end is None else request.started
