"""The records of all types of experiment: nothing of them is lost in the log, the database, exports and imports."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from perfd.experiments.parallel import combined, shares
from perfd.experiments.rtt import figures
from perfd.formats import onionperf_writer, published, torperf, torperf_rules
from perfd.formats.torperf_line import format_line
from perfd.formats.torperf_line import parse as parse_line
from perfd.logfile.line import parse, render
from perfd.record import PARTIALS, Error, Measurement, Outcome
from tests.support.stored import Stored
from tests.support.strategies import typical

SERIES = "5e" * 16
STEPS = ("socket", "connect", "negotiate", "request", "response", "datarequest", "dataresponse", "datacomplete")
OF_TOR = (
    "used_by",
    "used_at",
    "circ_id",
    "launch",
    "path",
    "buildtimes",
    "timeout",
    "quantile",
    "cbt_set",
    "guard",
)
CONFLUX = ("conflux", "conflux_id", "conflux_circ_ids", "conflux_rtt", "cc_ss", "cc_cwnd", "cc_rtt", "cc_min_rtt")
WITHOUT_TOR: dict[str, Any] = dict.fromkeys((*OF_TOR, *CONFLUX))
WITHOUT_STEPS: dict[str, Any] = {**dict.fromkeys(STEPS), "dataperc": {}, "partial": {}}


def lost(count: int) -> str:
    """A list of a stream each, of which nothing is known."""
    return "," * (count - 1)


def parallel(n: int, count: int) -> Measurement:
    """As many streams as there can be have the longest line of all."""
    extra: dict[str, Any] = {"PARALLEL": count, "STREAMSOK": 0, "THROUGHPUT": 123456.7, "JAIN": 0.987654}
    lists = {"RATES": "123456789", "RESPONSES": "1234.567890", "COMPLETES": "1234.567890", "BYTES": "10737418240"}
    lists |= {"CIRCS": "1234567", "IDS": "12345678", "ERRORS": "TOR/END/RESOURCELIMIT"}
    extra |= {f"STREAM{name}": ",".join([each] * count) for name, each in lists.items()}
    reason = f"{count} of {count} streams: tor's stream 5 ended with END"
    ending = {"outcome": Outcome.FAILED, "errorcode": "TOR/END/RESOURCELIMIT", "reason": reason}
    return typical(n, **ending, datacomplete=None, dataperc={}, partial={}, extra=extra)


PLAIN = [
    typical(0),
    typical(1, extra={"OPTIMISTIC": 0, "PAIR": "0" * 32}),
    typical(2, server="onion", extra={"FRESHDESCRIPTOR": 1, "HSDESCREQUESTED": 1700000600.5, "HSINTROS": 1}),
]
"""Plain downloads through Tor."""

OTHERS = [
    typical(3, extra={"OPTIMISTIC": 1, "PAIR": "12345678901234567890123456789012"}),
    typical(4, tor="none", torversion=None, endpointproxy=None, negotiate=None, request=None, **WITHOUT_TOR),
    parallel(5, 3),
    parallel(6, 1000),
    typical(
        7, extra={"PARALLEL": 2, "OPTIMISTIC": 0, "STREAMSOK": 2, "STREAMERRORS": lost(2), "STREAMCIRCS": "5,5"}
    ),
    typical(
        8,
        **{**WITHOUT_STEPS, **WITHOUT_TOR, "datacomplete": typical(8).datacomplete},
        id=SERIES,
        type="series",
        extra={"GROUPS": 2, "REQUESTS": 3, "REQUESTSOK": 2, "CIRCUITWAITMAX": 1.5, "FAILURES": "PERFD/TIMEOUT:1"},
    ),
    typical(
        9,
        id=f"{SERIES}-0000",
        type="request",
        extra={
            "SERIES": SERIES,
            "REQUESTNUMBER": 0,
            "GROUP": 0,
            "ATTACHES": 1,
            "ATTACHEDTO": 5,
            "CIRCUITWAIT": 0.0,
        },
    ),
    typical(
        10,
        id=f"{SERIES}-0001",
        type="request",
        extra={"SERIES": SERIES, "ATTACHEDTO": "5,6", "DETACHES": 1, "DETACHREASONS": "END/EXITPOLICY,TIMEOUT"},
    ),
    typical(
        11,
        **{**WITHOUT_STEPS, **WITHOUT_TOR, "endpointlocal": None, "end": None},
        id=f"{SERIES}-0002",
        type="request",
        outcome=Outcome.TIMEOUT,
        errorcode=Error.TIMEOUT,
        extra={"SERIES": SERIES, "REQUESTNUMBER": 2, "GROUP": 0},
    ),
    typical(
        12,
        type="rtt",
        status=101,
        filesize=5 * 2**20,
        dataperc={},
        partial={},
        extra={
            "RATE": 10.0,
            "DURATION": 100.0,
            "RTTSENT": 2000,
            "RTTLOST": 0,
            "LOADBYTES": 5 * 2**20,
            "LOADCIRC": 5,
            "LOADRESPONSE": 1700003600.123456,
            "LOADSTREAM": 7,
            **figures("IDLE", [n / 7e3 for n in range(1, 1001)]),
            **figures("LOAD", [n / 7e2 for n in range(1, 1001)]),
        },
    ),
    typical(13, type="rtt", extra={"RATE": 0.5, **figures("IDLE", [0.25]), **figures("LOAD", [])}),
    typical(
        14,
        type="upload",
        filesize=5 * 2**20,
        partial={n: typical(14).start + 1.5 for n in PARTIALS},
        extra={
            "UPLOADBYTES": 5 * 2**20,
            "UPLOADFIRST": 1700004200.5,
            "UPLOADLAST": 1700004201.25,
            "EXPECT": 1,
            "UPLOADDIGEST": "0123456789" * 6 + "0123",
            "SENTFIRST": 1700004200.25,
            "SENTPERC10": 1700004200.75,
        },
    ),
    typical(
        15,
        type="pageload",
        filesize=0,
        extra={
            "BROWSER": "default",
            "PAGE": "https://example.org/?a=b c",
            "OPTIMISTIC": 1,
            "REQUESTS": 41,
            "FIRSTCONTENTFULPAINT": 1700004501.5,
            "SPEEDINDEX": 1234.5,
            "CONNECTIONERRORS": "PERFD/CLOSED:2",
        },
    ),
    typical(16, type="series", outcome=Outcome.CANCELLED, extra={"REQUESTS": 3, "FAILURES": "PERFD/STOPPED:3"}),
]
"""What is no single plain download through Tor."""

RECORDS = [*PLAIN, *OTHERS]


class RoundTripTests(SynchronousTestCase):
    """Everywhere where records go."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.instance = Stored(self.place / "a")

    def export(self, form: str) -> Path:
        self.instance.add(RECORDS)
        path = self.place / f"all.{form}"
        code, out, err = self.instance.perfd("export", "--format", form, "--output", path)
        self.assertEqual((code, out), (0, ""), err)
        return path

    def imported(self, path: Path) -> list[Measurement]:
        other = Stored(self.place / "b")
        code, out, err = other.perfd("import", path)
        self.assertEqual((code, err.count("perfd: ")), (0, 0), out + err)
        return other.measurements()

    def test_log(self) -> None:
        """A line of perfd.log is read as what was written."""
        for record in RECORDS:
            self.assertEqual(parse(render(record)), record)

    def test_readable(self) -> None:
        """What people look at in a line is not encoded."""
        line = render(RECORDS[9])
        self.assertIn(" ATTACHEDTO=5 ", f"{line} ")

    def test_database(self) -> None:
        """So is a row."""
        self.instance.add(RECORDS)
        self.assertEqual(self.instance.measurements(), RECORDS)

    def test_tpf(self) -> None:
        """A .tpf file has them all, follows the rules of metrics-lib, and is read as what was written."""
        path = self.place / "all.tpf"
        path.write_text("".join(torperf.write(RECORDS, 6)))
        torperf_rules.check(path.read_text())
        self.assertEqual(self.imported(path), RECORDS)

    def test_json(self) -> None:
        """So are JSON lines."""
        self.assertEqual(self.imported(self.export("json")), RECORDS)

    def test_csv(self) -> None:
        """CSV has a row for each, with a column for each key that its type has, and nothing left over."""
        csv.field_size_limit(2**20)
        rows = list(csv.DictReader(io.StringIO(self.export("csv").read_text())))
        self.assertEqual([(row["id"], row["type"]) for row in rows], [(m.id, m.type) for m in RECORDS])
        self.assertEqual([row["other_keys"] for row in rows], [""] * len(rows))
        for row, measurement in zip(rows, RECORDS, strict=True):
            for key in measurement.extra:
                self.assertTrue(row[key.lower()], key)

    def test_parquet(self) -> None:
        """So has Parquet, with the very values: lists as lists, times to the microsecond."""
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = parquet.read_table(self.export("parquet")).to_pylist()
        for row, measurement in zip(rows, RECORDS, strict=True):
            self.assertIsNone(row["other_keys"])
            for key, value in measurement.extra.items():
                self.check_cell(row[key.lower()], value, key)

    def check_cell(self, found: Any, value: Any, key: str) -> None:
        if isinstance(found, datetime):
            self.assertEqual(round(found.timestamp(), 6), value, key)
        elif isinstance(found, list):
            items = str(value).split(",")
            self.assertEqual(len(found), len(items), key)
            for each, item in zip(found, items, strict=True):
                if isinstance(each, float):
                    self.assertEqual(each, float(item), key)
                else:
                    self.assertEqual(each or "", item, key)
        else:
            self.assertEqual(str(found) if isinstance(value, str) else found, value, key)

    def test_onionperf(self) -> None:
        """An analysis document that is written by hand takes them."""
        analysis = onionperf_writer.analysis("example", RECORDS)
        self.assertEqual(len(analysis["data"]["example"]["tgen"]["streams"]), len(RECORDS))

    def test_published(self) -> None:
        """The archives, whose readers count all as downloads through Tor, get these only."""
        self.assertEqual([m.id for m in RECORDS if not published.left_out(m)], [m.id for m in PLAIN])


