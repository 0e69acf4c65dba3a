"""Publishing: which days, which files, once; the listing; the pages; the child process and its service."""

from __future__ import annotations

import base64
import hashlib
import lzma
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock as FakeReactor
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource

from perfd.clock import Clock
from perfd.daemon.upkeep import archive, daily, work
from perfd.daemon.upkeep.archive import Archive, Entry, listing, read_index, write_once
from perfd.daemon.upkeep.work import Work
from perfd.formats import onionperf, onionperf_file, onionperf_writer, torperf, torperf_rules
from perfd.record import Circuit, Measurement, Outcome, Stream
from perfd.store.reader import StoreReader
from perfd.web.results.answers import Access, PublicDatabase
from perfd.web.results.archive import ArchivePages
from perfd.whole import scratch_name
from perfd.wire.keystream import PIECE
from tests.support.results import DirectReader
from tests.support.stored import CONFIG, Stored
from tests.support.strategies import typical
from tests.support.web_client import SiteTestCase, get

DAY = 86400.0
NOVEMBER_14 = 1_699_920_000.0
"""The UTC day of ``typical(0)``, which starts at 22:13:20."""

EXPERIMENT = "[experiment:download-50k]\nsize = 50 KiB\ninterval = 1 h\ntimeout = 20 min\n"


class ArchiveTestCase(SynchronousTestCase):
    """An instance and its archive."""

    def setUp(self) -> None:
        self.instance = Stored(Path(self.mktemp()), CONFIG + EXPERIMENT)
        self.directory = self.instance.directory / "archive"
        self.said: list[str] = []

    def publish(self, finished: float) -> int:
        with StoreReader(self.instance.database) as reader:
            return Archive(self.directory, "example", self.said.append).publish(reader, finished)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir() if not path.name.startswith("index."))

    def read(self, name: str) -> list[Measurement]:
        text = (self.directory / name).read_text()
        torperf_rules.check_file(name, text)
        return [m for m in torperf.read(text.splitlines()) if isinstance(m, Measurement)]

    def contents(self) -> dict[str, tuple[int, bytes]]:
        return {name: ((p := self.directory / name).stat().st_mtime_ns, p.read_bytes()) for name in self.names()}


