"""Measurements that other people's formats can hold, for round trips."""

from __future__ import annotations

import string
from typing import Any

import attrs
from hypothesis import strategies as st

from perfd.formats.values import INT32
from perfd.record import FIELDS, Kind, Measurement, Outcome
from tests.support.strategies import EXTRA, FLOATS, WORDS, measurements

SECONDS = st.integers(1, 4 * 10**15).map(lambda microseconds: microseconds / 1e6)
SIZES = st.integers(0, INT32)
RELAYS = st.text("0123456789ABCDEF", min_size=40, max_size=40).map(lambda fingerprint: f"${fingerprint}")
SOURCES = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=32)
BUILDTIMES = st.integers(0, 10**9).map(lambda microseconds: microseconds / 1e6)
ENDED = st.sampled_from([outcome for outcome in Outcome if outcome is not Outcome.SKIPPED])

_BY_KIND: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TEXT: WORDS,
    Kind.INT: st.integers(0, 10**18 - 1),
    Kind.FLOAT: FLOATS,
    Kind.TIME: SECONDS,
    Kind.BOOL: st.booleans(),
    Kind.TEXTS: st.lists(WORDS, min_size=1, max_size=3).map(tuple),
}

_INT32_FIELDS = ("filesize", "writebytes", "readbytes", "used_by", "circ_id", "timeout")
_CIRCUIT_FIELDS = ("path", "buildtimes", "circ_id", "timeout", "quantile")


def _strategies() -> dict[str, st.SearchStrategy[Any]]:
    found = {}
    for field in FIELDS:
        strategy = _BY_KIND.get(field.kind, st.none())
        if field.name in _INT32_FIELDS:
            strategy = SIZES
        always = field.required or field.name in ("type", "writebytes", "readbytes", *_CIRCUIT_FIELDS)
        found[field.name] = strategy if always else st.none() | strategy
    return found | {
        "outcome": ENDED,
        "source": SOURCES,
        "path": st.lists(RELAYS, min_size=1, max_size=4).map(tuple),
        "buildtimes": st.lists(BUILDTIMES, min_size=1, max_size=4).map(tuple),
        "quantile": st.floats(0.001, 1.0),
        "dataperc": st.dictionaries(st.integers(0, 100), SECONDS, max_size=4),
        "partial": st.dictionaries(SIZES, SECONDS, max_size=4),
        "extra": EXTRA.map(lambda extra: {key: value for key, value in extra.items() if value != ""}),
    }


@st.composite
def runs(draw: st.DrawFn) -> Measurement:
    """Any measurement that has a .tpf line of which nothing is lost: nothing empty, a whole circuit or none."""
    run = draw(measurements(**_strategies()))
    if draw(st.booleans()):
        run = attrs.evolve(run, **dict.fromkeys(_CIRCUIT_FIELDS))
    return run


@st.composite
def data_runs(draw: st.DrawFn) -> Measurement:
    """Any measurement of which .data loses nothing: without the endings that it does not know, and without Tor."""
    steps = ("socket", "connect", "negotiate", "request", "response", "datarequest", "dataresponse", "datacomplete")
    start = draw(SECONDS)
    outcome = draw(st.sampled_from([Outcome.OK, Outcome.TIMEOUT, Outcome.FAILED]))
    known = {step: draw(st.none() | SECONDS) for step in steps}
    filesize = draw(SIZES)
    known["datacomplete"] = draw(SECONDS) if outcome is Outcome.OK else None
    end = round(start + 10.0, 6) if outcome is Outcome.TIMEOUT else None
    return Measurement(
        start=start,
        id="0" * 32,
        source="moria",
        experiment=f"torperf-{filesize}",
        server="public",
        filesize=filesize,
        outcome=outcome,
        writebytes=draw(SIZES),
        readbytes=filesize + draw(st.integers(0, 1000)),
        end=end,
        extra={} if end is None else {"IMPORTED_DATACOMPLETE": end},
        dataperc=draw(st.dictionaries(st.sampled_from(range(10, 100, 10)), SECONDS, max_size=4)),
        **known,
    )
