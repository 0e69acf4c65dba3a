"""Pages for people: who gets them, how long they are kept, what a browser is told of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.web.resource import IResource

from perfd import routes
from perfd.pages.make import make
from perfd.pages.records import Made, PageError, PageRequest
from perfd.web.errors import WebError
from perfd.web.request import Node, Request
from perfd.web.results.answers import Access, PublicDatabase
from perfd.web.results.people import AT_ONCE, FRESH, OF_ONE, UNCHANGED, People
from tests.support.pages import Document, state
from tests.support.results import ResultsCase, no_tor
from tests.support.strategies import typical
from tests.support.web_client import get

BROWSER = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Maker:
    """Makes pages at once, or when the test says so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[PageRequest] = []
        self.held: Deferred[None] | None = None
        self.error: Exception | None = None

    async def make(self, request: PageRequest) -> Made:
        self.asked.append(request)
        if self.held is not None:
            await self.held
        if self.error is not None:
            raise self.error
        return make(request, self.path)


class Refusing(Node):
    """Refuses each request."""

    error = WebError(500, "")

    def render_GET(self, request: Request) -> bytes:
        raise self.error


class PeopleCase(ResultsCase):
    """A site with pages."""

    def children(self) -> dict[str, IResource]:
        found = super().children()
        self.maker = Maker(self.path)
        self.people = People(self.reactor, self.maker, lambda: state(["download-50k"]), self.reactor.seconds)
        self.database = attrs.evolve(self.database, access=Access(self.allowed, no_tor), people=self.people)
        return {
            **found,
            **routes.read(self.database, self.path.parent, lambda: {"healthy": True}, bytes),
            "refusing": Refusing(),
        }

    def page(self, path: str, *headers: str) -> Document:
        return Document(self.body(path, BROWSER, *headers).decode())


class ForbiddenTests(PeopleCase):
    """Where nobody may read results."""

    allowed = "none"

    def test_pages(self) -> None:
        """Nothing is made for them."""
        for path in ("/", "/results", "/about", f"/results/{1:032x}"):
            self.assertEqual(self.ask(get(path, BROWSER))[0], 403)
        self.assertEqual(self.maker.asked, [])


