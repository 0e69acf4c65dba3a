"""JSON Schema of records, made from the types of their fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

_PLAIN: Mapping[Any, str] = {float: "number", int: "integer", str: "string", bool: "boolean", NoneType: "null"}


def reference(record: type[Any]) -> dict[str, Any]:
    """Where the schema of ``record`` stands in an OpenAPI document."""
    return {"$ref": f"#/components/schemas/{record.__name__}"}


def schema_of(kind: Any) -> dict[str, Any]:
    """The schema of what the type ``kind`` of a record's field becomes in JSON."""
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if attrs.has(kind):
        return reference(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"type": "string", "enum": [member.value for member in kind]}
    return _composed(get_origin(kind), get_args(kind))


def _composed(origin: Any, members: tuple[Any, ...]) -> dict[str, Any]:
    if origin is Literal:
        return {"enum": list(members)}
    if origin in (Union, UnionType):
        if all(member in _PLAIN for member in members):
            return {"type": [_PLAIN[member] for member in members]}
        schemas = [schema_of(member) for member in members]
        if all("enum" in schema or schema == {"type": "null"} for schema in schemas):
            return {"enum": [value for schema in schemas for value in schema.get("enum", (None,))]}
        return {"anyOf": schemas}
    if origin is tuple:
        return {"type": "array", "items": schema_of(members[0])}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(members[1])}
    raise TypeError(f"{origin} of {members} has no schema")


def properties_of(record: type[Any]) -> dict[str, dict[str, Any]]:
    """The schemas of the fields of ``record``, with what their metadata say of them."""
    hints = get_type_hints(record)
    return {
        field.name: schema_of(hints[field.name])
        | ({"description": field.metadata["doc"]} if "doc" in field.metadata else {})
        for field in attrs.fields(record)
    }


def records_in(records: Iterable[type[Any]]) -> dict[str, type[Any]]:
    """``records`` and the records in their fields, by name."""
    found: dict[str, type[Any]] = {}
    waiting = list(records)
    while waiting:
        record = waiting.pop()
        if record.__name__ not in found:
            found[record.__name__] = record
            waiting += [
                each for hint in get_type_hints(record).values() for each in get_args(hint) if attrs.has(each)
            ]
    return found
