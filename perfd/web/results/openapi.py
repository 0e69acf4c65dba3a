"""``/openapi.json``: the HTTP API, described from the tables and records that the code itself works with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

from perfd import __version__
from perfd.record import Circuit, Measurement, Outcome, Stream, TorEvent
from perfd.web.results import parameters, records
from perfd.web.results.archive import media_types
from perfd.web.results.load_files import KINDS
from perfd.web.results.pages import METRICS_TYPE
from perfd.web.results.parameters import Parameter
from perfd.web.targets.echo import PROTOCOL
from perfd.web.targets.page import HTML, TYPES
from perfd.web.targets.page_plan import VARIANTS, VERSION
from perfd.web.targets.random import ALIASES

Schema = dict[str, Any]

JSON = "application/json"
BYTES = "application/octet-stream"

_PLAIN: Mapping[Any, str] = {float: "number", int: "integer", str: "string", bool: "boolean", NoneType: "null"}

_TIME = {"type": ["string", "null"], "format": "date-time"}
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}


def schema_of(kind: Any) -> Schema:
    """The JSON Schema of what the type ``kind`` of a record's field becomes in JSON."""
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if attrs.has(kind):
        return _ref(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"type": "string", "enum": [member.value for member in kind]}
    return _composed(get_origin(kind), get_args(kind))


def _composed(origin: Any, members: tuple[Any, ...]) -> Schema:
    if origin in (Union, UnionType):
        if all(member in _PLAIN for member in members):
            return {"type": [_PLAIN[member] for member in members]}
        return {"anyOf": [schema_of(member) for member in members]}
    if origin is tuple:
        return {"type": "array", "items": schema_of(members[0])}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(members[1])}
    raise TypeError(f"{origin} of {members} has no schema")


def record_schemas(*records: type[Any]) -> dict[str, Schema]:
    """The schemas of ``records`` and of the records in them, by name."""
    found: dict[str, Schema] = {}
    waiting = list(records)
    while waiting:
        record = waiting.pop()
        if record.__name__ in found:
            continue
        hints = get_type_hints(record)
        properties = {}
        for field in attrs.fields(record):
            doc = field.metadata.get("doc")
            properties[field.name] = schema_of(hints[field.name]) | ({"description": doc} if doc else {})
            waiting += [each for each in get_args(hints[field.name]) if attrs.has(each)]
        found[record.__name__] = _object(properties)
    return found


def document(max_size: int) -> Schema:
    """The OpenAPI 3.1 document; ``max_size`` is the largest download, in bytes."""
    schemas = record_schemas(Measurement, Circuit, Stream, TorEvent)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Perfd",
            "version": __version__,
            "description": "Measurements of the performance of Tor. Times of records are seconds since the epoch "
            "(UTC), sizes are bytes; what is missing is null. Every GET can be a HEAD.",
        },
        "paths": {
            "/": _get("What there is", {JSON: _object({"perfd": _TEXT, "resources": _array(_TEXT)})}),
            **_random(max_size),
            "/upload": _upload(),
            "/echo": _echo(),
            **_canonical(),
            **_records(),
            **_archive(),
            "/health": _health(),
            "/metrics": _get("Metrics for Prometheus", {METRICS_TYPE: _TEXT}, errors=(403,)),
            "/openapi.json": _get("This document", {JSON: {"type": "object"}}),
        },
        "components": {"schemas": {**schemas, "Error": _error()}},
    }


def _random(max_size: int) -> Schema:
    size = {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": max_size},
            {"type": "string", "pattern": "^[0-9]{1,3} ?(B|KiB|MiB|GiB)$"},
        ]
    }
    wanted = Parameter("size", "bytes, such as 51200 or 50KiB", str, size)
    paths = {
        f"/{name}/{{size}}": _get("Random bytes to measure with", {BYTES: None}, path=(wanted,), errors=(400, 413))
        for name in ("random", "urandom")
    }
    for name, count in ALIASES.items():
        paths[f"/{name}"] = _get(f"{count} random bytes", {BYTES: None})
    return paths


