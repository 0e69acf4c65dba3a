"""The routes of our web site: each name under ``/``, and what answers there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perfd.clock import Clock
from perfd.daemon.upkeep import archive
from perfd.pages.experiment import BY
from perfd.pages.layout import STYLE_PATH
from perfd.pages.periods import PERIOD
from perfd.store.page_files import DIRECTORY as PAGE_FILES
from perfd.web.request import Described
from perfd.web.results.answers import PublicDatabase
from perfd.web.results.archive import ArchivePages
from perfd.web.results.openapi import OpenApi
from perfd.web.results.overview import Overview, PageOnly, PagesBelow
from perfd.web.results.pages import HealthPage, MetricsPage
from perfd.web.results.people import Robots, StyleSheet
from perfd.web.results.records import result_resources
from perfd.web.targets.echo import Echo
from perfd.web.targets.page import CanonicalPage
from perfd.web.targets.random import random_resources
from perfd.web.targets.rate import StrangersRate
from perfd.web.targets.upload import UploadPage


def measured(max_size: int, clock: Clock, rate: StrangersRate | None = None) -> dict[str, Described]:
    """What measurements ask for.

    ``max_size`` is the largest download and upload, in bytes; ``rate`` is what strangers get.
    """
    return {
        **random_resources(max_size, rate),
        "upload": UploadPage(max_size, clock),
        "echo": Echo(),
    }


def read(
    database: PublicDatabase,
    directory: Path,
    health: Callable[[], dict[str, Any]],
    metrics: Callable[[], bytes],
    *,
    is_indexed: bool = False,
) -> dict[str, Described]:
    """What people and programs read of a daemon: its results, from the instance in ``directory``, and its state.

    ``health`` gives the report, ``metrics`` the exposition; ``is_indexed``: search engines may have its pages.
    """
    pages = {} if database.people is None else _of_people(database, is_indexed=is_indexed)
    return {
        **pages,
        **result_resources(database, directory / PAGE_FILES),
        "archive": ArchivePages(directory / archive.DIRECTORY, database, lambda: archive.listing(())),
        "health": HealthPage(health, database.access),
        "metrics": MetricsPage(metrics, database.access),
    }


def _of_people(database: PublicDatabase, *, is_indexed: bool) -> dict[str, Described]:
    """The pages that are no records, and what all pages need."""
    return {
        "": Overview(database),
        "about": PageOnly(database, "about", "What this instance is, and how it measures"),
        "experiments": PagesBelow(database, "experiment", "How an experiment went over a period", PERIOD, BY),
        "compare": PagesBelow(database, "comparison", "What a comparison of the daemon says by now"),
        "relays": PageOnly(database, "relays", "Relays that are slow, or fail, more often than others", PERIOD),
        "onion": PageOnly(database, "onion", "Which step on the way to the onion service takes how long", PERIOD),
        "status": PageOnly(database, "status", "How Perfd goes on, and what it is to do"),
        STYLE_PATH[1:]: StyleSheet(),
        "robots.txt": Robots(is_indexed),
    }


def of_site(
    others: Mapping[str, Described], rate: StrangersRate | None, origins: Callable[[], Sequence[int]]
) -> dict[str, Described]:
    """All children of one site: ``others``, the page with those ``origins``, and what describes them."""
    children = {**others, "page": CanonicalPage(origins, rate)}
    return {**children, "openapi.json": description(children)}


def description(children: Mapping[str, Described]) -> Described:
    """What describes the site that has these children."""
    return OpenApi({name: child for name, child in children.items() if not isinstance(child, OpenApi)})
