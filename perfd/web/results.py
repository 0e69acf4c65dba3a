"""The results over HTTP: ``/results``, ``/results/ID`` and ``/health``.

A query runs in a reader thread, a page at a time, so neither the measurements nor their stamps wait for it.
"""

from __future__ import annotations

import ipaddress
import re
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET

from perfd.logfile import render
from perfd.record import Measurement, Outcome
from perfd.store.database import NoDatabaseError, StoreError
from perfd.store.reader import Filter, StoreReader
from perfd.units import parse_size
from perfd.web.site import Node, Request, WebError, json_body

DEFAULT_LIMIT = 100
MOST_RESULTS = 1000
"""The largest page; there is ``next`` for more."""

T = TypeVar("T")

_EPOCH = re.compile(r"\d{1,12}(\.\d{1,9})?")
_CURSOR = re.compile(r"(\d{1,12}\.\d{1,9}),([A-Za-z0-9_-]{1,64})")


class Reader(Protocol):
    """Runs queries outside the reactor's thread."""

    def run(self, query: Callable[[StoreReader], T]) -> Deferred[T]: ...


class Access:
    """Who may read results: ``all``, ``local`` (connections from this machine) or ``none``."""

    def __init__(self, allowed: str) -> None:
        self._allowed = allowed

    def check(self, request: Request) -> None:
        """Raises WebError if the client may not read."""
        if self._allowed == "all" or (self._allowed == "local" and _is_local(request)):
            return
        raise WebError(403, "results cannot be read from here (option results of perfd.conf)")


def _is_local(request: Request) -> bool:
    host = getattr(request.getClientAddress(), "host", "")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Answer(Node):
    """A resource whose answer takes a while."""

    def __init__(self, access: Access) -> None:
        super().__init__()
        self._access = access

    def render_GET(self, request: Request) -> int:
        self._access.check(request)
        answering = Deferred.fromCoroutine(self._answer(request))
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addCallbacks(request.respond, lambda failure: _failed(request, failure))
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> bytes:
        raise NotImplementedError


def _failed(request: Request, failure: Failure) -> None:
    if failure.check(CancelledError):
        return  # the client has gone
    if failure.check(StoreError, sqlite3.Error):
        failure = Failure(WebError(503, "the database cannot be read now; try again later"))
    request.processingFailed(failure)


class Results(_Answer):
    """``/results``: the measurements that the query asks for, the newest first."""

    def __init__(self, reader: Reader, access: Access) -> None:
        super().__init__(access)
        self._reader = reader

    def getChild(self, path: bytes, request: Request) -> IResource:
        return self if not path and not request.postpath else Result(self._reader, self._access, path)

    async def _answer(self, request: Request) -> bytes:
        wanted = read_filter(_arguments(request))
        page = await read_or(self._reader.run(lambda reader: reader.measurements(wanted)), [])
        if _wants_text(request):
            return _text(request, page)
        complete = len(page) < (wanted.limit or DEFAULT_LIMIT)
        document = {
            "results": [measurement.as_dict() for measurement in page],
            "next": None if complete else f"{page[-1].start:.6f},{page[-1].id}",
        }
        return json_body(request, document)


class Result(_Answer):
    """``/results/ID``: one measurement."""

    def __init__(self, reader: Reader, access: Access, name: bytes) -> None:
        super().__init__(access)
        self._reader = reader
        self._id = name.decode("ascii", "replace")

    async def _answer(self, request: Request) -> bytes:
        measurement = await read_or(self._reader.run(lambda reader: reader.measurement(self._id)), None)
        if measurement is None:
            raise WebError(404, f"there is no measurement {self._id[:64]}")
        if _wants_text(request):
            return _text(request, [measurement])
        return json_body(request, measurement.as_dict())


class HealthPage(Node):
    """``/health``: 200 if all is well, 503 if not, and the report either way."""

    def __init__(self, report: Callable[[], dict[str, Any]], access: Access) -> None:
        super().__init__()
        self._report = report
        self._access = access

    def render_GET(self, request: Request) -> bytes:
        self._access.check(request)
        report = self._report()
        request.setHeader(b"Cache-Control", b"no-store")
        request.setResponseCode(200 if report["healthy"] else 503)
        return json_body(request, report)


async def read_or(reading: Awaitable[T], empty: T) -> T:
    """What is read, or ``empty`` while there is no database yet."""
    try:
        return await reading
    except NoDatabaseError:
        return empty


def read_filter(arguments: Mapping[str, str]) -> Filter:
    """The filter that a query asks for. Raises WebError with all that is wrong about it."""
    problems: list[str] = []
    values: dict[str, Any] = {"limit": DEFAULT_LIMIT}
    for name, text in arguments.items():
        read = _READERS.get(name)
        if read is None:
            problems.append(f"{name[:40]}: unknown; there are {', '.join(sorted(_READERS))}")
            continue
        try:
            values[name] = read(text)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise WebError(400, "; ".join(problems))
    return Filter(**values)


def _read_time(text: str) -> float:
    """Seconds since the epoch, or a date or time of ISO 8601; without a zone it is UTC."""
    if _EPOCH.fullmatch(text):
        return float(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is no time such as 2026-11-23, 2026-11-23T12:00:00Z or 1795435200"
        ) from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _read_limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 0 < int(text) <= MOST_RESULTS:
        raise ValueError(f"{text[:40]!r} is not a number from 1 to {MOST_RESULTS}")
    return int(text)


def _read_outcome(text: str) -> Outcome:
    try:
        return Outcome(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not one of {', '.join(outcome.value for outcome in Outcome)}") from None


def _read_cursor(text: str) -> tuple[float, str]:
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise ValueError("not what next of the page before said")
    return float(match.group(1)), match.group(2)


_READERS: Mapping[str, Callable[[str], Any]] = {
    "source": str,
    "experiment": str,
    "type": str,
    "size": parse_size,
    "outcome": _read_outcome,
    "since": _read_time,
    "until": _read_time,
    "limit": _read_limit,
    "after": _read_cursor,
}


def _arguments(request: Request) -> dict[str, str]:
    """The query's arguments; of one given twice, the last."""
    return {
        name.decode("utf-8", "replace"): texts[-1].decode("utf-8", "replace")
        for name, texts in request.args.items()
    }


def _wants_text(request: Request) -> bool:
    """True if key=value lines are asked for: ``Accept: text/plain``, and JSON is not."""
    accepted = request.getHeader("accept") or ""
    return "text/plain" in accepted and "application/json" not in accepted


def _text(request: Request, measurements: list[Measurement]) -> bytes:
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    return "".join(f"{render(measurement)}\n" for measurement in measurements).encode()
