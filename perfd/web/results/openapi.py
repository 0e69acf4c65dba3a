"""``/openapi.json``: the site, described by its routes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from perfd import __version__
from perfd.store.parameters import Parameter
from perfd.web.description import HTML, JSON, STRING, Content, Readers, Response, Route, object_of
from perfd.web.request import FORMAT, Described, Node, Request
from perfd.web.results.schemas import properties_of, records_in, reference
from perfd.web.site import describe_site


class OpenApi(Node):
    """``/openapi.json`` of a site that has ``others`` and this."""

    def __init__(self, others: Mapping[str, Described]) -> None:
        super().__init__()
        # Made once, and not when it is asked for: that takes 20 ms.
        self.document = document(describe_site({**others, "openapi.json": self}))
        self._body = json.dumps(self.document).encode() + b"\n"

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"Content-Type", JSON.encode())
        return self._body

    def describe(self, path: str) -> Iterator[Route]:
        yield Route(path, "This document", {200: Response({JSON: {"type": "object"}})})


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of ``routes``, with the schemas of all records that they name."""
    records: set[type[Any]] = set()
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _with_references(_operation(route), records)
    schemas: dict[str, Any] = {name: object_of(properties_of(each)) for name, each in records_in(records).items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Perfd",
            "version": __version__,
            "description": "Measurements of the performance of Tor. Times of records are seconds since the epoch "
            "(UTC), sizes are bytes; what is missing is null. Every GET can be a HEAD.",
        },
        "paths": paths,
        "components": {"schemas": {**schemas, "Error": _error()}},
    }


def _with_references(value: Any, found: set[type[Any]]) -> Any:
    """``value`` with a reference in the place of each record's class, which is added to ``found``."""
    if isinstance(value, type):
        found.add(value)
        return reference(value)
    if isinstance(value, Mapping):
        return {key: _with_references(member, found) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_references(member, found) for member in value]
    return value


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": route.summary}
    if route.readers is not Readers.ALL:
        operation["description"] = f"For {route.readers.value}."
    parameters = [
        *_parameters(route.in_path, "path"),
        *_parameters(route.in_query, "query"),
        *_parameters(route.in_head, "header"),
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": False, "content": _content(route.body)}
    # Who may not read is refused everywhere alike, so no route has to say it.
    errors = {*route.errors} if route.readers is Readers.ALL else {*route.errors, 403}
    told = {JSON: _ERROR, **({HTML: None} if FORMAT in route.in_query else {})}
    operation["responses"] = {
        **{str(status): _response(response) for status, response in route.responses.items()},
        **{str(status): _response(Response(told, _ERRORS[status])) for status in sorted(errors)},
    }
    return operation


def _parameters(parameters: Sequence[Parameter], place: str) -> Iterator[dict[str, Any]]:
    for parameter in parameters:
        yield {
            "name": parameter.name,
            "in": place,
            "required": place == "path",
            "description": parameter.doc,
            "schema": dict(parameter.schema),
        }


def _response(response: Response) -> dict[str, Any]:
    described: dict[str, Any] = {"description": response.doc}
    if response.content:
        described["content"] = _content(response.content)
    if response.headers:
        described["headers"] = {
            name: {"description": doc, "schema": STRING} for name, doc in response.headers.items()
        }
    return described


def _content(content: Content) -> dict[str, Any]:
    return {kind: {} if schema is None else {"schema": schema} for kind, schema in content.items()}


def _error() -> Any:
    return object_of({"error": object_of({"status": {"type": "integer"}, "message": STRING})})


_ERROR = {"$ref": "#/components/schemas/Error"}

_ERRORS = {
    400: "It is asked for wrongly; the message says how",
    403: "Results cannot be read from here",
    404: "There is no such record",
    408: "The body came too slowly",
    411: "It has no Content-Length",
    413: "It is larger than this server gives or takes",
    426: "Only the upgrade to an echo can be had here",
    503: "The database cannot be read now, or too many read it",
}
