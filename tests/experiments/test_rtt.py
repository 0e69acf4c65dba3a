"""Round-trip times in memory: the client of ``/echo``, the experiment, and its figures."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock as FakeReactor
from twisted.trial.unittest import SynchronousTestCase

from perfd.client.echo import HEAD_LIMIT, EchoClient, echo_request
from perfd.client.fetch import Exchange
from perfd.clock import Clock, Phase, Timeline
from perfd.experiments.rtt import LAST_ECHO_WAIT, SETTLE, delays, figures, one_way
from perfd.record import Error, Measurement, Outcome
from perfd.web.stamps import Echoed, Received
from perfd.wire.probes import PROBE
from tests.support.experiments import ExperimentCase
from tests.support.scripted import WALL, Connection

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: perfd-echo\r\n\r\n"


class ClientTests(SynchronousTestCase):
    """``EchoClient``."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.timeline = Timeline(Clock(wall=lambda: WALL, monotonic=self.reactor.seconds))
        self.client = EchoClient(
            self.reactor, echo_request("192.0.2.1:8080", {"X-Perfd-Measurement": "m"}), self.timeline
        )
        self.endpoint = Connection(0, "u", self.timeline, lambda _: None, optimistic=False)
        self.client.connect(self.endpoint)

    def open(self, *answer: bytes) -> None:
        self.endpoint.open()
        for data in answer:
            self.endpoint.receive(data)

    def ended(self) -> Exchange:
        """How it ended; nothing is left that could still happen, and the connection is closed."""
        exchange = self.successResultOf(self.client.ended)
        self.successResultOf(self.client.ready)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        if self.endpoint.protocol is not None:
            self.assertTrue(self.endpoint.transport.disconnecting)
        return exchange

    def fails(self, outcome: Outcome, errorcode: str, reason: str) -> Exchange:
        exchange = self.ended()
        self.assertEqual((exchange.outcome, exchange.errorcode), (outcome, errorcode))
        self.assertRegex(exchange.reason or "", reason)
        self.assertNotIn(Phase.DATACOMPLETE, self.timeline.stamps)
        return exchange

    def test_request(self) -> None:
        """A request for the upgrade, which names the measurement."""
        self.open()
        lines = self.endpoint.transport.value().decode().split("\r\n")
        self.assertEqual(lines[0], "GET /echo HTTP/1.1")
        for line in (
            "Host: 192.0.2.1:8080",
            "Connection: Upgrade",
            "Upgrade: perfd-echo",
            "X-Perfd-Measurement: m",
        ):
            self.assertIn(line, lines)

    def test_exchanges(self) -> None:
        """Each counts from when it was sent, however many are under way and in whatever pieces they come back."""
        self.open(HEAD)
        self.successResultOf(self.client.ready)
        self.endpoint.transport.clear()
        self.client.probe(1.0)
        self.reactor.advance(1.0)
        self.reactor.advance(0.5)
        sent = self.endpoint.transport.value()
        self.assertEqual((len(sent), self.client.sent, self.client.lost), (2 * PROBE, 2, 2))
        self.endpoint.receive(sent[: PROBE - 1])
        self.assertEqual(self.client.samples, [])
        self.reactor.advance(0.25)
        self.endpoint.receive(sent[PROBE - 1 :])
        self.assertEqual(self.client.samples, [(0.0, 1.75), (1.0, 0.75)])
        self.client.pause()
        self.client.finish()
        exchange = self.ended()
        self.assertEqual((exchange.outcome, exchange.status, exchange.payloadbytes), (Outcome.OK, 101, 2 * PROBE))
        self.assertEqual(exchange.readbytes, len(HEAD) + 2 * PROBE)
        self.assertEqual(exchange.remote, IPv4Address("TCP", "127.0.0.1", 9050))
        self.assertEqual(self.timeline.stamps[Phase.DATACOMPLETE], 1.75)
        self.assertFalse(self.endpoint.transport.aborted)

    @given(st.integers(1, len(HEAD) - 1))
    def test_head_in_pieces(self, cut: int) -> None:
        """The head may come in any pieces."""
        self.setUp()
        self.open(HEAD[:cut])
        self.assertNoResult(self.client.ready)
        self.endpoint.receive(HEAD[cut:])
        self.successResultOf(self.client.ready)
        self.assertFalse(self.client.ended.called)

    def test_refused(self) -> None:
        """Another status than 101."""
        self.open(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        self.assertEqual(self.fails(Outcome.FAILED, Error.STATUS, "HTTP status 403").status, 403)

    def test_no_http(self) -> None:
        """Something else, and a head without end."""
        for answer in (b"SSH-2.0-x\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 abc\r\n", b"HTTP/2 101 \r\n"):
            self.setUp()
            self.open(answer)
            self.fails(Outcome.FAILED, Error.HTTP, "the response starts with")
        self.setUp()
        self.open(HEAD[:20] + b"x" * HEAD_LIMIT)
        self.assertEqual(self.ended().outcome, Outcome.FAILED)

    def test_more_than_was_sent(self) -> None:
        """A server that sends more than it got cannot be measured."""
        self.open(HEAD)
        self.client.probe(1.0)
        self.endpoint.receive(bytes(PROBE + 1))
        self.fails(Outcome.FAILED, Error.LONG, "more came back than was sent")
        self.setUp()
        self.open(HEAD + b"x")
        self.fails(Outcome.FAILED, Error.LONG, "more came back than was sent")

    def test_lost(self) -> None:
        """The connection ends, before the head and after it."""
        for answer, reason, errorcode in (
            (b"", error.ConnectionDone(), Error.CLOSED),
            (HEAD, error.ConnectionDone(), Error.CLOSED),
            (HEAD, error.ConnectionLost(), Error.RESET),
        ):
            self.setUp()
            self.open(answer)
            self.endpoint.lose(reason)
            exchange = self.successResultOf(self.client.ended)
            self.assertEqual((exchange.outcome, exchange.errorcode), (Outcome.FAILED, errorcode))

    def test_not_connected(self) -> None:
        """There is no connection, and so there are no counts."""
        self.endpoint.refuse(error.ConnectionRefusedError())
        exchange = self.fails(Outcome.FAILED, Error.CONNECT, "refused")
        self.assertEqual((exchange.writebytes, exchange.local), (None, None))

    def test_cancelled(self) -> None:
        """While it connects, and in the exchanges."""
        self.client.ended.cancel()
        self.fails(Outcome.CANCELLED, Error.STOPPED, "stopped")
        self.assertTrue(self.endpoint.cancelled)
        self.setUp()
        self.open(HEAD)
        self.client.probe(1.0)
        self.client.ended.cancel()
        self.fails(Outcome.CANCELLED, Error.STOPPED, "stopped")
        self.assertTrue(self.endpoint.transport.aborted)

    def test_deadline(self) -> None:
        """Before the server has switched, and after that; what comes later is nothing any more."""
        self.open()
        self.client.expire()
        self.fails(Outcome.TIMEOUT, Error.TIMEOUT, "no answer before the deadline")
        self.endpoint.receive(HEAD)
        self.endpoint.lose()
        self.setUp()
        self.open(HEAD)
        self.client.probe(1.0)
        self.client.expire()
        self.fails(Outcome.TIMEOUT, Error.TIMEOUT, "1 of 1 exchanges before the deadline")

    def test_connected_too_late(self) -> None:
        """A connection that is made when all is over is closed."""
        protocol = self.client
        self.client.expire()
        protocol.makeConnection(self.endpoint.transport)
        self.assertTrue(self.endpoint.transport.aborted)


class FigureTests(SynchronousTestCase):
    """The distribution as keys."""

    def test_quantiles(self) -> None:
        """In seconds, by linear interpolation; the samples in milliseconds."""
        self.assertEqual(
            figures("IDLE", [0.1, 0.2, 0.3, 0.4, 0.5]),
            {
                "RTTIDLECOUNT": 5,
                "RTTIDLEMIN": 0.1,
                "RTTIDLEQ1": 0.2,
                "RTTIDLEMEDIAN": 0.3,
                "RTTIDLEQ3": 0.4,
                "RTTIDLEP95": 0.48,
                "RTTIDLEMAX": 0.5,
                "RTTIDLEMS": "100.000,200.000,300.000,400.000,500.000",
            },
        )

    def test_few(self) -> None:
        """One sample is all of its quantiles; none are none."""
        found = figures("LOAD", [0.25])
        self.assertEqual({found[f"RTTLOAD{name}"] for name in ("MIN", "Q1", "MEDIAN", "Q3", "P95", "MAX")}, {0.25})
        self.assertEqual(figures("LOAD", []), {"RTTLOADCOUNT": 0})

    @given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 9), st.floats(0, 9))), st.integers(0, 3))
    def test_one_way(self, probes: list[tuple[float, float, float]], missing: int) -> None:
        """The way there and the way back are the round trip; what the server did not get has neither."""
        samples = [(sent, there + back) for sent, there, back in probes]
        arrivals = [sent + there for sent, there, _ in probes][: max(0, len(probes) - missing)]
        ways = one_way(samples, arrivals)
        self.assertEqual(len(ways), len(arrivals))
        for (sent, rtt), (when, there, back) in zip(samples, ways, strict=False):
            self.assertEqual(when, sent)
            self.assertAlmostEqual(there + back, rtt, places=6)

    def test_delays(self) -> None:
        """Median, 95th percentile and all; nothing of none."""
        expected = {"OWDUPIDLEMEDIAN": 0.2, "OWDUPIDLEP95": 0.29, "OWDUPIDLEMS": "100.000,300.000,200.000"}
        self.assertEqual(delays("OWDUPIDLE", [0.1, 0.3, 0.2]), expected)
        self.assertEqual(delays("OWDUPIDLE", []), {})

    @given(st.lists(st.floats(1e-6, 100.0), min_size=1, max_size=50))
    def test_order(self, samples: list[float]) -> None:
        """The quantiles are in their order."""
        found: dict[str, Any] = figures("IDLE", samples)
        values = [found[f"RTTIDLE{name}"] for name in ("MIN", "Q1", "MEDIAN", "Q3", "P95", "MAX")]
        self.assertEqual(values, sorted(values))


