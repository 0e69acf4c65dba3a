"""Which records are asked for, and the conditions in SQL that say so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from perfd.record import EMPTY, REQUEST, Outcome

Cursor = tuple[float, str]
"""The place of a record: its time (``start``; of circuits and streams the first time that they know) and its id."""

Condition = tuple[str, tuple[Any, ...]]
"""A condition in SQL, and its values."""

Texts = str | tuple[str, ...] | None
Numbers = int | tuple[int, ...] | None
"""What a filter wants: a value, one of several, or anything."""


def _possible(_: Any, attribute: attrs.Attribute[Any], wanted: Numbers) -> None:
    """Raise ValueError for numbers that the database cannot hold."""
    for number in _values(wanted):
        if number is not None and not 0 <= number < 2**63:
            raise ValueError(f"{attribute.name} must be from 0 to 2**63 - 1, not {number}")


def key_in_extra(key: str) -> str:
    """The SQL of a key of the kind's own; NULL where SQLite cannot read the JSON: a number may not be finite."""
    return f"json_extract(CASE WHEN json_valid(extra) THEN extra END, '$.{key}')"


COMPARISON = f"{key_in_extra('COMPARISON')} = ?"


def _condition(place: str, wanted: Any) -> Condition:
    """That ``place``, SQL with {} for each comparison, has what is wanted."""
    comparison, value = "= ?", wanted
    if isinstance(wanted, tuple):  # in one value: there may be more than SQLite has places for
        comparison, value = "IN (SELECT value FROM json_each(?))", json.dumps(wanted)
    count = place.count("{}")
    return place.format(*[comparison] * count), (value,) * count


@attrs.frozen(kw_only=True)
class Window:
    """Which part of the records, in which order; None is no restriction.

    The newest come first, unless ``oldest_first``. ``after`` is the cursor of the last record of the page
    before: paging by it neither repeats nor leaves out what was there when it began, however many are
    added meanwhile.
    """

    places: ClassVar[Mapping[str, str]] = EMPTY
    """The filters, and where the database has what they look at: SQL with {} for the comparison."""

    since: float | None = None  # inclusive
    until: float | None = None  # exclusive
    after: Cursor | None = None
    limit: int | None = attrs.field(default=None, validator=_possible)
    oldest_first: bool = False

    @property
    def conditions(self) -> list[Condition]:
        """All but those of time, place and number."""
        given = [(name, getattr(self, name)) for name in self.places]
        return [self.condition(name, wanted) for name, wanted in given if wanted is not None]

    def where(self, time: str) -> tuple[str, list[Any]]:
        """The WHERE clause, with a space in front, and its values; ``time`` is the column of the records' time."""
        conditions = self.conditions
        if self.since is not None:
            conditions.append((f"{time} >= ?", (self.since,)))
        if self.until is not None:
            conditions.append((f"{time} < ?", (self.until,)))
        if self.after is not None:
            conditions.append((f"({time}, id) {'>' if self.oldest_first else '<'} (?, ?)", self.after))
        values = [value for _, each in conditions for value in each]
        return (f" WHERE {' AND '.join(text for text, _ in conditions)}" if conditions else ""), values

    def condition(self, name: str, wanted: Any) -> Condition:
        """That of one filter."""
        if name == "relay" and isinstance(wanted, str):
            return "instr(path, ?) > 0", (wanted,)  # several times faster
        return _condition(self.places[name], wanted)


