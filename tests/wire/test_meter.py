"""What a socket took and when, over real sockets and in memory."""

from __future__ import annotations

import time
from typing import Any

import pytest
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from perfd.wire.delivery import deliver
from perfd.wire.meter import Meter
from tests.support.sockets import SocketCase

MUCH = 4 * 2**20


class Log:
    """What a meter told: bytes, stamp, bytes left."""

    def __init__(self, transport: Any) -> None:
        self.told: list[tuple[int, float, int]] = []
        self.meter = Meter(transport, time.monotonic, lambda *told: self.told.append(told))

    @property
    def taken(self) -> int:
        return sum(count for count, _, _ in self.told)


class MeterTests(SocketCase):
    """`Meter` over TCP."""

    async def test_stamp_is_before_arrival(self) -> None:
        """Bytes are stamped before the peer can have them, written or sent at once."""
        ours, theirs = await self.connect()
        log = Log(ours.transport)
        for send in (ours.transport.write, lambda data: deliver(ours.transport, data)):
            before = time.monotonic()
            send(b"hello")
            await theirs.when_received(5)
            count, stamp, left = log.told.pop()
            self.assertEqual((count, left, log.meter.last_sent), (5, 0, stamp))
            self.assertTrue(before <= stamp <= time.monotonic())
            theirs.data = b""
        self.assertEqual(log.told, [])

    @pytest.mark.long
    async def test_slow_reader(self) -> None:
        """Only what the socket takes is told, with what is left of it; all of it in the end."""
        ours, theirs = await self.connect()
        self.narrow(ours, theirs)
        theirs.transport.pauseProducing()
        log = Log(ours.transport)
        deliver(ours.transport, bytes(MUCH))
        ours.transport.write(bytes(1000))
        count, _, left = log.told[0]
        self.assertEqual((count + left, log.meter.unsent), (MUCH, MUCH + 1000 - count))
        theirs.transport.resumeProducing()
        await theirs.when_received(MUCH + 1000)
        self.assertGreater(len(log.told), 2)
        self.assertEqual((log.taken, log.told[-1][2], log.meter.unsent), (MUCH + 1000, 0, 0))
        stamps = [stamp for _, stamp, _ in log.told]
        self.assertEqual(stamps, sorted(stamps))
        lefts = [left for _, _, left in log.told[1:]]
        self.assertEqual(lefts, sorted(lefts, reverse=True))

    async def test_peer_closes(self) -> None:
        """A peer that goes midway ends it; what the socket did not take was not told."""
        ours, theirs = await self.connect()
        self.narrow(ours, theirs)
        log = Log(ours.transport)
        ours.transport.write(bytes(MUCH))
        await theirs.when_received(100_000)
        theirs.transport.abortConnection()
        await ours.lost
        self.assertTrue(100_000 <= log.taken < MUCH)

    async def test_remove(self) -> None:
        """Afterwards the transport is as it was, and nothing is told any more."""
        ours, theirs = await self.connect()
        before = dict(vars(ours.transport))
        log = Log(ours.transport)
        log.meter.remove()
        self.assertEqual(vars(ours.transport).keys(), before.keys())
        ours.transport.write(b"hello")
        await theirs.when_received(5)
        self.assertEqual(log.told, [])


class InMemoryTests(SynchronousTestCase):
    """The same without a socket."""

    def test_in_memory(self) -> None:
        """What is written counts as sent; the transport is left as it was."""
        transport = StringTransport()
        log = Log(transport)
        transport.write(b"a")
        transport.writeSequence([b"b", b"c"])
        self.assertEqual(transport.value(), b"abc")
        self.assertEqual([(count, left) for count, _, left in log.told], [(1, 0), (2, 0)])
        self.assertEqual(log.meter.unsent, 0)
        log.meter.remove()
        self.assertNotIn("write", vars(transport))
        self.assertNotIn("writeSequence", vars(transport))
