"""Page loads in memory: the record of each end, the browser's turn, optimistic data, and what may go wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from perfd.browser.records import PageLoad, PageTask
from perfd.config import parse_config
from perfd.experiments.pageload import BrowsedWay, MeasuredBrowser, MeasuredPage, NoUse, judged, own_connection
from perfd.experiments.types import make_page_load
from perfd.proxy.records import ProxyConnection
from perfd.record import Circuit, Error, Measurement, Outcome
from perfd.tor.events.join import Joined
from tests.support.page_loads import NOW, connection, page_load
from tests.support.scripted import WALL, Bench, ScriptedTor

URL = "http://site.example/"


class FakePort:
    """A port of the proxy. ``closing`` is what its ``close`` waits for."""

    def __init__(self, number: int, **options: Any) -> None:
        self.port = number
        self.options = options
        self.connections: tuple[ProxyConnection, ...] = (connection(),)
        self.waits: list[float | None] = []
        self.closing: Deferred[None] | None = None
        self.turned_away = self.omitted = 0

    async def close(self, wait: float | None = None) -> tuple[ProxyConnection, ...]:
        assert not self.waits, "it is closed twice"
        self.waits.append(wait)
        if self.closing is not None:
            await self.closing
        return self.connections


class FakeProxy:
    """Gives out ``FakePort``s."""

    def __init__(self) -> None:
        self.ports: list[FakePort] = []

    def open(self, *, login: tuple[str, str], optimistic: bool, measurement: str) -> FakePort:
        port = FakePort(20000 + len(self.ports), login=login, optimistic=optimistic, measurement=measurement)
        self.ports.append(port)
        return port


class FakeBrowser:
    """A browser that loads when the test says so; it checks what it is told to do."""

    def __init__(self) -> None:
        self.not_ready: str | None = None
        self.tasks: list[PageTask] = []
        self._loading: Deferred[PageLoad] | None = None

    async def load(self, task: PageTask) -> PageLoad:
        assert self._loading is None, "two loads at once"
        assert task.url.startswith("http"), task
        assert 0 < task.proxy_port < 65536, task
        assert min(task.timeout, task.quiet) > 0, task
        self.tasks.append(task)
        self._loading = Deferred()
        try:
            return await self._loading
        except CancelledError:
            return ended(Outcome.CANCELLED, Error.STOPPED, task=task)
        finally:
            self._loading = None

    def end(self, **changes: Any) -> None:
        """The load is over."""
        assert self._loading is not None
        self._loading.callback(page_load(**{"task": self.tasks[-1], **changes}))

    def fail(self, error: Exception) -> None:
        assert self._loading is not None
        self._loading.errback(error)

    async def close(self) -> None:
        raise AssertionError("experiments do not close browsers")


class FakeMaterial:
    """Keeps nothing. ``writing`` is what it waits for."""

    def __init__(self) -> None:
        self.written: list[tuple[str, int]] = []
        self.error: Exception | None = None
        self.writing: Deferred[None] | None = None

    async def write(self, load: PageLoad, connections: Any, measurement: str) -> dict[str, int]:
        self.written.append((measurement, len(connections)))
        if self.writing is not None:
            await self.writing
        if self.error is not None:
            raise self.error
        return {"SPEEDINDEX": 1234}


def ended(outcome: Outcome, errorcode: str, **changes: Any) -> PageLoad:
    """A load that came to nothing."""
    values = {"load": None, "requests": (), "reason": "because", **changes}
    return page_load(outcome=outcome, errorcode=errorcode, **values)


class PageLoadCase(SynchronousTestCase):
    """Page loads over the bench's tor, or another one."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.browser, self.proxy, self.material = FakeBrowser(), FakeProxy(), FakeMaterial()
        self.measured = MeasuredBrowser("fox", "bidi", self.browser)
        self.no_use = NoUse()
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def experiment(self, options: str = "", **changes: Any) -> Any:
        """The experiment that perfd.conf would give with ``options``."""
        text = f"[perfd]\nnetwork = socks\n[experiment:x]\ntype = pageload\n{options}"
        (config,) = parse_config(text, Path("perfd.conf")).experiments
        setup = self.bench.setup(type="pageload", server=BrowsedWay(self.bench.server, self.measured), size=0)
        page = MeasuredPage(
            url=lambda: URL,
            label=lambda: "canonical-1",
            quiet=config.options["quiet"],
            screenshot=config.options["screenshot"],
            filmstrip=config.options["filmstrip"],
            insecure=config.options["insecure"],
        )
        return make_page_load(
            config,
            attrs.evolve(setup, **changes),
            browser=self.measured,
            proxy=self.proxy,  # type: ignore[arg-type]
            page=page,
            material=self.material,
            no_use=self.no_use,
        )

    def start(self, options: str = "", slot: float | None = None, **changes: Any) -> Deferred[Measurement]:
        return self.bench.run(self.experiment(options, **changes), slot)

    def result(self, running: Deferred[Measurement]) -> Measurement:
        """The record; every port is closed, and all are free for the next one."""
        measurement = self.successResultOf(running)
        self.assert_free()
        return measurement

    def assert_free(self) -> None:
        self.assertEqual([len(port.waits) for port in self.proxy.ports], [1] * len(self.proxy.ports))
        self.assertFalse(self.bench.tor.turn.locked)
        self.assertFalse(self.measured.turn.locked)
        self.assertEqual(self.bench.reactor.getDelayedCalls(), [])

    def warnings(self) -> list[str]:
        return [event["log_format"] for event in self.logged if event.get("log_level") is LogLevel.warn]


