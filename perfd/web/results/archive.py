"""``/archive/``: the published files, and the listing in which CollecTor looks for them.

The files are small and never change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from twisted.web.resource import IResource

from perfd.formats import outputs
from perfd.store.parameters import Parameter
from perfd.web.description import STRING, Content, Readers, Response, Route
from perfd.web.errors import WebError
from perfd.web.files import open_file, send_file
from perfd.web.request import Node, Request
from perfd.web.results.answers import PublicDatabase, answer_later

INDEX = "index.html"

NAME = Parameter("name", "a published file, as the listing has it", str, STRING)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def media_types() -> dict[str, str]:
    """What there is in the archive, by the last ending of its names: what is archived, and the indexes."""
    formats = {Path(f"x{row.suffix}").suffix: row.media_type for row in outputs.OUTPUTS if row.archived}
    return formats | {".xml": "application/xml", ".html": "text/html"}


class ArchivePages(Node):
    """``/archive/`` and the files in ``directory``. ``empty`` gives the listing while nothing was published."""

    def __init__(self, directory: Path, database: PublicDatabase, empty: Callable[[], bytes]) -> None:
        super().__init__()
        self._directory = directory
        self._database = database
        self._empty = empty

    def describe(self, path: str) -> Iterator[Route]:
        yield Route(
            f"{path}/", "The published files", {200: Response({"text/html": STRING})}, readers=Readers.RESULTS
        )
        files: Content = dict.fromkeys(sorted(media_types().values()))
        yield Route(
            f"{path}/{{name}}",
            "One of them: results of a day, or index.xml",
            {200: Response(files)},
            errors=(404,),
            readers=Readers.RESULTS,
            in_path=(NAME,),
        )

    def getChild(self, path: bytes, request: Request) -> IResource:
        name = path.decode("ascii", "replace") or INDEX
        if request.postpath or not _NAME.fullmatch(name) or Path(name).suffix not in media_types():
            return super().getChild(path, request)
        return _Published(self._directory / name, self._database, self._empty if name == INDEX else None)

    def render_GET(self, request: Request) -> int:
        """Without the slash at its end, the links of the listing would lead elsewhere."""
        return answer_later(request, self._redirect(request))

    async def _redirect(self, request: Request) -> None:
        await self._database.access.check(request)
        request.setResponseCode(301)
        request.setHeader(b"Location", b"archive/")
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        request.respond(b"see archive/\n")


class _Published(Node):
    """One file; ``empty`` gives what is there in its place, if anything is."""

    def __init__(self, path: Path, database: PublicDatabase, empty: Callable[[], bytes] | None) -> None:
        super().__init__()
        self._path = path
        self._database = database
        self._empty = empty

    def render_GET(self, request: Request) -> int:
        return answer_later(request, self._answer(request))

    async def _answer(self, request: Request) -> None:
        await self._database.access.check(request)
        media_type = media_types()[self._path.suffix]
        charset = "; charset=utf-8" if media_type.startswith("text/") else ""
        request.setHeader(b"Content-Type", f"{media_type}{charset}".encode())
        opened = await self._database.reader_for(request).call(partial(open_file, self._path))
        if opened is not None:
            await send_file(request, opened, self._database.reader_for(request))
        elif self._empty is not None:
            request.respond(self._empty())
        else:
            raise WebError(404, f"there is no {self._path.name} in the archive")
