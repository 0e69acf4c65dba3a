"""What the readers of published results are given, and take a run for."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from perfd.formats import legacy, onionperf_writer, published, torperf_line
from perfd.formats.published import CANCELLED, NOT_PLAIN, SKIPPED
from perfd.record import Measurement, Outcome
from tests.support.strategies import typical


@pytest.mark.parametrize(
    ("changes", "unasked", "asked"),
    [
        ({}, None, None),
        ({"outcome": Outcome.FAILED}, None, None),
        ({"outcome": Outcome.TIMEOUT}, None, None),
        ({"outcome": Outcome.SKIPPED}, SKIPPED, SKIPPED),
        ({"outcome": Outcome.SKIPPED, "type": "upload"}, SKIPPED, SKIPPED),
        ({"outcome": Outcome.CANCELLED}, CANCELLED, None),
        ({"type": "upload"}, NOT_PLAIN, None),
        ({"type": "pageload"}, NOT_PLAIN, None),
        ({"tor": "none"}, NOT_PLAIN, None),
        ({"extra": {"PARALLEL": 3}}, NOT_PLAIN, None),
        ({"extra": {"CLIENT": "arti"}}, NOT_PLAIN, None),
        ({"extra": {"CLIENT": "socks", "CLIENTVERSION": "1.4"}}, NOT_PLAIN, None),
        ({"extra": {"URL": "http://site.example/"}}, NOT_PLAIN, None),
        ({"extra": {"OPTIMISTIC": 1}}, NOT_PLAIN, None),
        ({"extra": {"OPTIMISTIC": 0}}, None, None),
        ({"network": None, "tor": None}, None, None),
    ],
)
def test_left_out(changes: dict[str, Any], unasked: str | None, asked: str | None) -> None:
    """Plain downloads through Tor go in, others only if their type is asked for, skipped slots never."""
    run = typical(**changes)
    assert published.left_out(run) == unasked
    assert published.left_out(run, asked=True) == asked


def test_too_large() -> None:
    """metrics-lib has no number for more than 2 GiB."""
    assert not published.is_too_large(typical(filesize=2**31 - 1))
    assert published.is_too_large(typical(filesize=2**31))
    assert published.is_too_large(typical(readbytes=2**31))


# metrics-web's SQL, on what metrics-lib makes of a line and of a member of tgen.streams

FAILED: dict[str, Any] = {"outcome": Outcome.FAILED, "datacomplete": None, "readbytes": 1000}
IMPORTED: dict[str, Any] = {"network": None, "tor": None}
RUNS = [
    (typical(0), "ok"),
    (typical(1, **FAILED, errorcode="TOR/END/MISC"), "timeout"),
    (typical(2, **FAILED, errorcode="PERFD/RESET"), "timeout"),
    (typical(3, **FAILED | {"outcome": Outcome.TIMEOUT}, errorcode="PERFD/TIMEOUT"), "timeout"),
    (typical(4, **FAILED | {"outcome": Outcome.TIMEOUT}, **IMPORTED), "timeout"),
    (typical(5, **FAILED, **IMPORTED, errorcode="TGEN/READ"), "timeout"),
    (typical(6, outcome=Outcome.FAILED, readbytes=1000, **IMPORTED), "failure"),
    (typical(7, **FAILED, **IMPORTED), "neither"),
]


def counted(didtimeout: bool, complete: float | None, readbytes: int, filesize: int) -> str:
    """A row of metrics-web: NULL compares as false."""
    if didtimeout or (complete is not None and complete < 0.001):
        return "timeout"
    if complete is not None and complete >= 0.001 and readbytes < filesize:
        return "failure"
    return "ok" if complete is not None else "neither"


def from_line(run: Measurement) -> str:
    pairs = dict(pair.split("=") for pair in torperf_line.format_line(run, 3).split(" "))
    complete = float(pairs["DATACOMPLETE"]) or None
    return counted(
        pairs["DIDTIMEOUT"] == "1",
        None if complete is None else complete - float(pairs["START"]),
        int(pairs["READBYTES"]),
        int(pairs["FILESIZE"]),
    )


def from_document(run: Measurement) -> str:
    document = onionperf_writer.analysis(run.source, [run])
    (stream,) = document["data"][run.source]["tgen"]["streams"].values()
    last_byte = int(stream["time_info"]["usecs-to-last-byte-recv"])
    return counted(
        stream["is_error"],
        None if last_byte == -1 else last_byte / 1e6,
        int(stream["byte_info"]["total-bytes-recv"]),
        int(stream["stream_info"]["recvsize"]),
    )


@pytest.mark.parametrize(("run", "expected"), RUNS)
def test_both_documents_count_alike(run: Measurement, expected: str) -> None:
    """A reader of metrics-web's SQL finds the same timeouts and failures in both."""
    assert from_line(run) == expected
    assert from_document(run) == expected


@pytest.mark.parametrize("didtimeout", [0, 1])
@pytest.mark.parametrize("errorcode", [None, "TGEN/READ", "TGEN/TIMEOUT", "TOR/END/MISC"])
def test_what_was_imported_comes_back(didtimeout: int, errorcode: str | None) -> None:
    """DIDTIMEOUT is as it was, as far as writers have had it: with an ERRORCODE it was 1."""
    if errorcode and not didtimeout:
        return
    line = (
        f"CONNECT=2.0 DATACOMPLETE=0.0 DATAREQUEST=6.0 DATARESPONSE=7.0 DIDTIMEOUT={didtimeout} FILESIZE=50 "
        "NEGOTIATE=3.0 READBYTES=60 REQUEST=4.0 RESPONSE=5.0 SOCKET=1.5 SOURCE=moria START=1.25 WRITEBYTES=10"
    )
    run = torperf_line.parse(line + (f" ERRORCODE={errorcode}" if errorcode else ""))
    assert f" DIDTIMEOUT={didtimeout} " in torperf_line.format_line(run)
    assert legacy.data_numbers(run)[20] == didtimeout
    stripped = attrs.evolve(run, outcome=Outcome.OK, errorcode=None)
    assert " DIDTIMEOUT=0 " in torperf_line.format_line(stripped)
