"""Lists of records, however long: read, encoded and compressed in a reader thread, a page at a time.

A page is read when the client has taken the one before. So a list takes as much memory as its largest page, and a
client that goes away ends the reading. What fits on one page has an ETag.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from hashlib import sha256
from typing import Any, Generic, TypeVar

import attrs
from twisted.web.resource import IResource

from perfd.record import EMPTY
from perfd.store.database import NoDatabaseError
from perfd.store.filters import Filter, Window
from perfd.store.parameters import DEFAULT_LIMIT, Parameter
from perfd.store.reader import StoreReader
from perfd.store.rows import Table
from perfd.web.description import STRING, Content, Readers, Response, Route
from perfd.web.errors import WebError
from perfd.web.request import Described, Request
from perfd.web.results.answers import Answer, PublicDatabase, page_content, page_parameters
from perfd.web.results.forms import Format
from perfd.wire.pieces import send_in_pieces

PAGE = 500
"""Records of a page: about a megabyte."""

BATCH = 20
BREATH = 0.0001
"""Records of a query, and seconds of rest after it: the reactor's thread, which stamps, never waits for long."""

WORTH_IT = 1000
"""Bytes from which on a body is compressed."""

FILTERED_OUT = "Perfd-Filtered-Out"
MEASUREMENTS = "Perfd-Measurements"
"""The headers that say, if it is asked for, how many measurements the filters leave out, and of how many."""

LEFT_OUT = "Perfd-Left-Out"
"""The header that says what a list does not have, because its format has no place for it."""

R = TypeVar("R")


@attrs.frozen
class Records(Generic[R]):
    """A kind of record: the ``name`` of a list and of one of them, its filter's class, and how they are read."""

    name: str
    singular: str
    record: type[R]
    table: Table[R]
    window: Callable[..., Window]
    select: Callable[[StoreReader, Any], list[R]]
    one: Callable[[StoreReader, str], R | None] | None = None


class ResultPages(Generic[R]):
    """A list on its way: the pages that are left of it. Its methods are for a reader thread, one call at a time."""

    def __init__(self, records: Records[R], form: Format, wanted: Window) -> None:
        self._records = records
        self._wanted = wanted
        self._left = DEFAULT_LIMIT if wanted.limit is None else wanted.limit
        self._exhausted = False
        self._pages = form.pages(records.name)
        self.complete = False

    def next(self, reader: StoreReader) -> bytes:
        """The bytes of the next page; the last sets ``complete``."""
        left = PAGE
        while left and not self.complete:
            size = min(BATCH, left, self._left)
            found = self._records.select(reader, attrs.evolve(self._wanted, limit=size))
            self._pages.add(found)
            left -= size
            self._left -= size
            if found:
                self._wanted = attrs.evolve(self._wanted, after=self._records.table.cursor(found[-1]))
            self._exhausted = len(found) < size
            self.complete = self._exhausted or not self._left
            time.sleep(BREATH)
        return self._taken()

    def nothing(self) -> bytes:
        """The bytes of an empty list."""
        self.complete = self._exhausted = True
        return self._taken()

    def _taken(self) -> bytes:
        if not self.complete:
            return self._pages.taken()
        cursor = None if self._exhausted else self._wanted.after
        return self._pages.end(cursor and written_cursor(cursor))


def written_cursor(cursor: tuple[float, str]) -> str:
    """A cursor as the parameter ``after`` takes it; the time is exact."""
    time, record_id = cursor
    return f"{Decimal(repr(time)):f},{record_id}"


@attrs.frozen
class Start:
    """The first page of an answer. It has an ``etag`` if it is the only one; no body if the client knows that."""

    body: bytes
    etag: str | None = None
    known: bool = False