def _canonical() -> Schema:
    """The page to load in a browser."""
    variant = Parameter("variant", "how large the page is", str, {"type": "string", "enum": list(VARIANTS)})
    name = Parameter("name", "a file, as the page's links have it", str, _TEXT)
    page: dict[str, Any] = {HTML.partition(";")[0]: _TEXT}
    files: dict[str, Any] = dict.fromkeys(each.partition(";")[0] for each in TYPES.values())
    return {
        "/page/": _get("A page to load in a browser, always the same", page, errors=(400, 404)),
        "/page/{variant}/": _get("The same in another size", page, path=(variant,), errors=(400, 404)),
        f"/page/{VERSION}/{{variant}}/{{name}}": _get(
            "One of its files", files, path=(variant, name), errors=(404,)
        ),
    }


def _upload() -> Schema:
    """The one request that has a body, which can be empty."""
    seconds = {"type": ["number", "null"]}
    received = _object(
        {
            "bytes": _COUNT,
            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "request": seconds | {"description": "when the request's head had come; only measurements are told"},
            "first": seconds | {"description": "the first byte had come, in seconds since the head"},
            "last": seconds | {"description": "the last byte had"},
            "dataperc": {
                "type": "object",
                "description": "so many percent had",
                "patternProperties": {"^[0-9]{1,3}$": {"type": "number"}},
                "additionalProperties": False,
            },
        }
    )
    operation = _operation("Bytes to measure with are counted and discarded", {JSON: received}, (408, 411, 413))
    return {"post": operation | {"requestBody": {"required": False, "content": {BYTES: {}}}}}


def _echo() -> Schema:
    """An upgrade of the connection."""
    protocol = PROTOCOL.decode()
    text = "Bytes come back, to measure round-trip times with; for measurements only"
    operation = _operation(text, {}, (403, 426))
    del operation["responses"]["200"]
    operation["responses"]["101"] = {"description": "The connection is an echo now"}
    wanted = Parameter("Upgrade", "the only protocol that there is", str, {"type": "string", "enum": [protocol]})
    operation["parameters"] = [_parameter(wanted, "header")]
    return {"get": operation}


def _records() -> Schema:
    measurement_id = Parameter("id", "the measurement's id", str, _TEXT)
    circuit_id = Parameter("id", "the circuit's id", str, _TEXT)
    page = _page("results", Measurement)
    results = {**dict.fromkeys(records.by_media_type(), _TEXT), JSON: page}
    streams = {JSON: _page("streams", Stream)}
    return {
        "/results": _list(
            "Measurements, the newest first, as JSON, or as what Accept asks for", results, parameters.RESULTS
        ),
        **{
            f"/results{suffix}": _list(
                "The same in one format, as far as that has a place for them",
                {kind: page if kind == JSON else _TEXT},
                parameters.RESULTS,
            )
            for suffix, form in records.by_suffix().items()
            for kind in [form.content_type.decode().partition(";")[0]]
        },
        "/results/{id}": _get(
            "One measurement",
            {**results, JSON: _ref(Measurement)},
            path=(measurement_id,),
            errors=(400, 403, 404, 503),
        ),
        "/results/{id}/streams": _list(
            "The streams that carried a measurement", streams, parameters.WINDOW, path=(measurement_id,)
        ),
        **{
            f"/results/{{id}}/{name}": _get(
                kind.doc,
                {kind.content_type: {"type": "object"} if kind.content_type == JSON else None},
                path=(measurement_id,),
                errors=(400, 403, 404, 503),
            )
            for name, kind in KINDS.items()
        },
        "/circuits": _list(
            "Tor's circuits, the newest first", {JSON: _page("circuits", Circuit)}, parameters.OF_TOR
        ),
        "/circuits/{id}": _get(
            "One circuit", {JSON: _ref(Circuit)}, path=(circuit_id,), errors=(400, 403, 404, 503)
        ),
        "/streams": _list("Tor's streams, the newest first", streams, parameters.STREAMS),
        "/events": _list(
            "Other events of tor, the newest first", {JSON: _page("events", TorEvent)}, parameters.OF_TOR
        ),
    }


