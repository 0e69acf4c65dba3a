"""Pages for people at the same addresses where programs get JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import OK

from perfd.pages.layout import STYLE
from perfd.pages.records import THEMES, DaemonState, Made, PageError, PageRequest, View
from perfd.record import EMPTY, Measurement
from perfd.store.parameters import Parameter
from perfd.web.description import STRING, TEXT, Response, Route
from perfd.web.errors import WebError
from perfd.web.request import Node, Request
from perfd.web.results.answers import MOST_SECONDS
from perfd.web.results.listing import accepts_gzip, known_tags
from perfd.web.results.parameters import read_arguments

FRESH = 2.0
"""Seconds for which a page is given again as it is."""

UNCHANGED = 20.0
"""The same if no measurement ended meanwhile; what it says of the daemon's state is that old."""

OF_ONE = 60.0
"""The same for a page about one experiment, if none of its own measurements ended: it has nothing of the daemon's
state. What other programs write into the database, as an import does, shows after so long."""

AT_ONCE = 16
"""Those who wait for a page and are answered in one turn of the reactor: some 3 ms."""

MOST_KEPT = 64
"""Pages."""

STYLE_LIFE = 300
"""Seconds for which a browser may keep the stylesheet without asking."""

_GOING_ON = ("theme", "pause")
"""Arguments of all pages."""


class PageMaker(Protocol):
    """Makes pages, elsewhere."""

    async def make(self, request: PageRequest) -> Made:
        """Raises PageError."""


@attrs.define
class _Kept:
    """A page that was made, or is on its way; ``waiting`` are those who want it too."""

    asked: float
    changes: int  # how many measurements that it shows had ended when it was asked for
    experiment: str | None  # whose measurements it shows; None: those of all
    made: Made | None = None
    waiting: list[Deferred[Made]] = attrs.Factory(list)

    def gone(self, waiting: Deferred[Made]) -> None:
        """Somebody waits no longer."""
        if waiting in self.waiting:
            self.waiting.remove(waiting)


