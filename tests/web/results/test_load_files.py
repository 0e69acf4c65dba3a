"""The files of page loads over HTTP: who gets them, in which form, and what there is when there are none."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock
from zipfile import ZipFile

from twisted.internet.defer import Deferred
from twisted.web.resource import IResource

from perfd.web import files
from perfd.web.results import load_files
from perfd.web.results.load_files import KINDS
from perfd.web.results.records import result_resources
from perfd.wire.keystream import PIECE
from tests.support.page_loads import DAY, ID, NOW, png
from tests.support.results import ResultsCase
from tests.support.strategies import typical
from tests.support.web_client import get

T = TypeVar("T")

DOCUMENT = json.dumps({"log": [zlib.crc32(b"%d" % n) for n in range(200_000)]}).encode()


class LoadFileTests(ResultsCase):
    """One page load with all of its files."""

    def children(self) -> dict[str, IResource]:
        super().children()
        self.directory = Path(self.mktemp())
        return result_resources(self.database, self.directory)

    def setUp(self) -> None:
        super().setUp()
        self.fill(typical(0, id=ID, start=NOW, type="pageload"), typical(1))
        (self.directory / DAY).mkdir(parents=True)
        for suffix, content in ((".har.gz", gzip.compress(DOCUMENT)), (".png", png()), (".filmstrip.zip", b"PK")):
            (self.directory / DAY / f"{ID}{suffix}").write_bytes(content)

    def test_har(self) -> None:
        """As JSON, compressed only for those who take it; the name is one to save it by."""
        packed = (self.directory / DAY / f"{ID}.har.gz").read_bytes()
        for accepted, encoding, content in (
            ("gzip, br", "gzip", packed),
            ("br, gzip;q=0", None, DOCUMENT),
            ("", None, DOCUMENT),
        ):
            status, headers, body = self.ask(get(f"/results/{ID}/har", f"Accept-Encoding: {accepted}"))
            self.assertEqual((status, headers.get("Content-Encoding")), (200, encoding))
            self.assertEqual(body, content)
            self.assertEqual(int(headers["Content-Length"]), len(content))
            self.assertEqual(headers["Content-Type"], "application/json")
            self.assertEqual(headers["Vary"], "Accept-Encoding")
            self.assertEqual(headers["Content-Disposition"], f'inline; filename="{ID}.har"')

    def test_pictures(self) -> None:
        """Screenshot and filmstrip are given as they are, whatever coding is accepted."""
        for name, kind, content in (("screenshot", "image/png", png()), ("filmstrip", "application/zip", b"PK")):
            for accepted in ("gzip", "identity"):
                status, headers, body = self.ask(get(f"/results/{ID}/{name}", f"Accept-Encoding: {accepted}"))
                self.assertEqual((status, headers["Content-Type"], body), (200, kind, content))
                self.assertNotIn("Content-Encoding", headers)
                self.assertIn(ID, headers["Content-Disposition"])

    def test_frames(self) -> None:
        """Each picture of a filmstrip, by its number; nothing that is no picture, or is not there."""
        path = self.directory / DAY / f"{ID}.filmstrip.zip"
        with ZipFile(path, "w") as archive:
            archive.writestr("0001-000100ms.png", png())
            archive.writestr("0002-000200ms.jpg", b"jpeg")
            archive.writestr("0003-000300ms.html", b"<script>")
        for number, expected in (("1", (200, "image/png", png())), ("2", (200, "image/jpeg", b"jpeg"))):
            status, headers, body = self.ask(get(f"/results/{ID}/frames/{number}"))
            self.assertEqual((status, headers["Content-Type"], body), expected)
        for number in ("0", "3", "4", "-1", "x", "9999999", "1/2"):
            self.assertEqual(self.ask(get(f"/results/{ID}/frames/{number}"))[0], 404, number)
        path.write_bytes(b"PK")
        self.assertEqual(self.ask(get(f"/results/{ID}/frames/1"))[0], 404)

    def test_head_and_caching(self) -> None:
        """HEAD has the head of GET; what the client has already is not sent again, but for another coding."""
        tags = set()
        for path, *header in (("har",), ("har", "Accept-Encoding: gzip"), ("screenshot",)):
            _, headers, _ = self.ask(get(f"/results/{ID}/{path}", *header))
            status, found, body = self.ask(get(f"/results/{ID}/{path}", *header, method="HEAD"))
            self.assertEqual((status, body), (200, b""))
            for name in ("Content-Length", "Content-Type", "ETag"):
                self.assertEqual(found[name], headers[name])
            tags.add(found["ETag"])
            match = f"If-None-Match: {found['ETag']}"
            self.assertEqual(self.ask(get(f"/results/{ID}/{path}", *header, match))[::2], (304, b""))
        self.assertEqual(len(tags), 3)

    def test_as_fast_as_it_is_taken(self) -> None:
        """No more than a few pieces are unpacked and in memory while the client waits."""
        socket = self.open()
        socket.room = 50_000
        socket.receive(get(f"/results/{ID}/har"))
        socket.flush()
        self.assertLess(socket.most_buffered, 3 * PIECE)
        socket.room = 10**9
        socket.flush()
        self.assertLess(socket.most_buffered, 3 * PIECE)
        self.assertEqual(self.read(socket)[2], DOCUMENT)

    def test_not_in_the_reactors_thread(self) -> None:
        """Nothing of a file is opened, read or unpacked where stamps are taken."""
        inside = False
        call = self.reader.call

        def watched(function: Callable[[], T]) -> Deferred[T]:
            nonlocal inside
            inside = True
            try:
                return call(function)
            finally:
                inside = False

        def guarded(function: Callable[..., T]) -> Callable[..., T]:
            def run(*arguments: Any, **named: Any) -> T:
                self.assertTrue(inside)
                return function(*arguments, **named)

            return run

        self.patch(self.reader, "call", watched)
        opened = mock.Mock(wraps=files.open_file)
        self.patch(files.OpenedFile, "read", guarded(files.OpenedFile.read))
        self.patch(files.OpenedFile, "__init__", guarded(files.OpenedFile.__init__))
        self.patch(load_files, "open_file", opened)
        for name, body in (("har", DOCUMENT), ("screenshot", png())):
            self.assertEqual(self.ask(get(f"/results/{ID}/{name}"))[2], body)
        self.assertEqual(opened.call_count, 2)

    def test_client_goes_away(self) -> None:
        """The file is closed."""
        before = len(os.listdir("/proc/self/fd"))
        socket = self.open()
        socket.room = 50_000
        socket.receive(get(f"/results/{ID}/har"))
        socket.flush()
        socket.abortConnection()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_damaged(self) -> None:
        """A file that is cut off is sent as far as it goes, and the client sees that the rest is missing."""
        path = self.directory / DAY / f"{ID}.har.gz"
        whole = path.read_bytes()
        path.write_bytes(whole[:-5000] + whole[-4:])
        socket = self.open()
        socket.receive(get(f"/results/{ID}/har"))
        socket.flush()
        self.assertTrue(socket.aborted)
        path.write_bytes(b"")
        self.assertEqual(self.ask(get(f"/results/{ID}/har"))[::2], (200, b""))

    def test_none(self) -> None:
        """There is none of other measurements, of unknown ones, and of those that were deleted."""
        for name in KINDS:
            self.assertIn("or it was deleted", self.fails(get(f"/results/{typical(1).id}/{name}"), 404))
            self.fails(get(f"/results/unknown/{name}"), 404)
            for path in (self.directory / DAY).glob(f"{ID}*"):
                path.unlink()
            self.fails(get(f"/results/{ID}/{name}"), 404)
        self.assertEqual(self.ask(get(f"/results/{ID}"))[0], 200)
        self.fails(get(f"/results/{ID}/other"), 404)
        self.fails(get(f"/results/{ID}/har/x"), 404)
        self.fails(get(f"/results/{ID}/har?x=1"), 400)
        self.path.unlink()
        self.fails(get(f"/results/{ID}/har"), 404)

    def test_no_way_out(self) -> None:
        """No id leads out of the directory, and no link is followed."""
        (self.directory / "secret.png").write_bytes(png())
        self.fill(typical(2, id="../secret", start=NOW), typical(3, id="a\0b", start=NOW))
        before = self.reader.queries
        for text in ("..%2Fsecret", "%2e%2e%2fsecret", "a%00b", "%ff", "", ".", "x" * 65, "a.b"):
            self.fails(get(f"/results/{text}/screenshot"), 404)
        self.assertEqual(self.reader.queries, before)
        path = self.directory / DAY / f"{ID}.png"
        path.unlink()
        path.symlink_to(self.directory / "secret.png")
        self.fails(get(f"/results/{ID}/screenshot"), 404)
        path.unlink()
        os.mkfifo(path)
        self.fails(get(f"/results/{ID}/screenshot"), 404)

    def test_access(self) -> None:
        """They are results like others."""
        self.database.access.allowed = "none"
        for name in KINDS:
            self.assertIn("option results", self.fails(get(f"/results/{ID}/{name}"), 403))
