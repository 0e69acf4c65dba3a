"""Orphans: processes that outlive the one that started them become children of PID 1, which has to reap them.

Perfd is PID 1 in a container. Firefox leaves some at each start.
"""

from __future__ import annotations

import os

from twisted.application.service import Service
from twisted.internet import process
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

PAUSE = 5.0
"""Seconds between two looks for those that have ended."""


def reap() -> int:
    """Reap those children that have ended and that Twisted did not start; how many there were. Does not wait.

    Raises nothing. Only for programs that start children by Twisted alone: others could not ask how theirs ended.
    """
    count = 0
    while (pid := _ended_child()) is not None:
        if pid in process.reapProcessHandlers:
            process.reapAllProcesses()
            if pid in process.reapProcessHandlers:  # it is not done with it yet
                return count
        else:
            os.waitpid(pid, os.WNOHANG)
            count += 1
    return count


def _ended_child() -> int | None:
    """A child that has ended and was not reaped; None if there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


class Orphans(Service):
    """Reaps them now and then, if this process is PID 1."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reaping = LoopingCall(reap)
        self._reaping.clock = reactor

    def startService(self) -> None:
        super().startService()
        if os.getpid() == 1:
            self._reaping.start(PAUSE, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._reaping.running:
            self._reaping.stop()
