"""``perfd export``, and that ``perfd import`` gets back what the format can hold."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import attrs
import pytest
from twisted.trial.unittest import SynchronousTestCase

from perfd.cli.destinations import Destinations
from perfd.formats import dictionary, table, torperf_rules
from perfd.record import Circuit, Measurement, Outcome, Stream
from tests.support.curves import arrival
from tests.support.stored import Stored
from tests.support.strategies import typical


def runs() -> list[Measurement]:
    """Successes of two sizes and two days, a failure, a timeout, a skipped slot."""
    return [
        *(typical(n, conflux_circ_ids=("1", "2")) for n in range(0, 600, 100)),
        typical(601, filesize=1048576, payloadbytes=1048576, extra={"ROUND": 3, "note": "a b=c"}),
        typical(
            602, outcome=Outcome.FAILED, errorcode="TOR/END/MISC", reason="the exit said so", datacomplete=None
        ),
        typical(
            603, outcome=Outcome.TIMEOUT, errorcode="PERFD/TIMEOUT", datacomplete=None, dataperc={}, partial={}
        ),
        Measurement(
            start=1_700_200_000.5,
            id="f" * 32,
            source="example",
            experiment="download-50k",
            filesize=51200,
            outcome=Outcome.SKIPPED,
            errorcode="PERFD/BUSY",
        ),
    ]


class ExportTests(SynchronousTestCase):
    """Each format, into files, directories and standard output."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.instance = Stored(self.place / "a")
        self.instance.add(runs())

    def export(self, form: str, output: str, *options: str) -> Path:
        path = self.place / output
        code, out, err = self.instance.perfd("export", "--format", form, "--output", str(path), *options)
        self.assertEqual((code, out), (0, ""), err)
        return path

    def imported(self, *paths: Path) -> Stored:
        other = Stored(self.place / "b")
        code, out, err = other.perfd("import", *paths)
        self.assertEqual((code, err.count("perfd: ")), (0, 0), out + err)
        return other

    def names(self, directory: Path) -> list[str]:
        return sorted(path.name for path in directory.iterdir())

    def test_tpf_round_trip(self) -> None:
        """A .tpf file gives back every measurement that was run, to the microsecond and with Perfd's own fields."""
        path = self.export("tpf", "all.tpf")
        torperf_rules.check(path.read_text())
        self.assertEqual(self.imported(path).measurements(), runs()[:-1])

    def test_tpf_directory(self) -> None:
        """In a directory each source, size and day has the file that CollecTor wants."""
        (self.place / "out").mkdir()
        directory = self.export("tpf", "out")
        self.assertEqual(
            self.names(directory),
            [
                "example-1048576-2023-11-17.tpf",
                "example-51200-2023-11-14.tpf",
                "example-51200-2023-11-15.tpf",
                "example-51200-2023-11-16.tpf",
                "example-51200-2023-11-17.tpf",
            ],
        )
        for path in directory.iterdir():
            torperf_rules.check_file(path.name, path.read_text())
        self.assertEqual(self.imported(directory).measurements(), runs()[:-1])

    def test_onionperf_round_trip(self) -> None:
        """Analysis documents, one for each day, give back measurements, circuits and streams."""
        run = runs()[0]
        circuit = Circuit(
            id="c",
            source="example",
            tor="default",
            circ_id=7,
            launch=run.start - 1,
            end=run.start + 9,
            status="CLOSED",
        )
        stream = Stream(
            id="s",
            source="example",
            tor="default",
            stream_id=8,
            new=run.start,
            end=run.end,
            status="CLOSED",
            source_addr="127.0.0.1:43221",
            measurement=run.id,
            circuit="c",
        )
        self.instance.add([], [circuit], [stream])
        directory = self.export("onionperf", "out")
        self.assertEqual(
            self.names(directory),
            [f"2023-11-{day}.example.onionperf.analysis.json.xz" for day in (14, 15, 16, 17)],
        )
        other = self.imported(directory)
        self.assertEqual(other.measurements(), runs()[:-1])
        self.assertIn(7, [c.circ_id for c in other.circuits()])
        self.assertIn(run.id, [s.measurement for s in other.streams()])
        self.assertEqual(len(other.circuits()), len(runs()[:-1]))  # those of the others are made of their records

    def test_data_round_trip(self) -> None:
        """Torperf's .data and .extradata together give back the steps, the bytes and the circuit."""
        directory = self.export("data", "out")
        self.assertEqual(
            self.names(directory),
            [f"example-{size}.{kind}" for size in (1048576, 51200) for kind in ("data", "extradata")],
        )
        found = {m.start: m for m in self.imported(directory).measurements()}
        for run in runs()[:7]:
            read = found[run.start]
            for name in (
                "socket",
                "response",
                "datacomplete",
                "readbytes",
                "filesize",
                "path",
                "circ_id",
                "used_at",
            ):
                self.assertEqual(getattr(read, name), getattr(run, name), name)

    def test_data_is_in_order_of_ending(self) -> None:
        """A run that takes longer comes behind those that started after it."""
        slow = typical(0, end=typical(3).start + 5.0, datacomplete=typical(3).start + 4.0, source="slow")
        self.instance.add(
            [attrs.evolve(slow, id="slow"), *(typical(n, id=f"s{n}", source="slow") for n in (1, 2, 4))]
        )
        lines = (self.export("data", "out", "--source", "slow") / "slow-51200.data").read_text().splitlines()
        seconds = [int(line.split()[16]) for line in lines]
        self.assertEqual(len(seconds), 4)
        self.assertEqual(seconds, sorted(seconds))

    def test_json_lines(self) -> None:
        """One object per line, with everything, skipped slots too."""
        lines = self.export("json", "all.json").read_text().splitlines()
        self.assertEqual(
            [json.loads(line) for line in lines], [json.loads(json.dumps(m.as_dict())) for m in runs()]
        )

    def test_json_round_trip(self) -> None:
        """They give back every measurement as it was, skipped slots too; a second import adds nothing."""
        (self.place / "out").mkdir()
        for path in (self.export("json", "all.json"), self.export("json", "out").parent / "out"):
            other = self.imported(path)
            self.assertEqual(other.measurements(), runs())

    def test_csv(self) -> None:
        """The columns of the dictionary; missing values are empty, times are timestamps, nothing is JSON."""
        rows = list(csv.DictReader(io.StringIO(self.export("csv", "all.csv").read_text())))
        self.assertEqual(len(rows), len(runs()))
        self.assertEqual(tuple(rows[0]), table.NAMES)
        self.assertEqual(rows[0]["start"], "2023-11-14T22:13:20.012345Z")
        self.assertEqual(rows[0]["conflux"], "true")
        self.assertEqual(rows[6]["other_keys"], "ROUND=3 note=a%20b%3Dc")
        self.assertEqual(rows[7]["datacomplete"], "")
        self.assertEqual(rows[9]["outcome"], "skipped")
        self.assertEqual([float(rows[0][name]) for name in ("circuit_s", "complete_s")], [0.412345, 1.234567])

    def test_parquet(self) -> None:
        """Parquet has CSV's columns with types, units and descriptions, in groups of rows."""
        parquet = pytest.importorskip("pyarrow.parquet")
        with mock.patch.object(table, "GROUP", 4), mock.patch("perfd.cli.export.GROUP", 2):
            path = self.export("parquet", "all.parquet")
        self.assertEqual(parquet.ParquetFile(path).num_row_groups, 3)
        found = parquet.read_table(path)
        self.assertEqual(tuple(found.column_names), table.NAMES)
        rows = found.to_pylist()
        self.assertEqual([row["id"] for row in rows], [m.id for m in runs()])
        self.assertEqual(rows[0]["start"], datetime(2023, 11, 14, 22, 13, 20, 12345, UTC))
        self.assertEqual(rows[0]["path"], list(typical(0).path or ()))
        self.assertIs(rows[0]["cc_ss"], False)
        self.assertEqual(rows[0]["outcome"], "ok")
        self.assertIsNone(rows[9]["socket"])
        field = found.schema.field("throughput_mbit_s")
        self.assertEqual(field.metadata[b"unit"], b"Mbit/s")
        self.assertIn(b"dataresponse to datacomplete", field.metadata[b"description"])
        self.assertTrue(all(field.metadata[b"description"] for field in found.schema))

    def test_curves(self) -> None:
        """Those of the measurements that are asked for, in the formats that can have them."""
        first, other = typical(0), typical(100)
        self.instance.add(curves=[arrival(first.id, first.start), arrival(other.id, other.start)])
        lines = self.export("json", "curves.json", "--curves").read_text().splitlines()
        self.assertEqual([json.loads(line)["measurement"] for line in lines], [first.id, other.id])
        text = self.export("csv", "curves.csv", "--curves", "--limit", "1").read_text()
        self.assertEqual([row["payload"] for row in csv.DictReader(io.StringIO(text))][-1], "3145728")
        parts = [arrival(f"{first.id}-{n}", first.start, source="parts") for n in (0, 11)]
        self.instance.add(curves=[*parts, arrival(f"{first.id}0", first.start, source="another")])
        lines = self.export("json", "parts.json", "--curves", "--limit", "1").read_text().splitlines()
        self.assertEqual(
            [json.loads(line)["measurement"] for line in lines], [first.id, *(p.measurement for p in parts)]
        )
        code, _, err = self.instance.perfd("export", "--format", "tpf", "--curves")
        self.assertEqual((code, "csv|json|parquet" in err), (2, True))

    def test_dictionary(self) -> None:
        """It is printed without a database or a format; an export without a format is told which there are."""
        code, out, _ = self.instance.perfd("export", "--dictionary")
        self.assertEqual((code, out), (0, dictionary.markdown()))
        code, _, err = self.instance.perfd("export")
        self.assertEqual(code, 2)
        self.assertIn("--format tpf|onionperf|", err)

    def test_parquet_without_its_library(self) -> None:
        """The message says how to install it, and no file is left."""
        with mock.patch.dict(sys.modules, {"pyarrow": None}):
            code, _, err = self.instance.perfd(
                "export", "--format", "parquet", "--output", self.place / "x.parquet"
            )
        self.assertEqual(code, 1)
        self.assertIn("pip install 'perfd[parquet]'", err)
        self.assertEqual(self.names(self.place), ["a"])

    def test_standard_output(self) -> None:
        """Without --output, text formats go to standard output."""
        code, out, _ = self.instance.perfd("export", "--format", "csv")
        self.assertEqual((code, len(out.splitlines())), (0, len(runs()) + 1))
        for form in ("parquet", "data", "onionperf"):
            code, out, err = self.instance.perfd("export", "--format", form)
            self.assertEqual((code, out), (1, ""))
            self.assertIn("--output", err)

    def test_filters(self) -> None:
        """Every filter counts, and the limit."""
        for options, number in (
            (["--outcome", "failed"], 1),
            (["--size", "1MiB"], 1),
            (["--experiment", "nothing"], 0),
            (["--since", "2023-11-17"], 4),
            (["--until", "2023-11-15T00:00Z"], 1),
            (["--limit", "3"], 3),
            (["--source", "example", "--type", "download"], len(runs())),
        ):
            code, out, _ = self.instance.perfd("export", "--format", "json", *options)
            self.assertEqual((code, len(out.splitlines())), (0, number), options)

    def test_what_a_format_cannot_hold(self) -> None:
        """A measurement that does not fit is named, the others are written, and the exit code is 1."""
        self.instance.add([typical(700, readbytes=2**40)])
        code, _, err = self.instance.perfd("export", "--format", "tpf", "--output", self.place / "all.tpf")
        self.assertEqual(code, 1)
        self.assertIn(f"{700:032x} cannot be written", err)
        self.assertEqual(len((self.place / "all.tpf").read_text().splitlines()), 2 * len(runs()[:-1]))

    def test_what_is_left_out(self) -> None:
        """Readers that take all for plain downloads through Tor get those only, unless a type is asked for."""
        others = [
            typical(701, type="upload", extra={}),
            typical(702, extra={"PARALLEL": 3}),
            typical(703, extra={"OPTIMISTIC": 1}),
            typical(704, tor="none"),
            typical(705, outcome=Outcome.CANCELLED),
            typical(706, type="pageload"),
            typical(707, type="rtt"),
        ]
        self.instance.add(others)
        for form, name in (("tpf", "all.tpf"), ("data", "data/"), ("onionperf", "onionperf/")):
            code, _, err = self.instance.perfd(
                "export", "--format", form, "--output", f"{self.place / name}" + "/" * name.endswith("/")
            )
            self.assertEqual(code, 0)
            self.assertIn(
                "perfd: left out 1 cancelled runs, 6 runs that are no plain downloads through Tor, "
                "1 skipped slots; --type TYPE exports those of a type\n",
                err,
            )
        self.assertEqual(self.imported(self.place / "all.tpf").measurements(), runs()[:-1])
        code, out, err = self.instance.perfd("export", "--format", "tpf", "--type", "upload")
        told = "perfd: the filters left out {} of 17 measurements\n"
        self.assertEqual((code, out.count("@type"), err), (0, 1, told.format(16)))
        code, out, err = self.instance.perfd("export", "--format", "tpf", "--type", "download")
        self.assertEqual(
            (out.count("@type"), err), (len(runs()) - 1 + 4, f"{told.format(3)}perfd: left out 1 skipped slots\n")
        )
        code, out, err = self.instance.perfd("export", "--format", "json")
        self.assertEqual((len(out.splitlines()), err), (len(runs()) + len(others), ""))

    def test_files_appear_when_all_is_well(self) -> None:
        """An export that fails leaves what was there before, and nothing new."""
        (self.place / "one").write_text("before")
        with self.assertRaises(ZeroDivisionError), Destinations() as files:
            files.append(self.place / "one", ["after"])
            files.append(self.place / "two", ["after"])
            raise ZeroDivisionError
        self.assertEqual((self.place / "one").read_text(), "before")
        self.assertEqual(self.names(self.place), ["a", "one"])

    def lines(self) -> int:
        """How many an export of JSON has."""
        return len(runs())

    def test_somebody_else_s_file(self) -> None:
        """A file that is called as ours once were stays, and a file that is replaced keeps its mode."""
        (self.place / "out.json.new").write_text("somebody's")
        (self.place / "out.json").write_text("old")
        (self.place / "out.json").chmod(0o640)
        self.export("json", "out.json")
        self.assertEqual((self.place / "out.json.new").read_text(), "somebody's")
        self.assertEqual(len((self.place / "out.json").read_text().splitlines()), self.lines())
        self.assertEqual((self.place / "out.json").stat().st_mode & 0o777, 0o640)
        self.assertEqual(self.names(self.place), ["a", "out.json", "out.json.new"])

    def test_symlinks(self) -> None:
        """They stay, and what they lead to is replaced, also what is not there yet."""
        for name in ("old", "new"):
            elsewhere = self.place / name
            elsewhere.mkdir()
            (self.place / f"{name}.json").symlink_to(Path(name, "target"))
        (self.place / "old" / "target").write_text("before")
        before = (self.place / "old" / "target").stat().st_ino
        for name in ("old", "new"):
            path = self.export("json", f"{name}.json")
            self.assertTrue(path.is_symlink())
            self.assertEqual(len(path.read_text().splitlines()), self.lines())
            self.assertEqual(self.names(self.place / name), ["target"])
        self.assertNotEqual((self.place / "old" / "target").stat().st_ino, before)

    def test_fifo(self) -> None:
        """It is written to, in one go, and stays what it is."""
        fifo = self.place / "fifo"
        os.mkfifo(fifo)
        for form in ("json", "parquet"):
            read = self.place / "a" / "read"
            # Into a file: a pipe that nobody reads holds 64 KiB, and Parquet has more.
            with read.open("wb") as file, subprocess.Popen(["cat", str(fifo)], stdout=file) as reader:
                self.export(form, "fifo")
                reader.wait(timeout=30)
            out = read.read_bytes()
            if form == "json":
                self.assertEqual(len(out.splitlines()), self.lines())
            else:
                self.assertEqual((out[:4], out[-4:]), (b"PAR1", b"PAR1"))
        self.assertTrue(fifo.is_fifo())
        self.assertEqual(self.names(self.place), ["a", "fifo"])

    def test_devices(self) -> None:
        """They are written to: as root they would be gone otherwise. A full one is told."""
        for name in ("/dev/null", "/dev/full"):
            before = os.stat(name)[:4]
            code, _, err = self.instance.perfd("export", "--format", "json", "--output", name)
            self.assertEqual(code, int(name == "/dev/full"), err)
            self.assertEqual(os.stat(name)[:4], before)
        self.assertIn("No space left on device", err)
        self.assertEqual([path.name for path in Path("/dev").glob("*.new")], [])

    def test_socket(self) -> None:
        """It is refused, and stays."""
        place = self.place / "socket"
        with socket.socket(socket.AF_UNIX) as listening:
            with contextlib.chdir(self.place):  # a path that is short enough for one
                listening.bind("socket")
            code, _, err = self.instance.perfd("export", "--format", "json", "--output", place)
        self.assertEqual(code, 1)
        self.assertIn("socket is a socket, which cannot be written to", err)
        self.assertTrue(place.is_socket())

    @pytest.mark.long
    def test_names_of_standard_output(self) -> None:
        """Whatever it is called; also a file that is appended to, of which nothing is lost."""
        target = self.place / "all.txt"
        command = [sys.executable, "-m", "perfd", "export", "--config", str(self.instance.directory)]
        for form in ("json", "parquet"):
            for name in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
                target.write_text("before\n")
                with target.open("ab") as out:
                    subprocess.run(
                        [*command, "--format", form, "--output", name], stdout=out, check=True, timeout=60
                    )
                content = target.read_bytes()
                self.assertTrue(content.startswith(b"before\n"))
                if form == "json":
                    self.assertEqual(len(content.splitlines()), 1 + self.lines())
                else:
                    self.assertEqual((content[7:11], content[-4:]), (b"PAR1", b"PAR1"))
        self.assertTrue(Path("/dev/stdout").is_symlink())

    def test_nowhere(self) -> None:
        """Documents need a directory, and a link that leads round is told."""
        code, _, err = self.instance.perfd("export", "--format", "onionperf", "--output", "-")
        self.assertEqual((code, "give a directory" in err), (1, True))
        (self.place / "round").symlink_to("round")
        code, _, err = self.instance.perfd("export", "--format", "json", "--output", self.place / "round")
        self.assertEqual((code, err), (1, f"perfd: {self.place / 'round'}: Too many levels of symbolic links\n"))

    def test_no_database(self) -> None:
        """That is a message, not a traceback."""
        code, _, err = Stored(self.place / "empty").perfd("export", "--format", "json")
        self.assertEqual(code, 1)
        self.assertIn("there is no database", err)
