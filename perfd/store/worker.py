"""A few threads for database work, which must never be done in the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

T = TypeVar("T")


class Worker(Protocol):
    """Runs functions somewhere else, in the order in which they are given."""

    def start(self) -> None:
        """Get ready to run functions."""

    def run(self, function: Callable[[], T]) -> Deferred[T]:
        """Run ``function``; fires with what it returns or raises. Cancelling gives up waiting for it."""

    def stop(self) -> None:
        """Take no more functions. Does not wait for those that are running."""


class ThreadWorker:
    """Runs functions in threads of its own; with one thread, one after the other.

    They are daemon threads: a disk that hangs for ever cannot keep Perfd from ending. So whoever wants the last
    function to be done waits for its Deferred.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str, threads: int = 1) -> None:
        self._reactor = reactor
        self._name = name
        self._threads = threads
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def start(self) -> None:
        for n in range(self._threads):
            Thread(target=self._work, name=f"{self._name}-{n}", daemon=True).start()

    def run(self, function: Callable[[], T]) -> Deferred[T]:
        done: Deferred[T] = Deferred()

        def fire(result: T | Failure) -> None:
            if not done.called:  # it was not cancelled
                done.callback(result)

        def job() -> None:
            result: T | Failure
            try:
                result = function()
            except BaseException:  # noqa: BLE001 - it is the caller's, who waits in the other thread
                result = Failure()
            self._reactor.callFromThread(fire, result)

        self._jobs.put(job)
        return done

    def stop(self) -> None:
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while job := self._jobs.get():
            job()
