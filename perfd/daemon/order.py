"""The order in which services start and stop, and the error of one that cannot start."""

from __future__ import annotations

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger


class StartError(Exception):
    """The daemon cannot start; the message is for the operator."""


class OrderedServices(MultiService):
    """Services that start one after the other, and stop in the opposite order, each when the one before is done."""

    _log = Logger()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop_all())

    async def _stop_all(self) -> None:
        for service in reversed(list(self)):
            await maybeDeferred(service.stopService).addErrback(
                lambda failure: self._log.failure("stopping failed", failure)
            )
