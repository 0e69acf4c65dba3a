"""Signals that mean the same in all of Perfd's programs."""

from __future__ import annotations

import ctypes
import signal
from contextlib import suppress


def end_on_hangup() -> None:
    """Let SIGHUP, which says that the terminal is gone, do what SIGTERM does. Only in the main thread.

    Who has started the program with nohup(1), which ignores it, wants it to go on.
    """
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def end_with_parent() -> None:
    """Let the kernel send SIGTERM when the parent has ended (prctl(2)); only Linux can do that."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
