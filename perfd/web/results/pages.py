"""Pages that are made from what Perfd remembers, at once: ``/health``, ``/metrics``, ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from perfd.web.request import Node, Request, json_body
from perfd.web.results.answers import Access

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""


class HealthPage(Node):
    """``/health``: 200 if all is well, 503 if not, and the report either way."""

    def __init__(self, report: Callable[[], dict[str, Any]], access: Access) -> None:
        super().__init__()
        self._report = report
        self._access = access

    def render_GET(self, request: Request) -> bytes:
        self._access.check_health(request)
        report = self._report()
        request.setHeader(b"Cache-Control", b"no-store")
        request.setResponseCode(200 if report["healthy"] else 503)
        return json_body(request, report)


class MetricsPage(Node):
    """``/metrics``: what ``exposition`` gives, which must not take long."""

    def __init__(self, exposition: Callable[[], bytes], access: Access) -> None:
        super().__init__()
        self._exposition = exposition
        self._access = access

    def render_GET(self, request: Request) -> bytes:
        self._access.check(request)
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"Content-Type", METRICS_TYPE.encode())
        return self._exposition()


class DocumentPage(Node):
    """A document that does not change, for everybody."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__()
        self._document = document

    def render_GET(self, request: Request) -> bytes:
        return json_body(request, self._document)
