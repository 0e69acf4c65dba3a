"""``/results/ID/har``, ``/results/ID/screenshot``, ``/results/ID/filmstrip``: the files of a page load."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.web.resource import IResource

from perfd.store.database import NoDatabaseError
from perfd.store.filmstrips import PICTURES, read_picture
from perfd.store.page_files import FILMSTRIP, HAR, SCREENSHOT, file_of, is_id
from perfd.store.parameters import Parameter
from perfd.web.description import JSON, STRING, Readers, Response, Route
from perfd.web.errors import WebError
from perfd.web.files import open_file, send_file
from perfd.web.request import Node, Request
from perfd.web.results.answers import Answer, PublicDatabase, Reader
from perfd.web.results.listing import accepts_gzip


@attrs.frozen
class Kind:
    """A kind of file: its suffix on disk, how it is served, and what it is."""

    suffix: str
    content_type: str
    saved_as: str  # the suffix for those who save it
    doc: str
    is_packed: bool = False  # by gzip, which not every client takes


KINDS: Mapping[str, Kind] = {
    "har": Kind(HAR, "application/json", ".har", "The HAR 1.2 document of a page load", is_packed=True),
    "screenshot": Kind(SCREENSHOT, "image/png", ".png", "What the page looked like at the end of its load"),
    "filmstrip": Kind(FILMSTRIP, "application/zip", ".filmstrip.zip", "Pictures of the page during its load"),
}
"""By the last part of their path."""

_NUMBER = re.compile("[1-9][0-9]{0,5}")


class LoadFile(Answer):
    """A file of one measurement in ``directory``."""

    def __init__(self, database: PublicDatabase, directory: Path, measurement: str, name: str) -> None:
        super().__init__(database)
        self._directory = directory
        self._id = measurement
        self._name = name

    def describe(self, path: str) -> Iterator[Route]:
        kind = KINDS[self._name]
        schema = {"type": "object"} if kind.content_type == JSON else None
        yield Route(
            path,
            kind.doc,
            {200: Response({kind.content_type: schema})},
            errors=(400, 404, 503),
            readers=Readers.RESULTS,
        )

    async def answer(self, request: Request, arguments: dict[str, Any]) -> None:
        kind = KINDS[self._name]
        start = await start_of(self.database.reader_for(request), self._id)
        packed = kind.is_packed and accepts_gzip(request)
        opened = None
        if start is not None:
            path = file_of(self._directory, start, self._id, kind.suffix)
            opening = partial(open_file, path, unpack=kind.is_packed and not packed)
            opened = await self.database.reader_for(request).call(opening)
        if opened is None:
            raise WebError(404, f"there is no {self._name} of {self._id[:64]!r}, or it was deleted (keep-har)")
        request.setHeader(b"Content-Type", kind.content_type.encode())
        request.setHeader(b"Cache-Control", b"no-cache")  # may be kept, must be asked for again
        name = f"{self._id}{kind.saved_as}"
        request.setHeader(b"Content-Disposition", f'inline; filename="{name}"'.encode())
        if kind.is_packed:
            request.setHeader(b"Vary", b"Accept-Encoding")
        if packed:
            request.setHeader(b"Content-Encoding", b"gzip")
        await send_file(request, opened, self.database.reader_for(request))


async def start_of(reader: Reader, measurement: str) -> float | None:
    """When the measurement started; None if there is none that can have files."""
    if not is_id(measurement):
        return None
    try:
        found = await reader.run(lambda store: store.measurement(measurement))
    except NoDatabaseError:
        return None
    return None if found is None else found.start


class Frames(Node):
    """``/results/ID/frames/N``: each picture of a filmstrip, from 1 on."""

    def __init__(self, database: PublicDatabase, directory: Path, measurement: str) -> None:
        super().__init__()
        self._database = database
        self._directory = directory
        self._id = measurement

    def describe(self, path: str) -> Iterator[Route]:
        number = Parameter("number", "which picture, from 1 on", str, STRING)
        for route in self._one("{number}").describe(f"{path}/{{number}}"):
            yield route.below(number)

    def getChild(self, path: bytes, request: Request) -> IResource:
        return self._one(path.decode("ascii", "replace")) if path else super().getChild(path, request)

    def _one(self, number: str) -> Frame:
        return Frame(self._database, self._directory, self._id, number)


class Frame(Answer):
    """One picture of a filmstrip."""

    def __init__(self, database: PublicDatabase, directory: Path, measurement: str, number: str) -> None:
        super().__init__(database)
        self._directory = directory
        self._id = measurement
        self._number = number

    def describe(self, path: str) -> Iterator[Route]:
        yield Route(
            path,
            "A picture of the page during its load",
            {200: Response(dict.fromkeys(PICTURES.values()))},
            errors=(400, 404, 503),
            readers=Readers.RESULTS,
        )

    async def answer(self, request: Request, arguments: dict[str, Any]) -> None:
        reader = self.database.reader_for(request)
        start = await start_of(reader, self._id)
        found = None
        if start is not None and _NUMBER.fullmatch(self._number):
            path = file_of(self._directory, start, self._id, FILMSTRIP)
            found = await reader.call(partial(read_picture, path, int(self._number)))
        if found is None:
            raise WebError(404, f"there is no picture {self._number[:20]!r} of {self._id[:64]!r}")
        content_type, body = found
        request.setHeader(b"Content-Type", content_type.encode())
        request.setHeader(b"Cache-Control", b"private, max-age=86400")  # it never changes
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        request.respond(body)
