"""The results over HTTP: filters, pages, formats, caching, compression, back-pressure; what tor said."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import sys
from contextlib import closing
from unittest import mock
from urllib.parse import quote

import attrs
import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import succeed

from perfd.formats import torperf
from perfd.logfile.line import parse
from perfd.record import Attach, Circuit, Outcome, Stream, TorEvent
from perfd.store.rows import CIRCUITS, EVENTS, STREAMS
from perfd.store.schema import open_database
from perfd.web.results import listing
from tests.support.results import ResultsCase, dechunked
from tests.support.strategies import typical
from tests.support.web_client import Socket, get


class FilterTests(ResultsCase):
    """What can be asked for."""

    def test_filters(self) -> None:
        """Each filter alone, and several together; failures are there like successes."""
        self.fill(
            typical(0),
            typical(1, source="other"),
            typical(2, experiment="slow", filesize=5 * 2**20),
            typical(3, type="series"),
            typical(4, outcome=Outcome.TIMEOUT),
            typical(5, tor="alpha", outcome=Outcome.SKIPPED),
            typical(6, server="onion"),
        )
        self.assertEqual(self.ids(), [6, 5, 4, 3, 2, 1, 0])
        for query, found in (
            ("source=other", [1]),
            ("experiment=slow", [2]),
            ("size=5+MiB", [2]),
            ("size=5242880", [2]),
            ("type=series", [3]),
            ("outcome=timeout", [4]),
            ("tor=alpha", [5]),
            ("tor=alpha&outcome=ok", []),
            ("server=onion", [6]),
            (f"since={typical(5).start}", [6, 5]),
            (f"until={typical(1).start}", [0]),
            ("since=2023-11-14&until=2023-11-14T22:20:00Z", [1, 0]),
            ("since=2023-11-14T23:25:00%2B01:00&server=public", [5, 4, 3]),
            ("limit=2", [6, 5]),
        ):
            self.assertEqual(self.ids(f"?{query}"), found, query)

    def test_counted(self) -> None:
        """How many measurements the filters have left out is told if it is asked for; files cannot be named."""
        self.fill(typical(0), typical(1, source="other"), typical(2, tor="alpha"))
        query = f"/results?not-source=other&not-tor=alpha&until={typical(9).start}"
        self.assertEqual(self.ids(query.removeprefix("/results")), [0])
        _, fields, _ = self.ask(get(f"{query}&count=yes"))
        self.assertEqual((fields["Perfd-Filtered-Out"], fields["Perfd-Measurements"]), ("2", "3"))
        self.assertNotIn("Perfd-Filtered-Out", self.ask(get(query))[1])
        self.fails(get("/results?relay=@/etc/hosts"), 400)

    def test_series(self) -> None:
        """The requests of series are there if they are asked for: by their series, by their type, by their ids."""
        request = typical(2, id="ab-0000", type="request")
        self.fill(typical(0), typical(1, id="ab", type="series"), request, typical(3, id="ac-0000", type="request"))

        def names(query: str) -> list[str]:
            return [each["id"] for each in self.document(f"/results{query}")["results"]]

        self.assertEqual(names(""), ["ab", typical(0).id])
        self.assertEqual(names("?series=ab"), ["ab-0000"])
        self.assertEqual(names("?type=request"), ["ac-0000", "ab-0000"])
        self.assertEqual(names("?series=nothing"), [])
        self.assertEqual(self.document("/results/ab-0000")["id"], "ab-0000")

    def test_wrong(self) -> None:
        """All mistakes of a query are told at once, each with its argument."""
        wrong = {
            "size": ("", "x", "50 kB", "-1", "9999999999"),
            "outcome": ("", "good"),
            "since": ("", "yesterday", "2026-02-30", "-5", "nan", "1e99", "2026-W01-1"),
            "limit": ("0", "-1", "1000001", "x", "1.5"),
            "after": ("", "5", "x,y", "5,a b", "5,a,b"),
            "source": ("", "x" * 101),
            "colour": ("red",),
        }
        for name, texts in wrong.items():
            for text in texts:
                self.assertTrue(
                    self.fails(get(f"/results?{name}={quote(text)}"), 400).startswith(f"{name}: "), text
                )
        message = self.fails(get("/results?size=x&colour=red&limit=1&since="), 400)
        self.assertEqual(len(message.split("; ")), 4)  # the unknown one has two parts
        self.assertIn(
            "colour: unknown; there are after, cbt, circuit, comparison, conflux, count, errorcode, exit", message
        )
        self.fails(get("/events?experiment=a"), 400)
        self.fails(get("/results/x?limit=1"), 400)
        self.assertEqual(self.reader.queries, 0)

    def test_pages(self) -> None:
        """Pages follow each other without gaps; ``next`` ends with the records."""
        self.fill(*(typical(n) for n in range(5)))
        found, after = [], ""
        for left in (3, 1, 0):
            page = self.document(f"/results?limit=2{after}")
            found += [int(result["id"], 16) for result in page["results"]]
            self.assertEqual(page["next"] is None, left == 0)
            after = f"&after={page['next']}"
        self.assertEqual(found, [4, 3, 2, 1, 0])

    def test_cursor_is_exact(self) -> None:
        """Paging works for times with more than six decimals too."""
        starts = [1.7e9, 1.7e9 + 2**-22, 1.7e9 + 2**-21, 0.1 + 0.2, 2**-30]
        self.fill(*(typical(n, start=start) for n, start in enumerate(starts)))
        found, after = [], ""
        while after is not None:
            page = self.document(f"/results?limit=1{after and '&after='}{after}")
            found += [int(result["id"], 16) for result in page["results"]]
            after = page["next"]
        self.assertEqual(found, [2, 1, 0, 3, 4])

    def test_no_database_yet(self) -> None:
        """Before the first start has made the database the lists are empty."""
        self.assertEqual(self.document("/results"), {"results": [], "next": None})
        self.assertEqual(self.body("/results", "Accept: text/plain"), b"")
        self.fails(get("/results/x"), 404)


class FormatTests(ResultsCase):
    """JSON, key=value lines, .tpf, for one page and for many."""

    def setUp(self) -> None:
        super().setUp()
        self.records = [
            typical(0),
            typical(1, outcome=Outcome.SKIPPED, errorcode="PERFD/BUSY", dataperc={}, partial={}),
            typical(2, outcome=Outcome.FAILED, errorcode="TOR/END/MISC", reason="é = %", path=None, guard=None),
            *(typical(n) for n in range(3, 8)),
        ]
        self.fill(*self.records)

    def check_all(self) -> None:
        newest = self.records[::-1]
        document = self.document("/results?limit=1000")
        self.assertEqual(document, {"results": [json.loads(json.dumps(m.as_dict())) for m in newest], "next": None})
        lines = self.body("/results?limit=1000", "Accept: text/plain").decode().splitlines()
        self.assertEqual([parse(line) for line in lines], newest)
        tpf = self.body("/results.tpf?limit=1000").decode()
        self.assertTrue(tpf.startswith("@type torperf 1.1\n"))
        read = list(torperf.read(tpf.splitlines(keepends=True)))
        self.assertEqual([m.id for m in read], [m.id for m in newest if m.outcome is not Outcome.SKIPPED])  # type: ignore[union-attr]

    def test_one_page(self) -> None:
        """All records in all formats."""
        self.check_all()

    def test_many_pages(self) -> None:
        """The same, however the pages fall: in the middle, at the end, with nothing to write on one."""
        for size in (1, 2, 3, 4, 7, 8):
            self.patch(listing, "PAGE", size)
            self.check_all()

    def test_limit_over_pages(self) -> None:
        """A limit counts over all pages, and ``next`` goes on from there."""
        self.patch(listing, "PAGE", 2)
        page = self.document("/results?limit=5")
        self.assertEqual([int(r["id"], 16) for r in page["results"]], [7, 6, 5, 4, 3])
        self.assertEqual(self.ids(f"?limit=5&after={page['next']}"), [2, 1, 0])

    def test_headers_that_are_no_text(self) -> None:
        """Headers are bytes, and need not be UTF-8."""
        for name in ("Accept", "Accept-Encoding", "If-None-Match"):
            request = get("/results").replace(b"\r\n\r\n", f"\r\n{name}: ".encode() + b"\xf6\xff, x\r\n\r\n")
            self.assertEqual(self.ask(request)[0], 200, name)

    def test_chosen_by_accept(self) -> None:
        """Text only if it is asked for and JSON is not; both depend on Accept, and say so."""
        for accept, kind in (
            ("text/plain", "text/plain; charset=utf-8"),
            ("text/plain;q=0.5, */*", "text/plain; charset=utf-8"),
            ("application/json, text/plain", "application/json"),
            ("text/html", "application/json"),
        ):
            for path in ("/results", f"/results/{typical(0).id}"):
                _, headers, _ = self.ask(get(path, f"Accept: {accept}"))
                self.assertEqual(headers["Content-Type"], kind)
                self.assertIn("Accept", headers["Vary"])

    def test_one(self) -> None:
        """A measurement of its own."""
        path = f"/results/{typical(2).id}"
        self.assertEqual(self.document(path), json.loads(json.dumps(self.records[2].as_dict())))
        self.assertEqual(parse(self.body(path, "Accept: text/plain").decode().rstrip("\n")), self.records[2])
        self.assertIn("is not among the results", self.fails(get("/results/none-such"), 404))
        self.fails(get(f"{path}/more"), 404)

    def test_not_finite(self) -> None:
        """JSON has no infinite numbers: they are null, and the document is JSON."""
        self.fill(
            typical(20, dataperc={50: float("inf")}, quantile=float("inf"), extra={"A": float("inf"), "B": 1})
        )

        def refuse(word: str) -> None:
            self.fail(word)

        newest = json.loads(self.body("/results"), parse_constant=refuse)["results"][0]
        self.assertEqual((newest["dataperc"], newest["quantile"]), ({"50": None}, None))
        self.assertEqual(newest["extra"], {"A": None, "B": 1})
        for wanted in ("heldup=no", "filtered=no"):  # SQLite cannot read its JSON, and it has neither key
            self.assertEqual(self.document(f"/results?{wanted}")["results"][0]["id"], newest["id"])

    def test_left_out(self) -> None:
        """/results.tpf has plain downloads through Tor, unless a type is asked for, and says so in a header."""
        self.fill(typical(20, type="upload"), typical(21, extra={"PARALLEL": 2}), typical(22, tor="none"))

        def found(path: str, *headers: str) -> tuple[int, str | None]:
            _, fields, body = self.ask(get(path, *headers))
            return body.count(b"@type"), fields.get("Perfd-Left-Out")

        everything = "skipped slots, cancelled runs, runs that are no plain downloads through Tor"
        self.assertEqual(found("/results.tpf"), (7, everything))
        self.assertEqual(found("/results.tpf?type=upload"), (1, "skipped slots"))
        self.assertEqual(found("/results.tpf?type=download"), (9, "skipped slots"))
        self.assertEqual(found("/results"), (0, None))
        self.assertEqual(found("/results", "Accept: text/plain"), (0, None))

    def test_format_cannot_hold_it(self) -> None:
        """What .tpf cannot hold is left out there, and the rest is written."""
        self.fill(typical(20, filesize=2**40))
        self.assertEqual(self.ids()[0], 20)
        self.assertEqual(self.body("/results.tpf").count(b"@type"), 7)


class TableTests(ResultsCase):
    """Parquet, which is no text."""

    def test_parquet(self) -> None:
        """A list of any length and a single record, made in the reader's thread, never compressed again."""
        parquet = pytest.importorskip("pyarrow.parquet")
        count = 1203  # three pages
        self.fill(*(typical(n) for n in range(count)))
        for headers in ((), ("Accept-Encoding: gzip",)):
            body = self.body(f"/results.parquet?limit={count}", *headers)
            rows = parquet.read_table(io.BytesIO(body)).to_pylist()
            self.assertEqual([int(row["id"], 16) for row in rows], list(range(count))[::-1])
        (row,) = parquet.read_table(io.BytesIO(self.body(f"/results.parquet/{typical(7).id}"))).to_pylist()
        self.assertEqual(row["complete_s"], 1.234567)
        body = self.body("/results.parquet?source=nobody")
        self.assertEqual(parquet.read_table(io.BytesIO(body)).num_rows, 0)
        status, headers, _ = self.ask(get("/results.parquet?limit=5"))
        self.assertEqual((status, headers["Content-Type"]), (200, "application/vnd.apache.parquet"))
        self.assertIn("ETag", headers)

    def test_parquet_without_its_library(self) -> None:
        """The answer says what is missing."""
        self.fill(typical())
        with mock.patch.dict(sys.modules, {"pyarrow": None}):
            message = self.fails(get("/results.parquet"), 503)
        self.assertIn("pyarrow", message)


