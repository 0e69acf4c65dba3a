"""What Twisted says that is not written to perfd.log as it is."""

from __future__ import annotations

import re

from twisted.logger import LogEvent

PASSING_PORTS = "OpenPort"
"""The factory whose ports come and go with each page load, so that Twisted's words about them are no news."""

_PORT_OPENED = re.compile(rf"{PASSING_PORTS} starting on (\d+)")
_PORT_CLOSED = re.compile(r"\(TCP Port (\d+) Closed\)")


class PassingPorts:
    """Knows what Twisted logs about the ports of that factory; it has no switch for that."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    def are_meant(self, event: LogEvent) -> bool:
        if event.get("log_namespace") != "log_legacy":
            return False
        text = event.get("log_text", "")
        if opened := _PORT_OPENED.fullmatch(text):
            self._open.add(opened[1])
            return True
        closed = _PORT_CLOSED.fullmatch(text)
        if closed is None or closed[1] not in self._open:
            return False
        self._open.remove(closed[1])
        return True
