"""Telling the service manager how the daemon is, as sd_notify(3) describes the protocol.

Each message is one datagram of ``NAME=value`` lines to the socket that the environment names: a path, or, behind an
``@``, a name in Linux's abstract namespace. Without a service manager nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

TELL = 10.0
"""Seconds between two looks at the status, if the watchdog asks for no more."""


class Notifier:
    """Sends messages to the socket at ``address``, if there is one.

    ``watchdog`` is the number of seconds within which the service manager wants to hear from the main loop; None
    if it does not.
    """

    _log = Logger()

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        self.watchdog = watchdog
        self._address = address
        self._has_failed = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Notifier:
        """The one that the service manager asked for in ``environment``.

        Takes the variables out of it, since children (tor speaks the protocol too) are not who was meant.
        """
        address = environment.pop("NOTIFY_SOCKET", None)
        microseconds = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
        watched = pid == str(os.getpid()) and microseconds.isdigit() and int(microseconds) > 0
        return cls(address or None, int(microseconds) / 1e6 if watched else None)

    @property
    def is_wanted(self) -> bool:
        """Whether there is a service manager."""
        return self._address is not None

    def send(self, *assignments: str) -> None:
        """Send ``NAME=value`` lines as one message. What prevents that is logged, once."""
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)  # a service manager that hangs must not hang us
                sender.sendto("\n".join(assignments).encode(), address)
        except OSError as error:
            if not self._has_failed:
                self._log.error("the service manager cannot be told: {error}", error=error)
            self._has_failed = True
        else:
            self._has_failed = False


class Notifications(Service):
    """Keeps the service manager informed while the daemon runs; ``status`` is the one line that it shows."""

    def __init__(self, reactor: IReactorTime, notifier: Notifier, status: Callable[[], str]) -> None:
        self._notifier = notifier
        self._status = status
        self._said = ""
        self._is_ready = False
        self._telling = LoopingCall(self._tell)
        self._telling.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._notifier.send("STATUS=starting")

    def stopService(self) -> None:
        super().stopService()
        if self._telling.running:
            self._telling.stop()

    def stopping(self) -> None:
        """The stop begins."""
        self._notifier.send("STOPPING=1", "STATUS=stopping")

    def ready(self) -> None:
        """The start is done: ports are bound, the database is open, the schedules run."""
        self._is_ready = True
        self._said = self._status()
        self._notifier.send("READY=1", f"STATUS={self._said}")
        if self._notifier.is_wanted:
            # Twice within the time, as sd_watchdog_enabled(3) recommends.
            self._telling.start(min(TELL, (self._notifier.watchdog or 2 * TELL) / 2))

    def failed(self, reason: str) -> None:
        """The daemon cannot go on."""
        self._notifier.send(f"STATUS={reason}")

    def reloading(self) -> None:
        """A reload begins; the time is CLOCK_MONOTONIC, which tells it from one before."""
        if self._is_ready:
            microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def reloaded(self) -> None:
        """It is done, whether or not it was refused."""
        if self._is_ready:
            self._notifier.send("READY=1")

    def _tell(self) -> None:
        status = self._status()
        lines = [f"STATUS={status}"] if status != self._said else []
        if self._notifier.watchdog is not None:
            lines.append("WATCHDOG=1")
        self._said = status
        if lines:
            self._notifier.send(*lines)
