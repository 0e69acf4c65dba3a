"""What may be asked of the records: each filter is described once, for HTTP and for the command line.

The arguments of ``/results`` and its siblings, ``/openapi.json``, and the options of ``perfd results``,
``perfd export``, ``perfd analyze`` and ``perfd compare`` are made of these. The name of a parameter is that of the
filter's attribute (``perfd.store.filters``), or ``not-`` and that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from perfd.record import Outcome
from perfd.store.filters import Filter
from perfd.units import parse_size


@attrs.frozen
class Parameter:
    """An argument: ``read`` turns its text into a value or raises ValueError; ``schema`` is JSON Schema."""

    name: str
    doc: str
    read: Callable[[str], Any]
    schema: Mapping[str, Any]
    words: tuple[str, ...] = ()  # all that it can be, if they are few
    is_list: bool = False  # several may be given, with commas between: any of them
    is_of_relays: bool = False


OUTCOMES = tuple(outcome.value for outcome in Outcome)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

EXCLUDING = "not-"
"""In front of a filter's name: without those that it would find."""

DEFAULT_LIMIT = 100
MOST = 1_000_000
"""The most records of one answer; there is ``next`` for more."""

_LATEST = 999_999_999_999  # seconds since the epoch
_MOST_TEXT = 100  # characters; all of them together must fit into a request's head

_SIZE = r"[0-9]{1,9}( ?(B|KiB|MiB|GiB))?"
_TIME = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?)?"
)
_CIRCUIT = r"[0-9]{1,10}"
_HOUR = r"([01]?[0-9]|2[0-3])"
_HOURS = rf"{_HOUR}(-{_HOUR})?"
_FINGERPRINT = r"\$?[0-9A-Fa-f]{40}([~=][A-Za-z0-9]{1,19})?"
_URL = r"[!-~]{1,500}"
_WEEKDAYS = rf"({'|'.join(WEEKDAYS)})(-({'|'.join(WEEKDAYS)}))?"
_CURSOR = r"[0-9]{1,12}(\.[0-9]{1,40})?,[A-Za-z0-9_-]{1,64}"


def _read_text(text: str) -> str:
    if not 0 < len(text) <= _MOST_TEXT:
        raise ValueError(f"must have 1 to {_MOST_TEXT} characters")
    return text


def _read_size(text: str) -> int:
    if not re.fullmatch(_SIZE, text, re.IGNORECASE):
        raise ValueError(f"{text[:40]!r} is no size such as 51200 or 50 KiB")
    return parse_size(text)


def _read_time(text: str) -> float:
    """Seconds since the epoch, or a date or time of ISO 8601; without a zone it is UTC."""
    try:
        if re.fullmatch(_TIME, text):
            time = datetime.fromisoformat(text.upper())
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
        if re.fullmatch(r"[0-9.eE+-]{1,30}", text) and 0 <= (seconds := float(text)) <= _LATEST:
            return seconds
    except ValueError:
        pass  # 2026-02-30, 1.2.3
    raise ValueError(f"{text[:40]!r} is no time such as 2026-11-23, 2026-11-23T12:00:00Z or 1795435200")


def _read_relay(text: str) -> str:
    """A fingerprint as paths have it: with $ in front, in upper case, and without the nickname that tor adds."""
    if not re.fullmatch(_FINGERPRINT, text):
        raise ValueError(f"{text[:50]!r} is no fingerprint of a relay: 40 hexadecimal digits")
    return f"${text.lstrip('$')[:40].upper()}"


def _read_url(text: str) -> str:
    if not re.fullmatch(_URL, text):
        raise ValueError("must have 1 to 500 characters of ASCII, and no spaces")
    return text


def _read_flag(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"{text[:40]!r} is neither yes nor no")
    return text == "yes"


def _read_flag_or_any(text: str) -> bool | tuple[bool, bool]:
    return (False, True) if text == "any" else _read_flag(text)


def _read_limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 0 < int(text) <= MOST:
        raise ValueError(f"{text[:40]!r} is not a number from 1 to {MOST}")
    return int(text)


