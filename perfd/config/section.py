"""One section of perfd.conf while it is read."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar, overload

import attrs

T = TypeVar("T")


class ConfigError(Exception):
    """Everything that is wrong with a configuration; ``problems`` has a line for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@attrs.frozen
class Setting:
    """An option as it counts. ``text`` is None if it has no value."""

    section: str
    option: str
    text: str | None
    is_default: bool


class Section:
    """Hands out options, collects problems and settings, and knows what was asked for."""

    def __init__(
        self,
        path: Path,
        name: str,
        values: Mapping[str, str],
        problems: list[str],
        given: Collection[str] = (),
        settings: list[Setting] | None = None,
    ) -> None:
        self._name = name
        self._settings = [] if settings is None else settings
        self._given = given  # the options that the command line has, whatever the file says
        self._place = f"{path}: [{name}]"
        self._values = values
        self._problems = problems
        self._known: set[str] = set()

    def __contains__(self, option: str) -> bool:
        return option in self._values

    @overload
    def get(self, option: str, read: Callable[[str], T], default: str) -> T: ...

    @overload
    def get(self, option: str, read: Callable[[str], T], default: str | None) -> T | None: ...

    def get(self, option: str, read: Callable[[str], T], default: str | None) -> T | None:
        """The value of ``option``; that of ``default`` if it is not there or mistaken. None stays None."""
        self._known.add(option)
        text = self._values.get(option, default)
        self._settings.append(Setting(self._name, option, text, option not in self._values))
        if option in self._values:
            try:
                return read(self._values[option].strip())
            except ValueError as error:
                self.problem(option, str(error))
        return None if default is None else read(default)

    def problem(self, option: str, message: str) -> None:
        place = "on the command line:" if option in self._given else self._place
        self._problems.append(f"{place} {option}: {message}")

    def finish(self, elsewhere: Mapping[str, str] | None = None) -> None:
        """Report the options that nothing asked for; ``elsewhere`` says where some of them belong."""
        for option in self._values:
            if option in self._known:
                continue
            if elsewhere is not None and option in elsewhere:
                self.problem(option, f"only used with {elsewhere[option]}")
            else:
                self.problem(option, f"unknown option{self._remedy(option)}")

    def _remedy(self, option: str) -> str:
        if " " in option and "torrc" in self._known:
            return "; if it belongs to the option above, such as torrc, indent it"
        return suggestion(option, self._known)


def suggestion(word: str, known: Iterable[str]) -> str:
    """What was meant by an unknown ``word``, for the end of a message."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
