"""One measured connection of a program: joined to what tor does with it, with a record at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress

from perfd.clock import Anchor, Clock, Phase, Timeline, stamped_by
from perfd.proxy.records import ProxyConnection, address_text, connection_record
from perfd.reactor import Reactor
from perfd.socks.forwarding import ForwardedConnection
from perfd.socks.way_out import WayOut
from perfd.tor.events.join import Join, Joined
from perfd.tor.events.listener import ControlEvents


@attrs.frozen(kw_only=True)
class PortSettings:
    """What all connections to one port share.

    ``events`` are of the tor that they go through. ``measurement`` is the id of the measurement that they belong
    to, and ``anchor`` its clock; None: each has its own.
    """

    reactor: Reactor
    clock: Clock
    way_out: WayOut
    events: ControlEvents | None = None
    measurement: str | None = None
    anchor: Anchor | None = None


class MeasuredConnection(ForwardedConnection):
    """The connection with the ``number`` from the program at ``address``."""

    def __init__(
        self, settings: PortSettings, number: int, address: IAddress | None, over: Callable[[Any], None]
    ) -> None:
        super().__init__(settings.reactor, settings.way_out, settings.clock.monotonic, over)
        self.anchor = settings.anchor or settings.clock.anchor()
        self.join: Join | None = None
        self._settings = settings
        self._number = number
        self._address = address
        self._timeline: Timeline | None = None

    def timeline(self) -> Timeline:
        """Stamps of the steps of the SOCKS request."""
        self._timeline = Timeline(self._settings.clock)
        return self._timeline

    def behind(self, local: IAddress) -> None:
        """Claim the stream, before anything is written, so before tor can tell about it."""
        super().behind(local)
        events, timeline = self._settings.events, self._timeline
        if events is not None and timeline is not None:
            address = (getattr(local, "host", ""), self.notes.local_port or 0)
            self.join = events.join(address, timeline.stamps[Phase.CONNECT], self._settings.measurement)

    def orderly_end(self) -> Deferred[bool | None] | None:
        """What tor tells about the end of the stream."""
        return None if self.join is None else self.join.when_ended()

    def record(self, joined: Joined | None) -> ProxyConnection:
        """The record, when it is over."""
        stamps = dict(self.notes.stamps)
        if self._timeline is not None:
            steps = self._timeline.stamps.items()
            stamps |= {phase.value.lower(): stamp for phase, stamp in steps if phase is not Phase.START}
        for end, first, last in (
            (self.client, "datarequest", "datasent"),
            (self.remote, "dataresponse", "datacomplete"),
        ):
            if end.first is not None and end.last is not None:
                stamps |= {first: end.first, last: end.last}
        request = self.request
        asked = {} if request is None else {name: getattr(request, name) for name in ("version", "host", "port")}
        if request is not None:
            asked["command"] = request.command.name
        return connection_record(
            self.notes,
            {name: self.anchor.epoch(stamp) for name, stamp in stamps.items()},
            joined,
            **asked,
            number=self._number,
            client=address_text(self._address),
            optimistic=self._settings.way_out.optimistic,
            writebytes=self.client.count,
            readbytes=self.remote.count,
            stamps=stamped_by(end.exact if end.count else None for end in (self.client, self.remote)),
        )
