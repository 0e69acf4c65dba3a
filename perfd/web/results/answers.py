"""Answers that take a while, because the database is read in another thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, execute
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from perfd.processes.peers import is_of_tor
from perfd.record import EMPTY
from perfd.store.database import QueryTooLongError, StoreError
from perfd.store.parameters import Parameter
from perfd.store.reader import StoreReader
from perfd.web.description import HTML, Content
from perfd.web.errors import WebError
from perfd.web.request import FORMAT, Node, Request
from perfd.web.results.parameters import read_arguments

MOST_ANSWERS = 32
"""Answers from the database at a time; each has a page in memory until the client has taken it."""

MOST_LOCAL = 8
"""The same for this machine, which has places of its own."""

MOST_SECONDS = 2.0
"""How long a stranger's query may take; the next page is another one."""

T = TypeVar("T")


class People(Protocol):
    """Answers browsers."""

    async def answer(
        self, request: Request, name: str, parameters: Sequence[Parameter], fixed: Mapping[str, Any] = EMPTY
    ) -> None:
        """Send the page ``name``; ``fixed`` are arguments that the path gives. Raises WebError."""


Call = Callable[[Callable[[], bool]], Deferred[bool]]
"""Runs a function in another thread."""


class Reader(Protocol):
    """Runs queries, and other functions that wait for the disk, outside the reactor's thread."""

    def run(self, query: Callable[[StoreReader], T]) -> Deferred[T]: ...

    def call(self, function: Callable[[], T]) -> Deferred[T]: ...


class Access:
    """Who may read results: ``all``, ``local`` (programs of this machine) or ``none``, as ``allowed`` says.

    A connection from this machine may be that of a tor, through which anybody comes. ``call`` runs the look at that
    in a thread.
    """

    def __init__(self, allowed: str, call: Call = execute) -> None:
        self.allowed = allowed
        self._call = call

    async def check(self, request: Request) -> None:
        """Raises WebError if the client may not read."""
        if self.allowed != "all" and not (self.allowed == "local" and await self._is_ours(request)):
            raise WebError(403, "results cannot be read from here (option results of perfd.conf)")

    async def check_health(self, request: Request) -> None:
        """The same for the state of Perfd, which this machine may always read: `perfd status` does."""
        if self.allowed != "all" and not await self._is_ours(request):
            raise WebError(403, "the state of Perfd cannot be read from here (option results of perfd.conf)")

    async def _is_ours(self, request: Request) -> bool:
        if not request.is_local:
            return False
        transport = request.channel.transport
        return not await self._call(partial(is_of_tor, transport.getPeer(), transport.getHost()))


@attrs.define
class AnswerLimit:
    """How many answers are being given, and may be."""

    most: int = MOST_ANSWERS
    taken: int = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Raises WebError if there is none."""
        if self.taken >= self.most:
            raise WebError(503, "too many queries at a time; try again soon", {b"Retry-After": b"5"})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@attrs.frozen
class PublicDatabase:
    """The database as strangers meet it. This machine has a ``local`` reader and places of its own.

    ``people`` answers browsers; None: they get what programs get.
    """

    reader: Reader
    access: Access
    limit: AnswerLimit = attrs.Factory(AnswerLimit)
    local: Reader | None = None  # None: the same
    local_limit: AnswerLimit = attrs.Factory(lambda: AnswerLimit(MOST_LOCAL))
    people: People | None = None

    def reader_for(self, request: Request) -> Reader:
        """Who reads for this client."""
        return self.local if self.local is not None and request.is_local else self.reader

    def limit_for(self, request: Request) -> AnswerLimit:
        """The places of which this client needs one."""
        return self.local_limit if self.local is not None and request.is_local else self.limit


class Answer(Node):
    """A resource whose answer comes from the database. The query may have ``parameters`` and no others.

    A browser gets the ``page`` of that name, for which the path has given the arguments ``fixed_for_page``.
    """

    parameters: Sequence[Parameter] = ()
    page: str | None = None
    page_parameters: Sequence[Parameter] | None = None  # None: the same

    @property
    def fixed_for_page(self) -> Mapping[str, Any]:
        return EMPTY

    @property
    def has_page(self) -> bool:
        return self.page is not None and self.database.people is not None

    def __init__(self, database: PublicDatabase) -> None:
        super().__init__()
        self.database = database

    def render_GET(self, request: Request) -> int:
        return answer_later(request, self._in_its_place(request))

    async def _in_its_place(self, request: Request) -> None:
        await self.check(request)
        people, wants_page = self.database.people, request.wants_page
        if self.has_page:
            _take_format(request)
            request.setHeader(b"Vary", b"Accept, Accept-Encoding")
        if wants_page and people is not None and self.page is not None:
            parameters = self.parameters if self.page_parameters is None else self.page_parameters
            await people.answer(request, self.page, parameters, self.fixed_for_page)
            return
        arguments = read_arguments(self.parameters, request)
        with self.database.limit_for(request).place():
            await self.answer(request, arguments)

    async def check(self, request: Request) -> None:
        """Raises WebError if the client may not read it."""
        await self.database.access.check(request)

    def answer(self, request: Request, arguments: dict[str, Any]) -> Coroutine[Any, Any, None]:
        """Send the whole response. It is cancelled when the client goes away."""
        raise NotImplementedError


def _take_format(request: Request) -> None:
    """Take the argument off that ``wants_page`` has looked at. Raises WebError if it is none of its values."""
    asked = request.args.pop(b"format", [b"json"])[-1]
    if asked not in (b"html", b"json"):
        raise WebError(400, f"format: {FORMAT.doc}")


def page_content(answer: Answer) -> Content:
    """What browsers get, for the description of a route."""
    return {HTML: None} if answer.has_page else {}


def page_parameters(answer: Answer) -> Sequence[Parameter]:
    """What may be asked of any page, for the description of a route."""
    return (FORMAT,) if answer.has_page else ()


def answer_later(request: Request, answer: Coroutine[Any, Any, None]) -> int:
    """Let ``answer`` send the response; it is cancelled when the client goes away. To be returned by ``render``."""
    answering = Deferred.fromCoroutine(answer)
    request.notifyFinish().addErrback(lambda _: answering.cancel())
    answering.addErrback(lambda failure: _failed(request, failure))
    return NOT_DONE_YET


def _failed(request: Request, failure: Failure) -> None:
    if failure.check(CancelledError, ConnectionLost):
        return  # the client has gone
    if failure.check(QueryTooLongError):
        failure = Failure(WebError(503, str(failure.value)))
    elif failure.check(StoreError, sqlite3.Error):
        failure = Failure(WebError(503, "the database cannot be read now; try again later"))
    request.processingFailed(failure)