def _archive() -> Schema:
    name = Parameter("name", "a published file, as the listing has it", str, _TEXT)
    files: dict[str, Any] = dict.fromkeys(sorted(media_types().values()))
    return {
        "/archive/": _get("The published files", {"text/html": _TEXT}, errors=(403,)),
        "/archive/{name}": _get(
            "One of them: results of a day, or index.xml", files, path=(name,), errors=(403, 404)
        ),
    }


def _health() -> Schema:
    nullable = {"type": ["string", "null"]}
    tor = _object({"name": _TEXT, "state": _TEXT, "version": nullable})
    variant = _object(
        {
            "tor": nullable,
            "server": nullable,
            "browser": nullable | {"description": "of page loads"},
            "optimistic": {"enum": [0, 1, None], "description": "as the record's OPTIMISTIC, if it has that"},
            "healthy": {"type": "boolean"},
            "last_success": _TIME,
            "last_outcome": {"enum": [*(outcome.value for outcome in Outcome), None]},
            "failures": _COUNT | {"description": "since the last success"},
            "counts": {"type": "object", "additionalProperties": _COUNT},
        }
    )
    experiment = _object(
        {
            "name": _TEXT,
            "healthy": {"type": "boolean", "description": "all its variants are"},
            "next_slot": _TIME,
            "interval": {"type": "number", "description": "seconds"},
            "variants": _array(variant),
        }
    )
    report = _object(
        {
            "healthy": {"type": "boolean"},
            "source": _TEXT,
            "version": _TEXT,
            "time": _TIME,
            "database": _TEXT,
            "tors": _array(tor),
            "experiments": _array(experiment),
        }
    )
    operation = _get("Whether Perfd does its work", {JSON: report}, errors=(403,))
    operation["get"]["responses"]["503"] = _response("Something is not well", {JSON: report})
    return operation


def _list(
    summary: str, content: Mapping[str, Any], query: Sequence[Parameter], path: Sequence[Parameter] = ()
) -> Schema:
    operation = _get(summary, content, query=query, path=path, errors=(400, 403, 503))
    headers = {"ETag": {"description": "of a list that is one page", "schema": _TEXT}}
    operation["get"]["responses"]["200"]["headers"] = headers
    operation["get"]["responses"]["304"] = {"description": "It is what If-None-Match names"}
    return operation


def _get(
    summary: str,
    content: Mapping[str, Any],
    *,
    query: Sequence[Parameter] = (),
    path: Sequence[Parameter] = (),
    errors: Iterable[int] = (),
) -> Schema:
    operation = _operation(summary, content, errors)
    given = [_parameter(each, "path") for each in path] + [_parameter(each, "query") for each in query]
    if given:
        operation["parameters"] = given
    return {"get": operation}


def _operation(summary: str, content: Mapping[str, Any], errors: Iterable[int]) -> Schema:
    return {
        "summary": summary,
        "responses": {
            "200": _response("What was asked for", content),
            **{str(status): _response(_ERRORS[status], {JSON: {"$ref": _ERROR}}) for status in errors},
        },
    }


def _parameter(parameter: Parameter, place: str) -> Schema:
    return {
        "name": parameter.name,
        "in": place,
        "required": place == "path",
        "description": parameter.doc,
        "schema": dict(parameter.schema),
    }


def _response(description: str, content: Mapping[str, Any]) -> Schema:
    return {
        "description": description,
        "content": {kind: {} if schema is None else {"schema": schema} for kind, schema in content.items()},
    }


def _page(name: str, record: type[Any]) -> Schema:
    return _object({name: _array(_ref(record)), "next": {"type": ["string", "null"]}})


def _ref(record: type[Any]) -> Schema:
    return {"$ref": f"#/components/schemas/{record.__name__}"}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(properties: Mapping[str, Schema]) -> Schema:
    """An object that has all of ``properties`` and no other."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _error() -> Schema:
    return _object({"error": _object({"status": {"type": "integer"}, "message": _TEXT})})


_ERROR = "#/components/schemas/Error"

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
