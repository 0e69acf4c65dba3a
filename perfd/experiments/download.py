"""``type = download``: fetch SIZE random bytes back from our own server through a tor."""

from __future__ import annotations

import socket
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, DeferredLock
from twisted.internet.interfaces import IAddress, IReactorTime

from perfd.clock import Clock, Timeline
from perfd.config import Address
from perfd.fetch import Exchange, fetch, get_request
from perfd.interfaces import ServerStamps, Tor
from perfd.record import Error, Measurement, Outcome, new_id, phase_times
from perfd.socks import SOCKS5ClientEndpoint


@attrs.frozen(kw_only=True)
class Download:
    """Downloads of one size over one tor and one way to the server.

    ``turn`` is the tor's: whoever holds it is alone on that tor, so that measurements do not disturb each
    other. START is taken once it is held.
    """

    name: str
    source: str
    network: str
    server: str
    address: Address
    size: int
    timeout: float
    tor: Tor
    turn: DeferredLock
    stamps: ServerStamps
    clock: Clock
    reactor: IReactorTime

    async def run(self, slot: float | None) -> Measurement:
        """One download, once it is our turn on the tor."""
        try:
            await self.turn.acquire()
        except CancelledError:
            return self.blank(slot, Outcome.CANCELLED, Error.STOPPED, "Perfd was stopped before it ran")
        try:
            not_ready = self.tor.not_ready
            if not_ready is not None:
                return self.blank(slot, Outcome.SKIPPED, Error.NOTREADY, not_ready)
            return await self._measure(slot)
        finally:
            self.turn.release()

    def blank(self, slot: float | None, outcome: Outcome, errorcode: str, reason: str) -> Measurement:
        """The record of a slot without a run."""
        start = self.clock.wall() if slot is None else slot
        return Measurement(
            **self._identity(new_id(), slot), start=start, outcome=outcome, errorcode=errorcode, reason=reason
        )

    async def _measure(self, slot: float | None) -> Measurement:
        measurement_id = new_id()
        timeline = Timeline(self.clock)
        local: list[IAddress] = []
        endpoint = SOCKS5ClientEndpoint(
            self.address.host,
            self.address.port,
            self.tor.socks_endpoint(),
            # A user name of its own isolates each run: tor attaches it to a circuit that no other stream has.
            {"login": (measurement_id, "perfd")},
            timeline=timeline,
            connected=local.append,
        )
        request = get_request(
            str(self.address), f"/random/{self.size}", headers={"X-Perfd-Measurement": measurement_id}
        )
        self.stamps.expect(measurement_id)
        exchange = await fetch(
            self.reactor, endpoint, request, expect=self.size, timeline=timeline, timeout=self.timeout
        )
        end = timeline.anchor.epoch(timeline.now())
        return Measurement(
            **self._identity(measurement_id, slot),
            **phase_times(timeline),
            **_progress(exchange),
            **self._endpoints(exchange, local),
            **self._server_times(measurement_id, timeline),
            end=end,
        )

    def _identity(self, measurement_id: str, slot: float | None) -> dict[str, Any]:
        return {
            "id": measurement_id,
            "slot": slot,
            "source": self.source,
            "experiment": self.name,
            "type": "download",
            "network": self.network,
            "tor": self.tor.name,
            "torversion": self.tor.version,
            "server": self.server,
            "filesize": self.size,
        }

    def _endpoints(self, exchange: Exchange, local: list[IAddress]) -> dict[str, Any]:
        host = self.address.host
        return {
            "endpointlocal": _endpoint("localhost", local[0] if local else None),
            "endpointproxy": _endpoint("localhost", exchange.remote),
            "endpointremote": f"{host}:0.0.0.0:{self.address.port}",
            "hostnamelocal": socket.gethostname(),
            "hostnameremote": host,
        }

    def _server_times(self, measurement_id: str, timeline: Timeline) -> dict[str, Any]:
        seen = self.stamps.take(measurement_id)

        def epoch(stamp: float | None) -> float | None:
            return None if stamp is None else timeline.anchor.epoch(stamp)

        return {
            "serverrequest": epoch(seen.request),
            "serverresponse": epoch(seen.response),
            "servercomplete": epoch(seen.complete),
        }


def _progress(exchange: Exchange) -> dict[str, Any]:
    names = (
        *("outcome", "errorcode", "reason", "status", "dataperc", "partial"),
        *("writebytes", "readbytes", "payloadbytes"),
    )
    return {name: getattr(exchange, name) for name in names}


def _endpoint(name: str, address: IAddress | None) -> str | None:
    """Torperf's form of an endpoint: name, IP address and port."""
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    return None if host is None else f"{name}:{host}:{port}"
