"""Connections that cannot be accepted are counted."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from perfd.web.accepting import AT_ONCE, PAUSE, TELL, AcceptFailures, accept_in_turns


class SomePort:
    """A port that can be paused."""

    def __init__(self) -> None:
        self.is_reading = True
        self._logger = Logger()

    def stopReading(self) -> None:
        self.is_reading = False

    def startReading(self) -> None:
        self.is_reading = True


class AcceptFailuresTests(SynchronousTestCase):
    """What a port says is counted."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.port = SomePort()
        self.failures = AcceptFailures.watch(self.clock, self.port)
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def texts(self) -> list[str]:
        return [event["log_format"].format(**event).partition(" connections")[0] for event in self.events]

    def fail_to_accept(self, count: int) -> None:
        for _ in range(count):
            self.port._logger.info("EMFILE encountered; releasing reserved file descriptor.")
            self.port._logger.info("EMFILE recovery: Closed socket from {address}", address="192.0.2.1")
            self.port._logger.info("Re-reserving EMFILE recovery file descriptor.")

    def test_counted(self) -> None:
        """The first at once, the others once a minute, the last at the end."""
        self.fail_to_accept(5)
        self.assertEqual(self.texts(), ["1"])
        self.clock.advance(TELL)
        self.fail_to_accept(3)
        self.assertEqual(self.texts(), ["1", "4"])
        self.failures.stop()
        self.assertEqual(self.texts(), ["1", "4", "3"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_quiet_again(self) -> None:
        """After a minute without any, the next is told at once."""
        self.fail_to_accept(1)
        self.clock.advance(TELL)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.fail_to_accept(1)
        self.assertEqual(self.texts(), ["1", "1"])
        self.failures.stop()

    def test_pause(self) -> None:
        """Without a reserved descriptor nothing is tried for a moment, since it would fail again."""
        self.port._logger.info("Could not accept new connection ({acceptError})", acceptError="EMFILE")
        self.assertFalse(self.port.is_reading)
        self.clock.advance(PAUSE)
        self.assertTrue(self.port.is_reading)
        self.failures.stop()

    def test_other_words(self) -> None:
        """What else the port says is logged as it is."""
        self.port._logger.info("something else")
        self.assertEqual(self.texts(), ["something else"])


class AcceptInTurnsTests(TestCase):
    """Others are read between the connections of a crowd."""

    def test_many_at_once(self) -> None:
        """However many the kernel holds, a turn takes some of them, and all are accepted in the end."""
        accepted: list[Protocol] = []
        factory = Factory.forProtocol(Protocol)
        factory.buildProtocol = lambda address: accepted.append(Protocol()) or accepted[-1]  # type: ignore[method-assign, func-returns-value]
        port = reactor.listenTCP(0, factory, backlog=200, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        accept_in_turns(port)
        for _ in range(3 * AT_ONCE):
            self.addCleanup(socket.create_connection(("127.0.0.1", port.getHost().port)).close)
        counts = []
        while len(accepted) < 3 * AT_ONCE:
            before = len(accepted)
            port.doRead()
            counts.append(len(accepted) - before)
        self.assertLessEqual(max(counts), AT_ONCE)
        for each in accepted:
            each.transport.abortConnection()  # type: ignore[union-attr]
