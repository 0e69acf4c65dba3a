"""What is measured elsewhere: the requests for a URL, and how long its host is left alone between two of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urljoin, urlsplit

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from perfd import __version__
from perfd.client.expected import Expected
from perfd.client.fetch import Exchange, request_head
from perfd.client.tls import TLSServer, Trust
from perfd.clock import Clock
from perfd.config.records import ELSEWHERE, ExperimentConfig
from perfd.config.target import TargetConfig, a_target
from perfd.experiments.ways import Elsewhere, authority
from perfd.interfaces import WayToServer
from perfd.record import Error, Outcome
from perfd.tor.onion_client import ForeignService, GivenKey, OnionClient

MOST_HOSTS = 10_000

LONGEST_REDIRECT = 4000  # characters of an address


class Pauses:
    """When each host was last asked for something, by all experiments together."""

    def __init__(self, reactor: IReactorTime, clock: Clock) -> None:
        self._reactor = reactor
        self._clock = clock
        self._next: dict[str, float] = {}  # by when the host may be asked again, monotonic

    async def wait(self, host: str, pause: float) -> None:
        """Return when ``host`` may be asked; whoever asks next waits ``pause`` seconds more."""
        now = self._clock.monotonic()
        if len(self._next) > MOST_HOSTS:
            self._next = {name: at for name, at in self._next.items() if at > now}
        begin = max(now, self._next.get(host, now))
        self._next[host] = begin + pause
        if begin > now:
            await deferLater(self._reactor, begin - now)


@attrs.frozen(kw_only=True)
class Request:
    """A request for one URL: the way there, its bytes, and with https whom TLS is to find."""

    way: Elsewhere
    head: bytes
    tls: TLSServer | None


@attrs.frozen
class Target:
    """What ``config`` says is to be fetched. Each request tells its operator the ``contact`` of ours."""

    config: TargetConfig
    pauses: Pauses
    trust: Trust
    contact: str | None = None

    @property
    def keys(self) -> Mapping[str, str]:
        """The keys that all records of it have."""
        method = {} if self.config.method == "GET" else {"METHOD": self.config.method}
        return {"URL": self.config.url, **method}

    @property
    def expected(self) -> Expected:
        return Expected(
            most=self.config.size_limit,
            size=self.config.size,
            statuses=self.config.statuses,
            digest=self.config.digest,
            is_head=self.config.method == "HEAD",
        )

    async def wait(self, request: Request) -> Exchange | None:
        """Return when the request may be made. If that was cancelled, how it ended."""
        try:
            await self.pauses.wait(request.way.host, self.config.pause)
        except CancelledError:
            return Exchange(outcome=Outcome.CANCELLED, errorcode=Error.STOPPED, reason="stopped")
        return None

    def request(self, url: str, method: str | None = None, *, keep: bool = False) -> Request:
        """The request for ``url``, the target's own or one that redirects led to; ``keep`` the connection open."""
        parts, way = urlsplit(url), Elsewhere.of(url)
        is_default = way.port == (443 if parts.scheme == "https" else 80)
        host = authority(way)
        path = (parts.path or "/") + f"?{parts.query}" * bool(parts.query)
        agent = f"perfd/{__version__}" + (f" (+{self.contact})" if self.contact else "")
        return Request(
            way=way,
            head=request_head(
                method or self.config.method,
                host.rpartition(":")[0] if is_default else host,
                path,
                {"User-Agent": agent, **({"Connection": "keep-alive"} if keep else {})},
            ),
            tls=TLSServer(way.host, self.trust) if parts.scheme == "https" else None,
        )


def is_onion(way: WayToServer) -> bool:
    """Whether it leads over an onion service. The address of our own is not known from the start."""
    return way.name == "onion" or (way.name == ELSEWHERE and way.host.endswith(".onion"))


def onion_keys(experiments: Iterable[ExperimentConfig], tor: str) -> Mapping[str, str]:
    """The keys that ``tor`` needs for the onion services that it is to reach: in base64, by their addresses."""
    targets = (target for each in experiments if tor in each.tors for target in each.targets)
    return {target.onion: target.onion_key for target in targets if target.onion and target.onion_key}


def onion_clients(experiments: Iterable[ExperimentConfig], tor: str) -> list[OnionClient]:
    """What gives ``tor`` these keys."""
    keys = onion_keys(experiments, tor).items()
    return [OnionClient(ForeignService(address), GivenKey(key), tor=tor) for address, key in keys]


class Targets:
    """The targets of all experiments, which leave the hosts alone together."""

    def __init__(self, reactor: IReactorTime, clock: Clock) -> None:
        self._pauses = Pauses(reactor, clock)
        self._trusts = {insecure: Trust(insecure=insecure) for insecure in (False, True)}

    def target(self, way: WayToServer, contact: str | None) -> Target | None:
        """The target that is reached by ``way``, if it is one that leads elsewhere."""
        config = way.target if isinstance(way, Elsewhere) else None
        if config is None:
            return None
        trust = self._trusts[config.insecure]
        if config.redirects or config.url.startswith("https:"):
            trust.load()  # now, and not between two steps of the first run
        return Target(config, self._pauses, trust, contact)


def redirected(url: str, location: str) -> str:
    """Where ``location`` leads from ``url`` (RFC 9110, 10.2.2). Raises ValueError if that is no web address."""
    return a_target(urljoin(url, location.replace(" ", "%20")), LONGEST_REDIRECT)
