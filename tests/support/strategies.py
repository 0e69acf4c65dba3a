"""Records for tests: hypothesis strategies for any record, and a plain typical one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from perfd.formats.keyvalue import is_taken
from perfd.record import (
    DECILES,
    FIELDS,
    PARTIALS,
    Attach,
    Circuit,
    Event,
    Guard,
    Hop,
    Kind,
    Measurement,
    Outcome,
    Stream,
)

# A busy machine is no failure.
settings.register_profile("perfd", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("perfd"), max_examples=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "perfd"))

INT_64 = st.integers(-(2**63), 2**63 - 1)
TIMES = st.integers(0, 4 * 10**15).map(lambda microseconds: microseconds / 1e6)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NOT_KNOWN = ("(null)", "(NULL)", "unknown")
"""What formats of others have for what is not known. Hypothesis finds these words in our source."""

TEXTS = st.text(max_size=20) | st.sampled_from(["", " ", "a=b", "100%", "%41", "5", "1.5", "\r\n", "é €", "a,b"])
WORDS = TEXTS.filter(lambda text: text != "" and text not in NOT_KNOWN and not text.startswith("NULL:"))
EXTRA = st.dictionaries(
    (st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True) | TEXTS).filter(lambda key: not is_taken(key)),
    TEXTS | INT_64 | FLOATS,
    max_size=4,
)

_BY_KIND: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TEXT: TEXTS,
    Kind.INT: INT_64,
    Kind.FLOAT: FLOATS,
    Kind.TIME: TIMES,
    Kind.BOOL: st.booleans(),
    Kind.TEXTS: st.lists(WORDS, max_size=3).map(tuple),  # a list of one empty text has no text form
    Kind.FLOATS: st.lists(FLOATS, max_size=3).map(tuple),
    Kind.EXTRA: EXTRA,
}


_TIMES: dict[str, st.SearchStrategy[Any]] = {
    "dataperc": st.dictionaries(st.integers(0, 100), TIMES, max_size=4),
    "partial": st.dictionaries(st.sampled_from(PARTIALS) | st.integers(0, 10**18 - 1), TIMES, max_size=4),
}


def measurements(**fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Measurement]:
    """Any measurement; ``fixed`` gives strategies for fields by name."""
    fields = {}
    for field in FIELDS:
        strategy = _TIMES[field.name] if field.name in _TIMES else _BY_KIND[field.kind]
        if field.name == "outcome":
            strategy = st.sampled_from(Outcome)
        elif field.name not in ("type", "dataperc", "partial", "extra") and not field.required:
            strategy = st.none() | strategy
        fields[field.name] = fixed.get(field.name, strategy)
    return st.builds(Measurement, **fields)


def _optional(names: str, strategy: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    return {name: st.none() | strategy for name in names.split()}


def _tuples(record: Callable[..., Any], *args: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.builds(record, *args), max_size=4).map(tuple)


EVENTS = _tuples(Event, TIMES, TEXTS)


def circuits() -> st.SearchStrategy[Circuit]:
    """Any circuit."""
    return st.builds(
        Circuit,
        **dict.fromkeys(["id", "source", "tor", "status"], TEXTS),
        circ_id=INT_64,
        build_flags=st.lists(TEXTS, max_size=3).map(tuple),
        path=_tuples(Hop, TEXTS, st.none() | TEXTS, st.none() | TIMES),
        events=EVENTS,
        **_optional("launch built end", TIMES),
        **_optional("purpose hs_state rend_query failure_local failure_remote conflux_id", TEXTS),
        **_optional("timeout cc_cwnd hs_pow_effort", INT_64),
        **_optional("quantile conflux_rtt cc_rtt cc_min_rtt", FLOATS),
        **_optional("cbt_set cc_ss filtered_out", st.booleans()),
        current_guards=_tuples(Guard, TEXTS, *([st.none() | TEXTS] * 2), *([st.none() | TIMES] * 4)),
    )


def streams() -> st.SearchStrategy[Stream]:
    """Any stream."""
    text = st.none() | TEXTS
    return st.builds(
        Stream,
        **dict.fromkeys(["id", "source", "tor", "status"], TEXTS),
        stream_id=INT_64,
        attaches=_tuples(Attach, INT_64, TIMES, st.none() | TIMES, text, text),
        events=EVENTS,
        **_optional("new end", TIMES),
        **_optional("purpose target source_addr measurement circuit failure_local failure_remote", TEXTS),
    )


def typical(n: int = 0, **changes: Any) -> Measurement:
    """A measurement of 50 KiB with all that Perfd knows of one; ``n`` gives the slot and the id."""
    start = 1_700_000_000.012345 + 300 * n

    def after(seconds: float) -> float:
        return round(start + seconds, 6)

    values: dict[str, Any] = {
        "start": start,
        "socket": after(0.000123),
        "connect": after(0.000345),
        "negotiate": after(0.000567),
        "request": after(0.000789),
        "response": after(0.412345),
        "datarequest": after(0.412456),
        "dataresponse": after(0.723456),
        "datacomplete": after(1.234567),
        "dataperc": {decile: after(0.723456 + decile / 200) for decile in DECILES},
        "partial": {size: after(0.723456 + size / 102400) for size in PARTIALS if size <= 51200},
        "end": after(1.234678),
        "slot": float(round(start)),
        "id": f"{n:032x}",
        "source": "example",
        "experiment": "download-50k",
        "network": "tor",
        "tor": "default",
        "torversion": "0.4.9.11",
        "server": "public",
        "filesize": 51200,
        "outcome": Outcome.OK,
        "status": 200,
        "writebytes": 118,
        "readbytes": 51392,
        "payloadbytes": 51200,
        "endpointlocal": "localhost:127.0.0.1:43221",
        "endpointproxy": "localhost:127.0.0.1:9050",
        "endpointremote": "192.0.2.1:192.0.2.1:8080",
        "hostnamelocal": "example",
        "hostnameremote": "example",
        "sourceaddress": "192.0.2.1",
        "serverrequest": after(0.567123),
        "serverresponse": after(0.567234),
        "servercomplete": after(0.987654),
        "used_by": 1000 + n,
        "used_at": after(1.240123),
        "circ_id": 100 + n,
        "launch": after(-30.5),
        "path": ("$" + "A" * 40, "$" + "B" * 40, "$" + "C" * 40),
        "buildtimes": (0.101234, 0.202345, 0.303456),
        "timeout": 1500,
        "quantile": 0.8,
        "cbt_set": True,
        "guard": "$" + "A" * 40,
        "conflux": True,
        "conflux_id": "D" * 32,
        "conflux_circ_ids": ("101", "102"),
        "conflux_rtt": 0.123,
        "cc_ss": False,
        "cc_cwnd": 124,
        "cc_rtt": 0.234,
        "cc_min_rtt": 0.123,
    }
    return Measurement(**{**values, **changes})
