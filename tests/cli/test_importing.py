"""``perfd import``: all formats, damage, duplicates, interruptions, a database in use."""

from __future__ import annotations

import io
import json
import lzma
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
from contextlib import closing
from pathlib import Path
from unittest import mock

import attrs
import pytest
from twisted.trial.unittest import SynchronousTestCase

from perfd.cli import import_readers, importing
from perfd.formats import legacy, legacy_merge, onionperf_writer, sniff, table, torperf
from perfd.formats.errors import Damage
from perfd.record import Measurement, Outcome
from perfd.store.rows import MEASUREMENTS
from perfd.store.schema import open_database
from tests.support.instance import wait_for
from tests.support.places import DATA
from tests.support.stored import Stored
from tests.support.strategies import typical

TPF = DATA / "torperf-51200-2016-10-02.tpf"


def expected(*names: str) -> list[Measurement]:
    """What the formats' reader finds in files of tests/data."""
    return [m for name in names for m in sniff.read_path(DATA / name) if isinstance(m, Measurement)]


def tpf(directory: Path, count: int, results: int) -> list[Path]:
    """Files of ``results`` measurements each."""
    paths = []
    for n in range(count):
        path = directory / f"example-51200-{n:04d}.tpf"
        runs = [attrs.evolve(typical(n * results + k), conflux_circ_ids=None) for k in range(results)]
        path.write_text("".join(torperf.write(runs, 6)))
        paths.append(path)
    return paths