class RecordTests(PageLoadCase):
    """The record of each way in which a load ends."""

    def test_ok(self) -> None:
        """The browser's figures, the page's own connection, its circuit, and what was kept of the load."""
        running = self.start("screenshot = no\nfilmstrip = yes\ninsecure = yes\nquiet = 3 s", slot=5.0)
        self.assertEqual(
            self.browser.tasks,
            [
                PageTask(
                    url=URL,
                    proxy_port=20000,
                    timeout=60.0,
                    quiet=3.0,
                    screenshot=False,
                    filmstrip=True,
                    insecure=True,
                )
            ],
        )
        (port,) = self.proxy.ports
        other = connection(number=2, host="cdn.example", readbytes=0, joined=None, errorcode="TOR/END/MISC")
        port.connections = (connection(readbytes=700, writebytes=100, socket=NOW + 0.11), other)
        times = {"first_byte": NOW + 0.9, "fully_loaded": NOW + 1.7, "first_contentful_paint": NOW + 1.2}
        self.browser.end(**times, status=200, url=URL)
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode, m.reason, m.status), (Outcome.OK, None, None, 200))
        self.assertEqual((m.slot, m.type, m.server, m.filesize), (5.0, "pageload", "public", 0))
        self.assertEqual((m.start, m.dataresponse, m.datacomplete), (NOW, NOW + 0.9, NOW + 1.7))
        self.assertEqual((m.socket, m.request, m.response, m.end), (NOW + 0.11, NOW + 0.12, NOW + 0.49, NOW + 3.5))
        self.assertEqual((m.writebytes, m.readbytes, m.payloadbytes), (100, 700, None))
        self.assertEqual((m.used_by, m.circ_id, len(m.path or ())), (7, 5, 3))
        self.assertEqual(m.endpointremote, "site.example:0.0.0.0:80")
        self.assertEqual(m.endpointlocal, "localhost:127.0.0.1:40001")
        self.assertEqual(m.hostnameremote, "site.example")
        self.assertEqual(
            dict(m.extra),
            {
                "BROWSER": "fox",
                "DRIVER": "bidi",
                "BROWSERVERSION": "140.0",
                "PAGE": "canonical-1",
                "NAVIGATIONSTART": NOW + 0.1,
                "FIRSTCONTENTFULPAINT": NOW + 1.2,
                "LOAD": NOW + 1.6,
                "FULLYLOADED": NOW + 1.7,
                "REQUESTS": 2,
                "REQUESTSFAILED": 0,
                "SPEEDINDEX": 1234,
                "CONNECTIONS": 2,
                "CONNECTIONSUNUSED": 1,
                "CIRCUITS": 1,
                "CONNECTIONERRORS": "TOR/END/MISC:1",
            },
        )
        self.assertEqual(port.options, {"login": (m.id, "perfd"), "optimistic": False, "measurement": m.id})
        self.assertEqual(port.waits, [None])
        self.assertEqual(self.material.written, [(m.id, 2)])

    def test_circuits_reused(self) -> None:
        """With ``circuit = reuse`` all loads of an experiment have one name for tor."""
        running = self.start(fresh_circuits=False)
        self.browser.end()
        self.result(running)
        self.assertEqual(self.proxy.ports[0].options["login"], ("x", "perfd"))

    def test_failed(self) -> None:
        """No end of the data, but all that was seen; files are kept of it too. Where it was led is told."""
        running = self.start()
        times = {"first_byte": NOW + 0.9, "load": NOW + 1.6, "fully_loaded": NOW + 1.6}
        gone = {"outcome": Outcome.FAILED, "errorcode": Error.STATUS, "reason": "404", "status": 404}
        self.browser.end(**times, **gone, url="http://site.example/gone")
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode, m.reason, m.status), (Outcome.FAILED, Error.STATUS, "404", 404))
        self.assertEqual((m.dataresponse, m.datacomplete, m.extra["LOAD"]), (NOW + 0.9, None, NOW + 1.6))
        self.assertEqual(m.extra["REDIRECTEDTO"], "http://site.example/gone")
        self.assertEqual(len(self.material.written), 1)

    def test_timeout(self) -> None:
        """A page that is not there at its deadline, with the connection that it hangs on."""
        running = self.start()
        self.browser.end(outcome=Outcome.TIMEOUT, errorcode=Error.STALL, reason="late", load=None)
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode, m.didtimeout), (Outcome.TIMEOUT, Error.TIMEOUT, True))
        self.assertEqual((m.datacomplete, m.circ_id), (None, 5))
        self.assertNotIn("LOAD", m.extra)

    def test_too_many(self) -> None:
        """Connections that the proxy did not take, and what no records are kept of, are counted."""
        running = self.start()
        self.proxy.ports[0].turned_away, self.proxy.ports[0].omitted = 3, 4
        self.browser.end(requests_omitted=5)
        extra = self.result(running).extra
        self.assertEqual(extra["REQUESTSOMITTED"], 5)
        self.assertEqual((extra["CONNECTIONSTURNEDAWAY"], extra["CONNECTIONSOMITTED"]), (3, 4))

    def test_nothing_connected(self) -> None:
        """A browser that never came to ask for anything."""
        running = self.start()
        self.proxy.ports[0].connections = ()
        self.browser.end(outcome=Outcome.FAILED, errorcode=Error.BROWSER, reason="gone", load=None, requests=())
        m = self.result(running)
        self.assertEqual((m.errorcode, m.socket, m.circ_id, m.readbytes), (Error.BROWSER, None, None, None))
        self.assertEqual((m.extra["CONNECTIONS"], m.extra["REQUESTS"]), (0, 0))

    def test_browser_not_ready(self) -> None:
        """A browser that is not there skips the slot with its own words; nothing is opened."""
        self.browser.not_ready = "there is no Firefox"
        experiment = self.experiment()
        self.assertEqual(experiment.not_ready, "there is no Firefox")
        m = self.result(self.bench.run(experiment, 5.0))
        self.assertEqual(
            (m.outcome, m.errorcode, m.reason), (Outcome.SKIPPED, Error.NOTREADY, "there is no Firefox")
        )
        self.assertEqual(self.proxy.ports, [])

    def test_broken_material(self) -> None:
        """Files that cannot be written cost nothing of the record."""
        self.material.error = ZeroDivisionError("oh")
        running = self.start()
        self.browser.end()
        m = self.result(running)
        self.assertEqual((m.outcome, m.circ_id), (Outcome.OK, 5))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_broken_browser(self) -> None:
        """A driver that raises has the port closed and the turns given back; the schedule makes the record."""
        running = self.start()
        self.browser.fail(ZeroDivisionError("oh"))
        self.failureResultOf(running, ZeroDivisionError)
        self.assert_free()


