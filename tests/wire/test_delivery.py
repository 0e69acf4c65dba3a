"""Sending at once, over real sockets."""

from __future__ import annotations

import pytest
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from perfd.wire.delivery import deliver, flush, is_idle, unsent
from tests.support.sockets import SocketCase

MUCH = 4 * 2**20


class DeliveryTests(SocketCase):
    """`deliver`, `flush`, `is_idle` and `unsent` over TCP."""

    async def test_now(self) -> None:
        """What is delivered is in the peer's socket before the reactor does anything else."""
        ours, theirs = await self.connect()
        deliver(ours.transport, b"hello")
        self.assertEqual(theirs.transport.getHandle().recv(100), b"hello")
        self.assertTrue(is_idle(ours.transport))

    async def test_written_waits(self) -> None:
        """What is written waits for the reactor, and what is delivered behind it too; a flush sends both in one."""
        ours, theirs = await self.connect()
        ours.transport.write(b"one ")
        self.assertFalse(is_idle(ours.transport))
        deliver(ours.transport, b"two")
        self.assertEqual(unsent(ours.transport), 7)
        with self.assertRaises(BlockingIOError):
            theirs.transport.getHandle().recv(100)
        flush(ours.transport)
        self.assertEqual((theirs.transport.getHandle().recv(100), unsent(ours.transport)), (b"one two", 0))
        flush(ours.transport)
        self.assertTrue(is_idle(ours.transport))

    @pytest.mark.long
    async def test_more_than_fits(self) -> None:
        """The rest of what the socket does not take follows, in its order."""
        ours, theirs = await self.connect()
        self.narrow(ours, theirs)
        data = bytes(range(256)) * (MUCH // 256)
        deliver(ours.transport, data)
        self.assertGreater(unsent(ours.transport), MUCH // 2)
        deliver(ours.transport, b"the end")
        await theirs.when_received(MUCH + 7)
        self.assertEqual(theirs.data, data + b"the end")
        self.assertEqual(unsent(ours.transport), 0)

    async def test_closing(self) -> None:
        """On a connection that is ending nothing is sent at once, and no error comes of trying."""
        ours, theirs = await self.connect()
        ours.transport.write(b"last")
        ours.transport.loseConnection()
        self.assertFalse(is_idle(ours.transport))
        deliver(ours.transport, b" word")
        flush(ours.transport)
        await theirs.lost
        deliver(ours.transport, b"too late")
        self.assertEqual(theirs.data, b"last word")

    async def test_peer_gone(self) -> None:
        """An error of sending is left to the reactor, which tells the protocol that the connection is lost."""
        ours, theirs = await self.connect()
        theirs.transport.abortConnection()
        await theirs.lost
        deliver(ours.transport, b"a")
        deliver(ours.transport, b"b")
        await ours.lost
        self.assertFalse(is_idle(ours.transport))


class InMemoryTests(SynchronousTestCase):
    """The same without a socket."""

    def test_in_memory(self) -> None:
        """What is delivered is written; nothing waits."""
        transport = StringTransport()
        deliver(transport, b"hello")
        flush(transport)
        self.assertEqual((transport.value(), unsent(transport), is_idle(transport)), (b"hello", 0, False))
