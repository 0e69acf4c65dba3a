"""Becoming a daemon without twistd: for small programs that Perfd starts, and that outlive it."""

from __future__ import annotations

import os
from collections.abc import Callable


def detach(tell: Callable[[int], object] = lambda pid: None) -> None:
    """Go on in the background, in a session of its own, without any of the streams.

    The first process ends with 0, when it has called ``tell`` with the id of the other one.
    """
    pid = os.fork()
    if pid:
        tell(pid)
        os._exit(0)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
