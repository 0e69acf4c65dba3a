"""``/`` and the other pages that are no records: for programs they are what there is, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twisted.web.resource import IResource

from perfd.record import EMPTY
from perfd.store.parameters import Parameter
from perfd.web.description import HTML, JSON, STRING, Readers, Response, Route
from perfd.web.errors import WebError
from perfd.web.request import FORMAT, Node, Request, json_body
from perfd.web.results.answers import Answer, PublicDatabase, page_content, page_parameters
from perfd.web.site import RESOURCES, resources


class Overview(Answer):
    """``/``: how Perfd goes on; for programs, what there is."""

    page = "overview"

    def describe(self, path: str) -> Iterator[Route]:
        yield Route(
            path,
            "What there is; for browsers, how Perfd goes on",
            {200: Response({JSON: RESOURCES, **page_content(self)}), 304: Response()},
            errors=(400, 503),
            in_query=page_parameters(self),
        )

    async def check(self, request: Request) -> None:
        """What there is may be known to everybody."""
        if request.wants_page:
            await super().check(request)

    async def answer(self, request: Request, arguments: dict[str, Any]) -> None:
        request.respond(json_body(request, resources(request.channel.site.resource)))


class PagesBelow(Node):
    """``/experiments/NAME`` and its like: a page for each name."""

    def __init__(self, database: PublicDatabase, page: str, summary: str, *parameters: Parameter) -> None:
        super().__init__()
        self._database = database
        self._page = page
        self._summary = summary
        self._parameters = parameters

    def describe(self, path: str) -> Iterator[Route]:
        name = Parameter("name", "the name of one", str, STRING)
        for route in self.one("{name}").describe(f"{path}/{{name}}"):
            yield route.below(name)

    def getChild(self, path: bytes, request: Request) -> IResource:
        return self.one(path.decode("utf-8", "replace")) if path else super().getChild(path, request)

    def one(self, name: str) -> PageOnly:
        """The page of one."""
        return PageOnly(self._database, self._page, self._summary, *self._parameters, fixed={"name": name})


class PageOnly(Answer):
    """A page for people; programs have the records that it is made of. ``fixed``: see ``fixed_for_page``."""

    def __init__(
        self,
        database: PublicDatabase,
        page: str,
        summary: str,
        *parameters: Parameter,
        fixed: Mapping[str, str] = EMPTY,
    ) -> None:
        super().__init__(database)
        self.page = page
        self._fixed = fixed
        self.parameters = parameters
        self._summary = summary

    def describe(self, path: str) -> Iterator[Route]:
        yield Route(
            path,
            self._summary,
            {200: Response({HTML: None}), 304: Response()},
            errors=(400, 404, 503),
            readers=Readers.RESULTS,
            in_query=(*self.parameters, FORMAT),
        )

    @property
    def fixed_for_page(self) -> Mapping[str, Any]:
        return self._fixed

    async def answer(self, request: Request, arguments: dict[str, Any]) -> None:
        raise WebError(404, "this is a page for people; ask with ?format=html")
