"""Bytes in pieces: to readers that are quick, slow, or gone."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from perfd.wire.keystream import PIECE
from perfd.wire.pieces import Pieces, send_in_pieces
from tests.support.sockets import SocketCase

SIZE = 20 * PIECE + 17


class Pausing(StringTransport):
    """A transport that pauses its producer while it is written to, before every byte was taken."""

    def write(self, data: bytes) -> None:
        super().write(data)
        self.producer.pauseProducing()  # type: ignore[attr-defined]


class PiecesTests(SynchronousTestCase):
    """`Pieces` and `send_in_pieces` in memory."""

    def setUp(self) -> None:
        self.ended: list[bool] = []

    def start(self, transport: StringTransport, take: Callable[[int], bytes], size: int) -> Pieces:
        pieces = Pieces(transport, take, size, self.ended.append)
        pieces.start()
        return pieces

    def test_all_at_once(self) -> None:
        """A transport that never pauses gets all in pieces of the right size."""
        asked: list[int] = []

        def take(count: int) -> bytes:
            asked.append(count)
            return bytes(count)

        transport = StringTransport()
        self.start(transport, take, 2 * PIECE + 5)
        self.assertEqual((asked, self.ended), ([PIECE, PIECE, 5], [True]))
        self.assertEqual((len(transport.value()), transport.producer), (2 * PIECE + 5, None))

    def test_paused_while_writing(self) -> None:
        """Each piece waits for the one before, and the end waits until the last was taken."""
        transport = Pausing()
        pieces = self.start(transport, BytesIO(bytes(2 * PIECE + 5)).read, 2 * PIECE + 5)
        for sent in (PIECE, 2 * PIECE, 2 * PIECE + 5):
            self.assertEqual((len(transport.value()), self.ended), (sent, []))
            pieces.resumeProducing()
        self.assertEqual((self.ended, transport.producer), ([True], None))

    def test_nothing(self) -> None:
        """No bytes are ended at once."""
        transport = StringTransport()
        self.start(transport, lambda _: self.fail("nothing is to be taken"), 0)
        self.assertEqual((transport.value(), self.ended, transport.producer), (b"", [True], None))

    def test_source_dries_up(self) -> None:
        """A source that gives less than was promised is told, after what it gave was written."""
        transport = StringTransport()
        self.start(transport, BytesIO(b"abc").read, 5)
        self.assertEqual((transport.value(), self.ended, transport.producer), (b"abc", [False], None))

    def test_lost(self) -> None:
        """After the connection was lost nothing is taken any more, and the end is told once."""
        transport = Pausing()
        pieces = self.start(transport, BytesIO(bytes(SIZE)).read, SIZE)
        pieces.stopProducing()
        pieces.resumeProducing()
        pieces.stopProducing()
        self.assertEqual((len(transport.value()), self.ended), (PIECE, [False]))

    def test_await(self) -> None:
        """Who waits goes on when all was taken."""
        transport = Pausing()
        sending = Deferred.fromCoroutine(send_in_pieces(transport, bytes(PIECE + 1)))
        transport.producer.resumeProducing()  # type: ignore[attr-defined]
        self.assertNoResult(sending)
        transport.producer.resumeProducing()  # type: ignore[attr-defined]
        self.assertIsNone(self.successResultOf(sending))
        self.assertEqual(transport.value(), bytes(PIECE + 1))

    def test_await_lost(self) -> None:
        """Who waits is told that the connection was lost, unless they gave up before."""
        transport = Pausing()
        sending = Deferred.fromCoroutine(send_in_pieces(transport, bytes(SIZE)))
        producer: Any = transport.producer
        producer.stopProducing()
        self.failureResultOf(sending, ConnectionLost)
        transport = Pausing()
        sending = Deferred.fromCoroutine(send_in_pieces(transport, bytes(SIZE)))
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        producer = transport.producer
        producer.stopProducing()


class SocketTests(SocketCase):
    """`Pieces` over TCP."""

    @pytest.mark.long
    async def test_slow_reader(self) -> None:
        """A reader that stops now and then gets every byte in order; little of it is ever in memory."""
        ours, theirs = await self.connect()
        self.narrow(ours, theirs)
        source = BytesIO(bytes(range(251)) * (SIZE // 251 + 1))
        most = 0

        def take(count: int) -> bytes:
            nonlocal most
            most = max(most, len(ours.transport.dataBuffer) + ours.transport._tempDataLen)
            return source.read(count)

        ended: Deferred[bool] = Deferred()
        Pieces(ours.transport, take, SIZE, ended.callback).start()
        for part in range(1, 11):
            theirs.transport.pauseProducing()
            self.assertFalse(ended.called)
            theirs.transport.resumeProducing()
            await theirs.when_received(SIZE * part // 10)
        self.assertTrue(await ended)
        self.assertEqual(theirs.data, source.getvalue()[:SIZE])
        self.assertLessEqual(most, PIECE)
        self.assertIsNone(ours.transport.producer)

    async def test_peer_closes(self) -> None:
        """A peer that goes midway ends it, and no more than one further piece is taken."""
        ours, theirs = await self.connect()
        self.narrow(ours, theirs)
        taken = 0

        def take(count: int) -> bytes:
            nonlocal taken
            taken += count
            return bytes(count)

        ended: Deferred[bool] = Deferred()
        Pieces(ours.transport, take, 2**30, ended.callback).start()
        await theirs.when_received(PIECE)
        theirs.transport.abortConnection()
        self.assertFalse(await ended)
        self.assertLess(taken, 2**30)

    async def test_no_connection(self) -> None:
        """To a connection that was lost before nothing is sent; that is told."""
        ours, theirs = await self.connect()
        theirs.transport.abortConnection()
        await ours.lost
        ended: list[bool] = []
        Pieces(ours.transport, lambda _: self.fail("nothing is to be taken"), 5, ended.append).start()
        self.assertEqual(ended, [False])
