"""Asks the process that makes pages. It is started when somebody asks for one, and ends when nobody does.

What it computes would hold up the reactor, in whose thread time stamps are taken; a thread that computes would too.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from perfd.pages.child import LENGTH
from perfd.pages.records import Made, PageError, PageRequest
from perfd.processes.child import ERRORS, Child
from perfd.processes.modules import module_command, module_environment
from perfd.reactor import Reactor
from perfd.store.schema import load_upgrades

TIMEOUT = 60.0
"""Seconds that a page may take, the start of the process included; then it is ended."""

IDLE = 600.0
"""Seconds without a request, after which the process is ended."""

MOST_WAITING = 16
"""Requests of strangers that may wait for the one before."""

RESERVE = 8
"""So many more of this machine, whose queries have no bound."""

MOST_BYTES = 16 * 2**20
"""Of an answer."""


class PagesProcess(Service):
    """Makes pages in a child process, one at a time."""

    _log = Logger()

    def __init__(self, reactor: Reactor, database: Path, timeout: float = TIMEOUT) -> None:
        self._reactor = reactor
        self._database = database.absolute()
        self._timeout = timeout
        self._turn = DeferredLock()
        self._child: Child | None = None
        self._answer: _Answer | None = None
        self._idle: IDelayedCall | None = None

    async def make(self, request: PageRequest) -> Made:
        """The page. Raises PageError if it cannot be had now."""
        most = MOST_WAITING + (RESERVE if request.seconds is None else 0)
        if not self.running or len(self._turn.waiting) >= most:
            raise PageError(503, "too many pages are asked for at a time; try again soon")
        async with self._turn:
            return await self._ask(request)

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        self._is_not_idle()
        child = self._child
        if child is None:
            return None
        return Deferred.fromCoroutine(_stopped(child))

    async def _ask(self, request: PageRequest) -> Made:
        self._is_not_idle()
        try:
            child = self._running_child()
        except OSError as error:
            self._log.error("pages cannot be made: {reason}", reason=str(error))
            raise PageError(503, "pages cannot be made now; the log says more") from None
        answer = self._answer = _Answer()
        data = pickle.dumps(request)
        child.write(LENGTH.pack(len(data)) + data)
        overdue = self._reactor.callLater(self._timeout, child.kill)
        try:
            return await answer.made
        finally:
            self._answer = None
            if overdue.active():
                overdue.cancel()
            if not answer.is_complete:
                # It failed, or whoever asked waits no longer: what comes is not for the next.
                self._child = None
                child.kill()
            elif self.running:
                self._idle = self._reactor.callLater(IDLE, self._end)

    def _running_child(self) -> Child:
        if self._child is None or self._child.exit_code is not None:
            arguments = (str(self._database), str(len(load_upgrades())))
            child = self._child = Child.spawn(
                self._reactor,
                module_command("perfd.pages.child", *arguments),
                environment=module_environment(),
                on_data=self._received,
                lines_of=ERRORS,
                hold_stdin=True,
            )
            child.when_ended().addCallback(lambda _: self._ended(child))
        return self._child

    def _received(self, descriptor: int, data: bytes) -> None:
        if descriptor == 1 and self._answer is not None:
            self._answer.received(data)

    def _ended(self, child: Child) -> None:
        if self._child is not child:
            return
        self._child = None
        if self._answer is not None and not self._answer.is_complete:
            self._log.error("the process that makes pages ended: {end}", end=child.describe_end())
            self._answer.failed()

    def _is_not_idle(self) -> None:
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        self._idle = None

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.signal("TERM")


async def _stopped(child: Child) -> None:
    await child.stop()


@attrs.define
class _Answer:
    """An answer on its way."""

    made: Deferred[Made] = attrs.Factory(Deferred)
    is_complete: bool = False
    _data: bytearray = attrs.Factory(bytearray)
    _head: dict[str, Any] | None = None

    def received(self, data: bytes) -> None:
        self._data.extend(data)
        if self.made.called:
            return
        if self._head is None and len(self._data) >= LENGTH.size:
            (size,) = LENGTH.unpack(self._data[: LENGTH.size])
            if len(self._data) >= LENGTH.size + size:
                self._head = json.loads(self._data[LENGTH.size : LENGTH.size + size])
                del self._data[: LENGTH.size + size]
        if self._head is None:
            return
        size, packed = self._head["sizes"]
        if size + packed > MOST_BYTES:
            self.failed()
        elif len(self._data) >= size + packed:
            self.is_complete = True
            self.made.callback(
                Made(
                    status=self._head["status"],
                    body=bytes(self._data[:size]),
                    packed=bytes(self._data[size : size + packed]),
                    policy=self._head["policy"],
                    refresh=self._head["refresh"],
                    tag=self._head["tag"],
                )
            )

    def failed(self) -> None:
        if not self.made.called:
            self.made.errback(PageError(503, "the page could not be made; try again later"))
