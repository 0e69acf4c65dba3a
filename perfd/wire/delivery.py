"""Sending at once over Twisted's TCP transports."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
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


def flush(transport: Any) -> None:
    """Send what was written to ``transport`` now, all in one, as `deliver` does.

    Not to be called by a producer, which Twisted calls from the same place.
    """
    if isinstance(transport, FileDescriptor) and not transport.disconnecting and unsent(transport):
        transport.doWrite()


def is_idle(transport: Any) -> bool:
    """Whether this is a TCP connection, without TLS, that is open and has nothing left to send."""
    if not isinstance(transport, Connection) or not transport.connected or transport.TLS:
        return False
    ending = transport.disconnecting or transport._writeDisconnecting or transport._writeDisconnected
    return not ending and not unsent(transport)


def unsent(transport: Any) -> int:
    """Bytes that were written to ``transport`` and wait for its socket to take them; in memory none ever do."""
    if not isinstance(transport, FileDescriptor):
        return 0
    return len(transport.dataBuffer) - transport.offset + transport._tempDataLen