def _read_outcome(text: str) -> Outcome:
    try:
        return Outcome(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not one of {', '.join(OUTCOMES)}") from None


def _read_circuit(text: str) -> int:
    if not re.fullmatch(_CIRCUIT, text):
        raise ValueError(f"{text[:40]!r} is no id of a circuit, such as 17")
    return int(text)


def _read_hours(text: str) -> list[int]:
    """An hour, or all from one to another: 22-5 goes over midnight."""
    if re.fullmatch(_HOURS, text):
        first, _, last = text.partition("-")
        return _around(int(first), int(last or first), 24)
    raise ValueError(f"{text[:40]!r} is no hour from 0 to 23, and no hours such as 8-17 or 22-5")


def _read_weekdays(text: str) -> list[int]:
    """A weekday as its place in the week, or all from one to another."""
    if re.fullmatch(_WEEKDAYS, text.lower()):
        first, _, last = text.lower().partition("-")
        return _around(WEEKDAYS.index(first), WEEKDAYS.index(last or first), 7)
    raise ValueError(f"{text[:40]!r} is not one of {', '.join(WEEKDAYS)}, and no days such as mon-fri")


def _around(first: int, last: int, count: int) -> list[int]:
    return [(first + n) % count for n in range((last - first) % count + 1)]


def _read_cursor(text: str) -> tuple[float, str]:
    if not re.fullmatch(_CURSOR, text):
        raise ValueError("not what next of the page before said")
    time, _, record_id = text.partition(",")
    return float(time), record_id


def _several(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Of a list with commas between; a single value is that itself."""

    def read_all(text: str) -> Any:
        found: list[Any] = []
        for part in text.split(","):
            value = read(part)
            found += value if isinstance(value, list) else [value]
        return found[0] if len(found) == 1 else tuple(dict.fromkeys(found))

    return read_all


def _list(name: str, doc: str, read: Callable[[str], Any], pattern: str, words: tuple[str, ...] = ()) -> Parameter:
    schema = {"type": "string", "pattern": f"^{pattern}(,{pattern})*$"}
    return Parameter(name, doc, _several(read), schema, words, is_list=True)


def _text(name: str, doc: str) -> Parameter:
    return _list(name, doc, _read_text, f"[^,]{{1,{_MOST_TEXT}}}")


def _relay(name: str, doc: str) -> Parameter:
    found = _list(name, f"{doc}: its fingerprint, with or without $", _read_relay, _FINGERPRINT)
    return attrs.evolve(found, is_of_relays=True)


def _flag(name: str, doc: str) -> Parameter:
    return Parameter(name, doc, _read_flag, {"type": "string", "enum": ["no", "yes"]}, ("no", "yes"))


def _excluding(parameter: Parameter) -> Parameter:
    return attrs.evolve(parameter, name=f"{EXCLUDING}{parameter.name}", doc=f"without: {parameter.doc}")


def _time(name: str, doc: str) -> Parameter:
    seconds = {"type": "number", "minimum": 0, "maximum": _LATEST}
    dates = [{"type": "string", "format": name} for name in ("date", "date-time")]
    return Parameter(
        name,
        f"{doc}: a date, a time (UTC unless it says its zone) or seconds since the epoch",
        _read_time,
        {"anyOf": [seconds, *dates]},
    )


WINDOW = (
    _time("since", "only from this time on"),
    _time("until", "only before this time"),
    Parameter(
        "limit",
        "how many",
        _read_limit,
        {"type": "integer", "minimum": 1, "maximum": MOST, "default": DEFAULT_LIMIT},
    ),
    Parameter(
        "after",
        "what `next` of the page before said, to go on behind it",
        _read_cursor,
        {"type": "string", "pattern": f"^{_CURSOR}$"},
    ),
)
"""What every list has."""

SOURCE = _text("source", "the instance that measured")
TOR = _text("tor", "the name of the tor")
EXPERIMENT = _text("experiment", "the experiment's name")

_FILTERS = (
    SOURCE,
    EXPERIMENT,
    _text("type", "the experiment's type, such as download"),
    _list("size", "the payload asked for, such as 51200 or 50 KiB", _read_size, f"{_SIZE}"),
    _list("outcome", "how it ended", _read_outcome, f"({'|'.join(OUTCOMES)})", OUTCOMES),
    _text("errorcode", "the error code, such as TOR/END/MISC or PERFD/TIMEOUT"),
    TOR,
    _text("server", "the way to our server: public or onion; url: what is not ours"),
    Parameter(
        "url",
        "what was fetched from elsewhere, as `URL` has it",
        _read_url,
        {"type": "string", "pattern": f"^{_URL}$"},
    ),
    _text("torversion", "its version"),
    _relay("guard", "the first relay of its circuit"),
    _relay("middle", "the second one"),
    _relay("exit", "the last one"),
    _relay("relay", "a relay at any place of its circuit"),
    _list("circuit", "tor's id of its circuit, which begins anew with each start of tor", _read_circuit, _CIRCUIT),
    _list("hour", "the hour of the day in UTC, such as 8, 8-17 or 22-5", _read_hours, _HOURS),
    _list("weekday", "the weekday in UTC, such as sun or mon-fri", _read_weekdays, _WEEKDAYS, WEEKDAYS),
    _text("comparison", "the name of the comparison that they were made for"),
)
_SERIES = "the id of a series, for its requests, which are left out unless they or their type are asked for"

RESULTS = (
    *_FILTERS,
    *map(_excluding, _FILTERS),
    _flag("conflux", "those whose circuit was a leg of a Conflux set: `yes` them alone, `no` those that were none"),
    _flag("cbt", "those whose tor had learnt its circuit build timeout: `yes` them alone, `no` the others"),
    Parameter(
        "filtered",
        "of imported results, what filters of OnionPerf's have left out: `no` is without that, `yes` that alone; "
        "`any` is all, as it is without this parameter but for `perfd analyze`, which leaves it out",
        _read_flag_or_any,
        {"type": "string", "enum": ["no", "yes", "any"]},
        ("no", "yes", "any"),
    ),
    Parameter(
        "pilot",
        "runs of pilots of comparisons, which warm up and do not count: `no` is without them, `yes` them alone; "
        "`any` is all, as it is without this parameter but for `perfd analyze`, which leaves them out",
        _read_flag_or_any,
        {"type": "string", "enum": ["no", "yes", "any"]},
        ("no", "yes", "any"),
    ),
    _flag("optimistic", "those with optimistic data: `yes` them alone, `no` the others"),
    _flag(
        "heldup",
        "those during which Perfd itself was held up (`HELDUP`): `no` is without them, `yes` them alone",
    ),
    _flag("count", "`yes`: also say how many measurements of the period the filters have left out"),
    Parameter("series", _SERIES, _read_text, {"type": "string", "minLength": 1, "maxLength": _MOST_TEXT}),
    *WINDOW,
)
"""Of measurements."""


def results_filter(values: Mapping[str, Any], /, **others: Any) -> Filter:
    """The filter of the values of parameters by name, and of ``others`` of its attributes.

    Requests of series are left out, unless a type or a series is asked for.
    """
    given = {name: value for name, value in values.items() if value is not None}
    excluded = {name: given.pop(name) for name in list(given) if name.startswith(EXCLUDING)}
    without = {name.removeprefix(EXCLUDING): value for name, value in excluded.items()}
    asked = {"without": without, "requests": "type" in given or "series" in given}
    return Filter(**given, **{**asked, **others})


_PURPOSE = _text("purpose", "its purpose in tor's words, such as GENERAL")
_REASON = _text("reason", "why it ended, as tor or the other end said, such as TIMEOUT")

CURVES = (
    *(SOURCE, _text("measurement", "the id of their measurement"), _text("name", "what they show: arrival, say")),
    *WINDOW,
)
"""Of curves."""

NOTES = (
    *(SOURCE, TOR, EXPERIMENT),
    _text("kind", "of changes: perfd, tor, configuration or consensus"),
    *WINDOW,
)
"""Of notes: those about another tor or experiment are left out."""

CIRCUITS = (SOURCE, TOR, _PURPOSE, _REASON, _relay("relay", "a relay at any place of its path"), *WINDOW)
"""Of circuits."""

STREAMS = (
    *(SOURCE, TOR, _text("measurement", "the id of the measurement that it carried"), _PURPOSE, _REASON),
    *WINDOW,
)
"""Of streams."""

EVENTS = (SOURCE, TOR, _text("keyword", "the event's name, such as STATUS_CLIENT"), *WINDOW)
"""Of other events."""
