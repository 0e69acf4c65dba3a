"""The body of a long response, given to the socket in pieces."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from perfd.web.request import Request
from perfd.wire.keystream import PIECE

__all__ = ["PIECE", "Body"]


@implementer(IPushProducer)
class Body:
    """Writes ``size`` bytes to a request, each piece when the socket has taken the one before.

    ``take(n)`` gives the next bytes, at most n; if it gives none before the end, the connection is broken off, so
    that the client sees that the rest is missing. ``ended`` is called when no more will be taken.
    """

    def __init__(
        self, request: Request, take: Callable[[int], bytes], size: int, ended: Callable[[], None] = lambda: None
    ) -> None:
        self._request = request
        self._take = take
        self._left = size
        self._ended = ended
        self._paused = False

    def start(self) -> None:
        self._request.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        while self._left and not self._paused:
            piece = self._take(min(self._left, PIECE))
            if not piece:
                self._request.channel.transport.abortConnection()
                return
            self._left -= len(piece)
            self._request.write(piece)
        if not self._left and not self._paused:
            self._paused = True
            self._ended()
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        """The connection was lost."""
        self._left = 0
        self._paused = True
        self._ended()