class Sending(Generic[R]):
    """What one client gets of a list. Apart from ``gzip`` and ``known`` it is for a reader thread."""

    def __init__(self, pages: ResultPages[R], *, gzip: bool, known: frozenset[str]) -> None:
        self._pages = pages
        self._known = known
        self._wants_gzip = gzip
        self._compressor: Any = None

    @property
    def complete(self) -> bool:
        return self._pages.complete

    @property
    def compressed(self) -> bool:
        return self._compressor is not None

    def start(self, reader: StoreReader) -> Start:
        return self._start(self._pages.next(reader))

    def start_empty(self) -> Start:
        return self._start(self._pages.nothing())

    def go_on(self, reader: StoreReader) -> bytes:
        return self._compress(self._pages.next(reader))

    def _start(self, body: bytes) -> Start:
        if self._wants_gzip and (len(body) >= WORTH_IT or not self.complete):
            self._compressor = zlib.compressobj(wbits=31)  # 31: gzip
        if not self.complete:
            return Start(self._compress(body))
        tag = sha256(body).hexdigest()[:32]
        etag = f'"{tag}-gzip"' if self.compressed else f'"{tag}"'
        if self._known & {tag, "*"}:
            return Start(b"", etag, known=True)
        return Start(self._compress(body), etag)

    def _compress(self, data: bytes) -> bytes:
        if self._compressor is None:
            return data
        packed: bytes = self._compressor.compress(data)
        rest: bytes = self._compressor.flush(zlib.Z_FINISH if self.complete else zlib.Z_SYNC_FLUSH)
        return packed + rest


class Listing(Answer, Generic[R]):
    """A resource that lists ``records``, with a child for each if they can be read one by one.

    The client chooses among ``formats``; ``fixed`` are arguments that the path gives. One that ``is_for_people`` is
    a page in browsers, and so is each of its records.
    """

    def __init__(
        self,
        database: PublicDatabase,
        summary: str,
        records: Records[R],
        parameters: Sequence[Parameter],
        formats: Sequence[Format],
        fixed: Mapping[str, Any] = EMPTY,
        *,
        is_for_people: bool = False,
    ) -> None:
        super().__init__(database)
        self.parameters = parameters
        self.page = records.name if is_for_people else None
        self._summary = summary
        self._records = records
        self._formats = formats
        self._fixed = fixed

    @property
    def has_children(self) -> bool:
        """Whether each record has a resource of its own."""
        return self._records.one is not None

    def describe(self, path: str) -> Iterator[Route]:
        records = self._records
        lists: Content = {
            **{each.media_type: each.list_schema(records.name, records.record) for each in self._formats},
            **page_content(self),
        }
        headers = {"ETag": "of a list that is one page"}
        if any(each.leaves_out for each in self._formats):
            headers[LEFT_OUT] = "what the format has no place for"
        if any(each.name == "count" for each in self.parameters):
            headers[FILTERED_OUT] = "how many measurements of the period the filters left out, with count=yes"
            headers[MEASUREMENTS] = "how many measurements of the period there are, with count=yes"
        yield Route(
            path,
            self._summary,
            {
                200: Response(lists, headers=headers),
                304: Response(doc="It is what If-None-Match names"),
            },
            errors=(400, 503),  # 400: arguments that nobody knows are refused, never ignored
            readers=Readers.RESULTS,
            in_query=(*self.parameters, *page_parameters(self)),
        )
        if self.has_children:
            record_id = Parameter("id", f"the {records.singular}'s id", str, STRING)
            for route in self.one("{id}").describe(f"{path}/{{id}}"):
                yield route.below(record_id)

    def getChild(self, path: bytes, request: Request) -> IResource:
        if not path and not request.postpath:
            return self
        if self.has_children:
            return self.one(path.decode("utf-8", "replace"))
        return super().getChild(path, request)

    def one(self, record_id: str) -> Described:
        """The resource of one record."""
        one = One(self.database, self._records, self._formats, record_id)
        one.page = self._records.singular if self.page is not None else None
        return one

    async def answer(self, request: Request, arguments: dict[str, Any]) -> None:
        form = chosen(self._formats, request).for_query(arguments)
        is_counted = arguments.pop("count", False)
        wanted = self._records.window(**{**arguments, **self._fixed})
        pages = ResultPages(self._records, form, wanted)
        sending = Sending(pages, gzip=not form.is_compressed and accepts_gzip(request), known=known_tags(request))
        reader = self.database.reader_for(request)
        try:
            if is_counted and isinstance(wanted, Filter):
                left_out, total = await reader.run(partial(StoreReader.filtered_out, wanted=wanted))
                request.setHeader(FILTERED_OUT.encode(), b"%d" % left_out)
                request.setHeader(MEASUREMENTS.encode(), b"%d" % total)
            start = await reader.run(sending.start)
        except NoDatabaseError:  # it is made when Perfd is started for the first time
            start = sending.start_empty()
        _set_headers(request, form, sending, start)
        if start.known:
            request.setResponseCode(304)
            request.finish()
            return
        request.write(b"")  # the head, also of an answer to HEAD
        await send_in_pieces(request, start.body)
        while not sending.complete and request.method != b"HEAD":
            await send_in_pieces(request, await reader.run(sending.go_on))
        request.finish()


