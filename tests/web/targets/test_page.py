"""``/page/``: every byte of the canonical page, and that it leads nowhere else."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections import Counter
from hashlib import sha256
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from twisted.web.resource import IResource

from perfd.web.targets.page import TYPES, CanonicalPage
from perfd.web.targets.page_material import font, image, image_size, script
from perfd.web.targets.page_plan import VARIANTS, VERSION, When, make_document, make_part, page_version
from perfd.wire.keystream import PIECE
from tests.support.web_client import SiteTestCase, get

PORTS = [8081, 8082]
HOSTS = ["", *(f"//example.com:{port}" for port in PORTS)]

DIGESTS = {
    "canonical": "b12cd4d7b3ef1002ccbff0fc69c3c560c46a0645f1aa51487870f3db5df4eb5d",
    "light": "d999dc75dbbf57bc93d789bde31f698f532f1e674b96c78c2d5c98c2e85f9631",
    "heavy": "47222846fdace8e3261e9ecfb85e7fa7d602993f3fb8c2fd73f32ab3507d4f30",
}
"""SHA-256 of all bytes of each variant. They never change: a page of other bytes is another version."""

TOTALS = {
    "canonical": (
        70,
        2_451_624,
        {
            "document": (1, 30_720),
            "style": (8, 79_864),
            "script": (24, 627_672),
            "image": (18, 1_079_260),
            "font": (4, 134_136),
            "data": (15, 499_972),
        },
    ),
    "light": (
        10,
        150_520,
        {
            "document": (1, 12_288),
            "style": (1, 10_240),
            "script": (2, 40_960),
            "image": (4, 51_192),
            "font": (1, 20_480),
            "data": (1, 15_360),
        },
    ),
    "heavy": (
        150,
        8_005_068,
        {
            "document": (1, 61_440),
            "style": (15, 163_800),
            "script": (50, 2_199_952),
            "image": (50, 4_399_928),
            "font": (6, 229_996),
            "data": (28, 949_952),
        },
    ),
}
"""Requests, bytes, and both of each kind, as the README has them."""


class Links(HTMLParser):
    """The URLs of a document, and what else the tests look at."""

    def __init__(self, document: bytes) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.classes: set[str] = set()
        self.version: str | None = None
        self.icons: list[str] = []
        self._script = ""
        self.feed(document.decode("ascii"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "html":
            self.version = values["data-version"]
        if values.get("rel") == "icon":
            self.icons.append(values["href"])
        else:
            self.urls += [values[name] for name in ("src", "href") if name in values]
        self.classes |= set(values.get("class", "").split())
        self._script = values.get("type", "") if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        if self._script == "application/json":
            self.urls += [url for urls in json.loads(data).values() for url in urls]
            self._script = ""


class BytesTests(SiteTestCase):
    """What the page is made of."""

    def test_digests(self) -> None:
        """No byte has changed since this version of the page was made."""
        found = {}
        for name, plan in VARIANTS.items():
            digest = sha256()
            for hosts in ([""], HOSTS):
                digest.update(make_document(name, page_version(name, PORTS[: len(hosts) - 1]), hosts))
            for part in plan.parts():
                body = make_part(name, part)
                self.assertEqual(len(body), part.size, part)
                digest.update(part.name.encode() + b"\0" + body)
            found[name] = digest.hexdigest()
        self.assertEqual(found, DIGESTS)

    def test_totals(self) -> None:
        """Requests and bytes are those that the README states."""
        for name, plan in VARIANTS.items():
            parts = list(plan.parts())
            kinds = {"document": (1, plan.html)} | {
                kind: (len(sizes), sum(sizes))
                for kind in TYPES
                if (sizes := [part.size for part in parts if part.kind == kind])
            }
            whole = (1 + len(parts), plan.html + sum(part.size for part in parts))
            self.assertEqual((*whole, kinds), TOTALS[name])

    def test_all_ways_to_load(self) -> None:
        """The canonical page blocks rendering, loads beside it, lazily and late, and from three origins."""
        parts = list(VARIANTS["canonical"].parts())
        self.assertEqual({part.when for part in parts}, set(When))
        self.assertEqual({part.origin for part in parts}, {0, 1, 2})

    def test_images(self) -> None:
        """They are whole PNGs, of the size that the document gives them, and deflated in stored blocks."""
        for size in (1000, 25_000, 145_520, 222_784):
            made = image("x", size)
            self.assertEqual((made[:8], len(made)), (b"\x89PNG\r\n\x1a\n", size))
            chunks, place = {}, 8
            while place < size:
                length, kind = struct.unpack_from(">I4s", made, place)
                content = made[place + 8 : place + 8 + length]
                (crc,) = struct.unpack_from(">I", made, place + 8 + length)
                self.assertEqual(crc, zlib.crc32(kind + content))
                chunks[kind] = content
                place += 12 + length
            self.assertEqual(list(chunks), [b"IHDR", b"IDAT", b"tEXt", b"IEND"])
            width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
            self.assertEqual(((width, height), rest), (image_size(size), [8, 2, 0, 0, 0]))
            rows = zlib.decompress(chunks[b"IDAT"])
            self.assertEqual(len(rows), height * (1 + 3 * width))
            self.assertEqual(set(rows[:: 1 + 3 * width]), {0})
            self.assertLess(len(chunks[b"tEXt"]), size / 10 + 100)

    def test_fonts(self) -> None:
        """The checksums of the tables and of the whole are right, and every printable character has a glyph."""
        made = font("x", 20_480)
        self.assertEqual(sum(struct.unpack(f">{len(made) // 4}I", made)) & 0xFFFFFFFF, 0xB1B0AFBA)
        tables = {}
        for number in range(struct.unpack_from(">H", made, 4)[0]):
            tag, checksum, offset, length = struct.unpack_from(">4s3I", made, 12 + 16 * number)
            padded = bytearray(made[offset : offset + length] + b"\0" * (-length % 4))
            if tag == b"head":
                padded[8:12] = bytes(4)
            self.assertEqual(sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF, checksum, tag)
            tables[tag] = made[offset : offset + length]
        self.assertEqual(len(tables[b"OS/2"]), 96)
        self.assertEqual(len(tables[b"head"]), 54)
        (glyphs,) = struct.unpack_from(">H", tables[b"maxp"], 4)
        self.assertEqual(glyphs, 1 + len(range(0x20, 0x7F)))
        self.assertEqual(struct.unpack_from(">I", tables[b"loca"], 4 * glyphs)[0], len(tables[b"glyf"]))
        self.assertEqual(len(tables[b"hmtx"]), 4 * glyphs)

    def test_scripts(self) -> None:
        """Scripts are complete; the first, and only that, loads the late parts."""
        for boots in (True, False):
            made = script("x/script-01.js", 20_000, boots=boots)
            self.assertEqual(("perfdDone" in made.decode(), len(made)), (boots, 20_000))
            self.assertTrue(made.endswith(b'perfd.sums["script-01.js"]=h;})();\n'))
            for opening, closing in (b"()", b"{}", b"[]"):
                self.assertEqual(made.count(opening), made.count(closing))


class PageTests(SiteTestCase):
    """The page over HTTP."""

    ports: list[int] = PORTS

    def children(self) -> dict[str, IResource]:
        return {"page": CanonicalPage(lambda: self.ports)}

    def load(self, path: str, host: str = "example.com") -> bytes:
        """The document at ``path``."""
        status, headers, body = self.ask(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        return body

    def test_all_is_there(self) -> None:
        """Each link leads to a part at one of our origins, and each part is linked, or named in a style, once."""
        for name, plan in VARIANTS.items():
            links = Links(self.load(f"/page/{VERSION}/{name}/"))
            found = [urlsplit(urljoin("http://example.com/page/", url)) for url in links.urls]
            sheets = []
            for url in found:
                status, headers, body = self.ask(get(url.path))
                kind = url.path.rpartition("/")[2].partition("-")[0]
                self.assertEqual(
                    (status, headers["Content-Type"], int(headers["Content-Length"])), (200, TYPES[kind], len(body))
                )
                if kind == "style":
                    sheets.append(body.decode())
                    fonts = re.findall(r'url\("([^"]*)"\)', sheets[-1])
                    found += [urlsplit(urljoin(url.geturl(), each)) for each in fonts]
                if kind == "data":
                    self.assertEqual(json.loads(body)["name"], url.path.rpartition("/")[2])
            hosts = ["example.com", *(f"example.com:{port}" for port in PORTS)]
            self.assertEqual(
                Counter((url.netloc, url.path) for url in found),
                Counter((hosts[part.origin], f"/page/{VERSION}/{name}/{part.name}") for part in plan.parts()),
            )
            self.assertEqual({url.scheme for url in found}, {"http"})
            self.assertEqual(links.icons, ["data:,"])
            styled = {rule for sheet in sheets for rule in re.findall(r"^\.([a-z0-9-]+)\{", sheet, re.MULTILINE)}
            self.assertLessEqual(links.classes, styled)

    def test_nothing_from_elsewhere(self) -> None:
        """No text of the page names another server."""
        for name, plan in VARIANTS.items():
            texts = [make_part(name, part) for part in plan.parts() if part.kind in ("style", "script", "data")]
            for text in [*texts, self.load(f"/page/{name}/")]:
                self.assertIsNone(re.search(rb"https?:|@import", text))
            self.assertEqual(
                {urlsplit(url).hostname for url in Links(self.load(f"/page/{name}/")).urls}, {None, "example.com"}
            )

    def test_aliases(self) -> None:
        """The short paths give the documents themselves, not redirects."""
        for path in ("/page", "/page/"):
            self.assertEqual(self.load(path), self.load(f"/page/{VERSION}/canonical/"))
        for name in VARIANTS:
            self.assertEqual(self.load(f"/page/{name}/"), self.load(f"/page/{VERSION}/{name}/"))

    def test_version(self) -> None:
        """The page says which it is, as `page_version` does, for any number of other ports."""
        for ports, name, version in (
            ([], "canonical", "1-canonical-1origin"),
            ([8081], "canonical", "1-canonical-2origins"),
            ([8081, 8082], "canonical", "1-canonical-3origins"),
            ([8081, 8082, 8083], "heavy", "1-heavy-3origins"),
            ([8081, 8082], "light", "1-light-2origins"),
        ):
            self.ports = ports
            self.assertEqual(page_version(name, ports), version)
            document = self.load(f"/page/{name}/")
            self.assertEqual(Links(document).version, version)
            self.assertIn(f'<b id="version">{version}</b>'.encode(), document)
            self.assertNotIn(b"8083", document)
            self.assertEqual(b"//" in document, bool(ports))

    def test_own_port(self) -> None:
        """A port by which the page itself was asked for is no other origin."""
        document = self.load("/page/", "example.com:8081")
        self.assertEqual(Links(document).version, "1-canonical-2origins")
        self.assertIn(b"//example.com:8082/", document)

    def test_hosts(self) -> None:
        """The other origins have the host by which we were asked, and the size does not depend on it."""
        for host in ("127.0.0.1:8080", "[::1]:8080", "a" * 56 + ".onion", ".".join(["b" * 62] * 4), "x_y"):
            document = self.load("/page/", host)
            self.assertEqual(len(document), VARIANTS["canonical"].html)
            name = host.removesuffix(":8080")
            self.assertIn(f'"//{name}:8082/page/'.encode(), document)
        for name in VARIANTS:
            self.assertEqual(len(self.load(f"/page/{name}/", "c" * 253 + ":12345")), VARIANTS[name].html)

    def test_without_host(self) -> None:
        """A request that does not say by which name we are known gets all from the one origin."""
        _, _, document = self.ask(b"GET /page/ HTTP/1.0\r\n\r\n")
        self.assertEqual(Links(document).version, "1-canonical-1origin")

    def test_bad_host(self) -> None:
        """A Host header that is none does not get into the document."""
        for host in ('"><script>', "a b", "a:b", "a:123456", "a/b", "[::1", "a" * 254, "", "a@b"):
            request = f"GET /page/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            self.assertIn("Host", self.fails(request, 400))

    def test_headers(self) -> None:
        """All parts are kept nowhere, are what they say, and can be used and timed from other origins."""
        for path in ("/page/", *(f"/page/1/canonical/{part.name}" for part in VARIANTS["canonical"].parts())):
            _, headers, _ = self.ask(get(path, "Accept-Encoding: gzip, br"))
            for name, value in (
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                ("Timing-Allow-Origin", "*"),
                ("Access-Control-Allow-Origin", "*"),
                ("Content-Encoding", None),
                ("Transfer-Encoding", None),
            ):
                self.assertEqual(headers.get(name), value, path)

    def test_head(self) -> None:
        """HEAD gives the head of GET, of small parts and of large ones."""
        for name in ("", "style-00.css", "image-00.png"):
            path = f"/page/1/canonical/{name}"
            with_body, without = self.ask(get(path)), self.ask(get(path, method="HEAD"))
            for _, headers, _ in (with_body, without):
                headers.pop("Date", None)  # the second of each
            self.assertEqual(without, (*with_body[:2], b""))
            self.assertEqual(int(without[1]["Content-Length"]), len(with_body[2]))

    def test_large(self) -> None:
        """A part of more than a piece is given to a slow client a piece at a time, and whole."""
        part = max(VARIANTS["heavy"].parts(), key=lambda part: part.size)
        self.assertGreater(part.size, PIECE)
        socket = self.open()
        socket.room = 1000
        socket.receive(get(f"/page/1/heavy/{part.name}"))
        socket.flush()
        self.assertLess(len(socket.dataBuffer) + socket._tempDataLen, PIECE + 1000)
        socket.room = 2 * part.size
        socket.flush()
        self.assertEqual(self.read(socket)[2], make_part("heavy", part))

    def test_unknown(self) -> None:
        """What the page does not have is an error as everywhere."""
        for path in (
            "/page/2/canonical/",
            "/page/1/",
            "/page/huge/",
            "/page/1/canonical/x.js",
            "/page/1/canonical/style-00.css/",
            "/page/canonical/style-00.css",
            "/page/1/light/style-07.css",
            "/page/1//canonical/",
            "/page/%ff",
            "/page/..",
        ):
            self.assertIn("no such part", self.fails(get(path), 404))
        self.assertIn("GET, HEAD", self.fails(get("/page/", method="PUT"), 405))
