"""Pages without a daemon: its state as it would tell it, and readers of HTML that are strict."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import attrs

from perfd.pages.records import DaemonState, Experiment
from perfd.record import Measurement
from tests.support.strategies import typical

NOW = 1_700_000_000.0
VOID = {"meta", "link", "br", "img", "input"}


def iso(at: float | None) -> str | None:
    """A time as the report of /health has it."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def variant(*, healthy: bool = True, last: float | None = NOW - 60, **changes: Any) -> dict[str, Any]:
    """A variant of the report of /health."""
    plain = {"tor": "default", "server": "public", "browser": None, "optimistic": None}
    told = {"healthy": healthy, "last_success": iso(last), "last_outcome": "ok", "failures": 0, "counts": {}}
    return {**plain, **told, **changes}


def state(experiments: Iterable[str] = ("download-50k",), now: float = NOW, **changes: Any) -> DaemonState:
    """The state of a daemon that has these experiments, and all is well."""
    names = list(experiments)
    health = {
        "healthy": True,
        "database": "ok",
        "log": "ok",
        "tors": [{"name": "default", "healthy": True, "state": "ready", "version": "0.4.9.11"}],
        "experiments": [
            {
                "name": name,
                "healthy": True,
                "next_slot": iso(now + 30),
                "interval": 300.0,
                "variants": [variant(last=now - 60)],
            }
            for name in names
        ],
    }
    values: dict[str, Any] = {
        "now": now,
        "source": "example",
        "version": "0.1.0",
        "network": "testnet",
        "title": "Tor performance",
        "description": "",
        "contact": "",
        "health": health,
        "experiments": tuple(
            Experiment(
                name=name,
                type="download",
                size=51200,
                interval=300.0,
                timeout=295.0,
                tors=("default",),
                servers=("public",),
            )
            for name in names
        ),
    }
    return DaemonState(**{**values, **changes})


def recent(n: int, **changes: Any) -> Measurement:
    """The n-th run before now, five minutes apart."""
    plain = typical(0)
    shift = NOW - 300.0 * (n + 1) - plain.start
    times = {
        name: value + shift
        for name, value in attrs.asdict(plain, recurse=False).items()
        if isinstance(value, float) and value > 1e8
    }
    perc = {n: at + shift for n, at in plain.dataperc.items()}
    return attrs.evolve(plain, **{**times, "dataperc": perc, "partial": {}, "id": f"{n:032x}", **changes})


class Document(HTMLParser):
    """A page: its text, its elements, and mistakes such as a tag that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.style = ""
        self._open: list[str] = []
        assert text.startswith("<!DOCTYPE html>")
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"
        assert len(self.ids) == len(set(self.ids)), "an id stands twice"

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of each element of this name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        attributes = {name: value or "" for name, value in attrs}
        assert not any(name == "style" or name.startswith("on") for name in attributes), attributes
        assert len(attributes) == len(attrs), "an attribute stands twice"
        if "id" in attributes:
            self.ids.append(attributes["id"])
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.texts.append(data)
