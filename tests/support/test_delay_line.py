"""The delay line of the tests and benches."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from perfd.socks import SOCKS5ClientEndpoint
from perfd.socks.testing import MemoryEndpoint
from tests.support.delay_line import Delay, DelayedEndpoint, DelayLine, optimistic_data
from tests.support.loopback import Collector, Echo, LoopbackCase
from tests.support.wire import Application

reactor: Any = global_reactor


class DelayTests(SynchronousTestCase):
    """The delay itself, on a fake clock."""

    def test_order(self) -> None:
        """Everything comes in its order, also what is due at one moment, and not a moment too early."""
        clock, happened = Clock(), list[int]()
        delay = Delay(clock, 1.0)
        for number in range(50):
            delay.later(happened.append, number)
        clock.advance(0.5)
        delay.later(happened.append, 50)
        clock.advance(0.49)
        self.assertEqual(happened, [])
        clock.advance(0.01)
        self.assertEqual(happened, list(range(50)))
        clock.advance(0.5)
        self.assertEqual(happened, list(range(51)))

    def test_stop(self) -> None:
        """Nothing is left behind."""
        clock = Clock()
        delay = Delay(clock, 1.0)
        delay.later(self.fail)
        delay.stop()
        clock.advance(2.0)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_both_ways(self) -> None:
        """What is sent, what comes back, and the end behind it, all take the delay."""
        clock, application = MemoryReactorClock(), Application()
        memory = MemoryEndpoint(Factory.forProtocol(Echo), clock)
        connecting = DelayedEndpoint(memory, Delay(clock, 1.0)).connect(application)
        recorder = self.successResultOf(connecting)
        recorder.transport.write(b"hello")
        recorder.transport.writeSequence([b", ", b"world"])
        recorder.transport.loseConnection()
        for seconds, happened in ((0.9, ["made"]), (0.2, ["made"]), (0.8, ["made"])):
            clock.advance(seconds)
            memory.flush()
            self.assertEqual(recorder.happened, happened)
        clock.advance(0.3)
        memory.flush()
        self.assertEqual(recorder.happened, ["made", b"hello, world", ConnectionDone])

    def test_log(self) -> None:
        """What tor says of optimistic data is understood."""
        log = (
            "[info] x exit $A~b does allow optimistic data for y\n[info] z\n[info] x doesn't allow optimistic data"
        )
        self.assertEqual(optimistic_data(log), [True, False])


class LineTests(LoopbackCase):
    """The SOCKS server, on loopback."""

    async def test_bytes(self) -> None:
        """Megabytes come back whole, from a sender that the line holds back; stopping leaves nothing open."""
        port, _ = await self.listen(Factory.forProtocol(Echo))
        line = DelayLine(reactor, 0.02)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", int(line.torrc.rpartition(":")[2]))
        application: Any = await SOCKS5ClientEndpoint("127.0.0.1", port, endpoint).connect(
            Factory.forProtocol(Collector)
        )
        sent = os.urandom(2**21)
        application.transport.write(sent)
        await application.when_received(len(sent))
        self.assertTrue(application.data == sent)
        await line.stop()
        await application.lost
        await deferLater(reactor, 0)
