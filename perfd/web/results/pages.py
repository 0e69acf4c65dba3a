"""Pages that are made from what Perfd remembers, at once: ``/health`` and ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from perfd.record import Outcome
from perfd.variant import Variant
from perfd.web.description import COUNT, JSON, STRING, Readers, Response, Route, Schema, array_of, object_of
from perfd.web.request import Node, Request, json_body
from perfd.web.results.answers import Access, answer_later
from perfd.web.results.schemas import properties_of, schema_of

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""


class HealthPage(Node):
    """``/health``: 200 if all is well, 503 if not, and the report either way."""

    is_vital = True

    def __init__(self, report: Callable[[], dict[str, Any]], access: Access) -> None:
        super().__init__()
        self._report = report
        self._access = access

    def describe(self, path: str) -> Iterator[Route]:
        report = {JSON: _report_schema()}
        answers = {200: Response(report), 503: Response(report, "Something is not well")}
        yield Route(path, "Whether Perfd does its work", answers, readers=Readers.HEALTH)

    def render_GET(self, request: Request) -> int:
        return answer_later(request, self._answer(request))

    async def _answer(self, request: Request) -> None:
        await self._access.check_health(request)
        report = self._report()
        request.setHeader(b"Cache-Control", b"no-store")
        request.setResponseCode(200 if report["healthy"] else 503)
        request.respond(json_body(request, report))


class MetricsPage(Node):
    """``/metrics``: what ``exposition`` gives, which must not take long."""

    def __init__(self, exposition: Callable[[], bytes], access: Access) -> None:
        super().__init__()
        self._exposition = exposition
        self._access = access

    def describe(self, path: str) -> Iterator[Route]:
        yield Route(
            path, "Metrics for Prometheus", {200: Response({METRICS_TYPE: STRING})}, readers=Readers.RESULTS
        )

    def render_GET(self, request: Request) -> int:
        return answer_later(request, self._answer(request))

    async def _answer(self, request: Request) -> None:
        await self._access.check(request)
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"Content-Type", METRICS_TYPE.encode())
        request.respond(self._exposition())


def _report_schema() -> Schema:
    """The schema of what ``/health`` reports."""
    nullable = {"type": ["string", "null"]}
    time = nullable | {"format": "date-time"}
    tor = object_of({"name": STRING, "healthy": {"type": "boolean"}, "state": STRING, "version": nullable})
    variant = object_of(
        {
            **properties_of(Variant),
            "healthy": {"type": "boolean"},
            "last_success": time,
            "last_outcome": schema_of(Outcome | None),
            "failures": COUNT | {"description": "since the last success"},
            "counts": {"type": "object", "additionalProperties": COUNT},
        }
    )
    experiment = object_of(
        {
            "name": STRING,
            "healthy": {"type": "boolean", "description": "all its variants are"},
            "next_slot": time,
            "interval": {"type": "number", "description": "seconds"},
            "variants": array_of(variant),
        }
    )
    return object_of(
        {
            "healthy": {"type": "boolean"},
            "source": STRING,
            "version": STRING,
            "time": time,
            "database": STRING | {"description": "ok, or what is wrong"},
            "log": STRING | {"description": "the same of perfd.log"},
            "database_replaced": time | {"description": "when it was last found deleted, moved or replaced"},
            "log_replaced": time | {"description": "the same of perfd.log"},
            "public_address": nullable
            | {"description": "ok, or why our server is not reached there from this machine; null: not asked"},
            "tors": array_of(tor),
            "experiments": array_of(experiment),
        }
    )