class CacheTests(ResultsCase):
    """ETag and If-None-Match."""

    def setUp(self) -> None:
        super().setUp()
        self.fill(*(typical(n) for n in range(5)))

    def test_not_modified(self) -> None:
        """What the client has is not sent again, until it changes."""
        _, headers, _ = self.ask(get("/results"))
        etag = headers["ETag"]
        self.assertEqual(headers["Cache-Control"], "no-cache")
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            status, headers, body = self.ask(get("/results", f"If-None-Match: {known}"))
            self.assertEqual((status, body, headers["ETag"]), (304, b"", etag))
            self.assertNotIn("Content-Length", headers)
        self.assertEqual(self.ask(get("/results", 'If-None-Match: "other"'))[0], 200)
        self.fill(typical(5))
        status, headers, _ = self.ask(get("/results", f"If-None-Match: {etag}"))
        self.assertEqual(status, 200)
        self.assertNotEqual(headers["ETag"], etag)

    def test_each_form_has_its_own(self) -> None:
        """JSON, text and compressed JSON differ; either of the two JSON answers is known by both tags."""
        requests = ((), ("Accept: text/plain",), ("Accept-Encoding: gzip",))
        tags = [self.ask(get("/results", *headers))[1]["ETag"] for headers in requests]
        self.assertEqual(len(set(tags)), 3)
        self.assertEqual(self.ask(get("/results", f"If-None-Match: {tags[2]}"))[0], 304)
        self.assertEqual(self.ask(get("/results", f"If-None-Match: {tags[1]}"))[0], 200)

    def test_none_for_several_pages(self) -> None:
        """A list of several pages has no tag: it is not known before it is read."""
        self.patch(listing, "PAGE", 2)
        status, headers, _ = self.ask(get("/results", "If-None-Match: *"))
        self.assertEqual((status, headers.get("ETag")), (200, None))


