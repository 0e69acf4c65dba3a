"""What happens to a forwarded connection, while it happens."""

from __future__ import annotations

from collections.abc import Callable


class Notes:
    """Stamps by their names, who closed and how, and what went wrong. Of everything, the first time counts.

    ``now`` is the monotonic clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.stamps: dict[str, float] = {}
        self.closed: tuple[str, str] | None = None  # by whom (client, remote, proxy), and how
        self.error: tuple[str, str] | None = None  # its code, as in a measurement, and the same in words
        self.local_port: int | None = None  # our end towards the destination
        self.code: int | None = None  # of the reply of the SOCKS port behind
        self.answer: str | None = None  # of a RESOLVE or RESOLVE_PTR
        self.username: str | None = None  # what that was given, for isolation

    def mark(self, name: str) -> float:
        """Something happened now; the stamp."""
        return self.stamps.setdefault(name, self.now())

    def close(self, by: str, how: str) -> None:
        """One side began to close."""
        if self.closed is None:
            self.closed = (by, how)
            self.mark("closed")

    def fail(self, errorcode: str, reason: str) -> None:
        """It went wrong; what does after the client has closed is nobody's error."""
        if self.error is None and self.closed is not None and self.closed[0] != "client":
            self.error = (errorcode, reason)
