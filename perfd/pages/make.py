"""All pages that are made from the database, by their names."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from perfd.pages.about import about, status
from perfd.pages.circuit import circuit
from perfd.pages.comparisons import comparison
from perfd.pages.experiment import experiment
from perfd.pages.kept import KeptPages
from perfd.pages.layout import Page, made
from perfd.pages.lists import LISTS
from perfd.pages.measurement import measurement
from perfd.pages.overview import overview
from perfd.pages.records import Made, PageError, PageRequest
from perfd.pages.relays import onion_page, relay_page
from perfd.store.database import NoDatabaseError, QueryTooLongError, StoreError
from perfd.store.files import identity
from perfd.store.reader import StoreReader

PAGES: Mapping[str, Callable[[StoreReader, PageRequest], Page]] = {
    "overview": overview,
    **LISTS,
    "measurement": measurement,
    "circuit": circuit,
    "experiment": experiment,
    "relays": relay_page,
    "onion": onion_page,
    "comparison": comparison,
    "about": about,
    "status": status,
}
"""Each makes a page of what a reader finds. Raises PageError, QueryTooLongError, StoreError and sqlite3.Error."""


def make(request: PageRequest, database: Path, version: int | None = None, kept: KeptPages | None = None) -> Made:
    """The page that is asked for, or one that says why there is none; ``kept`` has those that were made before."""
    try:
        with StoreReader(database, version, request.seconds) as reader:
            pages = kept or KeptPages()
            page = pages.page(reader, request, identity(database), PAGES[request.name])
    except PageError as error:
        page = _error(error.status, error.message)
    except QueryTooLongError as error:
        page = _error(503, str(error))
    except NoDatabaseError:
        page = _error(503, "Nothing was measured yet: the database is made when Perfd starts.")
    except (StoreError, sqlite3.Error):
        page = _error(503, "The database cannot be read now; try again later.")
    return made(page, request.view, request.state)


def _error(status: int, message: str) -> Page:
    title = {400: "That cannot be asked", 404: "Not found"}.get(status, "Not now")
    return Page(title, message, [], status=status)