class ImportTests(SynchronousTestCase):
    """The command, with real files, processes and databases."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.instance = Stored(self.place / "instance")
        self.files = self.place / "files"
        self.files.mkdir()

    def imports(self, *arguments: str | Path, code: int = 0) -> tuple[str, str]:
        """What the command writes to standard output and standard error."""
        found, out, err = self.instance.perfd("import", *arguments)
        self.assertEqual(found, code, out + err)
        return out, err

    def test_all_of_a_directory(self) -> None:
        """Files of all formats are found in directories at any depth; other files there are passed over."""
        deep = self.files / "a" / "b"
        deep.mkdir(parents=True)
        (deep / TPF.name).write_bytes(TPF.read_bytes())
        (self.files / "x.analysis.json.xz").write_bytes(
            lzma.compress((DATA / "op-nl2.onionperf-2.0.analysis.json").read_bytes())
        )
        runs = [typical(n) for n in range(3)]
        (self.files / "moria-50kb.data").write_text("".join(legacy.write_data(runs)))
        extras = [extra for extra in map(legacy.extra_of, runs) if extra]
        (self.files / "moria-50kb.extradata").write_text("".join(legacy.write_extra(extras)))
        (self.files / "README").write_text("Not a result.")
        out, _ = self.imports(self.files)
        self.assertIn("from 4 files; ", out)
        self.assertIn("0 damaged", out)
        found = self.instance.measurements()
        known = expected(TPF.name, "op-nl2.onionperf-2.0.analysis.json")
        self.assertEqual({m.id for m in known} - {m.id for m in found}, set())
        moria = [m for m in found if m.source == "moria"]
        self.assertEqual([m.circ_id for m in moria], [100, 101, 102])
        self.assertEqual(len(found), len(known) + 3)
        self.assertTrue(self.instance.circuits())
        self.assertTrue(self.instance.streams())

    def test_again(self) -> None:
        """A second import adds nothing, counts what was there, and changes nothing."""
        out, _ = self.imports(TPF)
        number = len(expected(TPF.name))
        self.assertTrue(out.startswith(f"imported {number} measurements"), out)
        before = self.instance.measurements()
        out, _ = self.imports(TPF, TPF.parent)
        self.assertIn(f"{number} were there already", out)
        self.assertEqual([m for m in self.instance.measurements() if m in before], before)

    def test_the_same_results_in_two_formats(self) -> None:
        """A result is recognised whether it comes as .tpf or in an analysis document."""
        runs = expected(TPF.name)
        document = onionperf_writer.dumps(onionperf_writer.analysis("torperf", runs))
        (self.files / "2016-10-02.onionperf.analysis.json.xz").write_bytes(document)
        self.imports(TPF)
        out, _ = self.imports(self.files)
        self.assertIn("imported 0 measurements", out)
        self.assertEqual(len(self.instance.measurements()), len(runs))

    def test_data_of_known_results(self) -> None:
        """A .data file of OnionPerf's results adds nothing, though its ids differ; other results in it do."""
        self.imports(DATA / "op-nl2.onionperf-2.0.analysis.json")
        code, _, err = self.instance.perfd("export", "--format", "data", "--output", self.files)
        self.assertEqual(code, 0, err)
        before = self.instance.measurements()
        out, _ = self.imports(self.files)
        self.assertIn("imported 0 measurements", out)
        self.assertEqual(self.instance.measurements(), before)
        path = next(self.files.glob("*.data"))
        seconds, rest = path.read_text().splitlines()[0].split(" ", 1)
        path.write_text(f"{int(seconds) - 1} {rest}\n")
        out, _ = self.imports(path)
        self.assertIn("imported 1 measurements", out)

    def test_slots_skipped_at_the_same_time(self) -> None:
        """Different records of Perfd's without an endpoint stay different."""
        skipped = [typical(0, id=f"{n}", outcome=Outcome.SKIPPED, endpointlocal=None) for n in range(3)]
        (self.files / "measurements.json").write_text("".join(map(table.json_line, skipped)))
        self.imports(self.files)
        self.assertEqual(self.instance.measurements(), skipped)

    def test_damage(self) -> None:
        """Damaged lines are named with file and line, all others are imported, and the exit code is 1."""
        lines = TPF.read_text().splitlines(keepends=True)
        lines[3] = "START=nonsense\n"
        lines[5] = "\udcff\udcfe binary \x00\n"
        path = self.files / "damaged.tpf"
        path.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
        (self.files / "cut.onionperf.analysis.json.xz").write_bytes(lzma.compress(b"{" * 1000)[:40])
        missing = self.files / "missing.tpf"
        out, err = self.imports(self.files, missing, TPF, code=1)
        self.assertIn(f"perfd: {path}:4: ", err)
        self.assertIn(f"perfd: {path}:6: ", err)
        self.assertIn(f"perfd: {self.files / 'cut.onionperf.analysis.json.xz'}: ", err)
        self.assertIn(f"perfd: {missing}: ", err)
        self.assertIn("4 damaged", out)
        self.assertEqual(len(self.instance.measurements()), len(expected(TPF.name)))

    def test_a_month_of_collector(self) -> None:
        """Archives are found in directories, read as they are, and what is wrong in them is told with its place."""
        lines = TPF.read_text().splitlines(keepends=True)
        lines[3] = "START=nonsense\n"
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:xz") as archive:
            document = (DATA / "op-nl2.onionperf-2.0.analysis.json").read_bytes()
            for name, text in {
                f"torperf-2016-10/02/{TPF.name}": TPF.read_bytes(),
                "torperf-2016-10/03/x.tpf": "".join(lines).encode(),
                "torperf-2016-10/2020-04-27.op-nl2.onionperf.analysis.json.xz": lzma.compress(document),
            }.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
        path = self.files / "torperf-2016-10.tar.xz"
        path.write_bytes(content.getvalue())
        out, err = self.imports(self.files, code=1)
        self.assertIn(f"perfd: {path}/torperf-2016-10/03/x.tpf:4: ", err)
        self.assertIn("from 1 file; ", out)
        known = expected(TPF.name, "op-nl2.onionperf-2.0.analysis.json")
        self.assertEqual({m.id for m in self.instance.measurements()}, {m.id for m in known})

    def test_what_no_value_can_be_made_of(self) -> None:
        """An empty value in a line, a nickname that is no text: each costs itself, and nothing around it."""
        (merged,) = legacy_merge.write_merged([typical()])
        (self.files / "moria-50kb.mergedata").write_text(
            merged.replace("CONNECTSEC=1700000000", "CONNECTSEC=") + merged
        )
        document = json.loads((DATA / "op-nl2.onionperf-2.0.analysis.json").read_text())
        (good,) = document["data"].values()
        document["data"]["bad\udc80name"] = good
        (self.files / "x.onionperf.analysis.json").write_text(json.dumps(document))
        out, err = self.imports(self.files, code=1)
        self.assertIn(f"perfd: {self.files / 'moria-50kb.mergedata'}:1: ", err)
        self.assertIn(f"perfd: {self.files / 'x.onionperf.analysis.json'}: data/'bad\\udc80name': ", err)
        self.assertIn("2 damaged", out)
        self.assertEqual({m.source for m in self.instance.measurements()}, {"moria", "op-nl2"})

    def test_legacy_files_without_a_telling_name(self) -> None:
        """Source and size can be given; without them the file is reported."""
        path = self.files / "results"
        path.write_text("".join(legacy.write_data([typical()])))
        _, err = self.imports(path, code=1)
        self.assertIn("source and file size", err)
        self.imports("--source", "moria", "--size", "50KiB", path)
        self.assertEqual([(m.source, m.filesize) for m in self.instance.measurements()], [("moria", 51200)])

    def test_nothing_to_import(self) -> None:
        """An empty directory is a mistake of the user's."""
        _, err = self.imports(self.files, code=1)
        self.assertIn("no files", err)

    @pytest.mark.long
    def test_killed_and_continued(self) -> None:
        """kill -9 in the middle loses nothing that was written, and the same command does the rest."""
        tpf(self.files, 120, 200)
        command = [sys.executable, "-m", "perfd", "import", "--config", str(self.instance.directory)]
        with subprocess.Popen(
            [*command, str(self.files)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                wait_for(lambda: process.poll() is not None or self.count() > 0, "the first measurements")
            finally:
                os.killpg(process.pid, signal.SIGKILL)
        before = self.count()
        out, _ = self.imports(self.files)
        self.assertIn(f"{before} were there already", out)
        self.assertEqual(self.count(), 120 * 200)

    def count(self) -> int:
        if not self.instance.database.exists():
            return 0
        with closing(sqlite3.connect(self.instance.database, timeout=30)) as connection:
            tables = connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'measurements'").fetchone()
            if not tables[0]:
                return 0
            return int(connection.execute("SELECT COUNT(*) FROM measurements").fetchone()[0])

    def test_a_reader_that_dies(self) -> None:
        """The file that it read is reported, and another process reads the rest."""
        paths = tpf(self.files, 6, 2)
        os.mkfifo(self.files / "a.tpf")  # sorted first: who reads it waits for ever

        def kill() -> None:
            (reader,) = wait_for(importing_children, "a reader")
            os.kill(reader, signal.SIGKILL)

        with mock.patch.object(import_readers, "MOST_READERS", 1):
            killer = threading.Thread(target=kill)
            killer.start()
            out, err = self.imports(self.files / "a.tpf", self.files, code=1)
            killer.join()
        self.assertIn(f"{self.files / 'a.tpf'}: the process that read the file ended with -9", err)
        self.assertIn("1 damaged", out)
        self.assertEqual(len(self.instance.measurements()), 2 * len(paths))

    def test_while_others_write(self) -> None:
        """A transaction of the daemon's is waited for."""
        self.instance.add()
        held = threading.Event()
        release = threading.Event()

        def hold() -> None:
            with closing(sqlite3.connect(self.instance.database, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                held.set()
                release.wait(60)
                connection.execute("COMMIT")

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(60)
        threading.Timer(1.0, release.set).start()
        out, _ = self.imports(TPF)
        holder.join()
        self.assertIn(f"imported {len(expected(TPF.name))} measurements", out)

    def test_a_row_that_cannot_be_stored(self) -> None:
        """It is reported, and costs none of the others."""
        good, bad = MEASUREMENTS.row(typical(0)), list(MEASUREMENTS.row(typical(1)))
        bad[MEASUREMENTS.columns.index("source")] = None
        counts = importing.Count()
        with closing(open_database(self.instance.database)) as connection:
            importing._insert(connection, ([good, bad], [], []), counts)
        self.assertEqual((counts.new["measurements"], counts.damaged), (1, 1))
        self.assertEqual(self.instance.measurements(), [typical(0)])

    def test_large_files_come_in_parts(self) -> None:
        """A reader never holds more than a batch."""
        with mock.patch.object(import_readers, "BATCH", 10):
            batches = list(import_readers.read(import_readers.Task(TPF, None, None)))
        self.assertTrue(all(len(batch.rows[0]) <= 10 for batch in batches))
        self.assertEqual(sum(len(batch.rows[0]) for batch in batches), len(expected(TPF.name)))
        self.assertEqual(
            [damage for batch in batches for damage in batch.damages if isinstance(damage, Damage)], []
        )


def importing_children() -> list[int]:
    """The processes that this one started to read files."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and b"spawn_main" in command:
            found.append(int(stat.parent.name))
    return found