class One(Answer, Generic[R]):
    """A resource of one record."""

    def __init__(
        self, database: PublicDatabase, records: Records[R], formats: Sequence[Format], record_id: str
    ) -> None:
        super().__init__(database)
        self._records = records
        self._formats = formats
        self._id = record_id

    def describe(self, path: str) -> Iterator[Route]:
        content: Content = {
            **{each.media_type: each.one_schema(self._records.record) for each in self._formats},
            **page_content(self),
        }
        yield Route(
            path,
            f"One {self._records.singular}",
            {200: Response(content)},
            errors=(400, 404, 503),
            readers=Readers.RESULTS,
            in_query=page_parameters(self),
        )
        for name, child in self.children.items():
            assert isinstance(child, Described)
            yield from child.describe(f"{path}/{name.decode()}")

    @property
    def fixed_for_page(self) -> Mapping[str, Any]:
        return {"id": self._id}

    async def answer(self, request: Request, arguments: dict[str, Any]) -> None:
        read = self._records.one
        assert read is not None
        form = chosen(self._formats, request).for_query(("id",))

        def query(reader: StoreReader) -> bytes | None:
            record = read(reader, self._id)
            return None if record is None else form.one(record)

        try:
            body = await self.database.reader_for(request).run(query)
        except NoDatabaseError:
            body = None
        if body is None:
            raise WebError(404, f"{self._id[:64]!r} is not among the {self._records.name}")
        request.setHeader(b"Content-Type", form.content_type)
        request.setHeader(b"Vary", b"Accept")
        request.respond(body)


def _set_headers(request: Request, form: Format, sending: Sending[Any], start: Start) -> None:
    request.setHeader(b"Content-Type", form.content_type)
    request.setHeader(b"Cache-Control", b"no-cache")  # may be kept, must be asked for again
    request.setHeader(b"Vary", b"Accept, Accept-Encoding")
    if form.leaves_out:
        request.setHeader(LEFT_OUT.encode(), ", ".join(form.leaves_out).encode())
    if start.etag is not None:
        request.setHeader(b"ETag", start.etag.encode())
    if sending.compressed:
        request.setHeader(b"Content-Encoding", b"gzip")
    if sending.complete and not start.known:
        request.setHeader(b"Content-Length", b"%d" % len(start.body))


def chosen(formats: Sequence[Format], request: Request) -> Format:
    """The first of ``formats`` that Accept names, the first of all if it names none of them."""
    accepted = request.header(b"accept").lower()
    return next((each for each in formats if each.media_type in accepted), formats[0])


def accepts_gzip(request: Request) -> bool:
    """Whether the client takes gzip (RFC 9110, section 12.5.3)."""
    for coding in request.header(b"accept-encoding").split(","):
        name, _, weight = coding.partition(";")
        if name.strip().lower() in ("gzip", "x-gzip"):
            return not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight)
    return False


def known_tags(request: Request) -> frozenset[str]:
    """The bodies that the client has, by their hashes (If-None-Match)."""
    tags = request.header(b"if-none-match").split(",")
    return frozenset(tag.strip().removeprefix("W/").strip('"').removesuffix("-gzip") for tag in tags)
