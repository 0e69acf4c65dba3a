"""The one codec of KEY=value lines: what perfd.log and .tpf files have in common, and where they differ."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfd.formats import keyvalue, torperf_line, values
from perfd.formats.errors import FormatError
from perfd.logfile import parse, render
from perfd.record import FIELDS, Kind, Measurement
from tests.support.format_strategies import runs
from tests.support.strategies import FLOATS, INT_64, measurements, typical

HOSTILE = st.text(st.characters(), max_size=20) | st.sampled_from(
    [
        "",
        " ",
        "=",
        "%",
        "%41",
        "%%",
        ",",
        "a,b",
        "\x00",
        "\r\n",
        "\u2028",
        "\udcff",
        "0",
        "-0",
        "00",
        "1e5",
        "1e999",
    ]
)
"""Any text, also such as is no Unicode."""


@given(HOSTILE)
def test_text(text: str) -> None:
    """Any text is written in printable ASCII without what separates pairs, and comes back."""
    written = values.encode(text)
    assert written.isascii()
    assert written.isprintable()
    assert not set(written) & set(" =")
    assert values.decode(written) == text


@given(st.lists(HOSTILE.filter(bool), max_size=4).map(tuple))
def test_texts(texts: tuple[str, ...]) -> None:
    """Commas in the members of a list do not divide them."""
    assert values.decode_items(values.encode_items(texts)) == texts


@given(HOSTILE | INT_64 | FLOATS)
def test_free(value: str | int | float) -> None:
    """A value whose type no field tells comes back with its type."""
    read = values.decode_free(values.encode_free(value))
    assert (read, type(read)) == (value, type(value))


@given(st.text(st.characters(exclude_characters=" =", exclude_categories=["Cs"])))
def test_what_others_wrote(value: str) -> None:
    """A value with a % that is no escape is taken as it is, so that nothing of it is lost."""
    text = values.decode_foreign(value)
    assert text == value or values.decode(value) == text
    assert values.decode_foreign(values.encode(text)) == text


@given(HOSTILE, st.sampled_from(sorted(kind for kind in Kind if kind not in (Kind.TEXT, Kind.EXTRA))))
def test_no_other_error(raw: str, kind: Kind) -> None:
    """Whatever a value is, it is read, or is a ValueError."""
    try:
        keyvalue.CODECS[kind].decode(raw)
    except ValueError:
        return
    assert raw.isascii() or kind is Kind.TEXTS


@given(measurements())
def test_pairs(measurement: Measurement) -> None:
    """The pairs are in the order of the fields, and a line of them divides into the same."""
    pairs = keyvalue.pairs(measurement)
    assert keyvalue.split(" ".join(f"{key}={value}" for key, value in pairs.items())) == pairs
    known = [field.key for field in FIELDS if field.key in pairs]
    assert [key for key in pairs if key in keyvalue.SINGLE] == known


@given(runs())
def test_log_and_tpf_hold_the_same(run: Measurement) -> None:
    """A key that stands in both lines has the same value in both, but for build times' decimals and DIDTIMEOUT."""
    log, tpf = keyvalue.split(render(run)), keyvalue.split(torperf_line.format_line(run, 6))
    assert {key for key in log if log[key]} <= tpf.keys() | set(torperf_line.CIRCUIT)
    different = {key for key in log.keys() & tpf.keys() if log[key] != tpf[key]}
    assert different <= {"BUILDTIMES", "DIDTIMEOUT"}
    assert parse(" ".join(f"{key}={log[key]}" for key in sorted(log))) == run


@pytest.mark.parametrize("extra", [{"a/b": 1}, {"A B": "x"}, {"é": "é"}, {"%53TART": 5}, {"PARTIAL05": 1.5}])
def test_keys_of_others(extra: dict[str, str | int | float]) -> None:
    """What a .tpf file of others calls its values can be written to the log, and read from both."""
    run = typical(extra=extra)
    assert parse(render(run)) == run
    assert torperf_line.parse(torperf_line.format_line(run, 6)) == run


def test_key_that_means_a_field_in_disguise() -> None:
    """An escaped key of others that would read as a field stays as it is written."""
    line = torperf_line.format_line(typical(), 6) + " %53OURCE=x"
    assert torperf_line.parse(line).extra == {"%53OURCE": "x"}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"cc_rtt": float("nan")}, "CC_RTT"),
        ({"socket": float("inf")}, "SOCKET"),
        ({"dataperc": {50: -1.0}}, "DATAPERC50"),
        ({"extra": {"A": 2**63}}, "A"),
        ({"extra": {"DIDTIMEOUT": 1}}, "DIDTIMEOUT"),
    ],
)
def test_what_cannot_be_written(changes: dict[str, object], key: str) -> None:
    """The error names the key."""
    with pytest.raises(FormatError) as error:
        keyvalue.pairs(attrs.evolve(typical(), **changes))
    assert error.value.key == key


def test_decimals() -> None:
    """Times have as many decimals as are asked for; numbers are whole, always."""
    assert keyvalue.pairs(typical(), 2)["DATAPERC50"] == "1700000000.99"
    assert keyvalue.pairs(typical(), 2)["CC_RTT"] == "0.234"
    with pytest.raises(ValueError, match="decimals"):
        keyvalue.pairs(typical(), 4)
