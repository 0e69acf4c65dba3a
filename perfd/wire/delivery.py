"""Sending at once over Twisted's TCP transports."""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


def deliver(transport: Any, data: bytes) -> None:
    """Send ``data``: now, if nothing waits before it, and not at the reactor's next turn.

    That saves a turn, and the system calls by which the reactor is asked for it. What the socket does not take, or
    an error, is left to that turn.
    """
    if is_idle(transport):
        sent = transport.writeSomeData(data)
        if isinstance(sent, int) and sent > 0:
            data = data[sent:]
    if data:
        transport.write(data)


def is_idle(transport: Any) -> bool:
    """Whether this is a TCP connection that is open and has nothing left to send."""
    if not isinstance(transport, Connection) or not transport.connected:
        return False
    ending = transport.disconnecting or transport._writeDisconnecting or transport._writeDisconnected
    return not (ending or transport.dataBuffer or transport._tempDataBuffer)