class PublishTests(ArchiveTestCase):
    """What is published when."""

    def test_a_finished_day(self) -> None:
        """Each size has a .tpf file by metrics-lib's rules, and the day has an analysis document of version 3.1."""
        failed = typical(2, outcome=Outcome.FAILED, errorcode="PERFD/RESET", datacomplete=None)
        large = typical(1, filesize=1048576, payloadbytes=1048576)
        self.instance.add([typical(0), large, failed, typical(100)])
        self.assertEqual(self.publish(NOVEMBER_14 + DAY), 3)
        self.assertEqual(
            self.names(),
            [
                "2023-11-14.onionperf.analysis.json.xz",
                "example-1048576-2023-11-14.tpf",
                "example-51200-2023-11-14.tpf",
            ],
        )
        self.assertEqual([m.id for m in self.read("example-51200-2023-11-14.tpf")], [typical(0).id, failed.id])
        self.assertEqual([m.id for m in self.read("example-1048576-2023-11-14.tpf")], [large.id])
        found = [m for m in self.document() if isinstance(m, Measurement)]
        self.assertEqual(found, [typical(0), large, failed])

    def document(self) -> list[Any]:
        name = "2023-11-14.onionperf.analysis.json.xz"
        return list(onionperf.read(lzma.decompress((self.directory / name).read_bytes())))

    def test_a_day_that_is_not_finished(self) -> None:
        """Nothing is published before."""
        self.instance.add([typical(0)])
        self.assertEqual(self.publish(NOVEMBER_14 + DAY - 1.0), 0)
        self.assertEqual(self.names(), [])

    def test_missed_days_are_made_up_for(self) -> None:
        """After downtime all finished days are published, also with gaps between them."""
        self.instance.add([typical(0), typical(288), typical(288 * 400)])
        self.assertEqual(self.publish(typical(288 * 402).start), 6)
        dates = sorted({match[0] for name in self.names() if (match := re.search(r"\d{4}-\d\d-\d\d", name))})
        self.assertEqual(dates, ["2023-11-14", "2023-11-15", "2024-12-18"])

    def test_written_once(self) -> None:
        """A published file is never written again, even if there are further results of its day."""
        self.instance.add([typical(0), typical(288)])
        self.publish(NOVEMBER_14 + DAY)
        before = self.contents()
        self.instance.add([typical(1), typical(2, filesize=1048576)])
        self.publish(NOVEMBER_14 + 2 * DAY)
        after = self.contents()
        self.assertEqual({name: after[name] for name in before}, before)
        self.assertEqual(len(after), 4)

    def test_stopped_in_the_middle_of_a_day(self) -> None:
        """What was written stays as it is, and what is missing is written the next time."""
        self.instance.add([typical(0), typical(1, filesize=1048576)])
        with mock.patch.object(archive, "write_once", side_effect=[OSError(28, "No space left on device")]):
            self.assertRaises(OSError, self.publish, NOVEMBER_14 + DAY)
        (self.directory / "example-51200-2023-11-14.tpf").write_text("what was written before")
        leftover = scratch_name(self.directory / "2023-11-14.onionperf.analysis.json.xz")
        leftover.write_text("half")
        (self.directory / "somebody's.new").write_text("not ours")
        self.assertEqual(self.publish(NOVEMBER_14 + DAY), 2)
        self.assertEqual((self.directory / "example-51200-2023-11-14.tpf").read_text(), "what was written before")
        self.assertFalse(leftover.exists())
        self.assertEqual((self.directory / "somebody's.new").read_text(), "not ours")
        (self.directory / "somebody's.new").unlink()
        self.assertEqual(len(self.names()), 3)
        self.assertEqual(self.publish(NOVEMBER_14 + DAY), 0)

    def test_what_is_not_published(self) -> None:
        """Skipped slots, cancelled runs, other types and ways, other sources and what was imported."""
        others = [
            typical(1, outcome=Outcome.SKIPPED),
            typical(2, outcome=Outcome.CANCELLED),
            typical(3, type="upload"),
            typical(4, source="other"),
            typical(5, network=None),
            typical(6, extra={"PARALLEL": 3}),
            typical(7, extra={"OPTIMISTIC": 1}),
            typical(8, tor="none"),
            typical(9, type="request"),
        ]
        self.instance.add(others)
        self.assertEqual(self.publish(NOVEMBER_14 + 3 * DAY), 0)
        self.instance.add([typical(0)])
        self.assertEqual(self.publish(NOVEMBER_14 + 3 * DAY), 2)
        self.assertEqual(len(self.read("example-51200-2023-11-14.tpf")), 1)

    def test_circuits_over_midnight(self) -> None:
        """A run finds its stream and circuit in its own document, on whichever day they were launched or ended."""
        run = typical(0, start=NOVEMBER_14 + DAY - 0.5, end=NOVEMBER_14 + DAY + 2.0, datacomplete=None)
        run = attrs.evolve(run, outcome=Outcome.FAILED, errorcode="PERFD/RESET")
        before, after = NOVEMBER_14 - 100.0, NOVEMBER_14 + DAY + 0.1
        values: dict[str, Any] = {"source": "example", "tor": "default", "status": "CLOSED"}
        circuits = [
            Circuit(id="used", circ_id=7, launch=before, end=after + 3, **values),
            Circuit(id="unused", circ_id=8, launch=NOVEMBER_14 + 5, end=NOVEMBER_14 + 9, **values),
            Circuit(id="tomorrow's", circ_id=9, launch=after, end=after + 9, **values),
        ]
        stream = Stream(
            id="s", stream_id=5, new=after, end=after + 1.8, measurement=run.id, circuit="used",
            source_addr="127.0.0.1:43221", **values,
        )  # fmt: skip
        self.instance.add([run], circuits, [stream])
        self.publish(NOVEMBER_14 + DAY)
        found = self.document()
        self.assertEqual(sorted(c.circ_id for c in found if isinstance(c, Circuit)), [7, 8])
        self.assertEqual([s.measurement for s in found if isinstance(s, Stream)], [run.id])

    def test_a_record_that_does_not_fit(self) -> None:
        """It is named and left out; it does not keep its day from being published."""
        bad = Circuit(
            id="bad", source="example", tor="default", circ_id=7, launch=NOVEMBER_14, end=NOVEMBER_14 + 1,
            status="CLOSED", path=(archive_hop("no fingerprint"),),
        )  # fmt: skip
        self.instance.add([typical(0)], [bad])
        self.assertEqual(self.publish(NOVEMBER_14 + DAY), 2)
        self.assertIn("bad cannot be published", "\n".join(self.said))

    def test_index_xml(self) -> None:
        """index.xml has each file's size, date and digest; known ones are not read again."""
        self.instance.add([typical(0), typical(288)])
        self.publish(NOVEMBER_14 + DAY)
        root = ET.parse(self.directory / "index.xml").getroot()
        self.assertEqual(root.tag, "files")
        self.assertEqual([item.get("name") for item in root], self.names())
        for item in root:
            content = (self.directory / str(item.get("name"))).read_bytes()
            self.assertEqual(item.get("size"), str(len(content)))
            self.assertEqual(item.get("sha256"), base64.b64encode(hashlib.sha256(content).digest()).decode())
            self.assertRegex(str(item.get("last_modified")), r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$")
        index = self.directory / "index.xml"
        known = str(root[0].get("sha256"))
        index.write_text(index.read_text().replace(known, "kept"))
        self.publish(NOVEMBER_14 + 2 * DAY)
        found = read_index(index)
        self.assertEqual(list(found), self.names())
        self.assertEqual([entry.sha256 for entry in found.values()].count("kept"), 1)

    def test_a_damaged_index_is_made_anew(self) -> None:
        """It only saves work."""
        self.instance.add([typical(0), typical(288)])
        self.publish(NOVEMBER_14 + DAY)
        (self.directory / "index.xml").write_text("<files><file/>")
        self.publish(NOVEMBER_14 + 2 * DAY)
        self.assertEqual(list(read_index(self.directory / "index.xml")), self.names())

    def test_the_listing_is_collectors(self) -> None:
        """CollecTor finds one link per line, with names as it wants them."""
        self.instance.add([typical(0), typical(1, filesize=1048576)])
        self.publish(NOVEMBER_14 + DAY)
        pattern = re.compile(r'.*<a href="([^"]+\.tpf|[0-9-]{10}\.onionperf\.analysis\.json\.xz)">.*')
        lines = (self.directory / "index.html").read_text().splitlines()
        self.assertEqual([match[1] for line in lines if (match := pattern.fullmatch(line))], self.names())

    def test_write_once_never_replaces(self) -> None:
        """Not even when another process has written the file in between."""
        path = self.instance.directory / "x"
        write_once(path, b"first")
        self.assertRaises(FileExistsError, write_once, path, b"second")
        with mock.patch("os.link", side_effect=PermissionError):
            self.assertRaises(FileExistsError, write_once, path, b"second")
            write_once(path.with_name("y"), b"first")
        self.assertEqual((path.read_bytes(), path.with_name("y").read_bytes()), (b"first", b"first"))
        self.assertEqual(list(self.instance.directory.glob("*.new")), [])


def archive_hop(fingerprint: str) -> Any:
    from perfd.record import Hop

    return Hop(fingerprint, None, NOVEMBER_14)


class CompressedTests(SynchronousTestCase):
    """The documents' text."""

    def test_as_the_format_writes_it(self) -> None:
        """Piece by piece it is the same, however many pieces there are."""
        analysis = onionperf_writer.analysis("example", [typical(n) for n in range(20)])
        with mock.patch.object(onionperf_file, "PART", 7):
            found = onionperf_file.compressed(analysis)
        self.assertEqual(lzma.decompress(found), onionperf_writer.dumps(analysis, xz=False))


class DailyRunTests(ArchiveTestCase):
    """The day's work as a whole."""

    def test_grace(self) -> None:
        """A day is published when its last run can have ended, and not before."""
        self.instance.add([typical(0)])
        ready = NOVEMBER_14 + DAY + 1200.0 + archive.GRACE
        self.assertTrue(work.run(Work.from_config(self.instance.config), ready - 1.0, self.said.append))
        self.assertEqual(self.names(), [])
        self.assertTrue(work.run(Work.from_config(self.instance.config), ready, self.said.append))
        self.assertEqual(len(self.names()), 2)

    def test_archive_no(self) -> None:
        """Nothing is published if it is not wanted."""
        self.instance.configure(CONFIG + "archive = no\n" + EXPERIMENT)
        self.instance.add([typical(0)])
        self.assertTrue(work.run(Work.from_config(self.instance.config), NOVEMBER_14 + 9 * DAY, self.said.append))
        self.assertFalse(self.directory.exists())

    def test_before_there_is_a_database(self) -> None:
        """That is no failure."""
        self.assertTrue(work.run(Work.from_config(self.instance.config), NOVEMBER_14, self.said.append))

    def test_nothing_is_deleted_when_publishing_fails(self) -> None:
        """Said once; the next run publishes what it kept, and deletes it then."""
        self.instance.configure(CONFIG + "keep = 2 d\nkeep-events = 1 d\n" + EXPERIMENT)
        used = Circuit(
            id="1-c7", source="example", tor="default", circ_id=7, launch=NOVEMBER_14 + 9, status="CLOSED"
        )
        self.instance.add([typical(0)], [used])
        self.directory.write_text("a file where the directory should be")
        self.assertFalse(work.run(Work.from_config(self.instance.config), NOVEMBER_14 + 9 * DAY, self.said.append))
        self.assertRegex("\n".join(self.said), "^publishing failed: .*; nothing is deleted before it succeeds$")
        self.assertEqual((len(self.instance.measurements()), len(self.instance.circuits())), (1, 1))
        self.directory.unlink()
        self.assertTrue(work.run(Work.from_config(self.instance.config), NOVEMBER_14 + 9 * DAY, self.said.append))
        self.assertEqual(len(self.names()), 2)
        self.assertEqual((self.instance.measurements(), self.instance.circuits()), ([], []))

    def test_days_that_are_not_published_are_kept(self) -> None:
        """From the oldest one on, with the circuits of the day before; what has no place in the archive goes."""
        self.instance.configure(CONFIG + "keep = 1 d\nkeep-events = 1 d\n" + EXPERIMENT)
        skipped = [typical(288 * day, outcome=Outcome.SKIPPED) for day in (0, 3)]
        runs = [typical(288 * day) for day in (1, 2)]
        circuits = [
            Circuit(id=f"1-c{n}", source="example", tor="default", circ_id=n, launch=m.start, status="CLOSED")
            for n, m in enumerate([typical(-288), typical(0), typical(288)])
        ]
        self.instance.add([*skipped, *runs], circuits)
        with mock.patch.object(Archive, "_publish_day", return_value=0):
            self.assertTrue(
                work.run(Work.from_config(self.instance.config), NOVEMBER_14 + 9 * DAY, self.said.append)
            )
        self.assertEqual(self.instance.measurements(), [*runs, skipped[1]])
        self.assertIn("nothing from 2023-11-15 on is deleted before that day is published", self.said)
        self.assertEqual(sorted(circuit.circ_id for circuit in self.instance.circuits()), [1, 2])
        self.assertTrue(work.run(Work.from_config(self.instance.config), NOVEMBER_14 + 9 * DAY, self.said.append))
        self.assertEqual((self.instance.measurements(), self.instance.circuits()), ([], []))

    def test_days_without_anything_to_publish(self) -> None:
        """Their circuits are not read."""
        self.instance.add([typical(0, network=None)])
        with mock.patch.object(StoreReader, "circuits", side_effect=AssertionError):
            self.assertTrue(
                work.run(Work.from_config(self.instance.config), NOVEMBER_14 + 9 * DAY, self.said.append)
            )

    def test_the_process(self) -> None:
        """python -m perfd.daemon.upkeep.work does it, and its exit code tells."""
        self.instance.add([typical(0)])
        task = Work.from_config(self.instance.config)
        self.assertEqual(Work.from_json(task.to_json()), task)
        # What stands in perfd.conf by now does not count.
        self.instance.configure("[perfd]\nnonsense = 1\n")
        command = [sys.executable, "-m", "perfd.daemon.upkeep.work"]
        done = subprocess.run(command, input=task.to_json(), capture_output=True, timeout=120, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, b""), done.stderr)
        self.assertIn(b"published 1 results of 2023-11-14 in 2 files", done.stderr)
        self.assertEqual(len(self.names()), 2)
        (damaged := self.instance.directory / "damaged").write_text("no database")
        task = attrs.evolve(task, database=damaged)
        done = subprocess.run(command, input=task.to_json(), capture_output=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)