class PeopleTests(PeopleCase):
    """A browser at the addresses of programs."""

    def test_who_gets_pages(self) -> None:
        """Browsers do, and who asks for it; all others get what they always got."""
        self.fill(typical(1))
        for path in ("/", "/results", "/circuits", "/streams", "/events", f"/results/{1:032x}"):
            status, fields, body = self.ask(get(path, BROWSER))
            self.assertEqual((status, fields["Content-Type"]), (200, "text/html; charset=utf-8"), body)
            self.assertEqual(fields["Vary"], "Accept, Accept-Encoding")
            for others in ((), ("Accept: */*",), ("Accept: application/json, text/html;q=0.9",)):
                status, fields, body = self.ask(get(path, *others))
                self.assertEqual((status, fields["Content-Type"]), (200, "application/json"), body)
            mark = "&" if "?" in path else "?"
            _, fields, _ = self.ask(get(f"{path}{mark}format=html"))
            self.assertEqual(fields["Content-Type"], "text/html; charset=utf-8")
            _, fields, _ = self.ask(get(f"{path}{mark}format=json", BROWSER))
            self.assertEqual(fields["Content-Type"], "application/json")
        self.assertEqual(self.ask(get("/results?format=pdf"))[0], 400)

    def test_programs_have_no_arguments_of_pages(self) -> None:
        """What only pages take is refused, as any mistake is."""
        self.assertEqual(self.ask(get("/results?theme=dark"))[0], 400)
        self.assertEqual(self.ask(get("/results?theme=red", BROWSER))[0], 400)
        self.assertEqual(self.ask(get("/results?sise=3", BROWSER))[0], 400)

    def test_arguments(self) -> None:
        """Fields of a form that are left empty are none; what goes on from page to page is no filter."""
        self.fill(typical(1), typical(2, experiment="other"))
        page = self.page("/results?experiment=other&outcome=&tor=&theme=dark&pause=1")
        self.assertEqual(self.maker.asked[-1].arguments, {"experiment": "other"})
        self.assertEqual(page.all("html")[0]["data-theme"], "dark")
        self.assertIn(f"/results/{2:032x}?theme=dark", [each["href"] for each in page.all("a")])

    def test_headers(self) -> None:
        """A strict policy, a refresh that can be paused, and nothing sent that the browser has."""
        self.fill(typical(1))
        _, fields, body = self.ask(get("/", BROWSER))
        self.assertEqual(fields["Refresh"], "60")
        self.assertTrue(fields["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'"))
        self.assertEqual(fields["X-Content-Type-Options"], "nosniff")
        status, again, nothing = self.ask(get("/", BROWSER, f"If-None-Match: {fields['ETag']}"))
        self.assertEqual((status, again["ETag"], nothing), (304, fields["ETag"], b""))
        _, packed, data = self.ask(get("/", BROWSER, "Accept-Encoding: gzip"))
        self.assertEqual((packed["Content-Encoding"], gzip.decompress(data)), ("gzip", body))
        self.assertNotEqual(packed["ETag"], fields["ETag"])
        self.assertNotIn("Refresh", self.ask(get("/?pause=1", BROWSER))[1])

    def test_kept(self) -> None:
        """A page is made once for all who ask for it in a moment, and anew when it has changed or is old."""
        self.fill(typical(1))
        for seconds, count in ((0, 1), (FRESH / 2, 1), (UNCHANGED / 2, 1), (UNCHANGED, 2)):
            self.reactor.advance(seconds)
            self.page("/")
            self.assertEqual(len(self.maker.asked), count)
        self.people.record(typical(2))
        self.page("/")
        self.assertEqual(len(self.maker.asked), 2)
        self.reactor.advance(FRESH)
        self.page("/")
        self.page("/results")
        self.page("/results?theme=dark")
        self.assertEqual([each.name for each in self.maker.asked[2:]], ["overview", "results", "results"])

    def test_kept_of_one(self) -> None:
        """A page about an experiment lasts until one of its own measurements has ended, but not for ever."""
        self.fill(typical(1, experiment="slow"))
        for experiment, seconds, count in (("fast", UNCHANGED + 1, 1), ("slow", FRESH, 2), ("fast", OF_ONE, 3)):
            self.page("/experiments/slow?period=year")
            self.people.record(typical(2, experiment=experiment))
            self.reactor.advance(seconds)
            self.page("/experiments/slow?period=year")
            self.assertEqual(len(self.maker.asked), count)

    def test_errors_are_not_kept(self) -> None:
        """A page that says why there is none is made anew for the next, who may have more luck."""
        self.assertEqual(self.ask(get("/results", BROWSER))[0], 503)  # there is no database yet
        self.fill(typical(1))
        self.assertEqual(self.ask(get("/results", BROWSER))[0], 200)

    def test_asked_meanwhile(self) -> None:
        """Who asks while a page is being made waits for the same one, and gets the same error."""
        self.fill(typical(1))
        for error in (None, PageError(503, "too many")):
            self.maker.held, self.maker.error = Deferred(), error
            clients = [self.open() for _ in range(3)]
            for client in clients:
                client.receive(get("/about", BROWSER))
            clients[2].abortConnection()
            self.maker.held.callback(None)
            for client in clients[:2]:
                client.flush()
                self.assertIn(b" 200 OK" if error is None else b" 503 ", client.received.partition(b"\r\n")[0])
            self.reactor.advance(UNCHANGED)
        self.assertEqual(len(self.maker.asked), 2)

    def test_many_wait(self) -> None:
        """Not all are answered in one turn of the reactor; who goes meanwhile is passed over."""
        self.fill(typical(1))
        self.maker.held = Deferred()
        clients = [self.open() for _ in range(3 * AT_ONCE)]
        for client in clients:
            client.receive(get("/about", BROWSER))
        self.maker.held.callback(None)
        clients[-1].abortConnection()
        answered = []
        for _ in range(2):
            for client in clients:
                client.flush()
            answered.append(sum(b" 200 OK" in client.received for client in clients))
            self.reactor.advance(0)
        self.assertEqual(answered, [1 + AT_ONCE, 3 * AT_ONCE - 1])

    def test_who_asked_first_goes(self) -> None:
        """Those who waited for the same page are told to ask again."""
        self.maker.held = Deferred()
        first, second = self.open(), self.open()
        for client in (first, second):
            client.receive(get("/about", BROWSER))
        first.abortConnection()
        second.flush()
        self.assertIn(b" 503 ", second.received.partition(b"\r\n")[0])
        self.assertTrue(self.maker.held.called)

    def test_errors(self) -> None:
        """A browser reads errors as a page, also of what has none."""
        self.fill()
        for path, status in (
            ("/nowhere", 404),
            ("/results/none", 404),
            ("/random/x", 404),
            ("/results?x=<b>", 400),
        ):
            found, fields, body = self.ask(get(path, BROWSER))
            self.assertEqual((found, fields["Content-Type"]), (status, "text/html; charset=utf-8"), path)
            self.assertIn(
                str(status) if path != "/results/none" else "There is no measurement", Document(body.decode()).text
            )
            self.assertNotIn(b"<b>", body)
            _, fields, _ = self.ask(get(path))
            self.assertEqual(fields["Content-Type"], "application/json")

    def test_any_error(self) -> None:
        """Whatever a resource refuses with is a page for a browser, of words alone, and keeps its headers."""
        for status, phrase in ((403, "Forbidden"), (429, "Too Many Requests"), (503, "Service Unavailable")):
            Refusing.error = WebError(status, "<b>not now</b>", {b"Retry-After": b"5"})
            found, fields, body = self.ask(get("/refusing", BROWSER))
            self.assertEqual((found, fields["Retry-After"]), (status, "5"))
            self.assertEqual(fields["Content-Type"], "text/html; charset=utf-8")
            self.assertTrue(fields["Content-Security-Policy"].startswith("default-src 'none'"))
            page = Document(body.decode())
            self.assertIn(f"{phrase} <b>not now</b> Status {status}.", page.text)

    def test_style_and_robots(self) -> None:
        """The stylesheet may be kept; crawlers are asked to stay away unless perfd.conf says otherwise."""
        _, fields, body = self.ask(get("/style.css"))
        self.assertEqual(fields["Content-Type"], "text/css; charset=utf-8")
        self.assertIn(b".chart", body)
        self.assertEqual(self.ask(get("/style.css", f"If-None-Match: {fields['ETag']}"))[0], 304)
        self.assertEqual(self.body("/robots.txt"), b"User-agent: *\nDisallow: /\n")

    def test_root_for_programs(self) -> None:
        """They learn what there is."""
        self.assertIn("/results", self.document("/")["resources"])
        self.assertEqual(self.maker.asked, [])


class NoPagesTests(ResultsCase):
    """A site without pages, such as that of `perfd measure`, answers browsers as programs."""

    def test_browser(self) -> None:
        self.fill(typical(1))
        _, fields, _ = self.ask(get("/results", BROWSER))
        self.assertEqual(fields["Content-Type"], "application/json")
        self.assertIsInstance(self.database, PublicDatabase)
