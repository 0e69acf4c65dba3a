"""Pages of many measurements, kept until one of these changes; their frame, which tells the time, is always new."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import attrs

from perfd.pages.layout import Page
from perfd.pages.periods import PERIODS
from perfd.pages.records import PageRequest
from perfd.store.files import Identity
from perfd.store.reader import StoreReader
from perfd.store.rows import NOTES

MOST = 32
"""Pages; each has up to some hundred KiB."""

SHARE = 0.01
LONGEST = 3600.0
"""A page lasts for so much of its period, and never longer than so many seconds: its runs get older meanwhile."""

Make = Callable[[StoreReader, PageRequest], Page]


@attrs.frozen
class _Kept:
    page: Page
    content: Hashable  # what the database has of it
    now: float  # when it was made


class KeptPages:
    """Those that were made last, without their frames. ``file`` says which file the database is."""

    def __init__(self) -> None:
        self._pages: dict[Hashable, _Kept] = {}

    def page(self, reader: StoreReader, request: PageRequest, file: Identity | None, make: Make) -> Page:
        """The page as it was made before if nothing of it has changed, or else made now.

        Raises what ``make`` does.
        """
        if request.name not in _LONG:
            return make(reader, request)
        content = (file, reader.changes(_experiment(request)), reader.last_row(NOTES))
        key, now = _key(request), request.state.now
        kept = self._pages.get(key)
        if kept is None or kept.content != content or not 0 <= now - kept.now < _life(request):
            # Asked before it is made, so that what changes meanwhile is not missed.
            kept = _Kept(make(reader, request), content, now)
        self._pages.pop(key, None)
        self._pages[key] = kept  # at the end: what is asked for stays
        while len(self._pages) > MOST:
            del self._pages[next(iter(self._pages))]
        return kept.page


_LONG = ("experiment", "relays", "onion", "comparison")
"""What is made of many measurements, and of what the daemon alone knows only of the configuration."""


def _experiment(request: PageRequest) -> str | None:
    """Whose measurements are shown; None: those of all."""
    return request.arguments["name"] if request.name == "experiment" else None


def _key(request: PageRequest) -> Hashable:
    """All that a page depends on besides the database."""
    view, state = request.view, request.state
    told: tuple[Any, ...] = (state.files, state.comparisons)
    if request.name == "experiment":
        told = (*told, *(each for each in state.experiments if each.name == request.arguments["name"]))
    arguments = tuple(sorted((name, repr(value)) for name, value in request.arguments.items()))
    return (request.name, view.path, tuple(sorted(view.arguments.items())), view.theme, arguments, told)


def _life(request: PageRequest) -> float:
    return min(LONGEST, SHARE * PERIODS[request.arguments.get("period", "day")])
