"""How much room there is on the disk of the instance, looked at in a thread, since a file system may not answer."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool

from perfd.reactor import Reactor

LOOK = 60.0
"""Seconds between two looks."""


@attrs.frozen
class Room:
    """Bytes of a file system: ``free`` for a program that is not root's, and ``size`` in all (statvfs(3))."""

    free: int
    size: int


def read_room(directory: Path) -> Room:
    """That of the file system of ``directory``. Raises OSError; blocks as long as the file system does."""
    found = os.statvfs(directory)
    return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


class DiskService(Service):
    """Knows the room in ``directory`` since the last look; None if that failed, or before the first."""

    def __init__(self, reactor: Reactor, directory: Path) -> None:
        self.room: Room | None = None
        self._reactor = reactor
        self._directory = directory
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._looking.start(LOOK)

    def stopService(self) -> None:
        super().stopService()
        self._looking.stop()

    def _look(self) -> Deferred[None]:
        reading = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), read_room, self._directory)
        return reading.addCallbacks(self._found, self._failed)

    def _found(self, room: Room) -> None:
        self.room = room

    def _failed(self, failure: object) -> None:
        self.room = None