@attrs.frozen(kw_only=True)
class Filter(Window):
    """Which measurements; the times are those of ``start``. Raises ValueError for impossible numbers.

    ``without`` has filters and what they must not find: a value or a tuple of them. What is not known of a
    measurement is none of them, so it stays.
    """

    places = {
        **{name: f"{name} {{}}" for name in ("source", "experiment", "type", "outcome", "errorcode", "tor")},
        **{name: f"{name} {{}}" for name in ("torversion", "server", "guard", "conflux")},
        "size": "filesize {}",
        # A path is a JSON array of fingerprints.
        "middle": "json_extract(path, '$[1]') {}",
        "exit": "json_extract(path, '$[#-1]') {}",
        "relay": "EXISTS (SELECT 1 FROM json_each(measurements.path) AS hop WHERE hop.value {})",
        "circuit": "circ_id {}",
        "cbt": "cbt_set {}",
        "hour": "CAST(start / 3600 AS INTEGER) % 24 {}",
        "weekday": "(CAST(start / 86400 AS INTEGER) + 3) % 7 {}",  # the epoch was a Thursday
        "url": f"{key_in_extra('URL')} {{}}",
        "comparison": f"{key_in_extra('COMPARISON')} {{}}",
        "filtered": f"COALESCE({key_in_extra('FILTEREDOUT')}, 0) {{}}",
        "optimistic": f"COALESCE({key_in_extra('OPTIMISTIC')}, 0) {{}}",
        "heldup": f"({key_in_extra('HELDUP')} IS NOT NULL) {{}}",
        "pilot": f"(COALESCE({key_in_extra('BLOCK')}, 0) < 0) {{}}",
        "series": "id {}",
    }

    source: Texts = None
    experiment: Texts = None
    type: Texts = None
    size: Numbers = attrs.field(default=None, validator=_possible)  # filesize, in bytes
    outcome: Outcome | tuple[Outcome, ...] | None = None
    errorcode: Texts = None
    tor: Texts = None
    torversion: Texts = None
    server: Texts = None
    url: str | None = None  # what was fetched from elsewhere
    guard: Texts = None  # relays by their fingerprints, with $ in front, as paths have them
    middle: Texts = None
    exit: Texts = None  # the last hop
    relay: Texts = None  # at any place
    circuit: Numbers = attrs.field(default=None, validator=_possible)  # tor's id of it
    conflux: bool | None = None
    cbt: bool | None = None  # whether tor had learnt its circuit build timeout
    hour: Numbers = None  # 0 to 23, of the day in UTC
    weekday: Numbers = None  # 0 to 6, from Monday on, in UTC
    series: str | None = None  # the id of a series: its requests
    optimistic: bool | None = None  # whether the request did not wait for the SOCKS reply
    heldup: bool | None = None  # False: without runs during which Perfd itself was held up; True: only those
    filtered: bool | tuple[bool, bool] | None = None  # whether OnionPerf's filters may have left them out, or must
    pilot: bool | tuple[bool, bool] | None = None  # whether they may be of the pilot of a comparison, or must
    comparison: Texts = None  # the name of the comparison that they were made for
    requests: bool = True  # False: without the requests of series
    without: Mapping[str, Any] = EMPTY

    @property
    def conditions(self) -> list[Condition]:
        found = super().conditions
        found += [_not(self.condition(name, unwanted)) for name, unwanted in self.without.items()]
        if not self._wants_ok:  # so that SQLite takes the index of what is not ok
            found.append(("outcome <> 'ok'", ()))
        if not self.requests:
            found.append(("type <> ?", (REQUEST,)))
        return found

    def condition(self, name: str, wanted: Any) -> Condition:
        if name == "series":
            # The ids of its requests are its own, a hyphen, which is followed by the period in ASCII, and a number.
            return "id > ? AND id < ?", (f"{wanted}-", f"{wanted}.")
        return super().condition(name, wanted)

    @property
    def _wants_ok(self) -> bool:
        if Outcome.OK in _values(self.without.get("outcome")):
            return False
        return self.outcome is None or Outcome.OK in _values(self.outcome)

    @property
    def everything(self) -> Filter:
        """Of the same time and kind, what no filter leaves out."""
        return Filter(since=self.since, until=self.until, requests=self.requests)


def _values(wanted: Any) -> tuple[Any, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


def _not(condition: Condition) -> Condition:
    text, values = condition
    return f"({text}) IS NOT TRUE", values


def _of_subject(*prefixes: str) -> str:
    """Where the subject of a note names a section of such a kind, its name in the place of {}."""
    start = "instr(subject, ':')"
    kinds = ", ".join(f"'{prefix}'" for prefix in prefixes)
    about = f"subject IS NULL OR substr(subject, 1, {start} - 1) NOT IN ({kinds})"
    return f"({about} OR substr(subject, {start} + 1) {{}})"


@attrs.frozen(kw_only=True)
class NoteFilter(Window):
    """Which notes; the times are those that they are about.

    Those about a tor or client, and about an experiment, are left out if they are about another one than is given.
    What is about all, or about anything else, concerns every measurement.
    """

    places = {
        "source": "source {}",
        "kind": "kind {}",
        "tor": _of_subject("tor", "client"),
        "experiment": _of_subject("experiment"),
    }

    source: Texts = None
    kind: Texts = None
    tor: Texts = None
    experiment: Texts = None


@attrs.frozen(kw_only=True)
class CurveFilter(Window):
    """Which curves; the times are those at which their measurements started."""

    places = {name: f"{name} {{}}" for name in ("source", "measurement", "name")}

    source: Texts = None
    measurement: Texts = None  # its id
    name: Texts = None


@attrs.frozen(kw_only=True)
class TorFilter(Window):
    """Which records of what tor told; the times are those at which they were first seen."""

    places = {name: f"{name} {{}}" for name in ("source", "tor")}

    source: Texts = None
    tor: Texts = None


# Of json_each, which has a column of the name path; a number may not be finite.
_HOPS = "json_each(CASE WHEN json_valid(circuits.path) THEN circuits.path END) AS hop"
_PURPOSE = {"purpose": "purpose {}", "reason": "(failure_local {} OR failure_remote {})"}


@attrs.frozen(kw_only=True)
class CircuitFilter(TorFilter):
    """Which circuits."""

    places = {
        **TorFilter.places,
        **_PURPOSE,
        "relay": f"EXISTS (SELECT 1 FROM {_HOPS} WHERE json_extract(hop.value, '$[0]') {{}})",
    }

    purpose: Texts = None
    reason: Texts = None  # why it ended, as this tor or the other end said
    relay: Texts = None  # at any place of the path, with $ in front


@attrs.frozen(kw_only=True)
class StreamFilter(TorFilter):
    """Which streams."""

    places = {**TorFilter.places, **_PURPOSE, "measurement": "measurement {}"}

    measurement: Texts = None  # the id of the one that they carried
    purpose: Texts = None
    reason: Texts = None  # why it ended, as this tor or the other end said


@attrs.frozen(kw_only=True)
class EventFilter(TorFilter):
    """Which other events."""

    places = {**TorFilter.places, "keyword": "keyword {}"}

    keyword: Texts = None
