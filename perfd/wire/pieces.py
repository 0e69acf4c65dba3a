"""Many bytes for a connection, given to it in pieces."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from perfd.wire.keystream import PIECE


@implementer(IPushProducer)
class Pieces:
    """Writes ``size`` bytes to ``consumer`` (an IConsumer), each piece when it has taken the one before.

    ``take(n)`` gives the next bytes, at most ``n``. ``ended`` is called once, with whether all were taken: they
    were not if ``take`` gave none before the end, or the connection was lost.
    """

    def __init__(
        self, consumer: Any, take: Callable[[int], bytes], size: int, ended: Callable[[bool], None]
    ) -> None:
        self._consumer = consumer
        self._take = take
        self._left = size
        self._ended = ended
        self._paused = False
        self._over = False

    def start(self) -> None:
        """Begin; the first pieces are written at once, unless the consumer pauses it first."""
        self._consumer.registerProducer(self, True)  # which stops it if there is no connection any more
        self._write()

    def resumeProducing(self) -> None:
        self._paused = False
        self._write()

    def _write(self) -> None:
        while self._left and not self._paused and not self._over:
            piece = self._take(min(self._left, PIECE))
            if not piece:
                break
            self._left -= len(piece)
            self._consumer.write(piece)
        if not self._paused and not self._over:
            self._over = True
            self._consumer.unregisterProducer()
            self._ended(not self._left)

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        """The connection was lost."""
        if not self._over:
            self._over = True
            self._ended(False)


async def send_in_pieces(consumer: Any, data: bytes) -> None:
    """Write ``data`` to ``consumer``, and return when it has taken all. Raises ConnectionLost if it will not."""
    ended: Deferred[bool] = Deferred()
    Pieces(consumer, BytesIO(data).read, len(data), ended.callback).start()
    if not await ended:
        raise ConnectionLost
