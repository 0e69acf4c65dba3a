"""The reactor: its type for arguments, and the one of this process.

Who needs timers only takes Twisted's ``IReactorTime``. Tests pass ``twisted.internet.task.Clock`` or a reactor in
memory that has what is used.
"""

from __future__ import annotations

import time
from typing import Any, cast

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFDSet,
    IReactorProcess,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUNIX,
)


class Reactor(
    IReactorCore, IReactorFDSet, IReactorProcess, IReactorTCP, IReactorThreads, IReactorTime, IReactorUNIX
):
    """What a POSIX reactor of Twisted provides."""


def installed_reactor() -> Reactor:
    """The reactor of this process, whose timers run by the monotonic clock; installed if there is none yet."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it, which twistd does itself

    use_monotonic_time(reactor)
    return cast(Reactor, reactor)


def use_monotonic_time(reactor: Any) -> None:
    """Let the timers of ``reactor`` run by the monotonic clock.

    Twisted's reactor keeps them by the wall clock: after a step forward every deadline would pass at once. Only
    done while nothing is scheduled, since what is would get another meaning.
    """
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic
