"""The routes of our web site: each name under ``/``, and what answers there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perfd.clock import Clock
from perfd.daemon.upkeep import archive
from perfd.store.page_files import DIRECTORY as PAGE_FILES
from perfd.web.request import Described
from perfd.web.results.answers import PublicDatabase
from perfd.web.results.archive import ArchivePages
from perfd.web.results.openapi import OpenApi
from perfd.web.results.pages import HealthPage, MetricsPage
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
    database: PublicDatabase, directory: Path, health: Callable[[], dict[str, Any]], metrics: Callable[[], bytes]
) -> dict[str, Described]:
    """What people and programs read of a daemon: its results, from the instance in ``directory``, and its state.

    ``health`` gives the report, ``metrics`` the exposition.
    """
    return {
        **result_resources(database, directory / PAGE_FILES),
        "archive": ArchivePages(directory / archive.DIRECTORY, database, lambda: archive.listing(())),
        "health": HealthPage(health, database.access),
        "metrics": MetricsPage(metrics, database.access),
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
