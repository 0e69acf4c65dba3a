"""What a page load leaves besides its record: written by a real child process, whatever happens to it."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import attrs
from twisted.internet import process
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from perfd.browser.files.contents import Job, write_files
from perfd.browser.files.writer import BATCH, MaterialWriter
from perfd.browser.records import Frame
from perfd.formats.keyvalue import is_taken
from perfd.record import Outcome
from perfd.whole import is_scratch
from tests.support.page_loads import DAY, ID, connection, frames, page_load, png

SECONDS = 60
CHILD = [sys.executable, "-m", "perfd.browser.files.child"]


class WriterTests(TestCase):
    """The writer with its child process."""

    timeout = 2 * SECONDS

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.before = set(process.reapProcessHandlers)  # children of other tests
        self.addCleanup(self.no_child_left)

    def no_child_left(self) -> Deferred[None]:
        async def wait() -> None:
            while set(process.reapProcessHandlers) - self.before:
                await deferLater(global_reactor, 0.02)

        return Deferred.fromCoroutine(wait())

    def writing(self, *connections: Any, **changes: Any) -> Deferred[Mapping[str, Any]]:
        limit = changes.pop("timeout", SECONDS)
        writer = MaterialWriter(global_reactor, self.directory, limit)
        return Deferred.fromCoroutine(writer.write(page_load(**changes), connections, ID))

    def file(self, suffix: str) -> Path:
        return self.directory / DAY / f"{ID}{suffix}"

    async def test_har_and_screenshot(self) -> None:
        """Both are there under the day of the load, for their owner only, and the record's keys tell of them."""
        fields = await self.writing(connection(), connection(number=2, host=None))
        size = self.file(".har.gz").stat().st_size
        self.assertEqual(fields, {"HAR": 1, "HARBYTES": size, "SCREENSHOT": 1})
        self.assertFalse(any(is_taken(key) for key in fields))
        self.assertEqual(self.file(".png").read_bytes(), png(50))
        self.assertEqual(
            sorted(path.name for path in self.file("").parent.iterdir()), [f"{ID}.har.gz", f"{ID}.png"]
        )
        for path, mode in ((self.directory, 0o700), (self.file("").parent, 0o700), (self.file(".png"), 0o600)):
            self.assertEqual(path.stat().st_mode & 0o777, mode, path)

    async def test_circuits_are_in_the_har(self) -> None:
        """Each request names the connection, stream and circuit that carried it."""
        await self.writing(connection())
        log = json.loads(gzip.decompress(self.file(".har.gz").read_bytes()))["log"]
        self.assertEqual(log["pages"][0]["id"], ID)
        for entry in log["entries"]:
            self.assertEqual(entry["_match"], "exact")
            tor = entry["_tor"]
            self.assertEqual((tor["stream"], tor["circuit"], tor["localPort"]), (7, 5, 40001))
            self.assertEqual(tor["path"], ["$" + letter * 40 for letter in "ABC"])
            self.assertEqual(sorted(tor["times"]), ["closed", "end", "request", "response", "start"])

    async def test_filmstrip(self) -> None:
        """The pictures are kept, and SpeedIndex and its like are in the record and in the HAR."""
        fields = await self.writing(connection(), frames=frames())
        self.assertEqual(fields["FILMSTRIP"], 3)
        with ZipFile(BytesIO(self.file(".filmstrip.zip").read_bytes())) as archive:
            self.assertEqual(archive.namelist(), ["0001-000000ms.png", "0002-000400ms.png", "0003-000900ms.png"])
            self.assertEqual(archive.read("0002-000400ms.png"), png(90))
        if find_spec("PIL") is None:
            self.assertNotIn("SPEEDINDEX", fields)
            return
        self.assertEqual((fields["FIRSTVISUALCHANGE"], fields["VISUALLYCOMPLETE85"]), (400.0, 400.0))
        self.assertEqual(fields["SPEEDINDEX"], 450.0)
        (page,) = json.loads(gzip.decompress(self.file(".har.gz").read_bytes()))["log"]["pages"]
        self.assertEqual(page["_visualMetrics"]["SpeedIndex"], 450.0)

    async def test_much(self) -> None:
        """More than a pipe takes at a time gets through, and other work goes on meanwhile."""
        large = png() + os.urandom(3_000_000)
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            self.next = global_reactor.callLater(0, turn)

        turn()
        try:
            fields = await self.writing(screenshot=large, outcome=Outcome.TIMEOUT, frames=[Frame(5.0, large)] * 5)
        finally:
            self.next.cancel()
        self.assertGreater(turns, 10)
        self.assertEqual((fields["SCREENSHOT"], fields["FILMSTRIP"]), (1, 5))
        self.assertEqual(self.file(".png").read_bytes(), large)

    async def test_many_requests(self) -> None:
        """Requests and connections are handed over in small pieces; all of them arrive, in their order."""
        request = page_load().requests[0]
        requests = tuple(
            attrs.evolve(request, url=f"http://site.example/{number}") for number in range(3 * BATCH + 1)
        )
        connections = [connection(number=number) for number in range(2 * BATCH)]
        pieces = MaterialWriter(global_reactor, self.directory)._pieces(
            page_load(requests=requests), connections, ID
        )
        sizes = [len(item) for item in map(pickle.loads, pieces) if isinstance(item, tuple)]
        self.assertEqual(sizes, [BATCH, BATCH, BATCH, 1, BATCH, BATCH])
        await self.writing(*connections, requests=requests)
        entries = json.loads(gzip.decompress(self.file(".har.gz").read_bytes()))["log"]["entries"]
        self.assertEqual([entry["request"]["url"] for entry in entries], [request.url for request in requests])

    async def fails(self, reason: str, **changes: Any) -> None:
        with capturedLogs() as events:
            self.assertEqual(await self.writing(**changes), {})
        (said,) = [formatEvent(event) for event in events if event["log_namespace"].startswith("perfd")]
        self.assertIn(f"the files of page load {ID} were not written: {reason}", said)

    async def test_takes_too_long(self) -> None:
        """The child is killed, which is logged; nothing is raised."""
        await self.fails("it took longer than 0 s", timeout=0.01)

    async def test_child_fails(self) -> None:
        """Its last words are logged."""
        self.patch(pickle, "dumps", lambda _: b"nonsense\n")
        await self.fails("exit code 1: ")

    async def test_cannot_be_started(self) -> None:
        """Not even that costs the measurement."""
        self.patch(sys, "executable", "/nonexistent/python")
        await self.fails("")

    async def test_stopped(self) -> None:
        """When it is cancelled, the child is killed and writes nothing more."""
        writing = self.writing()
        writing.cancel()
        with self.assertRaises(CancelledError):
            await writing
        await self.no_child_left()
        self.assertFalse(self.directory.exists())

    async def test_trouble_is_told_once(self) -> None:
        """One file that cannot be written does not keep back the others, and is not told for each load again."""
        (self.directory / DAY / f"{ID}.har.gz").mkdir(parents=True)
        writer = MaterialWriter(global_reactor, self.directory)
        with capturedLogs() as events:
            for _ in range(2):
                fields = await Deferred.fromCoroutine(writer.write(page_load(), (), ID))
                self.assertEqual(fields, {"SCREENSHOT": 1})
        (said,) = [formatEvent(event) for event in events if event["log_namespace"].startswith("perfd")]
        self.assertIn(f"page load {ID}: no HAR file: Is a directory", said)
        self.assertEqual(list(self.directory.rglob("*.new")), [])


