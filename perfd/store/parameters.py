"""What may be asked of the records: each filter is described once, for HTTP and for the command line.

The arguments of ``/results`` and its siblings, ``/openapi.json``, and the options of ``perfd results`` and
``perfd export`` are made of these. The name of a parameter is that of the filter's attribute
(``perfd.store.filters``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from perfd.record import Outcome
from perfd.units import parse_size


@attrs.frozen
class Parameter:
    """An argument: ``read`` turns its text into a value or raises ValueError; ``schema`` is JSON Schema."""

    name: str
    doc: str
    read: Callable[[str], Any]
    schema: Mapping[str, Any]


DEFAULT_LIMIT = 100
MOST = 1_000_000
"""The most records of one answer; there is ``next`` for more."""

_LATEST = 999_999_999_999  # seconds since the epoch
_MOST_TEXT = 100  # characters; all of them together must fit into a request's head

_SIZE = r"[0-9]{1,9}( ?(B|KiB|MiB|GiB))?"
_TIME = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?)?"
)
_FINGERPRINT = r"\$?[0-9A-Fa-f]{40}"
_URL = r"[!-~]{1,500}"
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
    """A fingerprint as paths have it: with $ in front, in upper case."""
    if not re.fullmatch(_FINGERPRINT, text):
        raise ValueError(f"{text[:50]!r} is no fingerprint of a relay: 40 hexadecimal digits")
    return f"${text[-40:].upper()}"


def _read_url(text: str) -> str:
    if not re.fullmatch(_URL, text):
        raise ValueError("must have 1 to 500 characters of ASCII, and no spaces")
    return text


def _read_flag(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"{text[:40]!r} is neither yes nor no")
    return text == "yes"


def _read_limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 0 < int(text) <= MOST:
        raise ValueError(f"{text[:40]!r} is not a number from 1 to {MOST}")
    return int(text)


def _read_outcome(text: str) -> Outcome:
    try:
        return Outcome(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not one of {', '.join(outcome.value for outcome in Outcome)}") from None


def _read_cursor(text: str) -> tuple[float, str]:
    if not re.fullmatch(_CURSOR, text):
        raise ValueError("not what next of the page before said")
    time, _, record_id = text.partition(",")
    return float(time), record_id


def _text(name: str, doc: str) -> Parameter:
    return Parameter(name, doc, _read_text, {"type": "string", "minLength": 1, "maxLength": _MOST_TEXT})


def _relay(name: str, doc: str) -> Parameter:
    schema = {"type": "string", "pattern": f"^{_FINGERPRINT}$"}
    return Parameter(name, f"{doc}: its fingerprint, with or without $", _read_relay, schema)


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

RESULTS = (
    SOURCE,
    EXPERIMENT,
    _text("type", "the experiment's type, such as download"),
    Parameter(
        "size",
        "the payload asked for, such as 51200 or 50 KiB",
        _read_size,
        {"type": "string", "pattern": f"^{_SIZE}$"},
    ),
    Parameter(
        "outcome",
        "how it ended",
        _read_outcome,
        {"type": "string", "enum": [outcome.value for outcome in Outcome]},
    ),
    _text("errorcode", "the error code, such as TOR/END/MISC or PERFD/TIMEOUT"),
    TOR,
    _text("server", "the way to our server: public or onion; url: what is not ours"),
    Parameter(
        "url",
        "what was fetched from elsewhere, as `URL` has it",
        _read_url,
        {"type": "string", "pattern": f"^{_URL}$"},
    ),
    _relay("guard", "the first relay of its circuit"),
    _relay("middle", "the second one"),
    _relay("exit", "the last one"),
    _relay("relay", "a relay at any place of its circuit"),
    _text("comparison", "the name of the comparison that they were made for"),
    Parameter(
        "filtered",
        "of imported results, what filters of OnionPerf's have left out: `no` is without that, `yes` that alone",
        _read_flag,
        {"type": "string", "enum": ["no", "yes"]},
    ),
    Parameter(
        "heldup",
        "those during which Perfd itself was held up (`HELDUP`): `no` is without them, `yes` them alone",
        _read_flag,
        {"type": "string", "enum": ["no", "yes"]},
    ),
    _text(
        "series", "the id of a series, for its requests, which are left out unless they or their type are asked for"
    ),
    *WINDOW,
)
"""Of measurements."""

_PURPOSE = _text("purpose", "its purpose in tor's words, such as GENERAL")
_REASON = _text("reason", "why it ended, as tor or the other end said, such as TIMEOUT")

CIRCUITS = (SOURCE, TOR, _PURPOSE, _REASON, _relay("relay", "a relay at any place of its path"), *WINDOW)
"""Of circuits."""

STREAMS = (
    *(SOURCE, TOR, _text("measurement", "the id of the measurement that it carried"), _PURPOSE, _REASON),
    *WINDOW,
)
"""Of streams."""

EVENTS = (SOURCE, TOR, _text("keyword", "the event's name, such as STATUS_CLIENT"), *WINDOW)
"""Of other events."""
