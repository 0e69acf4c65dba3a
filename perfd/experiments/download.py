"""``type = download``: fetch SIZE random bytes back from our own server through a tor."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IAddress, IReactorTime

from perfd.clock import Clock, Timeline
from perfd.experiments.tor import MeasuredTor
from perfd.fetch import Exchange, fetch, get_request
from perfd.interfaces import ServerStamps, WayToServer
from perfd.record import Error, Measurement, Outcome, new_id, phase_times
from perfd.socks import SOCKS5ClientEndpoint
from perfd.tor.join import Join, Joined, error_fields, tor_fields

SEEN_BY_TOR = (Error.CLOSED, Error.RESET, Error.SOCKS)
"""What we only see the outside of: where tor gives a reason, that one counts. So with every TOR/... code."""


@attrs.frozen(kw_only=True)
class Download:
    """Downloads of one size over one tor and one way to the server.

    START is taken once it is our turn on the tor, so measurements on the same tor do not disturb each other.
    """

    name: str
    source: str
    network: str
    source_address: str | None  # this machine's public IP address, if that is known
    server: WayToServer
    size: int
    timeout: float
    fresh_circuits: bool
    skip_until_cbt: bool
    tor: MeasuredTor
    stamps: ServerStamps
    clock: Clock
    reactor: IReactorTime

    async def run(self, slot: float | None) -> Measurement:
        """One download, once it is our turn on the tor."""
        try:
            await self.tor.turn.acquire()
        except CancelledError:
            return self.blank(slot, Outcome.CANCELLED, Error.STOPPED, "Perfd was stopped before it ran")
        try:
            refusal = self._refusal()
            if refusal is not None:
                return self.blank(slot, Outcome.SKIPPED, *refusal)
            run = _Run(self)
            exchange = await run.exchange()
        finally:
            self.tor.turn.release()
        return await run.finish(exchange, slot)

    def blank(self, slot: float | None, outcome: Outcome, errorcode: str, reason: str) -> Measurement:
        """The record of a slot without a run."""
        start = self.clock.wall() if slot is None else slot
        return Measurement(
            **self.identity(new_id(), slot), start=start, outcome=outcome, errorcode=errorcode, reason=reason
        )

    def identity(self, measurement_id: str, slot: float | None) -> dict[str, Any]:
        """What a record says about its experiment."""
        return {
            "id": measurement_id,
            "slot": slot,
            "source": self.source,
            "experiment": self.name,
            "type": "download",
            "network": self.network,
            "tor": self.tor.tor.name,
            "torversion": self.tor.tor.version,
            "transport": self.tor.transport,
            "server": self.server.name,
            "filesize": self.size,
        }

    def _refusal(self) -> tuple[str, str] | None:
        """Why nothing can be run now: error code and reason."""
        not_ready = self.tor.not_ready or self.server.not_ready
        if not_ready is not None:
            return Error.NOTREADY, not_ready
        events = self.tor.events
        if self.skip_until_cbt and events is not None and not events.cbt_set:
            return Error.NOCBT, f"tor {self.tor.tor.name} has not learnt its circuit build timeout yet"
        return None


class _Run:
    """One run of a ``Download``: its stamps, its connection, and what tor tells about it."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self._id = new_id()
        self._host, self._port = download.server.host, download.server.port
        self._local: IAddress | None = None
        self._join: Join | None = None
        self._identity_seen = download.identity(self._id, None)
        self._timeline = Timeline(download.clock)
        self._end: float | None = None

    async def exchange(self) -> Exchange:
        """The download itself."""
        download = self._download
        # tor carries streams with the same user name on the same circuits, and no others (IsolateSOCKSAuth): a
        # name of its own gives a run a circuit that nothing else has used.
        user = self._id if download.fresh_circuits else download.name
        endpoint = SOCKS5ClientEndpoint(
            self._host,
            self._port,
            download.tor.tor.socks_endpoint(),
            {"login": (user, "perfd")},
            timeline=self._timeline,
            connected=self._connected,
        )
        request = get_request(
            f"{self._host}:{self._port}", f"/random/{download.size}", headers={"X-Perfd-Measurement": self._id}
        )
        download.stamps.expect(self._id)
        exchange = await fetch(
            download.reactor,
            endpoint,
            request,
            expect=download.size,
            timeline=self._timeline,
            timeout=download.timeout,
        )
        self._end = self._timeline.anchor.epoch(self._timeline.now())
        return exchange

    async def finish(self, exchange: Exchange, slot: float | None) -> Measurement:
        """The record, once tor has told the rest."""
        joined = await self._joined(exchange)
        fields: dict[str, Any] = {
            **self._identity_seen,
            **phase_times(self._timeline),
            **_progress(exchange),
            **self._endpoints(exchange),
            **self._server_times(),
            "slot": slot,
            "end": self._end,
        }
        if joined is not None:
            fields |= {key: value for key, value in tor_fields(joined).items() if value is not None}
            seen_by_tor = error_fields(joined)
            code = exchange.errorcode or ""
            if seen_by_tor is not None and (code in SEEN_BY_TOR or code.startswith("TOR/")):
                fields["errorcode"], fields["reason"] = seen_by_tor
        return Measurement(**fields)

    def _connected(self, local: IAddress) -> None:
        """Called before anything is written to the SOCKS port, so before tor can tell about the stream."""
        self._local = local
        events = self._download.tor.events
        if events is not None:
            address = (getattr(local, "host", ""), getattr(local, "port", 0))
            self._join = events.join(address, self._timeline.now(), self._id)

    async def _joined(self, exchange: Exchange) -> Joined | None:
        events = self._download.tor.events
        if events is None or self._join is None:
            return None
        try:
            if exchange.outcome is Outcome.CANCELLED:
                return await events.finish(self._join, self._timeline.anchor, wait=0)
            return await events.finish(self._join, self._timeline.anchor)
        except CancelledError:
            return None  # Perfd stops, and the measurement itself is complete

    def _endpoints(self, exchange: Exchange) -> dict[str, Any]:
        return {
            "endpointlocal": _endpoint("localhost", self._local),
            "endpointproxy": _endpoint("localhost", exchange.remote),
            "endpointremote": f"{self._host}:{ip_address(self._host) or '0.0.0.0'}:{self._port}",
            "hostnamelocal": socket.gethostname(),
            "hostnameremote": self._host,
            "sourceaddress": self._download.source_address,
        }

    def _server_times(self) -> dict[str, Any]:
        seen = self._download.stamps.take(self._id)

        def epoch(stamp: float | None) -> float | None:
            return None if stamp is None else self._timeline.anchor.epoch(stamp)

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


def ip_address(host: str) -> str | None:
    """The IP address that ``host`` is; None if it is a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