OFFSETS = st.none() | st.integers(0, 10**8).map(lambda microseconds: microseconds / 1e6)
PARTS = st.builds(
    lambda times, outcome, count, circuit: typical(
        0,
        **{step: None if after is None else round(1.7e9 + after, 6) for step, after in times.items()},
        start=1.7e9,
        end=1.7e9 + 100,
        outcome=outcome,
        payloadbytes=count,
        circ_id=circuit,
        errorcode=None if outcome is Outcome.OK else "TOR/END/MISC",
        reason="as tor said",
    ),
    st.fixed_dictionaries(dict.fromkeys(STEPS, OFFSETS)),
    st.sampled_from([Outcome.OK, Outcome.FAILED, Outcome.TIMEOUT, Outcome.CANCELLED]),
    st.none() | st.integers(0, 2**31 - 1),
    st.none() | st.integers(1, 10**6),
)


@given(st.lists(PARTS, min_size=2, max_size=5))
def test_any_parallel_streams(parts: list[Measurement]) -> None:
    """Whatever became of the streams, there is a record, and it is not changed by its lines."""
    record = attrs.evolve(combined(parts), extra={"PARALLEL": len(parts), **shares(parts)})
    assert parse(render(record)) == record
    line = format_line(record, 6)
    assert parse_line(line).extra == record.extra
    torperf_rules.check(f"@type torperf 1.1\n{line}\n")
