"""One request over a connection of its own: its stamps, how it ended, and what tor tells about it."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint

from perfd.client.expected import Expected
from perfd.client.fetch import Exchange, fetch, get_request
from perfd.clock import Phase, Timeline, stamped_by
from perfd.experiments.curves import curves_of, tcp_keys
from perfd.experiments.run import STAMPS, Extra, Setup
from perfd.experiments.target import Request
from perfd.experiments.ways import NoTor, authority
from perfd.interfaces import ServerTimes
from perfd.record import EMPTY, Measurement, Outcome, new_id
from perfd.socks.tls import TLSWrapClientEndpoint
from perfd.tor.events.join import UNANNOUNCED, Join, Joined, error_fields, is_vague, tor_fields


class Transfer:
    """One request over a connection of its own: its stamps, how it ended, and what tor tells about it.

    ``measurement`` is the id under which the server and the tor know it; ``user`` the name of its isolation.
    ``foreign`` is a request to somebody else's server, which hears nothing of the id.
    """

    def __init__(
        self,
        setup: Setup,
        measurement: str,
        user: str,
        *,
        optimistic: bool = False,
        foreign: Request | None = None,
    ) -> None:
        self.setup = setup
        self.measurement = measurement
        self.timeline = Timeline(setup.clock)
        self.exchange: Exchange | None = None
        self.held_up: Extra = EMPTY
        self.joined: Joined | None = None
        self.served: ServerTimes | None = None  # what our server stamped, once it was asked
        self._foreign = foreign
        way = setup.server if foreign is None else foreign.way
        self.host, self.port = way.host, way.port
        self._begun = setup.begun(measurement, None)
        # The id of a part can be told from that of another one, and the far end of Tor sees it: so it gets a name
        # that cannot be guessed.
        self._token = new_id() if "-" in measurement else measurement
        self._user = user
        self._optimistic = optimistic
        self._local: IAddress | None = None
        self._join: Join | None = None
        self._end: float | None = None

    def begin(self) -> IStreamClientEndpoint:
        """The way to the server, to be connected once; ours looks out for the request from now on."""
        if self._foreign is None:
            self.setup.stamps.expect(self._token)
        endpoint = self.setup.tor.endpoint(
            self.host,
            self.port,
            self._user,
            timeline=self.timeline,
            connected=self._connected,
            optimistic=self._optimistic,
        )
        if self._foreign is None or self._foreign.tls is None:
            return endpoint
        return TLSWrapClientEndpoint(self._foreign.tls, endpoint, self.setup.reactor)

    def end(self, exchange: Exchange) -> Exchange:
        """What was done over the connection is over."""
        self.exchange = exchange
        self._end = self.timeline.anchor.epoch(self.timeline.now())
        self.held_up = self.setup.held_up_since(self.timeline.anchor.monotonic)
        return exchange

    @property
    def request_headers(self) -> dict[str, str]:
        """By these our server knows the measurement."""
        return {"X-Perfd-Measurement": self._token}

    @property
    def seen(self) -> ServerTimes:
        """What our server has stamped of it so far."""
        return self.setup.stamps.look(self._token) if self.served is None else self.served

    @property
    def authority(self) -> str:
        """The server as the Host header names it."""
        return authority(self.setup.server)

    async def fetch(self, size: int, timeout: float) -> Exchange:
        """Download ``size`` random bytes within ``timeout`` seconds."""
        request = get_request(self.authority, f"/random/{size}", headers=self.request_headers)
        reactor, endpoint = self.setup.reactor, self.begin()
        return self.end(
            await fetch(reactor, endpoint, request, expect=size, timeline=self.timeline, timeout=timeout)
        )

    async def fetch_foreign(self, expected: Expected, timeout: float) -> Exchange:
        """Make the request to somebody else's server, within ``timeout`` seconds."""
        assert self._foreign is not None
        exchange = await fetch(
            self.setup.reactor,
            self.begin(),
            self._foreign.head,
            expect=expected,
            timeline=self.timeline,
            timeout=timeout,
            tls=self._foreign.tls,
        )
        return self.end(exchange)

    async def result(self, slot: float | None) -> Measurement:
        """All that is known of it. Waits a little for tor's last words.

        ``extra`` holds STAMPS, what was agreed on for TLS, and what tor tells about the way to an onion service.
        """
        exchange = self.exchange
        assert exchange is not None
        self.joined = joined = await self._finish_join(exchange)
        direct = isinstance(self.setup.tor, NoTor)
        self.served = served = self.setup.stamps.take(self._token)
        found = attrs.evolve(
            self._begun,
            **_phase_times(self.timeline),
            **_progress(exchange),
            slot=slot,
            end=self._end,
            endpointlocal=_endpoint("localhost", self._local),
            endpointproxy=None if direct else _endpoint("localhost", exchange.remote),
            endpointremote=f"{self.host}:{ip_address(self.host) or '0.0.0.0'}:{self.port}",
            hostnamelocal=socket.gethostname(),
            hostnameremote=self.host,
            sourceaddress=self.setup.source_address,
            serverrequest=self._epoch(served.request),
            serverresponse=self._epoch(served.response),
            servercomplete=self._epoch(served.complete),
            extra={
                **_stamps(exchange, served),
                **tcp_keys(served.tcp, exchange.tcp),
                **self._tls_keys(exchange),
            },
        )
        for curve in curves_of(found, self.timeline.anchor, exchange, served, joined):
            self.setup.record_curve(curve)
        return found if joined is None else self._as_tor_tells(found, joined)

    def _as_tor_tells(self, found: Measurement, joined: Joined) -> Measurement:
        """With tor's view, which also says better than the SOCKS port why a stream ended."""
        found = attrs.evolve(found, **tor_fields(joined), extra={**found.extra, **joined.keys})
        seen_by_tor = error_fields(joined)
        if seen_by_tor is not None and is_vague(found.errorcode or ""):
            found = attrs.evolve(found, errorcode=seen_by_tor[0], reason=seen_by_tor[1])
        if joined.is_unannounced and found.outcome is Outcome.OK:
            errorcode, reason = UNANNOUNCED
            found = attrs.evolve(
                found, outcome=Outcome.FAILED, datacomplete=None, errorcode=errorcode, reason=reason
            )
        return found

    def forget(self) -> None:
        """Nobody wants to know more of it than its ``exchange``."""
        self.setup.stamps.take(self._token)
        if self._join is not None and self.setup.tor.events is not None:
            self.setup.tor.events.forget(self._join)

    def _connected(self, local: IAddress) -> None:
        """Called before anything is written to the SOCKS port, so before tor can tell about the stream."""
        self._local = local
        events = self.setup.tor.events
        if events is not None:
            address = (getattr(local, "host", ""), getattr(local, "port", 0))
            self._join = events.join(address, self.timeline.now(), self.measurement)

    async def _finish_join(self, exchange: Exchange) -> Joined | None:
        events = self.setup.tor.events
        if events is None or self._join is None:
            return None
        try:
            if exchange.outcome is Outcome.CANCELLED:
                return await events.finish(self._join, self.timeline.anchor, wait=0)
            return await events.finish(self._join, self.timeline.anchor)
        except CancelledError:
            return None  # Perfd stops, and the measurement itself is complete

    def _tls_keys(self, exchange: Exchange) -> Extra:
        session = exchange.session
        if session is None:
            return EMPTY
        keys = {
            "TLSSTART": self._epoch(session.begun),
            "TLSDONE": self._epoch(session.done),
            "TLSVERSION": session.version,
            "TLSCIPHER": session.cipher,
            "CERTIFICATEEND": session.certificate_end,
        }
        return {key: value for key, value in keys.items() if value is not None}

    def _epoch(self, stamp: float | None) -> float | None:
        return None if stamp is None else self.timeline.anchor.epoch(stamp)


def _stamps(exchange: Exchange, served: ServerTimes) -> Extra:
    """STAMPS: by whom the arrivals at both ends were stamped, as far as there were any."""
    by = stamped_by([exchange.exact, None if served.request is None else served.exact])
    return EMPTY if by is None else {STAMPS: by}


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


def _phase_times(timeline: Timeline) -> dict[str, Any]:
    """The nine Torperf steps of ``timeline`` as the arguments of ``Measurement``."""
    return {phase.value.lower(): timeline.epoch(phase) for phase in Phase}
