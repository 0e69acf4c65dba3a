"""``/page/``: the canonical page, to measure how a browser loads a page like today's.

``/page/``, ``/page/light/`` and ``/page/heavy/`` are today's version of the page's variants. They are also found as
``/page/VERSION/VARIANT/``, where their files are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO

from twisted.web.server import NOT_DONE_YET

from perfd.store.parameters import Parameter
from perfd.web.description import STRING, Content, Response, Route
from perfd.web.errors import WebError
from perfd.web.request import Described, Request
from perfd.web.targets.page_plan import (
    CANONICAL,
    MOST_ORIGINS,
    VARIANTS,
    VERSION,
    Part,
    make_document,
    make_part,
    page_version,
)
from perfd.web.targets.rate import StrangersRate
from perfd.wire.keystream import PIECE

HTML = "text/html; charset=utf-8"

TYPES = {
    "style": "text/css; charset=utf-8",
    "script": "text/javascript; charset=utf-8",
    "image": "image/png",
    "font": "font/ttf",
    "data": "application/json",
}
"""The Content-Type of each kind of part."""

VARIANT = Parameter("variant", "how large the page is", str, {"type": "string", "enum": list(VARIANTS)})
NAME = Parameter("name", "a file, as the page's links have it", str, STRING)

_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")

_HEADERS = {
    b"Cache-Control": b"no-store",
    b"X-Content-Type-Options": b"nosniff",
    b"Timing-Allow-Origin": b"*",
    b"Access-Control-Allow-Origin": b"*",  # fonts and fetched data come from other origins
}


class CanonicalPage(Described):
    """The page and its files.

    Files are made when they are first asked for, and then kept: eleven megabytes if all are.

    ``origins`` gives the other ports under which the same site is reached by the host name of the request; those of
    them that differ from the request's own port become further origins, at most two. Without any, all parts come
    from the one origin, and the page's version says so.
    """

    isLeaf = True

    def __init__(self, origins: Callable[[], Sequence[int]], rate: StrangersRate | None = None) -> None:
        super().__init__()
        self._rate = rate
        self._origins = origins
        self._documents = {"": CANONICAL}
        self._parts: dict[str, tuple[str, Part]] = {}
        self._made: dict[str, bytes] = {}
        for variant, plan in VARIANTS.items():
            self._documents |= dict.fromkeys((f"{variant}/", f"{VERSION}/{variant}/"), variant)
            self._parts |= {f"{VERSION}/{variant}/{part.name}": (variant, part) for part in plan.parts()}

    def describe(self, path: str) -> Iterator[Route]:
        # 400: the links to the other origins are made of the Host header, which may be none.
        page = {200: Response({_media_type(HTML): STRING})}
        other = "The same in another size"
        yield Route(f"{path}/", "A page to load in a browser, always the same", page, errors=(400, 404))
        yield Route(f"{path}/{{variant}}/", other, page, errors=(400, 404), in_path=(VARIANT,))
        yield Route(
            f"{path}/{VERSION}/{{variant}}/",
            "The same in one of its sizes, for as long as there is this version of it",
            page,
            errors=(400, 404),
            in_path=(VARIANT,),
        )
        files: Content = {_media_type(each): None for each in TYPES.values()}
        yield Route(
            f"{path}/{VERSION}/{{variant}}/{{name}}",
            "One of its files",
            {200: Response(files)},
            errors=(404,),
            in_path=(VARIANT, NAME),
        )

    def render_GET(self, request: Request) -> bytes | int:
        path = b"/".join(request.postpath or []).decode("ascii", "replace")
        if path in self._documents:
            return self._document(request, self._documents[path])
        if path in self._parts:
            return self._part(request, path)
        raise WebError(404, "the page has no such part")

    def _document(self, request: Request, variant: str) -> bytes:
        host, ports = self._others(request)
        version = page_version(variant, ports)
        _set_headers(request, HTML)
        return make_document(variant, version, ["", *(f"//{host}:{port}" for port in ports)])

    def _others(self, request: Request) -> tuple[str, Sequence[int]]:
        """The host that the client knows us by, and our other ports."""
        header = request.getHeader(b"host")
        if header is None:
            return "", ()
        found = _HOST.fullmatch(header.decode("ascii", "replace"))
        if found is None:
            raise WebError(400, "the Host header is no host and port")
        own = int(found[2] or 80)
        return found[1], [port for port in self._origins() if port != own][: MOST_ORIGINS - 1]

    def _part(self, request: Request, path: str) -> bytes | int:
        variant, part = self._parts[path]
        if path not in self._made:
            self._made[path] = make_part(variant, part)
        body = self._made[path]
        _set_headers(request, TYPES[part.kind])
        # A browser's requests cannot be told from a stranger's, so they count as such.
        rate = None if request.method == b"HEAD" else self._rate
        if len(body) <= PIECE and (rate is None or rate.spend(len(body))):
            return body
        if rate is None:
            request.stream(len(body), BytesIO(body).read)
        else:
            rate.send(request, len(body), BytesIO(body).read)
        return NOT_DONE_YET


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0]


def _set_headers(request: Request, content_type: str) -> None:
    request.setHeader(b"Content-Type", content_type.encode())
    for name, value in _HEADERS.items():
        request.setHeader(name, value)
