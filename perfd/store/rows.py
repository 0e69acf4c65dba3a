"""Records as rows of tables, and back. The columns have the names of the records' attributes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Generic, TypeVar

import attrs

from perfd.record import (
    EMPTY,
    FIELDS,
    Attach,
    Circuit,
    Curve,
    Document,
    Event,
    Guard,
    Hop,
    Kind,
    Measurement,
    Note,
    Outcome,
    StoredComparison,
    Stream,
    TorEvent,
)
from perfd.store.known import KnownState

R = TypeVar("R")
T = TypeVar("T")
Row = Sequence[Any]

_to_json: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), default=dict).encode  # dict: of Mappings


@attrs.frozen
class Column:
    """How one attribute is kept: ``write`` gives the database's value, ``read`` takes it; None changes nothing."""

    name: str
    write: Callable[[Any], Any] | None = None
    read: Callable[[Any], Any] | None = None


class Table(Generic[R]):
    """A table and its record class.

    ``time`` is the not-null column that rows are ordered by; ``derived`` are columns that are worked out from a
    record and are not read back.
    """

    def __init__(
        self,
        name: str,
        record: Callable[..., R],
        columns: Sequence[Column],
        time: str,
        derived: Mapping[str, Callable[[R], Any]] = EMPTY,
    ) -> None:
        self.name = name
        self.time = time
        self._record = record
        # Plain values first: one attrgetter takes them all, which is most of the speed of writing.
        columns = sorted(columns, key=lambda column: column.write is not None)
        plain = [column.name for column in columns if column.write is None]
        self._plain: Callable[[R], tuple[Any, ...]] = attrgetter(*plain)
        self._written = [(attrgetter(c.name), c.write) for c in columns if c.write is not None]
        self._read = [(column.name, column.read) for column in columns if column.read is not None]
        self._derived = tuple(derived.values())
        self._time: Callable[[R], float] = derived.get(time, attrgetter(time))
        self._names = [column.name for column in columns]
        self.columns = (*self._names, *derived)
        self._insert = (
            f"INSERT INTO {name} ({', '.join(map(quoted, self.columns))}) "
            f"VALUES ({', '.join('?' * len(self.columns))})"
        )

    def row(self, record: R) -> tuple[Any, ...]:
        """The values of ``record`` in the order of ``columns``."""
        written = tuple([write(get(record)) for get, write in self._written])
        return self._plain(record) + written + tuple([derive(record) for derive in self._derived])

    def record(self, row: Row) -> R:
        """The record of a ``row`` that ``select`` has given."""
        values = dict(zip(self._names, row, strict=True))
        for name, read in self._read:
            values[name] = read(values[name])
        return self._record(**values)

    def cursor(self, record: R) -> tuple[float, str]:
        """The place of ``record`` in the order of the rows: its time and its id."""
        return self._time(record), attrgetter("id")(record)

    @property
    def insert(self) -> str:
        return self._insert

    @property
    def insert_new(self) -> str:
        """Inserts a row unless one with its id is there."""
        return f"{self._insert} ON CONFLICT (id) DO NOTHING"

    @property
    def select(self) -> str:
        """Selects what ``record`` needs; a WHERE can follow."""
        return f"SELECT {', '.join(map(quoted, self._names))} FROM {self.name}"


def quoted(name: str) -> str:
    """The column's name as an SQL identifier; "end" is a keyword."""
    return f'"{name}"'