class RunTests(ExperimentCase):
    """``type = rtt``: 2 exchanges a second for 2 seconds, then the same under load."""

    def setUp(self) -> None:
        super().setUp()
        self.echoed = 0

    def start(self, options: str = "timeout = 30 s") -> Deferred[Measurement]:
        text = f"type = rtt\nsize = 1000\nrate = 2\nduration = 2 s\n{options}"
        running = self.bench.run(self.bench.experiment(text))
        self.connections[0].open()
        return running

    def switch(self) -> None:
        """The server switches to the echo."""
        self.echo = self.connections[0]
        self.head = len(self.echo.transport.value())
        self.echo.receive(HEAD)

    def wait(self, seconds: float, step: float = 0.25) -> None:
        """What was sent before each step comes back after it."""
        for _ in range(int(seconds / step)):
            waiting = self.echo.transport.value()[self.head + self.echoed :]
            self.reactor.advance(step)
            if waiting and not self.echo.transport.disconnecting:
                self.echoed += len(waiting)
                self.echo.receive(waiting)

    def test_both_phases(self) -> None:
        """Exchanges over an idle circuit, then during a download that has the same isolation."""
        running = self.start()
        self.switch()
        self.wait(2.0)
        self.assertEqual(len(self.connections), 2)
        load = self.connections[1]
        load.open()
        self.tor.events.tell(load.measurement, stream_id=9)
        self.wait(1.0)
        load.respond(1000)
        self.wait(1.0)
        m = self.result(running)
        self.assertEqual((m.outcome, m.type, m.status, m.filesize), (Outcome.OK, "rtt", 101, 1000))
        self.assertEqual({c.user for c in self.connections}, {m.id})
        self.assertEqual([c.measurement for c in self.connections[:2]], [m.id, f"{m.id}-load0"])
        self.assertEqual(
            (len(self.connections), m.extra["LOADS"]), (3, 2)
        )  # one after the other, for the whole phase
        extra: dict[str, Any] = dict(m.extra)
        self.assertEqual((extra["RATE"], extra["DURATION"], extra["RTTLOST"]), (2.0, 2.0, 0))
        self.assertEqual((extra["RTTIDLECOUNT"], extra["RTTIDLEMEDIAN"], extra["RTTLOADMEDIAN"]), (4, 0.25, 0.25))
        self.assertEqual(extra["RTTSENT"], 4 + 2 + extra["RTTLOADCOUNT"])  # two before there was any load
        self.assertEqual((extra["LOADBYTES"], extra["LOADSTREAM"]), (1000, 9))
        self.assertEqual(extra["LOADRESPONSE"], WALL + 3)
        self.assertEqual(len(self.bench.stamps), 0)

    def test_loads(self) -> None:
        """Each load has a phase of its own, from its first byte at the other end on; they have a pause between."""
        running = self.start("loads = upload, both\ntimeout = 30 s")
        self.switch()
        served = self.bench.stamps.claim(self.connections[0].token)
        assert served is not None
        served.echoed = Echoed(arrivals=[0.1 + n / 2 for n in range(4)])
        self.wait(2.0)
        self.begin(self.connections[1], moved=500)
        self.wait(2.0)
        self.assertEqual(len(self.connections), 2)
        self.wait(SETTLE)
        down, up = self.connections[2:]
        down.open()
        down.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(300))
        self.wait(0.5)
        self.begin(up, moved=900)
        self.wait(2.0)
        m = self.result(running)
        self.assertEqual((m.outcome, m.reason, len(self.connections)), (Outcome.OK, None, 4))
        self.assertEqual({c.user for c in self.connections}, {m.id})
        extra: dict[str, Any] = dict(m.extra)
        self.assertEqual((extra["RTTIDLECOUNT"], extra["RTTUPLOADCOUNT"], extra["RTTBOTHCOUNT"]), (4, 4, 3))
        self.assertNotIn("RTTLOADCOUNT", extra)
        self.assertEqual((extra["RTTUPLOADUPRATE"], extra["RTTBOTHDOWNRATE"]), (250.0, 150.0))
        self.assertEqual(extra["RTTBOTHUPRATE"], 600.0)
        self.assertEqual(extra["OWDUPIDLEMS"], "100.000,100.000,100.000,100.000")
        self.assertEqual(extra["OWDDOWNIDLEMEDIAN"], 0.15)
        self.assertNotIn("OWDUPBOTHMEDIAN", extra)
        self.assertEqual(len(self.bench.stamps), 0)

    def begin(self, upload: Connection, moved: int) -> None:
        """An upload of which so much has come to the server."""
        upload.open()
        token = next(
            line.partition(b": ")[2].decode("ascii")
            for line in upload.transport.value().split(b"\r\n")
            if line.startswith(b"X-Perfd-Measurement")
        )
        served = self.bench.stamps.claim(token)
        assert served is not None
        served.received = Received(size=1000, count=moved, first=self.reactor.seconds())

    def test_upload_fails(self) -> None:
        """The load that failed is named, and no other one is begun."""
        running = self.start("loads = upload, both\ntimeout = 30 s")
        self.switch()
        self.wait(2.0)
        self.connections[1].refuse(error.ConnectionRefusedError())
        self.wait(4.0)
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode, len(self.connections)), (Outcome.FAILED, Error.CONNECT, 2))
        self.assertRegex(m.reason or "", "^the upload under which to measure: ")

    def test_long_download(self) -> None:
        """The load lasts as long as the idle phase at most; it is no failure that it did not end."""
        running = self.start()
        self.switch()
        self.wait(2.0)
        self.connections[1].open()
        self.connections[1].receive(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(10))
        self.wait(3.0)
        m = self.result(running)
        self.assertEqual((m.outcome, m.extra["LOADBYTES"]), (Outcome.OK, 10))
        self.assertGreaterEqual(int(m.extra["RTTLOADCOUNT"]), 4)

    def test_load_fails(self) -> None:
        """What was measured is kept, and the record says that there was no load."""
        running = self.start()
        self.switch()
        self.wait(2.0)
        self.connections[1].refuse(error.ConnectionRefusedError())
        self.wait(2.0)
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode, m.extra["RTTIDLECOUNT"]), (Outcome.FAILED, Error.CONNECT, 4))
        self.assertRegex(m.reason or "", "^the download under which to measure: ")

    def test_tor_lost_before_the_load(self) -> None:
        """The idle phase is kept, and the record says that there was no tor for the load."""
        running = self.start()
        self.switch()
        self.tor.is_lost = True
        self.wait(5.0)
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode, m.extra["RTTIDLECOUNT"]), (Outcome.FAILED, Error.NOTREADY, 4))
        self.assertRegex(m.reason or "", "^the download under which to measure: tor default was lost")

    def test_silent_server(self) -> None:
        """Exchanges that do not come back are waited for a little, and counted; if none does, the run failed."""
        running = self.start()
        self.switch()
        self.reactor.pump([0.25] * 8)
        self.connections[1].open()
        self.connections[1].respond(1000)
        self.reactor.pump([0.25] * 8)
        self.assertNoResult(running)
        self.reactor.pump([0.05] * (int(LAST_ECHO_WAIT / 0.05) + 1))
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode), (Outcome.FAILED, Error.STALL))
        self.assertEqual(m.extra["RTTSENT"], m.extra["RTTLOST"])
        self.assertEqual((m.extra["RTTIDLECOUNT"], m.extra["RTTLOADCOUNT"]), (0, 0))

    def test_lost_under_load(self) -> None:
        """The run ends at once, with its download, and has no DATACOMPLETE."""
        running = self.start()
        self.switch()
        self.wait(2.0)
        self.connections[1].open()
        self.echo.lose(error.ConnectionLost())
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode, m.datacomplete), (Outcome.FAILED, Error.RESET, None))
        self.assertEqual(m.extra["RTTIDLECOUNT"], 4)
        self.assertTrue(self.connections[1].transport.aborted)

    def test_refused(self) -> None:
        """A server without echo."""
        running = self.start()
        self.connections[0].receive(b"HTTP/1.1 404 Not Found\r\n\r\n")
        m = self.result(running)
        self.assertEqual((m.outcome, m.errorcode, m.status), (Outcome.FAILED, Error.STATUS, 404))
        self.assertEqual(m.extra["RTTSENT"], 0)

    def test_deadline(self) -> None:
        """Before the echo, and in the load."""
        running = self.start("timeout = 5 s")
        self.reactor.advance(5.0)
        m = self.result(running)
        self.assertEqual(
            (m.outcome, m.errorcode, m.reason), (Outcome.TIMEOUT, Error.TIMEOUT, "no answer before the deadline")
        )

    def test_cancelled(self) -> None:
        """In each of its phases."""
        for seconds in (0.0, 1.0, 2.5):
            self.connections.clear()
            self.echoed = 0
            running = self.start()
            if seconds:
                self.switch()
                self.wait(seconds)
            running.cancel()
            m = self.result(running)
            self.assertEqual((m.outcome, m.errorcode, m.datacomplete), (Outcome.CANCELLED, Error.STOPPED, None))
