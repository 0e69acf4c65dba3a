"""JSON objects that others have written: values are checked when they are taken, and an error says where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf, isfinite
from typing import Any

import attrs

from perfd.formats.errors import FormatError, shown
from perfd.formats.values import LARGEST, LATEST
from perfd.record import Kind


@attrs.frozen
class JsonObject:
    """The members of an object, and the way to it from the top. A missing member, or null, is None.

    All methods raise FormatError for a value of the wrong type.
    """

    members: Mapping[str, Any]
    way: str = ""

    def wrong(self, key: str, problem: str) -> FormatError:
        """The error to raise for a member."""
        return FormatError(problem, key=self._way_to(key))

    def _way_to(self, key: str) -> str:
        name = key if key.isprintable() and len(key) <= 120 else shown(key)
        return f"{self.way}/{name}" if self.way else name

    def text(self, key: str) -> str | None:
        value = self.members.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong(key, "a text is expected")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise self.wrong(key, "the text is not valid Unicode") from None
        return value

    def integer(self, key: str) -> int | None:
        """A whole number, or a text of its digits."""
        value = self.members.get(key)
        if isinstance(value, str) and value.removeprefix("-").isdecimal() and value.isascii() and len(value) <= 20:
            value = int(value)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not -LARGEST - 1 <= value <= LARGEST:
            raise self.wrong(key, "a whole number is expected")
        return value

    def number(self, key: str) -> float | None:
        value = self.members.get(key)
        return None if value is None else self._number(key, value)

    def _number(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number is expected")
        try:
            number = float(value)
        except OverflowError:
            number = inf
        if not isfinite(number):
            raise self.wrong(key, "the number is out of range")
        return number

    def time(self, key: str) -> float | None:
        """Seconds since the epoch, to the microsecond."""
        value = self.number(key)
        if value is not None and not 0.0 <= value < LATEST:
            raise self.wrong(key, "a time between the years 1970 and 9999 is expected")
        return None if value is None else round(value, 6)

    def flag(self, key: str) -> bool | None:
        value = self.members.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false is expected")
        return value

    def object(self, key: str) -> JsonObject:
        """The object at ``key``; an empty one if there is none."""
        value = self.members.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.wrong(key, "an object is expected")
        return JsonObject(value, self._way_to(key))

    def objects(self, key: str) -> list[JsonObject]:
        """The objects in the list at ``key``; an empty one if there is none."""
        if not all(isinstance(item, dict) for item in self.items(key)):
            raise self.wrong(key, "a list of objects is expected")
        return [JsonObject(item, f"{self._way_to(key)}/{n}") for n, item in enumerate(self.items(key))]

    def items(self, key: str) -> list[Any]:
        """The list at ``key``; an empty one if there is none."""
        value = self.members.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(key, "a list is expected")
        return value

    def pairs(self, key: str) -> Iterator[tuple[str, float]]:
        """A list of ``[text, number]``."""
        for item in self.items(key):
            if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
                raise self.wrong(key, "pairs of text and number are expected")
            text, number = JsonObject({key: item[0]}, self.way).text(key), self._number(key, item[1])
            yield text or "", number

    def of_kind(self, key: str, kind: Kind) -> Any:
        """The value of a measurement's field that JSON holds as it is."""
        if kind is Kind.TEXTS or kind is Kind.FLOATS:
            inner = Kind.TEXT if kind is Kind.TEXTS else Kind.FLOAT
            items = [JsonObject({key: item}, self.way).of_kind(key, inner) for item in self.items(key)]
            if None in items:
                raise self.wrong(key, "a list without null is expected")
            return tuple(items)
        if kind is Kind.TIMES:
            times = self.object(key)
            return {_count(times, n): times.time(n) for n in times.members}
        if kind is Kind.EXTRA:
            extra = self.object(key)
            return {name: extra.text_or_number(name) for name in extra.members}
        readers: Mapping[Kind, Callable[[str], Any]] = {
            Kind.TEXT: self.text,
            Kind.INT: self.integer,
            Kind.FLOAT: self.number,
            Kind.TIME: self.time,
            Kind.BOOL: self.flag,
        }
        return readers[kind](key)

    def text_or_number(self, key: str) -> str | int | float | None:
        """A text or a number, as it is."""
        value = self.members.get(key)
        if isinstance(value, str):
            return self.text(key)
        return self.integer(key) if isinstance(value, int) else self.number(key)


def _count(times: JsonObject, key: str) -> int:
    if not (key.isascii() and key.isdecimal() and len(key) <= 18):
        raise times.wrong(key, "the key is not a whole number")
    return int(key)
