"""One thing that a connection does later."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Timer:
    """Does one thing in a while; what is set next takes the place of what was set before."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._call: IDelayedCall | None = None

    def set(self, seconds: float, function: Callable[[], None]) -> None:
        """Call ``function`` in ``seconds``."""
        self.cancel()
        self._call = self._reactor.callLater(seconds, function)

    def cancel(self) -> None:
        """Do nothing after all."""
        if self._call is not None and self._call.active():
            self._call.cancel()
