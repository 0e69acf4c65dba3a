"""The order in which services start and stop, and the error of one that cannot start."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger

_log = Logger()


class StartError(Exception):
    """The daemon cannot start; the message is for the operator."""


class OrderedServices(MultiService):
    """Services that start one after the other, and stop in the opposite order, each when the one before is done."""

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop_all())

    async def _stop_all(self) -> None:
        for service in reversed(list(self)):
            await finish([service.stopService])


class ParallelServices(MultiService):
    """Services that start one after the other, and stop together: each may take its time to end."""

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(finish(service.stopService for service in list(self)))


async def finish(works: Iterable[Callable[[], object]]) -> None:
    """Begin all ``works`` at once, and return when each is done. What fails is logged, and keeps nobody up."""
    await DeferredList(
        [maybeDeferred(work).addErrback(lambda failure: _log.failure("stopping failed", failure)) for work in works]
    )
