"""The forms in which records are answered: JSON, or lines of text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, Protocol

from perfd.web.description import JSON, STRING, Schema, array_of, object_of


class Pages(Protocol):
    """A list that is being written. Its methods are for a reader thread, one call at a time."""

    def add(self, records: Iterable[Any]) -> None:
        """Further records."""

    def taken(self) -> bytes:
        """The bytes of what was added; they need not be all of it yet."""

    def end(self, cursor: str | None) -> bytes:
        """The last bytes. ``cursor`` is what the query for the next page gives as ``after``; None at the end."""


class Format(Protocol):
    """How a list is written, and one record."""

    content_type: bytes
    leaves_out: tuple[str, ...] = ()
    """What has no place in it."""

    is_compressed: bool = False
    """Whether compressing it would be in vain."""

    def pages(self, name: str) -> Pages:
        """A list of this name that begins."""

    def one(self, record: Any) -> bytes:
        """One record by itself; likewise for a reader thread."""

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


class Text(Format, Protocol):
    """A format of text: what is before, of, between and after its records."""

    between: str

    def record(self, record: Any) -> str: ...

    def before(self, name: str) -> str: ...

    def after(self, cursor: str | None) -> str: ...

    def pages(self, name: str) -> Pages:
        return _TextPages(self, name)

    def one(self, record: Any) -> bytes:
        return (self.record(record).rstrip("\n") + "\n").encode()


class _TextPages(Pages):
    def __init__(self, form: Text, name: str) -> None:
        self._form = form
        self._texts: list[str] = []
        self._before = form.before(name)
        self._has_written = False

    def add(self, records: Iterable[Any]) -> None:
        self._texts += map(self._form.record, records)

    def taken(self) -> bytes:
        between = self._form.between
        text, self._texts = between.join(self._texts), []
        if text and self._has_written:
            text = between + text
        self._has_written = self._has_written or bool(text)
        before, self._before = self._before, ""
        return (before + text).encode()

    def end(self, cursor: str | None) -> bytes:
        return self.taken() + self._form.after(cursor).encode()


class Json(Text):
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


class Lines(Text):
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
