"""The measurement's line in perfd.log, and reading logs."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, formatEventAsClassicLogText
from twisted.trial.unittest import SynchronousTestCase

from perfd.logfile.line import DamagedLine, LogLineError, LogSink, parse, parse_file, render
from perfd.record import FIELDS, Measurement, Outcome
from tests.support.strategies import measurements, typical

SMALL = Measurement(
    start=1358886373.87,
    connect=1358886373.880001,
    id="abc",
    source="example",
    experiment="download-50k",
    filesize=51200,
    outcome=Outcome.TIMEOUT,
)
SMALL_LINE = (
    "START=1358886373.870000 CONNECT=1358886373.880001 ID=abc SOURCE=example EXPERIMENT=download-50k TYPE=download "
    "FILESIZE=51200 OUTCOME=timeout DIDTIMEOUT=1"
)
PREFIX = "2013-01-22 21:26:13+0100 [perfd.download-50k,default] "


class RenderTests(SynchronousTestCase):
    """What a line looks like."""

    def test_small(self) -> None:
        """Fields are in order, times have six decimals, missing ones no pair, and DIDTIMEOUT is derived."""
        self.assertEqual(render(SMALL), SMALL_LINE)

    def test_order(self) -> None:
        """The keys of a full line are in the order of FIELDS, the many of one mapping by number."""
        keys = [pair.partition("=")[0] for pair in render(typical(reason="x", errorcode="TOR/END")).split(" ")]
        numbers = [int(key[8:]) for key in keys if key.startswith("DATAPERC")]
        self.assertEqual(numbers, sorted(numbers))
        known = [field.key for field in FIELDS if field.key in keys]
        self.assertEqual([key for key in keys if key in known], known)
        self.assertEqual(keys[0], "START")

    def test_unsafe_characters(self) -> None:
        """Spaces, equal signs, percent signs, control and non-ASCII characters of texts are percent-encoded."""
        line = render(typical(reason="100% = a\tb\n\u2028é", path=("a,b", "c")))
        self.assertIn(" REASON=100%25%20%3D%20a%09b%0A%E2%80%A8%C3%A9 ", line)
        self.assertIn(" PATH=a%2Cb,c ", line)

    def test_extra_keeps_types(self) -> None:
        """A text that looks like a number stays a text."""
        extra = {"A": "5", "B": 5, "C": 5.0, "D": "5.0", "E": "-1e5", "F": "5 s"}
        read = parse(render(typical(extra=extra))).extra
        self.assertEqual([(value, type(value)) for value in read.values()], [(v, type(v)) for v in extra.values()])

    def test_illegal_extra_keys(self) -> None:
        """A key that is a field's, or empty, is an error of the experiment."""
        for key in ("", "START", "DATAPERC50", "PARTIAL1", "DIDTIMEOUT"):
            self.assertRaisesRegex(ValueError, "empty or taken", render, typical(extra={key: 1}))

    def test_any_other_extra_key(self) -> None:
        """What a result of others is called by is written in a way that comes back."""
        extra = {"A B": 1, "a/b=c": "x", "1A": 2, "é": 3, "DATAPERC101": 4, "PARTIAL05": 5, "A" * 200: 6}
        self.assertEqual(parse(render(typical(extra=extra))).extra, extra)