class FakeSpawner(FakeReactor):
    """A reactor whose processes are only noted."""

    def __init__(self) -> None:
        super().__init__()
        self.children: list[Any] = []
        self.signals: list[str] = []
        self.error: OSError | None = None
        self.given: list[Work] = []

    def spawnProcess(
        self, protocol: Any, executable: str, args: list[str], env: dict[str, str], path: str | None
    ) -> None:
        if self.error is not None:
            raise self.error
        assert args[0] == executable
        assert Path(executable).is_absolute()
        assert args[1:] == ["-P", "-m", "perfd.daemon.upkeep.work"]
        self.children.append(protocol)
        protocol.makeConnection(self)

    pid = 4711

    def write(self, data: bytes) -> None:
        self.given.append(Work.from_json(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert not streaming
        producer.resumeProducing()

    def unregisterProducer(self) -> None:
        pass

    def closeStdin(self) -> None:
        pass

    def loseConnection(self) -> None:
        pass

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)


class DailyServiceTests(SynchronousTestCase):
    """When the child process is started, and what becomes of it."""

    def setUp(self) -> None:
        self.instance = Stored(Path(self.mktemp()), CONFIG + EXPERIMENT)
        self.reactor = FakeSpawner()
        self.midnight = NOVEMBER_14
        self.reactor.rightNow = 0.0
        clock = Clock(wall=lambda: self.midnight + self.reactor.seconds(), monotonic=self.reactor.seconds)
        self.service = daily.DailyService(
            self.reactor, clock, Work.from_config(self.instance.config), first_after=30.0
        )
        self.service.startService()

    def end(self, code: int = 0) -> None:
        """The last child ends."""
        reason = ProcessTerminated(code) if code else ProcessDone(0)
        self.reactor.children[-1].processEnded(Failure(reason))

    def test_at_start_and_each_day(self) -> None:
        """It runs soon after the start, and then when the day before can be published."""
        self.reactor.advance(29.0)
        self.assertEqual(len(self.reactor.children), 0)
        self.reactor.advance(1.0)
        self.end()
        wait = 1200.0 + archive.GRACE
        self.reactor.advance(wait - 30.0)
        self.assertEqual(len(self.reactor.children), 1)
        self.reactor.advance(1.0)
        self.assertEqual(len(self.reactor.children), 2)
        self.end()
        self.reactor.advance(DAY - 10.0)
        self.assertEqual(len(self.reactor.children), 2)
        self.reactor.advance(10.0)
        self.assertEqual(len(self.reactor.children), 3)

    def test_changed(self) -> None:
        """What is changed while it runs is given to the next child, not to the one that runs."""
        self.reactor.advance(30.0)
        before = Work.from_config(self.instance.config)
        work = attrs.evolve(before, keep=7, grace=before.grace + 100.0)
        self.service.change(work)
        self.end()
        self.reactor.advance(work.grace - 30.0)
        self.assertEqual(self.reactor.given, [before])
        self.reactor.advance(1.0)
        self.assertEqual(self.reactor.given, [before, work])

    def test_failures_are_tried_again(self) -> None:
        """After growing pauses, and logged."""
        self.reactor.advance(30.0)
        self.reactor.advance(1800.0)  # else the next try would be for the next day
        pause = daily.RETRY_AFTER
        for n in range(1, 4):
            self.end(1)
            self.reactor.advance(pause - 1.0)
            self.assertEqual(len(self.reactor.children), n)
            self.reactor.advance(1.0)
            self.assertEqual(len(self.reactor.children), n + 1)
            pause *= 2

    def test_a_program_that_cannot_be_started(self) -> None:
        """That is a failure like others."""
        self.reactor.error = OSError(11, "Resource temporarily unavailable")
        self.reactor.advance(30.0)
        self.reactor.error = None
        self.reactor.advance(daily.RETRY_AFTER)
        self.assertEqual(len(self.reactor.children), 1)

    def test_stop(self) -> None:
        """Stopping ends the child, first kindly, and waits for its end."""
        self.reactor.advance(30.0)
        stopped = self.service.stopService()
        assert stopped is not None
        self.assertEqual(self.reactor.signals, ["TERM"])
        self.assertNoResult(stopped)
        self.reactor.advance(daily.STOP_TIMEOUT)
        self.assertEqual(self.reactor.signals, ["TERM", "KILL"])
        self.reactor.children[-1].processEnded(Failure(ProcessTerminated(None, signal.SIGKILL)))
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_without_a_child(self) -> None:
        """Nothing is left to happen."""
        self.assertIsNone(self.service.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_child_that_hangs(self) -> None:
        """It is ended after a while."""
        self.reactor.advance(30.0)
        self.reactor.advance(daily.MOST_TIME)
        self.reactor.advance(daily.STOP_TIMEOUT)
        self.assertEqual(self.reactor.signals, ["TERM", "KILL"])

    def test_what_the_child_says(self) -> None:
        """Its lines are logged, and not too many of them."""
        self.reactor.advance(30.0)
        with capturedLogs() as events:
            self.reactor.children[-1].childDataReceived(2, b"one\ntwo\n" + b"more\n" * 2 * daily.MOST_LINES)
        said = [event["line"] for event in events]
        self.assertEqual((said[:2], len(said)), (["one", "two"], daily.MOST_LINES))


class ArchivePagesTests(SiteTestCase):
    """The files over HTTP."""

    def children(self) -> dict[str, IResource]:
        self.directory = Path(self.mktemp())
        self.access = Access("all")
        database = PublicDatabase(DirectReader(self.directory / "none"), self.access)
        return {"archive": ArchivePages(self.directory, database, lambda: listing(()))}

    def write(self, name: str, content: bytes) -> None:
        self.directory.mkdir(exist_ok=True)
        (self.directory / name).write_bytes(content)

    def test_before_anything_is_published(self) -> None:
        """The listing is there, and empty."""
        status, headers, body = self.ask(get("/archive/"))
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertNotIn(b"href", body)

    def test_files_and_their_types(self) -> None:
        """Each file comes whole, with its type and size."""
        for name, kind in (
            ("example-51200-2023-11-14.tpf", "text/plain; charset=utf-8"),
            ("2023-11-14.onionperf.analysis.json.xz", "application/x-xz"),
            ("index.xml", "application/xml"),
        ):
            content = name.encode() * 20000  # more than a piece
            self.write(name, content)
            status, headers, body = self.ask(get(f"/archive/{name}"))
            self.assertEqual((status, headers["Content-Type"], len(body)), (200, kind, len(content)))
            self.assertEqual(body, content)
            status, headers, body = self.ask(get(f"/archive/{name}", method="HEAD"))
            self.assertEqual((status, headers["Content-Length"], body), (200, str(len(content)), b""))

    def test_the_listing(self) -> None:
        """It is the one that was published."""
        self.write("index.html", listing([Entry("a.tpf", 5, "2023-11-15 00:30:00", "")]))
        self.assertIn(b'<a href="a.tpf">', self.ask(get("/archive/"))[2])
        status, headers, _ = self.ask(get("/archive"))
        self.assertEqual((status, headers["Location"]), (301, "archive/"))

    def test_unchanged(self) -> None:
        """Who has a file already is told so."""
        self.write("a.tpf", b"content")
        tag = self.ask(get("/archive/a.tpf"))[1]["ETag"]
        status, _, body = self.ask(get("/archive/a.tpf", f"If-None-Match: {tag}"))
        self.assertEqual((status, body), (304, b""))

    def test_nothing_else_can_be_read(self) -> None:
        """Other names, directories, links and pipes are not there."""
        self.write("a.tpf", b"")
        (self.directory / "link.tpf").symlink_to("/etc/passwd")
        (self.directory / "directory.tpf").mkdir()
        self.write(".hidden.tpf", b"secret")
        self.write("a.tpf.new", b"half")
        for path in (
            "link.tpf",
            "directory.tpf",
            ".hidden.tpf",
            "a.tpf.new",
            "..%2Fperfd.conf",
            "b.tpf",
            "a.tpf/x",
        ):
            self.assertIn("there is no", self.fails(get(f"/archive/{path}"), 404))
        self.assertEqual(self.ask(get("/archive/a.tpf"))[2], b"")

    def test_access(self) -> None:
        """Who may not read results may not read the archive."""
        self.access.allowed = "none"
        self.write("a.tpf", b"content")
        for path in ("/archive/", "/archive", "/archive/a.tpf"):
            self.fails(get(path), 403)

    def test_a_slow_client(self) -> None:
        """No more than a few pieces of a file wait in memory for a client that does not read."""
        self.write("a.tpf", b"x" * 50 * PIECE)
        socket = self.open()
        socket.room = 1000
        socket.receive(get("/archive/a.tpf"))
        socket.flush()
        self.assertLess(socket.most_buffered, 4 * PIECE)
        socket.room = 1 << 30
        socket.flush()
        self.assertTrue(socket.received.endswith(b"x" * 50 * PIECE))

    def test_a_client_that_goes(self) -> None:
        """Its file is closed, and nothing more is read."""
        self.write("a.tpf", b"x" * 50 * PIECE)
        socket = self.open()
        socket.room = 1000
        socket.receive(get("/archive/a.tpf"))
        socket.flush()
        socket.abortConnection()
        self.assertEqual(len(socket.received), 1000)