class GzipTests(ResultsCase):
    """Compression."""

    def test_compressed(self) -> None:
        """For clients that take it, and for bodies that are worth it."""
        self.fill(*(typical(n) for n in range(5)))
        plain = self.body("/results")
        for accepted in ("gzip", "deflate, gzip;q=0.8", "GZIP"):
            _, headers, packed = self.ask(get("/results", f"Accept-Encoding: {accepted}"))
            self.assertEqual((headers["Content-Encoding"], gzip.decompress(packed)), ("gzip", plain))
            self.assertEqual(int(headers["Content-Length"]), len(packed))
            self.assertIn("Accept-Encoding", headers["Vary"])
        for path, refused in (("/results", "gzip;q=0"), ("/results", "br"), ("/results?source=x", "gzip")):
            self.assertNotIn("Content-Encoding", self.ask(get(path, f"Accept-Encoding: {refused}"))[1])

    def test_compressed_pages(self) -> None:
        """One stream over all pages; a page can be read before the next one is there."""
        self.fill(*(typical(n) for n in range(7)))
        plain = self.body("/results")
        self.patch(listing, "PAGE", 3)
        self.assertEqual(gzip.decompress(self.body("/results", "Accept-Encoding: gzip")), plain)


class FlowTests(ResultsCase):
    """Long answers and slow, rude or missing clients."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(listing, "PAGE", 100)
        self.fill(*(typical(n) for n in range(1000)))

    def start(self, room: int, path: str = "/results?limit=1000000") -> Socket:
        socket = self.open()
        socket.room = room
        socket.receive(get(path))
        socket.flush()
        return socket

    def test_pages_wait_for_the_client(self) -> None:
        """A page is read only when the client has taken the one before."""
        socket = self.start(room=0)
        self.assertEqual(self.reader.queries, 1)
        page = len(self.body("/results?limit=100"))
        seen = []
        before = self.reader.queries - 1
        while self.database.limit.taken:
            socket.room += page // 2
            socket.flush()
            seen.append(self.reader.queries - before)
        self.assertEqual(seen, sorted(seen))
        self.assertEqual(seen[-1], 11)  # the last one finds nothing more
        self.assertGreater(len(set(seen)), 8)
        self.assertLess(socket.most_buffered, page + 2 * listing.PAGE * 1000)
        socket.room = 10 * page
        socket.flush()
        status, _, body = self.read(socket)
        self.assertEqual((status, len(json.loads(dechunked(body))["results"])), (200, 1000))

    def test_client_goes_away(self) -> None:
        """The reading ends with the connection, while a page is read and while one is sent."""
        socket = self.start(room=0)
        socket.abortConnection()
        self.assertEqual((self.reader.queries, self.database.limit.taken), (1, 0))
        self.reader.held = True
        socket = self.start(room=10**9)
        self.reader.step()
        socket.flush()
        self.assertEqual((len(self.reader.waiting), self.database.limit.taken), (1, 1))
        socket.abortConnection()
        self.reader.step()
        self.assertEqual((self.reader.waiting, self.database.limit.taken), ([], 0))

    def test_too_many(self) -> None:
        """More answers at a time than there is room for are refused, and the room is given back."""
        sockets = [self.start(room=0) for _ in range(3)]
        status, headers, _ = self.ask(get("/results"))
        self.assertEqual((status, headers["Retry-After"]), (503, "5"))
        sockets[0].room = 10**9
        sockets[0].flush()
        self.assertEqual(self.ask(get("/results"))[0], 200)

    def test_head(self) -> None:
        """HEAD has the head that GET would have, and reads no more than the first page."""
        for path, length in (("/results?limit=5", True), ("/results?limit=1000", False)):
            _, headers, body = self.ask(get(path))
            before = self.reader.queries
            status, found, nothing = self.ask(get(path, method="HEAD"))
            self.assertEqual((status, nothing, self.reader.queries - before), (200, b"", 1))
            for name in ("Content-Type", "ETag", "Vary"):
                self.assertEqual(found.get(name), headers.get(name))
            if length:
                self.assertEqual(int(found["Content-Length"]), len(body))
        self.assertEqual(self.ask(get(f"/results/{typical(0).id}", method="HEAD"))[::2], (200, b""))
        self.assertEqual(self.database.limit.taken, 0)

    def test_next_request(self) -> None:
        """After a long answer the connection can be used again."""
        socket = self.start(room=10**9)
        first = len(socket.received)
        self.assertTrue(socket.received.endswith(b"\r\n0\r\n\r\n"))
        socket.receive(get("/results?limit=1"))
        socket.flush()
        self.assertIn(b"200 OK", socket.received[first : first + 20])

    def test_database_trouble(self) -> None:
        """Before the answer began, trouble is said; in its middle the connection is cut, which nobody can miss."""
        self.reader.failure = sqlite3.OperationalError("disk I/O error")
        self.assertIn("cannot be read now", self.fails(get("/results"), 503))
        self.reader.failure = None
        self.reader.held = True
        socket = self.start(room=10**9)
        self.reader.step()
        socket.flush()
        self.reader.failure = sqlite3.OperationalError("disk I/O error")
        self.reader.step()
        self.assertTrue(socket.aborted)
        self.assertEqual(self.database.limit.taken, 0)


class AccessTests(ResultsCase):
    """Who may read."""

    paths = (
        "/results",
        "/results.tpf",
        "/results/x",
        "/results/x/streams",
        "/streams",
        "/circuits",
        "/circuits/x",
        "/events",
    )

    def check(self, status: int) -> None:
        for path in self.paths:
            if status == 403:
                self.assertIn("option results", self.fails(get(path), 403))
            else:
                self.assertIn(self.ask(get(path))[0], (200, 404))

    def test_all(self) -> None:
        """Everybody."""
        self.check(200)

    def test_none(self) -> None:
        """Nobody."""
        self.database.access.allowed = "none"
        self.check(403)
        self.assertEqual(self.reader.queries, 0)

    def test_local(self) -> None:
        """This machine, whether by IPv4 or IPv6, and nobody else."""
        self.database.access.allowed = "local"
        self.check(200)
        self.patch(Socket, "getPeer", lambda _: IPv4Address("TCP", "192.0.2.1", 5))
        self.check(403)

    def test_passed_on(self) -> None:
        """What a reverse proxy on this machine passes on is not local, nor what comes through a tor on it."""
        self.database.access.allowed = "local"
        for header in ("X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "Via: 1.1 a", "X-Real-IP: ::1"):
            self.assertIn("option results", self.fails(get("/results", header), 403))
        self.assertEqual(self.ask(b"GET /results HTTP/1.0\r\nHost: a\r\n\r\n")[0], 403)
        self.check(200)
        self.patch(self.database.access, "_call", lambda look: succeed(True))
        self.check(403)


class TorTests(ResultsCase):
    """Streams, circuits and events."""

    def setUp(self) -> None:
        super().setUp()
        self.circuits = [
            Circuit(id=f"s-c{n}", source="s", tor=f"t{n % 2}", circ_id=n, status="BUILT", launch=5.0 + n)
            for n in range(4)
        ]
        self.streams = [
            Stream(
                id=f"s-s{n}",
                source="s",
                tor=f"t{n % 2}",
                stream_id=n,
                status="CLOSED",
                new=6.0 + n,
                measurement="m" if n else None,
                attaches=(Attach(n, 6.5 + n),),
            )
            for n in range(4)
        ]
        self.events = [TorEvent(5.0, "s", f"t{n % 2}", "GUARD", str(n), f"e{n}") for n in range(4)]
        with closing(open_database(self.path)) as connection:
            for table, records in ((CIRCUITS, self.circuits), (STREAMS, self.streams), (EVENTS, self.events)):
                for record in records:
                    connection.execute(table.insert, table.row(record))

    def test_lists(self) -> None:
        """All of them, the newest first, with all that is known of each."""
        for name in ("circuits", "streams", "events"):
            expected = [json.loads(json.dumps(attrs.asdict(record))) for record in getattr(self, name)[::-1]]
            self.assertEqual(self.document(f"/{name}"), {name: expected, "next": None})
            self.assertEqual(len(self.document(f"/{name}?tor=t1")[name]), 2)
            self.assertEqual(self.document(f"/{name}?source=other")[name], [])
            self.patch(listing, "PAGE", 1)
            self.assertEqual(self.document(f"/{name}")[name], expected)

    def test_windows_and_pages(self) -> None:
        """Times and pages; events of the same moment are not lost between two pages."""
        self.assertEqual(len(self.document("/circuits?since=6&until=8")["circuits"]), 2)
        self.assertEqual(len(self.document("/events?until=5")["events"]), 0)
        for name in ("circuits", "streams", "events"):
            found, after = [], ""
            while after is not None:
                page = self.document(f"/{name}?limit=1{after and '&after='}{after}")
                found += [record["id"] for record in page[name]]
                after = page["next"]
            self.assertEqual(found, [record.id for record in getattr(self, name)[::-1]])

    def test_streams_of_a_measurement(self) -> None:
        """By a filter, and below the measurement."""
        for path in ("/streams?measurement=m", "/results/m/streams"):
            self.assertEqual([stream["stream_id"] for stream in self.document(path)["streams"]], [3, 2, 1])
        self.assertEqual(self.document("/results/m/streams?limit=1")["next"], "9.0,s-s3")
        self.assertEqual(self.document("/results/other/streams")["streams"], [])
        self.fails(get("/results/m/streams?measurement=x"), 400)

    def test_one_circuit(self) -> None:
        """The circuit that a stream names."""
        self.assertEqual(self.document("/circuits/s-c2")["circ_id"], 2)
        self.fails(get("/circuits/x"), 404)
        self.fails(get("/events/e1"), 404)
