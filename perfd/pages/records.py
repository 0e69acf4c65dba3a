"""What a page is asked for with, and what comes of it. The child process that makes pages gets and gives these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import attrs

from perfd.record import EMPTY

THEMES = ("light", "dark")


@attrs.frozen
class View:
    """How somebody reads: the page's path and arguments, and what goes on from page to page."""

    path: str
    arguments: Mapping[str, str] = attrs.Factory(dict)  # as they stand in the address
    theme: str = ""  # of THEMES; empty: as the reader's browser prefers
    is_paused: bool = False  # the page is not asked for again by itself

    def link(self, path: str, arguments: Mapping[str, str] = EMPTY) -> str:
        """The address of another page for the same reader."""
        given = {name: value for name, value in arguments.items() if value}
        kept = {"theme": self.theme} if self.theme else {}
        query = urlencode({**given, **kept})
        return f"{path}?{query}" if query else path

    def here(self, **changes: str) -> str:
        """The address of this page with other arguments; an empty one is left out."""
        return self.link(self.path, {**self.arguments, **changes})


@attrs.frozen(kw_only=True)
class Experiment:
    """An experiment of perfd.conf."""

    name: str
    type: str
    size: int  # bytes; 0: its kind has none
    interval: float  # seconds
    timeout: float  # seconds
    tors: tuple[str, ...]
    servers: tuple[str, ...]


@attrs.frozen(kw_only=True)
class DaemonState:
    """What the daemon knows and the database does not, when a page is asked for."""

    now: float  # seconds since the epoch
    source: str
    version: str
    network: str
    title: str
    description: str
    contact: str
    health: Mapping[str, Any]  # the report of /health
    disk: str = ""  # how much room there is; empty: not known
    experiments: tuple[Experiment, ...] = ()
    comparisons: tuple[str, ...] = ()
    files: Path | None = None  # where page loads leave their files
    settings: Mapping[str, str] = attrs.Factory(dict)  # what may be told of perfd.conf


@attrs.frozen(kw_only=True)
class PageRequest:
    """A page that is asked for: its name in ``make.PAGES``, and with what."""

    name: str
    view: View
    arguments: Mapping[str, Any]  # those of the query, read
    state: DaemonState
    seconds: float | None = None  # that its queries may take together


@attrs.frozen(kw_only=True)
class Made:
    """A page that was made: the answer to send."""

    status: int
    body: bytes
    packed: bytes  # the same in gzip
    policy: str  # Content-Security-Policy
    tag: str  # another one for each body
    refresh: int | None = None  # seconds after which a browser asks again


class PageError(Exception):
    """There is no such page, or not now."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