def _optional(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else convert(value)


def _or_empty(convert: Callable[[Any], Any], empty: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """How something that is never None but mostly empty is written and read: empty is NULL."""
    return (
        lambda value: _to_json(value) if value else None,
        lambda text: empty if text is None else convert(json.loads(text)),
    )


def _times_to_json(times: Mapping[int, float]) -> str | None:
    """What ``_to_json`` gives, faster: this is half the work of writing a measurement."""
    if not times:
        return None
    pairs = ",".join([f'"{n}":{time!r}' for n, time in times.items()])
    return _to_json(times) if "n" in pairs else f"{{{pairs}}}"  # nan and inf have other names in JSON


def _times_from_json(text: str | None) -> Mapping[int, float]:
    return EMPTY if text is None else {int(n): time for n, time in json.loads(text).items()}


def _members(member: type[T]) -> Callable[[str | None], tuple[T, ...]]:
    """How a JSON array of arrays is read as a tuple of attrs records."""
    return _or_empty(lambda values: tuple(member(*value) for value in values), ())[1]


HOPS = _members(Hop)
GUARDS = _members(Guard)


def _array(name: str, member: type[Any]) -> Column:
    """A tuple of attrs records, as a JSON array of arrays."""
    fields = attrgetter(*(a.name for a in attrs.fields(member)))
    write, _ = _or_empty(tuple, ())
    read = _members(member)
    return Column(name, lambda records: write([fields(record) for record in records]), read)


def _measurement_column(name: str, kind: Kind) -> Column:
    if name == "outcome":
        return Column(name, lambda outcome: str(outcome.value), Outcome)
    if kind is Kind.BOOL:
        return Column(name, None, _optional(bool))
    if kind in (Kind.TEXTS, Kind.FLOATS):
        return Column(name, _optional(_to_json), _optional(lambda text: tuple(json.loads(text))))
    if kind is Kind.TIMES:
        return Column(name, _times_to_json, _times_from_json)
    if kind is Kind.EXTRA:
        return Column(name, *_or_empty(dict, EMPTY))
    return Column(name)


def _columns(record: type[Any], special: Iterable[Column]) -> list[Column]:
    by_name = {column.name: column for column in special}
    return [by_name.get(a.name, Column(a.name)) for a in attrs.fields(record)]


def _first_seen(*names: str) -> Callable[[Any], float]:
    """The earliest time that a record knows, 0 if it knows none."""
    times = attrgetter(*names)

    def first_seen(record: Any) -> float:
        known = [*times(record), *[event.at for event in record.events]]
        return min((time for time in known if time is not None), default=0.0)

    return first_seen


MEASUREMENTS: Table[Measurement] = Table(
    "measurements", Measurement, [_measurement_column(field.name, field.kind) for field in FIELDS], time="start"
)

CIRCUITS: Table[Circuit] = Table(
    "circuits",
    Circuit,
    _columns(
        Circuit,
        [
            Column("build_flags", *_or_empty(tuple, ())),
            _array("path", Hop),
            Column("cbt_set", None, _optional(bool)),
            Column("cc_ss", None, _optional(bool)),
            _array("events", Event),
            Column("filtered_out", None, _optional(bool)),
            _array("current_guards", Guard),
        ],
    ),
    time="first_seen",
    derived={"first_seen": _first_seen("launch", "built", "end")},
)

STREAMS: Table[Stream] = Table(
    "streams",
    Stream,
    _columns(Stream, [_array("attaches", Attach), _array("events", Event)]),
    time="first_seen",
    derived={"first_seen": _first_seen("new", "end")},
)

EVENTS: Table[TorEvent] = Table("events", TorEvent, _columns(TorEvent, ()), time="at")

DOCUMENTS: Table[Document] = Table(
    "documents",
    Document,
    _columns(Document, [Column("filters", *_or_empty(dict, EMPTY)), _array("guards", Guard)]),
    time="day",
)

COMPARISONS: Table[StoredComparison] = Table(
    "comparisons", StoredComparison, _columns(StoredComparison, ()), time="begun"
)

NOTES: Table[Note] = Table("notes", Note, _columns(Note, ()), time="at")

KNOWN_STATES: Table[KnownState] = Table("known_states", KnownState, _columns(KnownState, ()), time="at")

CURVES: Table[Curve] = Table(
    "curves",
    Curve,
    _columns(
        Curve,
        [
            Column("columns", _to_json, lambda text: tuple(json.loads(text))),
            Column("samples", _to_json, lambda text: tuple(map(tuple, json.loads(text)))),
        ],
    ),
    time="at",
)

TABLES: tuple[Table[Any], ...] = (
    *(MEASUREMENTS, CIRCUITS, STREAMS, EVENTS, DOCUMENTS, COMPARISONS, NOTES, KNOWN_STATES, CURVES),
)
