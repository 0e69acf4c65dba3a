"""Which records are asked for, and the conditions in SQL that say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs.validators import and_, ge, le, optional

from perfd.record import REQUEST, Outcome

Cursor = tuple[float, str]
"""The place of a record: its time (``start``; of circuits and streams the first time that they know) and its id."""

_size = optional(and_(ge(0), le(2**63 - 1)))


def key_in_extra(key: str) -> str:
    """The SQL of a key of the kind's own; NULL where SQLite cannot read the JSON: a number may not be finite."""
    return f"json_extract(CASE WHEN json_valid(extra) THEN extra END, '$.{key}')"


# A path is a JSON array of fingerprints.
_MIDDLE = "json_extract(path, '$[1]') = ?"
_EXIT = "json_extract(path, '$[#-1]') = ?"
_ANYWHERE = "instr(path, ?) > 0"

_HELD_UP = f"({key_in_extra('HELDUP')} IS NOT NULL) = ?"
_FILTERED = f"COALESCE({key_in_extra('FILTEREDOUT')}, 0) = ?"
_RARE_OUTCOME = "outcome <> 'ok' AND outcome = ?"  # so that SQLite takes the index of what is not ok
URL = f"{key_in_extra('URL')} = ?"
COMPARISON = f"{key_in_extra('COMPARISON')} = ?"
_REASON = "? IN (failure_local, failure_remote)"


@attrs.frozen(kw_only=True)
class Window:
    """Which part of the records, in which order; None is no restriction.

    The newest come first, unless ``oldest_first``. ``after`` is the cursor of the last record of the page
    before: paging by it neither repeats nor leaves out what was there when it began, however many are
    added meanwhile.
    """

    since: float | None = None  # inclusive
    until: float | None = None  # exclusive
    after: Cursor | None = None
    limit: int | None = attrs.field(default=None, validator=_size)
    oldest_first: bool = False

    @property
    def equal(self) -> Mapping[str, Any]:
        """The columns that must have a given value."""
        return {}

    @property
    def conditions(self) -> Mapping[str, Any]:
        """Further conditions in SQL, each with its value."""
        return {}


@attrs.frozen(kw_only=True)
class Filter(Window):
    """Which measurements; the times are those of ``start``. Raises ValueError for impossible numbers."""

    source: str | None = None
    experiment: str | None = None
    type: str | None = None
    size: int | None = attrs.field(default=None, validator=_size)  # filesize, in bytes
    outcome: Outcome | None = None
    errorcode: str | None = None
    tor: str | None = None
    server: str | None = None
    url: str | None = None  # what was fetched from elsewhere
    guard: str | None = None  # relays by their fingerprints, with $ in front, as paths have them
    middle: str | None = None
    exit: str | None = None  # the last hop
    relay: str | None = None  # at any place
    series: str | None = None  # the id of a series: its requests
    heldup: bool | None = None  # False: without runs during which Perfd itself was held up; True: only those
    filtered: bool | None = None  # False: without what filters of OnionPerf's have left out; True: only that
    comparison: str | None = None  # the name of the comparison that they were made for
    requests: bool = True  # False: without the requests of series

    @property
    def equal(self) -> Mapping[str, Any]:
        return {
            "source": self.source,
            "experiment": self.experiment,
            "type": self.type,
            "filesize": self.size,
            "outcome": Outcome.OK.value if self.outcome is Outcome.OK else None,
            "errorcode": self.errorcode,
            "tor": self.tor,
            "server": self.server,
            "guard": self.guard,
        }

    @property
    def conditions(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        if self.series is not None:
            # The ids of its requests are its own, a hyphen, which is followed by the period in ASCII, and a number.
            found |= {"id > ?": f"{self.series}-", "id < ?": f"{self.series}."}
        relays = {_MIDDLE: self.middle, _EXIT: self.exit, _ANYWHERE: self.relay}
        found |= {condition: relay for condition, relay in relays.items() if relay is not None}
        if self.heldup is not None:
            found[_HELD_UP] = int(self.heldup)
        if self.filtered is not None:
            found[_FILTERED] = int(self.filtered)
        if self.outcome not in (None, Outcome.OK):
            found[_RARE_OUTCOME] = self.outcome.value
        if self.comparison is not None:
            found[COMPARISON] = self.comparison
        if self.url is not None:
            found[URL] = self.url
        if not self.requests:
            found["type <> ?"] = REQUEST
        return found


@attrs.frozen(kw_only=True)
class TorFilter(Window):
    """Which records of what tor told; the times are those at which they were first seen."""

    source: str | None = None
    tor: str | None = None

    @property
    def equal(self) -> Mapping[str, Any]:
        return {"source": self.source, "tor": self.tor}


@attrs.frozen(kw_only=True)
class CircuitFilter(TorFilter):
    """Which circuits."""

    purpose: str | None = None
    reason: str | None = None  # why it ended, as this tor or the other end said
    relay: str | None = None  # at any place of the path, with $ in front

    @property
    def equal(self) -> Mapping[str, Any]:
        return {**super().equal, "purpose": self.purpose}

    @property
    def conditions(self) -> Mapping[str, Any]:
        found = {_REASON: self.reason, _ANYWHERE: self.relay}
        return {condition: value for condition, value in found.items() if value is not None}


@attrs.frozen(kw_only=True)
class StreamFilter(TorFilter):
    """Which streams."""

    measurement: str | None = None  # the id of the one that they carried
    purpose: str | None = None
    reason: str | None = None  # why it ended, as this tor or the other end said

    @property
    def equal(self) -> Mapping[str, Any]:
        return {**super().equal, "measurement": self.measurement, "purpose": self.purpose}

    @property
    def conditions(self) -> Mapping[str, Any]:
        return {} if self.reason is None else {_REASON: self.reason}


@attrs.frozen(kw_only=True)
class EventFilter(TorFilter):
    """Which other events."""

    keyword: str | None = None

    @property
    def equal(self) -> Mapping[str, Any]:
        return {**super().equal, "keyword": self.keyword}