class ErrorTests(PageLoadCase):
    """Whose word counts when a load fails."""

    def failed(self, errorcode: str, *connections: ProxyConnection) -> Measurement:
        running = self.start()
        self.proxy.ports[-1].connections = connections
        self.browser.end(outcome=Outcome.FAILED, errorcode=errorcode, reason="NS_ERROR_NET_RESET", load=None)
        return self.result(running)

    def test_tor_knows_better(self) -> None:
        """Of what the browser only sees the outside of, the proxy and tor know the reason."""
        ends = {"errorcode": "TOR/END/CONNECTREFUSED", "reason": "tor's stream 7 ended"}
        m = self.failed(Error.PAGE, connection(**ends), connection(number=2))
        self.assertEqual((m.errorcode, m.reason), ("TOR/END/CONNECTREFUSED", "tor's stream 7 ended"))
        m = self.failed(Error.PAGE, connection(joined=None, errorcode=Error.CLOSED, reason="tor closed"))
        self.assertEqual((m.errorcode, m.reason), (Error.CLOSED, "tor closed"))

    def test_tries(self) -> None:
        """A browser that tries again gives up for the last reason; one that had an answer, for what ended that."""
        again = connection(number=2, joined=None, errorcode=Error.CONNECT, reason="refused")
        m = self.failed(Error.PAGE, connection(), again)
        self.assertEqual((m.errorcode, m.reason, m.circ_id), (Error.CONNECT, "refused", 5))
        self.assertEqual(self.failed(Error.PAGE, connection(readbytes=5), again).errorcode, Error.PAGE)

    def test_browser_knows_better(self) -> None:
        """An answer of the server is the page's error, and so is what befell another connection."""
        broken = {"errorcode": "TOR/END/MISC", "reason": "tor"}
        self.assertEqual(self.failed(Error.STATUS, connection(**broken)).errorcode, Error.STATUS)
        other = connection(number=2, host="cdn.example", **broken)
        m = self.failed(Error.PAGE, connection(), other)
        self.assertEqual((m.errorcode, m.reason), (Error.PAGE, "NS_ERROR_NET_RESET"))

    def test_not_through_tor(self) -> None:
        """A page whose stream tor never announced did not come through it, however well it was loaded."""
        own = connection(readbytes=9, errorcode=Error.NOSTREAM, reason="tor announced no stream")
        other = attrs.evolve(own, number=2, host="cdn.example")
        for connections, expected in (
            ((own,), (Outcome.FAILED, Error.NOSTREAM, "tor announced no stream")),
            ((connection(readbytes=9), other), (Outcome.OK, None, None)),
        ):
            found = judged(page_load(), connections)
            self.assertEqual((found.outcome, found.errorcode, found.reason), expected)

    def test_document_cut_off(self) -> None:
        """What ended only because its connection broke is no page, whatever the browser says; tor says why."""
        broken = {"closed": NOW + 2.0, "errorcode": "TOR/DESTROY", "reason": "tor", "readbytes": 9}
        cut = page_load(outcome=Outcome.FAILED, errorcode=Error.SHORT, reason="short")
        for load, own, expected in (
            (cut, connection(**broken), (Outcome.FAILED, "TOR/DESTROY")),
            (cut, connection(readbytes=9), (Outcome.FAILED, Error.SHORT)),
            (page_load(last_byte=NOW + 2.01), connection(**broken), (Outcome.FAILED, "TOR/DESTROY")),
            (page_load(last_byte=NOW + 1.99), connection(**broken), (Outcome.OK, None)),
            (page_load(last_byte=NOW + 2.01), connection(closed=NOW + 2.0, readbytes=9), (Outcome.OK, None)),
        ):
            found = judged(load, (own,))
            self.assertEqual((found.outcome, found.errorcode), expected)

    def test_late(self) -> None:
        """A stall is a network that gives nothing for long although it was asked; else the page is slow."""
        task = PageTask(url=URL, proxy_port=9, timeout=10.0)
        done = page_load().requests
        open_request = attrs.evolve(done[1], response_end=None)
        for requests, came, asked, expected in (
            (done, None, None, (Error.TIMEOUT, "nothing of it came")),
            ((open_request,), NOW + 9.0, None, (Error.TIMEOUT, "data came until 1.0 s before that")),
            ((open_request,), NOW + 4.0, None, (Error.STALL, "nothing came in the last 6.0 s")),
            (done, NOW + 4.0, NOW + 3.0, (Error.TIMEOUT, "all that it had asked for was there 6.0 s before that")),
            ((), NOW + 4.0, NOW + 4.5, (Error.STALL, "nothing came in the last 6.0 s")),
            ((attrs.evolve(open_request, error="NS_X"),), NOW + 1.0, None, (Error.TIMEOUT, "all that it had")),
        ):
            late = {"outcome": Outcome.TIMEOUT, "errorcode": Error.STALL, "reason": "late", "end": NOW + 10.0}
            load = page_load(task=task, requests=requests, **late)
            found = judged(load, (connection(datacomplete=came, datasent=asked), connection(number=2)))
            self.assertEqual(found.errorcode, expected[0])
            self.assertIn("the page was not loaded within 10 s", found.reason or "")
            self.assertIn(expected[1], found.reason or "")

    def test_broken_off(self) -> None:
        """A stream that only ended because the load was over gives no error."""
        joined = connection().joined
        assert joined is not None
        assert joined.stream is not None
        ended_by_us = attrs.evolve(joined.stream, end=NOW + 4, failure_local="CONNRESET")
        aborted = connection(joined=attrs.evolve(joined, stream=ended_by_us), closedby="proxy", how="aborted")
        self.assertEqual(self.failed(Error.PAGE, aborted).errorcode, Error.PAGE)

    def test_own_connection(self) -> None:
        """The first to the page's host and port with an answer, else the first; however the host is written."""

        def own(url: str, *connections: ProxyConnection) -> int | None:
            task = PageTask(url=url, proxy_port=9, timeout=1.0)
            found = own_connection(page_load(task=task), connections)
            return None if found is None else found.number

        there, answered = connection(), connection(number=2, readbytes=9)
        self.assertEqual(own(URL, there, answered), 2)
        self.assertEqual(own("http://SITE.example:80/x", there), 1)
        self.assertEqual([own("http://site.example:81/", there), own("https://site.example/", there)], [None] * 2)
        self.assertEqual(own("https://site.example/", there, connection(number=3, port=443)), 3)
        self.assertEqual(own("http://[::1]/", connection(host="::1")), 1)
        self.assertEqual(own("http://b\xfccher.example/", connection(host="xn--bcher-kva.example")), 1)
        self.assertIsNone(own("http://b\xfccher.example/", connection(host="other.example")))
        self.assertIsNone(own(URL, connection(host=None, port=None), connection(host="other.example")))