class People:
    """Answers with pages that ``maker`` makes of what the database and ``state`` say; a sink of measurements."""

    def __init__(
        self,
        reactor: IReactorTime,
        maker: PageMaker,
        state: Callable[[], DaemonState],
        monotonic: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._maker = maker
        self._state = state
        self._monotonic = monotonic
        self._changes: Counter[str | None] = Counter()
        self._kept: dict[object, _Kept] = {}

    def record(self, measurement: Measurement) -> None:
        """Pages that were made before do not know of it."""
        self._changes.update((None, measurement.experiment))

    async def answer(
        self, request: Request, name: str, parameters: Sequence[Parameter], fixed: Mapping[str, Any] = EMPTY
    ) -> None:
        """Send the page ``name``; ``fixed`` are arguments that the path gives. Raises WebError."""
        view = _view(request)
        arguments = {**read_arguments(parameters, request), **fixed}
        seconds = None if request.is_local else MOST_SECONDS
        # What a stranger may not read that long is not for this machine, which may.
        key = (name, view.path, tuple(sorted(view.arguments.items())), view.theme, view.is_paused, seconds)
        try:
            made = await self._made(key, name, view, arguments, seconds)
        except PageError as error:
            raise WebError(error.status, error.message, {b"Retry-After": b"5"}) from None
        _send(request, made)

    async def _made(
        self, key: object, name: str, view: View, arguments: Mapping[str, Any], seconds: float | None
    ) -> Made:
        kept = self._kept.get(key)
        if kept is not None and self._is_fresh(kept):
            if kept.made is not None:
                return kept.made
            waiting: Deferred[Made] = Deferred(kept.gone)
            kept.waiting.append(waiting)
            return await waiting
        experiment = arguments.get("name") if name == "experiment" else None
        kept = self._kept[key] = _Kept(self._monotonic(), self._changes[experiment], experiment)
        while len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        request = PageRequest(name=name, view=view, arguments=arguments, state=self._state(), seconds=seconds)
        try:
            made = kept.made = await self._maker.make(request)
            if made.status != OK:
                self._forget(key, kept)
        except BaseException as error:
            self._forget(key, kept)
            reason = error if isinstance(error, PageError) else PageError(503, "ask again")
            self._tell(kept, lambda waiting: waiting.errback(Failure(reason)))
            raise
        self._tell(kept, lambda waiting: waiting.callback(made))
        return made

    def _tell(self, kept: _Kept, tell: Callable[[Deferred[Made]], object]) -> None:
        """Let those who wait know, not all of them in one turn of the reactor."""
        some = kept.waiting[:AT_ONCE]
        del kept.waiting[:AT_ONCE]
        if kept.waiting:
            self._reactor.callLater(0, self._tell, kept, tell)
        for each in some:
            tell(each)

    def _forget(self, key: object, kept: _Kept) -> None:
        """Whoever asks next may have more luck."""
        if self._kept.get(key) is kept:
            del self._kept[key]

    def _is_fresh(self, kept: _Kept) -> bool:
        age = self._monotonic() - kept.asked
        longest = UNCHANGED if kept.experiment is None else OF_ONE
        is_unchanged = kept.changes == self._changes[kept.experiment]
        return kept.made is None or age < FRESH or (age < longest and is_unchanged)


def _view(request: Request) -> View:
    """How the client reads; the arguments that stand for that are taken off, and those of forms left empty."""
    taken = {name: request.args.pop(name.encode(), [b""])[-1].decode("utf-8", "replace") for name in _GOING_ON}
    for name, texts in tuple(request.args.items()):
        if not texts[-1].strip():
            del request.args[name]
    if taken["theme"] not in ("", *THEMES):
        raise WebError(400, f"theme: there are {', '.join(THEMES)}")
    arguments = {
        name.decode("utf-8", "replace"): texts[-1].decode("utf-8", "replace")
        for name, texts in request.args.items()
    }
    path = request.path.decode("ascii", "replace")
    return View(path, arguments, taken["theme"], bool(taken["pause"]))


def _send(request: Request, made: Made) -> None:
    tag = made.tag
    packed = accepts_gzip(request)
    request.setHeader(b"ETag", f'"{tag}-gzip"'.encode() if packed else f'"{tag}"'.encode())
    request.setHeader(b"Vary", b"Accept, Accept-Encoding")
    request.setHeader(b"Cache-Control", b"no-cache")
    if made.refresh is not None:
        request.setHeader(b"Refresh", str(made.refresh).encode())
    if made.status == OK and known_tags(request) & {tag, "*"}:
        request.setResponseCode(304)
        request.finish()
        return
    set_page_headers(request, made.policy)
    request.setResponseCode(made.status)
    if packed:
        request.setHeader(b"Content-Encoding", b"gzip")
    request.respond(made.packed if packed else made.body)


def set_page_headers(request: Request, policy: str) -> None:
    """What a browser must know of a page."""
    request.setHeader(b"Content-Type", b"text/html; charset=utf-8")
    request.setHeader(b"Content-Security-Policy", policy.encode())
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    request.setHeader(b"Referrer-Policy", b"same-origin")


class StyleSheet(Node):
    """``/style.css``: how pages look."""

    def __init__(self) -> None:
        super().__init__()
        self._body = STYLE.encode()
        self._tag = sha256(self._body).hexdigest()[:32]

    def describe(self, path: str) -> Iterator[Route]:
        yield Route(path, "The stylesheet of pages", {200: Response({"text/css": None}), 304: Response()})

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"ETag", f'"{self._tag}"'.encode())
        request.setHeader(b"Cache-Control", f"max-age={STYLE_LIFE}".encode())
        if known_tags(request) & {self._tag, "*"}:
            request.setResponseCode(304)
            return b""
        request.setHeader(b"Content-Type", b"text/css; charset=utf-8")
        return self._body


class Robots(Node):
    """``/robots.txt``: whether pages may be put into search engines (RFC 9309)."""

    def __init__(self, allowed: bool) -> None:
        super().__init__()
        self._allowed = allowed

    def describe(self, path: str) -> Iterator[Route]:
        yield Route(path, "What crawlers may read", {200: Response({TEXT: STRING})})

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        kept = ("/random", "/urandom", "/page", "/upload", "/echo")
        return _rules(kept if self._allowed else ("/",))


def _rules(paths: Sequence[str]) -> bytes:
    return "".join(["User-agent: *\n", *(f"Disallow: {path}\n" for path in paths)]).encode()
