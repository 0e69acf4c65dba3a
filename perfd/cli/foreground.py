"""Running the reactor for a command in the foreground, which a signal interrupts but does not cut off."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from perfd.descriptors import raise_limit
from perfd.processes.signals import end_on_hangup
from perfd.reactor import Reactor


@attrs.define
class Interruption:
    """Whether the command is to end early: SIGINT, SIGTERM or SIGHUP came."""

    came: bool = False


def run_reactor(
    reactor: Reactor,
    work: Callable[[Interruption], Coroutine[Any, Any, None]],
    clean_up: Callable[[], Deferred[None] | None] = lambda: None,
) -> None:
    """Run the reactor until ``work`` and then ``clean_up`` are done. Raises what ``work`` raises.

    SIGINT, SIGTERM and SIGHUP (the terminal is gone) cancel ``work``, once, and never ``clean_up``; the reactor
    stops after both. (Twisted's ``react`` stops it under them.)
    """
    raise_limit()
    end_on_hangup()
    interruption = Interruption()
    working: Deferred[None] = Deferred()
    ended: Deferred[None] = Deferred()
    failures: list[Failure] = []

    async def whole() -> None:
        try:
            await working
        finally:
            await maybeDeferred(clean_up)

    def begin() -> None:
        nonlocal working
        working = Deferred.fromCoroutine(work(interruption))
        Deferred.fromCoroutine(whole()).addErrback(failures.append).addBoth(end)

    def end(_: object) -> None:
        ended.callback(None)
        if not interruption.came:
            reactor.stop()

    def interrupt() -> Deferred[None]:
        if not ended.called:
            interruption.came = True
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda *_: None)  # it is ending already
        if not working.called:
            working.cancel()
        return ended

    reactor.addSystemEventTrigger("before", "shutdown", interrupt)
    reactor.callWhenRunning(begin)
    reactor.run()
    for failure in failures:
        failure.raiseException()