class TurnTests(PageLoadCase):
    """One page at a time in a browser, whatever the tor; and what a stop of Perfd leaves."""

    def setUp(self) -> None:
        super().setUp()
        self.other = ScriptedTor()

    def test_shared_browser(self) -> None:
        """Experiments on two tors take turns in one browser, in the order in which they came.

        Who waits for the browser does not hold up others on the same tor.
        """
        first, second = self.start(), self.start(tor=self.other)
        third = self.start()
        self.assertEqual(len(self.browser.tasks), 1)
        self.assertFalse(self.other.turn.locked)
        for number, running in enumerate((first, second, third), start=1):
            self.assertNoResult(running)
            self.assertEqual(len(self.browser.tasks), number)
            self.browser.end()
            self.successResultOf(running)
        self.assert_free()
        self.assertFalse(self.other.turn.locked)
        self.assertEqual(len({task.proxy_port for task in self.browser.tasks}), 3)

    def test_tor_at_work(self) -> None:
        """What else is measured on the tor does not disturb a load; stopped while it waits, the browser is free."""
        self.bench.tor.turn.acquire()
        first, second = self.start(), self.start()
        self.assertEqual((self.browser.tasks, self.proxy.ports), ([], []))
        first.cancel()
        self.assertEqual(self.successResultOf(first).outcome, Outcome.CANCELLED)
        self.bench.tor.turn.release()
        self.browser.end()
        self.assertEqual(self.result(second).outcome, Outcome.OK)

    def test_next_load_while_tor_tells(self) -> None:
        """The browser and the tor are free while a record waits for tor's last words and its files."""
        first, second = self.start(), self.start()
        closing = self.proxy.ports[0].closing = Deferred()
        self.browser.end()
        self.assertNoResult(first)
        self.assertEqual(len(self.browser.tasks), 2)
        closing.callback(None)
        self.assertEqual(self.successResultOf(first).outcome, Outcome.OK)
        self.browser.end()
        self.result(second)

    def test_cancelled_while_waiting(self) -> None:
        """Stopped before its turn in the browser: a record, no port, and the others go on."""
        first, second, third = self.start(), self.start(tor=self.other), self.start()
        second.cancel()
        m = self.successResultOf(second)
        self.assertEqual((m.outcome, m.errorcode), (Outcome.CANCELLED, Error.STOPPED))
        self.assertFalse(self.other.turn.locked)
        self.assertEqual(len(self.proxy.ports), 1)
        for running in (first, third):
            self.browser.end()
            self.assertEqual(self.successResultOf(running).outcome, Outcome.OK)
        self.assert_free()

    def test_cancelled(self) -> None:
        """A load under way ends at once with what is known, waits for nothing and leaves no files."""
        running = self.start()
        running.cancel()
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode, m.circ_id), (Outcome.CANCELLED, Error.STOPPED, 5))
        self.assertEqual(self.proxy.ports[0].waits, [0])
        self.assertEqual(self.material.written, [])

    def test_cancelled_at_its_end(self) -> None:
        """A load that is complete is a record, also if Perfd stops while tor tells or files are written."""
        for place in ("proxy", "material"):
            running = self.start()
            if place == "proxy":
                self.proxy.ports[-1].closing = Deferred()
            else:
                self.material.writing = Deferred()
            self.browser.end()
            self.assertNoResult(running)
            running.cancel()
            m = self.result(running)
            self.assertEqual((m.outcome, m.extra["CONNECTIONS"]), (Outcome.OK, int(place == "material")))