class FilesTests(SynchronousTestCase):
    """The writing itself."""

    def job(self, **changes: Any) -> Job:
        return Job(directory=Path(self.mktemp()), measurement=ID, load=page_load(**changes), carriers=())

    def test_incomplete_pages_have_no_speed(self) -> None:
        """The last picture of a load that failed is not the page."""
        written = write_files(self.job(outcome=Outcome.TIMEOUT), None, frames())
        self.assertEqual((sorted(written.fields), written.troubles), (["FILMSTRIP", "HAR", "HARBYTES"], []))

    def test_broken_pictures(self) -> None:
        """Whatever a browser gives as pictures, the HAR is written."""
        written = write_files(self.job(), b"GIF89a", [Frame(5.0, b"nothing"), Frame(6.0, b"")])
        self.assertEqual(sorted(written.fields), ["FILMSTRIP", "HAR", "HARBYTES"])
        speed, screenshot = written.troubles
        self.assertIn("no SpeedIndex: ", speed)
        self.assertEqual(screenshot, "no screenshot: what the browser gave is no PNG")


class ChildTests(SynchronousTestCase):
    """The child process by itself."""

    def test_small(self) -> None:
        """It is started for each page load, so it must not import what takes long."""
        code = "import sys, perfd.browser.files.contents; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        modules = done.stdout.split()
        self.assertIn("perfd.browser.files.har", modules)
        for name in ("twisted", "txtorcon", "PIL", "sqlite3", "zipfile"):
            self.assertNotIn(name, modules)

    def test_ends_with_perfd(self) -> None:
        """When Perfd dies, its end of the pipe closes, and the child ends, in the middle of whatever it does."""
        directory = Path(self.mktemp())
        (directory / DAY).mkdir(parents=True)
        job = Job(directory=directory, measurement=ID, load=page_load(screenshot=None), carriers=())
        code = (
            "import os, sys, time; os.fsync = lambda _: time.sleep(60)\n"  # a disk that hangs
            "from perfd.browser.files.child import main; sys.exit(main())"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdin is not None
            for item in (job, png(), None, None, None):
                child.stdin.write(pickle.dumps(item))
            child.stdin.flush()
            with self.assertRaises(subprocess.TimeoutExpired):
                child.wait(0.5)
            child.stdin.close()
            self.assertEqual(child.wait(SECONDS), 1)
        self.assertTrue(all(is_scratch(path.name) for path in (directory / DAY).iterdir()))
