"""All that a daemon's web site has, without a daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perfd import routes
from perfd.clock import Clock
from perfd.web.request import Described
from perfd.web.results.answers import Access, PublicDatabase
from perfd.web.results.openapi import OpenApi


class Nobody:
    """Answers no browser."""

    async def answer(self, *_: object) -> None:
        raise NotImplementedError


def all_routes(max_size: int) -> dict[str, Described]:
    """What is under ``/``. Its database cannot be asked."""
    unread: Any = None
    read = routes.read(PublicDatabase(unread, Access("all"), people=Nobody()), Path("nowhere"), dict, bytes)
    return routes.of_site({**routes.measured(max_size, Clock()), **read}, None, lambda: ())


def described(max_size: int) -> dict[str, Any]:
    """``/openapi.json``."""
    resource = all_routes(max_size)["openapi.json"]
    assert isinstance(resource, OpenApi)
    return resource.document