class OptimisticTests(PageLoadCase):
    """``optimistic``: who is told, and whether tor can have used it."""

    def conflux(self, number: int = 1) -> ProxyConnection:
        circuit = Circuit(id="x-c6", source="s", tor="t", circ_id=6, status="BUILT", conflux_id="ABC")
        return connection(number=number, joined=Joined(circuit=circuit))

    def load(self, options: str, *connections: ProxyConnection, **changes: Any) -> Measurement:
        running = self.start(options, **changes)
        self.proxy.ports[-1].connections = connections
        self.browser.end()
        return self.result(running)

    def test_used(self) -> None:
        """Counted are the connections on circuits that are no Conflux ones."""
        for options, expected in (("optimistic = yes", (1, 2)), ("optimistic = no", (0, None)), ("", (None, None))):
            m = self.load(options, connection(), self.conflux(2), connection(number=3), connection(joined=None))
            self.assertEqual((m.extra.get("OPTIMISTIC"), m.extra.get("OPTIMISTICUSED")), expected)
            self.assertEqual(self.proxy.ports[-1].options["optimistic"], options == "optimistic = yes")
        self.assertEqual(self.warnings(), [])

    def test_no_use(self) -> None:
        """Where it cannot help, that is said; once for each tor. Where tor tells nothing, nothing is."""
        other = ScriptedTor()
        other.name = "other"
        for tor in (self.bench.tor, self.bench.tor, other):
            self.assertEqual(self.load("optimistic = yes", self.conflux(), tor=tor).extra["OPTIMISTICUSED"], 0)
        self.assertEqual(len(self.warnings()), 2)
        self.assertIn("ConfluxEnabled 0", self.warnings()[0])
        self.assertNotIn("OPTIMISTICUSED", self.load("optimistic = yes", connection(joined=None)).extra)
        self.load("optimistic = no", self.conflux())
        self.assertEqual(len(self.warnings()), 2)

    def test_pair(self) -> None:
        """``both``: two loads in each slot with one PAIR, taking turns in going first, each on its own port."""
        pair = self.experiment("optimistic = both")
        order = []
        for number in range(2):
            running = self.bench.run(pair, float(number))
            self.browser.end()
            self.browser.end(outcome=Outcome.FAILED, errorcode=Error.PAGE)
            second = self.result(running)
            first = list(self.bench.parts.measurements)[-1]
            self.assertEqual((first.outcome, second.outcome), (Outcome.OK, Outcome.FAILED))
            self.assertEqual(first.extra["PAIR"], second.extra["PAIR"])
            self.assertEqual((first.slot, second.slot), (number, number))
            order += [first.extra["OPTIMISTIC"], second.extra["OPTIMISTIC"]]
        self.assertEqual(order, [0, 1, 1, 0])
        self.assertEqual([port.options["optimistic"] for port in self.proxy.ports], [False, True, True, False])

    def test_pair_cancelled(self) -> None:
        """Stopped in the first load, the second is not begun; both have records."""
        running = self.start("optimistic = both")
        running.cancel()
        m = self.result(running)
        parts = list(self.bench.parts.measurements)
        self.assertEqual([m.outcome, *(each.outcome for each in parts)], [Outcome.CANCELLED] * 2)
        self.assertEqual((len(self.browser.tasks), m.start), (1, WALL))
