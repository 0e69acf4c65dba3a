"""Round-trip times of a server elsewhere, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from perfd.client.response import HEAD_LIMIT
from perfd.record import Error, Measurement, Outcome
from tests.support.experiments import ExperimentCase
from tests.support.scripted import WALL

URL = "http://example.org/"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


class RepeatTests(ExperimentCase):
    """``type = rtt`` with ``url``."""

    def begin(self, options: str = "") -> Deferred[Measurement]:
        experiment = self.bench.experiment(f"type = rtt\nurl = {URL}\nrate = 1\nduration = 3 s\n{options}")
        return self.bench.run(experiment)

    @property
    def requests(self) -> list[str]:
        text: str = self.connections[0].transport.value().decode()
        return text.split("\r\n\r\n")[:-1]

    def answer(self, data: bytes = ANSWER) -> None:
        self.connections[0].receive(data)

    def test_times(self) -> None:
        """One request after the other, at most so often, all over one connection that stays open."""
        running = self.begin()
        self.reactor.advance(0.5)
        self.connections[0].open()
        for wait in (0.25, 0.5, 0.125):
            self.reactor.advance(wait)
            self.answer()
            self.reactor.advance(1.0 - wait)
        self.reactor.advance(0.0625)  # the last one was sent when the others were over
        self.answer()
        self.reactor.advance(1.0)
        m = self.result(running)
        self.assertEqual((m.outcome, m.start, m.status, m.filesize), (Outcome.OK, WALL, 200, 0))
        extra: Any = m.extra
        times = [float(each) for each in extra["RTTIDLEMS"].split(",")]
        self.assertEqual(times[:3], [250.0, 500.0, 125.0])
        self.assertEqual((extra["RTTLOST"], extra["RTTLOADCOUNT"], extra["URL"]), (0, 0, URL))
        self.assertEqual((extra["RTTSENT"], len(self.requests)), (len(times), len(times)))
        lines = self.requests[0].split("\r\n")
        self.assertEqual(lines[0], "HEAD / HTTP/1.1")
        self.assertIn("Connection: keep-alive", lines)
        self.assertEqual(m.datarequest, WALL + 0.5)

    def test_slow_answers(self) -> None:
        """The next request waits for the answer; one in pieces counts when it is whole, an interim one does not."""
        running = self.begin()
        self.connections[0].open()
        self.reactor.advance(1.5)
        self.assertEqual(len(self.requests), 1)
        self.answer(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + ANSWER[:20])
        self.reactor.advance(0.25)
        self.answer(ANSWER[20:])
        self.reactor.advance(0.25)
        self.assertEqual(len(self.requests), 2)
        self.answer()
        self.reactor.advance(4.0)
        extra: Any = self.result(running).extra
        self.assertEqual(extra["RTTIDLEMS"].split(",")[:2], ["1750.000", "0.000"])

    def test_mistaken_answers(self) -> None:
        """Another status, what is no HTTP, what nobody asked for, and a head without an end."""
        for answer, errorcode in (
            (b"HTTP/1.1 404 Not Found\r\n\r\n", Error.STATUS),
            (b"HTTP/1.1 x\r\n\r\n", Error.STATUS),
            (b"SSH-2.0-x\r\n", Error.HTTP),
            (ANSWER + b"body of it", Error.HTTP),
            (b"HTTP/1.1 200 OK\r\nA: " + b"a" * HEAD_LIMIT, Error.HTTP),
        ):
            self.setUp()
            running = self.begin()
            self.connections[0].open()
            self.answer(answer)
            m = self.result(running)
            self.assertEqual((m.outcome, m.errorcode), (Outcome.FAILED, errorcode), answer[:40])
            self.assertTrue(self.connections[0].transport.aborted)

    def test_closed(self) -> None:
        """What was answered before the server closed is in the record."""
        running = self.begin()
        self.connections[0].open()
        self.reactor.advance(0.25)
        self.answer()
        self.connections[0].lose()
        m = self.result(running)
        self.assertEqual((m.errorcode, m.extra["RTTIDLECOUNT"]), (Error.CLOSED, 1))
        self.assertIn("after 1 answers", m.reason or "")

    def test_stopped_while_it_waits(self) -> None:
        """Who is stopped in the pause asks for nothing."""
        first = self.begin()
        second = self.begin("tor = none")
        second.cancel()
        first.cancel()
        for running in (first, second):
            self.assertEqual(self.successResultOf(running).outcome, Outcome.CANCELLED)
        self.assertEqual(len(self.connections), 1)
        third = self.begin()
        third.cancel()
        m = self.result(third)
        self.assertEqual((m.outcome, m.extra["URL"], len(self.connections)), (Outcome.CANCELLED, URL, 1))