class ParseTests(SynchronousTestCase):
    """Reading a line back."""

    @given(measurements())
    def test_round_trip(self, measurement: Measurement) -> None:
        """Any measurement comes back as it was, and its line is one line of pairs."""
        line = render(measurement)
        self.assertEqual(parse(line), measurement)
        self.assertEqual(len(line.splitlines()), 1)
        self.assertTrue(all(pair.count("=") == 1 for pair in line.split(" ")))

    @given(measurements())
    def test_round_trip_with_prefix(self, measurement: Measurement) -> None:
        """The line as twistd writes it comes back too, whatever the names are."""
        lines: list[str] = []
        log = Logger(observer=lambda event: lines.append(formatEventAsClassicLogText(event) or ""))
        LogSink(log).record(measurement)
        self.assertEqual(len(lines), 1)
        self.assertEqual(parse(lines[0]), measurement)

    def test_lone_surrogate(self) -> None:
        """A text that is not even Unicode (a file name) survives."""
        measurement = typical(reason="a\udcff\ud83d\ude00b")
        render(measurement).encode("utf-8")
        self.assertEqual(parse(render(measurement)), measurement)

    def test_prefixes(self) -> None:
        """Twistd's classic and its newer time format are understood, and no prefix at all."""
        for prefix in (PREFIX, "2013-01-22T21:26:13-0700 [perfd#info] ", "2013-01-22 21:26:13Z [-] ", ""):
            self.assertEqual(parse(prefix + SMALL_LINE + "\r\n"), SMALL)

    def test_any_order(self) -> None:
        """Pairs sorted by key, as in .tpf files, mean the same."""
        self.assertEqual(parse(" ".join(sorted(SMALL_LINE.split(" ")))), SMALL)

    def test_unknown_keys(self) -> None:
        """Keys that no field has are kept."""
        line = SMALL_LINE + " START_RENDCIRC=1358886373.9 DATAPERC_X=1 DATAPERC010=a%20b"
        self.assertEqual(parse(line).extra, {"START_RENDCIRC": 1358886373.9, "DATAPERC_X": 1, "DATAPERC010": "a b"})

    def test_damage(self) -> None:
        """Each kind of damage is an error that names the key."""
        for damage, message in {
            " CONNECT": "'CONNECT' is not KEY=value",
            "  ": "'' is not KEY=value",
            " REASON=a=b": "'REASON=a=b' is not KEY=value",
            " ID=abc": "ID: the key occurs more than once",
            " SOCKET=": "SOCKET: '' is not seconds since the epoch",
            " SOCKET=nan": "SOCKET: 'nan' is not",
            " SOCKET=13588863738713588863738713588.5": "SOCKET: '13588863738713588863738713588.5' is not",
            " DATAPERC10=x": "DATAPERC10: 'x' is not seconds",
            " STATUS=2OO": "STATUS: '2OO' is not an integer",
            " STATUS=٢٠٠": "STATUS: '٢٠٠' is not an integer",
            " STATUS=" + "9" * 5000: "STATUS: '" + "9" * 60 + r"\.\.\.' is not an integer",
            " QUANTILE=inf": "QUANTILE: 'inf' is not a number",
            " QUANTILE=1e999": "QUANTILE: '1e999' is not a number",
            " CBT_SET=True": "CBT_SET: 'True' is not 0 or 1",
            " BUILDTIMES=0.1,,0.2": "BUILDTIMES: '0.1,,0.2' is not a comma list",
            " REASON=%4": "REASON: '%4' is not percent-encoded text",
            " REASON=%FF": "REASON: '%FF' is not percent-encoded text",
            " X=%C3": "X: '%C3' is not a number or percent-encoded text",
            " %53TART=1": "'%53TART' is not a legal key",
            " X%=1": "'X%' is not percent-encoded text",
        }.items():
            self.assertRaisesRegex(LogLineError, message, parse, SMALL_LINE + damage)
        self.assertRaisesRegex(LogLineError, "OUTCOME: 'fine'", parse, SMALL_LINE.replace("=timeout", "=fine"))
        self.assertRaisesRegex(LogLineError, "DIDTIMEOUT: '2'", parse, SMALL_LINE.replace("T=1", "T=2"))
        self.assertRaisesRegex(LogLineError, "FILESIZE is missing", parse, SMALL_LINE.replace("FILESIZE", "SIZE"))

    @given(st.text())
    def test_never_a_traceback(self, text: str) -> None:
        """Whatever a line holds, it is a LogLineError."""
        self.assertRaises(LogLineError, parse, text)

    @given(st.integers(0, len(SMALL_LINE)), st.text(max_size=3))
    def test_damaged_anywhere(self, place: int, garbage: str) -> None:
        """A line with something put into it is read or refused."""
        with contextlib.suppress(LogLineError):
            self.assertIsInstance(parse(SMALL_LINE[:place] + garbage + SMALL_LINE[place:]), Measurement)


class ParseFileTests(SynchronousTestCase):
    """Reading a whole log."""

    def read(self, *lines: bytes) -> list[Measurement | DamagedLine]:
        self.path = Path(self.mktemp())
        self.path.write_bytes(b"".join(lines))
        return list(parse_file(self.path))

    def test_other_lines(self) -> None:
        """Lines that are no measurements are passed over."""
        line = f"{PREFIX}{SMALL_LINE}\n".encode()
        other = [
            b"2013-01-22 21:26:13+0100 [-] Log opened.\n",
            b"2013-01-22 21:26:13+0100 [-] tor said: START=5 ID=7\n",
            b"\tRESTART=5 START_ID=6\n",
            b"\xff\xfe\n",
            b"\n",
        ]
        self.assertEqual(self.read(*other, line, *other, line), [SMALL, SMALL])

    def test_damaged_lines(self) -> None:
        """Damaged lines are reported with their number and reason, and the others are read."""
        line = SMALL_LINE.encode() + b"\n"
        read = self.read(line, line[:40] + b"\n", line[24:], line.replace(b"abc", b"\xff"), line)
        self.assertEqual((read[0], read[4]), (SMALL, SMALL))
        damaged = [found for found in read if isinstance(found, DamagedLine)]
        self.assertEqual([(d.path, d.number) for d in damaged], [(self.path, 2), (self.path, 3), (self.path, 4)])
        self.assertEqual(
            [d.reason for d in damaged], ["ID is missing", "START is missing", "the line is not UTF-8"]
        )

    def test_unfinished_line(self) -> None:
        """A last line without an end may have lost digits, so it does not count."""
        (damaged,) = self.read(SMALL_LINE.encode())
        self.assertEqual(damaged, DamagedLine(self.path, 1, "the line has no end"))

    def test_endless_line(self) -> None:
        """A line of many MiB is not read into memory, and does not shift the numbers."""
        endless = SMALL_LINE.encode() + b" X=" + b"x" * (3 << 20) + b"\n"
        first, second, third = self.read(endless, SMALL_LINE.encode() + b"\n", b"START=1\n")
        self.assertIsInstance(first, DamagedLine)
        self.assertEqual(second, SMALL)
        self.assertEqual(third, DamagedLine(self.path, 3, "ID is missing"))


class LogSinkTests(SynchronousTestCase):
    """The sink that logs."""

    def test_event(self) -> None:
        """A measurement is one event of level info, from a system that names experiment and tor."""
        events = []
        sink = LogSink(Logger(observer=events.append))
        sink.record(typical())
        sink.record(typical(experiment="a b]", tor=None))
        self.assertEqual([event["log_system"] for event in events], ["perfd.download-50k,default", "perfd.a_b_,-"])
        self.assertEqual(events[0]["log_level"], LogLevel.info)

    def test_no_format_fields(self) -> None:
        """Braces in a text are only text."""
        lines = []
        log = Logger(observer=lambda event: lines.append(formatEventAsClassicLogText(event)))
        measurement = typical(reason="{0} {log_time} {x!r}")
        LogSink(log).record(measurement)
        self.assertEqual(parse(lines[0]), measurement)
