"""Who may be connected to a site, and who has to go when there is no room.

Strangers can take the room from each other only. A measurement of ours is known by its id when the head of its
request is complete, and from then on is no stranger. So that its head can come, a new connection always gets in:
the stranger goes that has been silent longest, once it was seen whether its head is there by now. Bytes of a head
that is not complete are silence, else trickling them would be a way to stay.
"""

from __future__ import annotations

import attrs

from perfd.web.channel import Channel

STALLED = 1.0
"""Seconds after which a stranger that lets us wait in the middle of a request has to go for another."""

GRACE = 1.0
"""Seconds that a new connection has for its head while there are descriptors to spare."""

RESERVE = 32
"""Requests of this machine that are served beyond the limit: measurements by programs that are not Perfd."""


@attrs.define
class Connections:
    """The connections of a site that serves ``most`` strangers at once, while as many wait for a head.

    ``spare`` more may wait during their grace: many can be accepted before the first of them is read.
    """

    most: int
    spare: int = 0
    _waiting: dict[Channel, float] = attrs.Factory(dict)  # without a request since then; silent longest first
    _local: dict[Channel, float] = attrs.Factory(dict)  # the same, of this machine, who go when nobody else can
    _busy: dict[Channel, None] = attrs.Factory(dict)  # with the request of a stranger
    _stalled: list[tuple[float, Channel]] = attrs.Factory(list)
    """Those of them that let us wait since when, silent longest last."""

    def opened(self, channel: Channel, now: float) -> None:
        """A new connection; another may go for it. Times are raw monotonic seconds."""
        self._wait(channel, now)
        self._make_room(now)

    def closed(self, channel: Channel) -> None:
        """It is none any more."""
        for group in (self._waiting, self._local):
            group.pop(channel, None)
        self._busy.pop(channel, None)

    def admit(self, channel: Channel, *, ours: bool) -> bool:
        """The head of a request is complete: whether it is answered. ``ours`` is, and its connection never goes."""
        if ours:
            self.closed(channel)
            return True
        if channel in self._busy:
            return True
        while len(self._busy) >= self.most and self._stalled:
            since, stalled = self._stalled.pop()
            if stalled in self._busy and stalled.silent_since() == since:
                self._drop(stalled)
        if len(self._busy) >= self.most + (RESERVE if channel.is_local else 0):
            return False
        self.closed(channel)
        self._busy[channel] = None
        return True

    def answered(self, channel: Channel, now: float) -> None:
        """The answer was written; the connection waits for the next head as soon as the socket has taken it."""
        if channel in self._busy and not channel.meter.unsent:
            del self._busy[channel]
            self._wait(channel, now)
            self._make_room(now)

    def sweep(self, now: float) -> None:
        """See who lets us wait. To be called once a second."""
        stalled: list[tuple[float, Channel]] = []
        for channel in tuple(self._busy):
            since = channel.silent_since()
            if since is not None and now - since >= STALLED:
                stalled.append((since, channel))
            elif since is None and channel.is_answered:
                self.answered(channel, now)
        self._stalled = sorted(stalled, key=lambda each: (each[1].is_local, each[0]), reverse=True)
        self._make_room(now)

    def _wait(self, channel: Channel, now: float) -> None:
        (self._local if channel.is_local else self._waiting)[channel] = now

    def _make_room(self, now: float) -> None:
        while (count := len(self._waiting) + len(self._local)) > self.most:
            group = self._waiting or self._local
            silent = next(iter(group))
            if now - group[silent] < GRACE and count <= self.most + self.spare:
                return
            silent.read()
            if silent in group:
                self._drop(silent)

    def _drop(self, channel: Channel) -> None:
        self.closed(channel)
        channel.transport.abortConnection()
