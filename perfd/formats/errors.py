"""What can be wrong with a file of results: an error for one line or record, a report for a whole import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs


@attrs.frozen
class Damage:
    """A part of a file that could not be read and was left out.

    ``line`` counts from 1; it is None where the damage is the file's, or a JSON document's.
    """

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part)
        return f"{place}: {self.message}" if place else self.message


class FormatError(ValueError):
    """Text that is not in its format, or a record that a format has no place for.

    ``key`` is the part that is wrong (``START``, or ``streams/155/time_info``), ``remedy`` what would be right.
    """

    def __init__(
        self,
        problem: str,
        *,
        key: str | None = None,
        remedy: str | None = None,
        file: str = "",
        line: int | None = None,
    ) -> None:
        self.problem = problem
        self.key = key
        self.remedy = remedy
        self.file = file
        self.line = line
        super().__init__(problem)

    @property
    def message(self) -> str:
        """The problem, with its key and remedy, without its place."""
        message = f"{self.key}: {self.problem}" if self.key else self.problem
        return f"{message}; {self.remedy}" if self.remedy else message

    def __str__(self) -> str:
        return str(self.damage())

    def damage(self, file: str | None = None, line: int | None = None) -> Damage:
        """The same as a report, found in ``file`` at ``line``."""
        return Damage(self.file if file is None else file, self.line if line is None else line, self.message)


def damage_of(error: ValueError, file: str, line: int | None = None) -> Damage:
    """The report of a value that cannot be read: of a FormatError, or of whatever a library raises for it."""
    if isinstance(error, FormatError):
        return error.damage(file, line)
    return Damage(file, line, f"a value cannot be read: {shown(str(error), 200)}")


Refuse = Callable[[Any, FormatError], object]
"""Is told of a record that a format cannot hold, and why."""


def shown(text: str, limit: int = 60) -> str:
    """``text`` from a file as it may stand in a message: quoted, without control characters, not long."""
    return repr(text if len(text) <= limit else text[:limit] + "...")
