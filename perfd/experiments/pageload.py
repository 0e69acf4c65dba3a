"""``type = pageload``: a whole page in a real browser, through the measuring proxy, tied to Tor's circuits.

The record's steps: START when the browser was told to load, DATARESPONSE with the first byte of the page's own
response, DATACOMPLETE with the last byte of all that belongs to the page. What tor tells is of the connection that
asked for the page itself. The browser stamps with the wall clock of this machine, the proxy with Perfd's.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import attrs
from twisted.internet.defer import CancelledError, DeferredLock
from twisted.logger import Logger

from perfd.browser.records import Browser, PageLoad, PageTask
from perfd.client.fetch import STALL_AFTER
from perfd.experiments.run import STAMPS, Extra, Record, Run, Setup
from perfd.experiments.transfer import ip_address
from perfd.interfaces import WayToServer
from perfd.proxy import MeasuringProxy, OpenPort, ProxyConnection
from perfd.proxy.hosts import is_same_host
from perfd.record import EMPTY, Error, Measurement, Outcome
from perfd.tor.events.join import tor_fields

SEEN_BY_TOR = (Error.PAGE, Error.CLOSED, Error.RESET, Error.SHORT, Error.SOCKS, Error.CONNECT)
"""What the browser only sees the outside of: where the proxy or tor knows why a connection failed, that counts."""


class Material(Protocol):
    """Keeps what a page load leaves besides its record: the HAR file and the pictures."""

    async def write(
        self, load: PageLoad, connections: Sequence[ProxyConnection], measurement: str
    ) -> Mapping[str, int | float | str]:
        """Keep it; the keys that the record gets."""


@attrs.frozen
class MeasuredBrowser:
    """A browser with its turn: it loads one page at a time."""

    name: str
    driver: str
    browser: Browser
    turn: DeferredLock = attrs.Factory(DeferredLock)


@attrs.frozen
class BrowsedWay:
    """A way to a server that needs a browser to be gone."""

    way: WayToServer
    measured: MeasuredBrowser

    @property
    def name(self) -> str:
        return self.way.name

    @property
    def host(self) -> str:
        return self.way.host

    @property
    def port(self) -> int:
        return self.way.port

    @property
    def not_ready(self) -> str | None:
        return self.measured.browser.not_ready or self.way.not_ready


@attrs.frozen(kw_only=True)
class MeasuredPage:
    """What is loaded. ``url`` is known when the server listens; ``label`` is what records name it by."""

    url: Callable[[], str]
    label: Callable[[], str]
    quiet: float
    screenshot: bool
    filmstrip: bool
    insecure: bool


class NoUse:
    """Says of each experiment and tor that optimistic data cannot help there; once."""

    _log = Logger()

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    def say(self, experiment: str, tor: str) -> None:
        if (experiment, tor) in self._said:
            return
        self._said.add((experiment, tor))
        self._log.warn(
            "{experiment}: optimistic data cannot help over tor {tor}: tor does not allow it on Conflux circuits; "
            "give that tor ConfluxEnabled 0 in torrc",
            experiment=experiment,
            tor=tor,
        )


class PageLoadRun(Run):
    """One page load."""

    _log = Logger()

    def __init__(
        self,
        setup: Setup,
        slot: float | None,
        record: Record,
        extra: Extra = EMPTY,
        *,
        browser: MeasuredBrowser,
        proxy: MeasuringProxy,
        page: MeasuredPage,
        material: Material | None,
        no_use: NoUse,
        optimistic: bool = False,
    ) -> None:
        super().__init__(setup, slot, record, extra)
        self.extra["PAGE"] = page.label()
        self._browser = browser
        self._proxy = proxy
        self._page = page
        self._material = material
        self._no_use = no_use
        self._optimistic = optimistic

    async def exchange(self) -> bool:
        """Load the page; over a port of the proxy that nothing else uses. The browser is ours alone meanwhile."""
        self._begun = self.setup.begun(self.id, self.slot)
        self._port = self._proxy.open(login=(self.user, "perfd"), optimistic=self._optimistic, measurement=self.id)
        try:
            self._load = await self._browser.browser.load(self._task(self._port.port))
        except Exception:
            await self._port.close(wait=0)
            raise
        return self._load.outcome is not Outcome.CANCELLED

    def _task(self, proxy_port: int) -> PageTask:
        return PageTask(
            url=self._page.url(),
            proxy_port=proxy_port,
            timeout=self.setup.timeout,
            quiet=self._page.quiet,
            screenshot=self._page.screenshot,
            filmstrip=self._page.filmstrip,
            insecure=self._page.insecure,
        )

    async def finish(self) -> None:
        load = self._load
        connections: Sequence[ProxyConnection] = ()
        material: Mapping[str, Any] = {}
        try:
            if load.outcome is Outcome.CANCELLED:
                connections = await self._port.close(wait=0)
            else:
                connections = await self._port.close()
                load = judged(load, connections)
                material = await self._kept(load, connections)
        except CancelledError:
            pass  # Perfd stops, and the load itself is complete
        self.record(self._result(load, connections, material))

    async def _kept(self, load: PageLoad, connections: Sequence[ProxyConnection]) -> Mapping[str, Any]:
        if self._material is None:
            return {}
        try:
            return await self._material.write(load, connections, self.id)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the record is there
            self._log.failure("the files of page load {id} were not written", id=self.id)
            return {}

    def _result(
        self, load: PageLoad, connections: Sequence[ProxyConnection], material: Mapping[str, Any]
    ) -> Measurement:
        own = own_connection(load, connections)
        extra = {**self.extra, **figures(load), **_connections(self._port, connections), **material}
        # What tor and the kernel tell is of the page's own connection; of all others the HAR file tells.
        if own is not None and own.joined is not None:
            extra |= own.joined.keys
        if own is not None and own.stamps is not None:
            extra[STAMPS] = own.stamps
        if self._optimistic:
            extra |= self._used(connections)
        found = attrs.evolve(
            self._begun,
            start=round(load.start, 6),
            end=round(load.end, 6),
            dataresponse=load.first_byte,
            datacomplete=load.fully_loaded or load.load if load.outcome is Outcome.OK else None,
            outcome=load.outcome,
            errorcode=load.errorcode,
            reason=load.reason,
            status=load.status,
            writebytes=sum(connection.writebytes for connection in connections) or None,
            readbytes=sum(connection.readbytes for connection in connections) or None,
            payloadbytes=sum(request.body_size or 0 for request in load.requests) or None,
            hostnamelocal=socket.gethostname(),
            hostnameremote=urlsplit(load.task.url).hostname,
            sourceaddress=self.setup.source_address,
            extra=extra,
        )
        return found if own is None else _as_proxy_saw(found, own)

    def _used(self, connections: Sequence[ProxyConnection]) -> Mapping[str, int]:
        """How many connections tor may have carried optimistic data of: those that are on no Conflux circuit.

        Nothing if tor did not tell about any.
        """
        circuits = [c.joined.circuit for c in connections if c.joined is not None and c.joined.circuit is not None]
        if not circuits:
            return EMPTY
        used = sum(circuit.conflux_id is None for circuit in circuits)
        if not used:
            self._no_use.say(self.setup.name, self.setup.tor.name)
        return {"OPTIMISTICUSED": used}


def tries(load: PageLoad, connections: Sequence[ProxyConnection]) -> list[ProxyConnection]:
    """The connections to the page's host and port, in their order."""
    parts = urlsplit(load.task.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return [
        each for each in connections if each.port == port and is_same_host(each.host or "", parts.hostname or "")
    ]


def own_connection(load: PageLoad, connections: Sequence[ProxyConnection]) -> ProxyConnection | None:
    """The connection that carried the request for the page itself, as far as one did.

    The first one to its host and port over which anything came; if nothing did, the first one.
    """
    there = tries(load, connections)
    return next((each for each in there if each.readbytes), there[0] if there else None)


def judged(load: PageLoad, connections: Sequence[ProxyConnection]) -> PageLoad:
    """The load with the error code and reason that the proxy and tor know better than the browser.

    If nothing came over the page's own connection, the last one to the same place that failed tells why. A page
    that ended only because its connection broke is none, even if the browser thinks so.
    """
    if load.outcome is Outcome.TIMEOUT and load.errorcode in (Error.TIMEOUT, Error.STALL):
        late, why = _late(load, connections)
        return attrs.evolve(load, errorcode=late, reason=why)
    own = own_connection(load, connections)
    if own is None:
        return load
    if load.outcome is Outcome.OK and own.errorcode == Error.NOSTREAM:
        return attrs.evolve(load, outcome=Outcome.FAILED, errorcode=own.errorcode, reason=own.reason)
    failed = [each for each in ([own] if own.readbytes else tries(load, connections)) if each.errorcode is not None]
    is_cut = own.closed is not None and load.last_byte is not None and load.last_byte >= own.closed
    is_vague = load.outcome is Outcome.FAILED and load.errorcode in SEEN_BY_TOR
    if failed and (is_vague or (load.outcome is Outcome.OK and is_cut)):
        code, reason = failed[-1].errorcode, failed[-1].reason
        return attrs.evolve(load, outcome=Outcome.FAILED, errorcode=code, reason=reason)
    return load


def _late(load: PageLoad, connections: Sequence[ProxyConnection]) -> tuple[str, str]:
    """Why a page met its deadline: a network that gave nothing for long although it was asked is a stall."""
    reason = f"the page was not loaded within {load.task.timeout:g} s"
    last = max((each.datacomplete for each in connections if each.datacomplete is not None), default=None)
    if last is None:
        return Error.TIMEOUT, f"{reason}; nothing of it came"
    silence = max(0.0, load.end - last)
    if silence < min(STALL_AFTER, load.task.timeout / 2):
        return Error.TIMEOUT, f"{reason}; data came until {silence:.1f} s before that"
    if not _is_waiting(load, connections):
        return Error.TIMEOUT, f"{reason}, though all that it had asked for was there {silence:.1f} s before that"
    return Error.STALL, f"{reason}; nothing came in the last {silence:.1f} s"


def _is_waiting(load: PageLoad, connections: Sequence[ProxyConnection]) -> bool:
    """Whether a request is under way; some drivers do not tell of those, so the connections are looked at too."""
    unanswered = (each.datasent is not None and each.datasent > (each.datacomplete or 0) for each in connections)
    return any(each.response_end is None and each.error is None for each in load.requests) or any(unanswered)


def _as_proxy_saw(found: Measurement, own: ProxyConnection) -> Measurement:
    """With the steps of the page's own connection, and what tor tells about it."""
    address = ip_address(own.host or "") or "0.0.0.0"
    found = attrs.evolve(
        found,
        socket=own.socket,
        connect=own.connect,
        negotiate=own.negotiate,
        request=own.request,
        response=own.response,
        datarequest=own.datarequest,
        endpointremote=f"{own.host}:{address}:{own.port}",
        endpointlocal=None if own.localport is None else f"localhost:127.0.0.1:{own.localport}",
    )
    return found if own.joined is None else attrs.evolve(found, **tor_fields(own.joined))


def figures(load: PageLoad) -> dict[str, str | int | float]:
    """The page's key figures: times since the epoch, and counts."""
    times = {
        "NAVIGATIONSTART": load.navigation_start,
        "LASTBYTE": load.last_byte,
        "FIRSTCONTENTFULPAINT": load.first_contentful_paint,
        "LARGESTCONTENTFULPAINT": load.largest_contentful_paint,
        "DOMCONTENTLOADED": load.dom_content_loaded,
        "LOAD": load.load,
        "FULLYLOADED": load.fully_loaded,
    }
    found: dict[str, str | int | float] = {key: round(at, 6) for key, at in times.items() if at is not None}
    if load.browser_version:
        found["BROWSERVERSION"] = load.browser_version
    if load.url is not None and load.url != load.task.url:
        found["REDIRECTEDTO"] = load.url
    found["REQUESTS"] = len(load.requests)
    found["REQUESTSFAILED"] = sum(request.error is not None for request in load.requests)
    if load.requests_omitted:
        found["REQUESTSOMITTED"] = load.requests_omitted
    return found


def _connections(port: OpenPort, connections: Sequence[ProxyConnection]) -> dict[str, str | int | float]:
    joined = [connection.joined for connection in connections if connection.joined is not None]
    circuits = {each.circuit.circ_id for each in joined if each.circuit is not None}
    found: dict[str, str | int | float] = {
        "CONNECTIONS": len(connections),
        "CONNECTIONSUNUSED": sum(not connection.readbytes for connection in connections),
    }
    # Where nothing was lost there is no key: it would be 0 in nearly every record.
    if port.turned_away:
        found["CONNECTIONSTURNEDAWAY"] = port.turned_away
    if port.omitted:
        found["CONNECTIONSOMITTED"] = port.omitted
    if circuits:
        found["CIRCUITS"] = len(circuits)
    failures = Counter(connection.errorcode for connection in connections if connection.errorcode is not None)
    if failures:
        found["CONNECTIONERRORS"] = ",".join(f"{code}:{count}" for code, count in failures.most_common())
    return found
