"""The forms in which records are answered: JSON, or lines of text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Mapping
from typing import Any, Protocol

from perfd.web.description import JSON, STRING, Schema, array_of, object_of


class Format(Protocol):
    """How a list is written: what is before, of, between and after its records."""

    content_type: bytes
    leaves_out: tuple[str, ...] = ()
    """What has no place in it."""

    def for_query(self, arguments: Container[str]) -> Format:
        """The format of an answer to a query with these arguments."""
        return self

    @property
    def media_type(self) -> str:
        return self.content_type.decode().partition(";")[0]

    def list_schema(self, name: str, record: type[Any]) -> Schema:
        """What a list is."""

    def one_schema(self, record: type[Any]) -> Schema:
        """What one record is."""

    def before(self, name: str) -> str: ...

    def record(self, record: Any) -> str: ...

    between: str

    def after(self, cursor: str | None) -> str:
        """``cursor`` is what the query for the next page gives as ``after``; None at the end."""


class Json(Format):
    """``{"results": [...], "next": "..."}``, a record per line."""

    content_type = JSON.encode()
    between = ",\n"

    def __init__(self, as_dict: Callable[[Any], Mapping[str, Any]]) -> None:
        self._as_dict = as_dict

    def list_schema(self, name: str, record: type[Any]) -> Schema:
        return object_of({name: array_of(record), "next": {"type": ["string", "null"]}})

    def one_schema(self, record: type[Any]) -> Schema:
        return record

    def before(self, name: str) -> str:
        return f'{{"{name}": ['

    def record(self, record: Any) -> str:
        return to_json(self._as_dict(record))

    def after(self, cursor: str | None) -> str:
        return f'], "next": {json.dumps(cursor)}}}\n'


class Lines(Format):
    """Text that ``render`` makes of each record, with its line end; it may be empty."""

    between = ""

    def __init__(self, render: Callable[[Any], str], media_type: str = "text/plain", header: str = "") -> None:
        self._render = render
        self._header = header
        charset = "; charset=utf-8" if media_type.startswith("text/") else ""
        self.content_type = f"{media_type}{charset}".encode()

    def list_schema(self, name: str, record: type[Any]) -> Schema:
        return STRING

    def one_schema(self, record: type[Any]) -> Schema:
        return STRING

    def before(self, name: str) -> str:
        return self._header

    def record(self, record: Any) -> str:
        return self._render(record)

    def after(self, cursor: str | None) -> str:
        return ""


def to_json(document: Mapping[str, Any]) -> str:
    """``document`` as JSON, which has no infinite numbers: they are null."""
    try:
        return _encode(document)
    except ValueError:
        return _encode(_finite(document))


_encode = json.JSONEncoder(allow_nan=False, check_circular=False).encode


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
