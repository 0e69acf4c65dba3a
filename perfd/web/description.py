"""What a route says of itself. All that ``/openapi.json`` knows of the site comes from these records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import attrs

from perfd.store.parameters import Parameter

Schema = Mapping[str, Any] | type
"""JSON Schema; wherever one may stand in it, a record's class stands for that of the record."""

Content = Mapping[str, Schema | None]
"""What a body is, by media type; None says no more than that."""

JSON = "application/json"
TEXT = "text/plain"
HTML = "text/html"
BYTES = "application/octet-stream"

STRING = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}


def array_of(items: Schema) -> Schema:
    """A list of ``items``."""
    return {"type": "array", "items": items}


def object_of(properties: Mapping[str, Schema]) -> Schema:
    """An object that has all of ``properties`` and no other."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


class Readers(Enum):
    """Who is answered; all others get 403."""

    ALL = "everybody"
    RESULTS = "those who may read results (option results of perfd.conf)"
    HEALTH = "those who may read results (option results of perfd.conf), and this machine"
    MEASUREMENTS = "measurements of this instance"


@attrs.frozen
class Response:
    """An answer, with what its headers mean."""

    content: Content = attrs.Factory(dict)
    doc: str = "What was asked for"
    headers: Mapping[str, str] = attrs.Factory(dict)


@attrs.frozen
class Route:
    """One method of one path, from the site's root, with its parameters in braces; a GET can also be a HEAD.

    ``responses`` and ``errors`` are by status; ``body`` is what the request may bring.
    """

    path: str
    summary: str
    responses: Mapping[int, Response]
    errors: Sequence[int] = ()
    readers: Readers = Readers.ALL
    method: str = "GET"
    in_path: Sequence[Parameter] = ()
    in_query: Sequence[Parameter] = ()
    in_head: Sequence[Parameter] = ()
    body: Content | None = None

    def below(self, *parameters: Parameter) -> Route:
        """The same, where ``parameters`` are in the path before it."""
        return attrs.evolve(self, in_path=(*parameters, *self.in_path))
