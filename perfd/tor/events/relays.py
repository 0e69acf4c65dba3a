"""What the consensus says of the relays on a path: nickname, flags, weight, version, CGO; and their country.

Tor is asked after the measurement, when its path has a relay that is not known yet; a new consensus makes all
unknown.
"""

from __future__ import annotations

import ipaddress
import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.threads import deferToThreadPool
from txtorcon import TorControlProtocol

from perfd.reactor import Reactor
from perfd.tor.events.consensus import RelayVersion, read_versions

ANSWER_WAIT = 2.0
"""Seconds for all answers that one path needs."""

MAX_KNOWN = 20_000
"""Relays that are remembered; the public network has less than half of them."""

NEW_CONSENSUS = "CONSENSUS_ARRIVED"
"""The action of a STATUS_CLIENT event (control-spec, 4.1.10)."""

_IDENTITY = re.compile(r"[A-Za-z0-9+/]{27}", re.ASCII)
_FINGERPRINT = re.compile(r"\$[0-9A-F]{40}", re.ASCII)
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", re.ASCII)
_COUNTRY = re.compile(r"[a-z]{2}", re.ASCII)
_FLAG = re.compile(r"[A-Za-z0-9]{1,20}", re.ASCII)


@attrs.frozen
class RouterStatus:
    """A relay in the consensus (dir-spec, the r, s and w lines of a router status)."""

    fingerprint: str  # 40 hexadecimal digits
    nickname: str
    flags: frozenset[str]
    bandwidth: int  # its weight, kB/s
    measured: bool = True  # by the authorities; otherwise the weight is a default
    address: str | None = attrs.field(default=None, eq=False)  # IPv4; it says where a relay is, not which it is
    country: str | None = None  # two letters in lower case, by tor's GeoIP
    version: str | None = None  # of its tor
    cgo: bool | None = None  # whether it can Counter Galois Onion


class RouterStatusReader:
    """Reads the answers to ``GETINFO ns/...`` line by line, and calls ``found`` with each relay.

    Lines that it does not understand are passed over.
    """

    def __init__(self, found: Callable[[RouterStatus], None]) -> None:
        self._found = found
        self._router: tuple[str, str] | None = None  # fingerprint and nickname
        self._address: str | None = None
        self._flags: frozenset[str] = frozenset()

    def line(self, line: str) -> None:
        if line.startswith("r "):
            self._router, self._flags, self._address = _identity(line), frozenset(), _address(line)
        elif line.startswith("s "):
            self._flags = frozenset(filter(_FLAG.fullmatch, line.split()[1:]))
        elif line.startswith("w ") and self._router is not None:
            words = dict(word.split("=", 1) for word in line.split() if "=" in word)
            bandwidth = words.get("Bandwidth", "")
            if bandwidth.isascii() and bandwidth.isdigit() and len(bandwidth) < 16:
                measured = words.get("Unmeasured") != "1"
                self._found(RouterStatus(*self._router, self._flags, int(bandwidth), measured, self._address))
            self._router = None


def _identity(line: str) -> tuple[str, str] | None:
    words = line.split(" ", 3)
    if len(words) < 4 or not _IDENTITY.fullmatch(words[2]) or len(words[1]) > 19:
        return None
    try:
        return a2b_base64(words[2] + "=").hex().upper(), words[1]
    except Base64Error:
        return None


def _address(line: str) -> str | None:
    words = line.split()
    return words[6] if len(words) > 6 and _IPV4.fullmatch(words[6]) else None


def _is_public(address: str) -> bool:
    try:
        return ipaddress.IPv4Address(address).is_global
    except ValueError:
        return False


def nowhere() -> Path | None:
    """No directory on this machine."""
    return None


class Relays:
    """What one tor knows of relays. ``directory`` tells where its consensus is, if that is on this machine."""

    def __init__(self, reactor: Reactor, directory: Callable[[], Path | None] = nowhere) -> None:
        self._reactor = reactor
        self._directory = directory
        self._known: dict[str, RouterStatus | None] = {}  # by $fingerprint; None: not in the consensus

    def forget(self) -> None:
        """There is a new consensus."""
        self._known.clear()

    async def of(self, protocol: TorControlProtocol, path: Sequence[str]) -> tuple[RouterStatus | None, ...]:
        """The relays of a path (each as ``$fingerprint``); None for what tor does not know or tell in time.

        Never raises but when it is cancelled.
        """
        unknown = {hop for hop in path if hop not in self._known and _FINGERPRINT.fullmatch(hop)}
        if len(self._known) + len(unknown) > MAX_KNOWN:
            self._known.clear()
        with suppress(DeferredTimeoutError):
            asking = Deferred.fromCoroutine(self._ask(protocol, sorted(unknown)))
            await asking.addTimeout(ANSWER_WAIT, self._reactor)
        return tuple(self._known.get(hop) for hop in path)

    async def _ask(self, protocol: TorControlProtocol, hops: Sequence[str]) -> None:
        for hop in hops:
            found: list[RouterStatus] = []
            try:
                answer = await protocol.get_info_raw(f"ns/id/{hop.removeprefix('$')}")
            except RuntimeError:  # txtorcon's own errors are RuntimeErrors; tor refuses what no consensus has
                answer = ""
            reader = RouterStatusReader(found.append)
            for line in answer.splitlines():
                reader.line(line)
            is_it = found and f"${found[0].fingerprint}" == hop
            self._known[hop] = await self._with_country(protocol, found[0]) if is_it else None
        await self._add_versions([hop for hop in hops if self._known.get(hop) is not None])

    async def _with_country(self, protocol: TorControlProtocol, relay: RouterStatus) -> RouterStatus:
        if relay.address is None or not _is_public(relay.address):
            return relay
        key = f"ip-to-country/{relay.address}"
        try:
            answer = await protocol.get_info_raw(key)
        except RuntimeError:  # tor has no GeoIP file
            return relay
        country = answer.removeprefix(f"{key}=").strip()
        return attrs.evolve(relay, country=country) if _COUNTRY.fullmatch(country) else relay

    async def _add_versions(self, hops: Sequence[str]) -> None:
        directory = self._directory()
        if directory is None or not hops:
            return
        fingerprints = [hop.removeprefix("$") for hop in hops]
        pool = self._reactor.getThreadPool()
        versions = await deferToThreadPool(self._reactor, pool, read_versions, directory, fingerprints)
        for hop, fingerprint in zip(hops, fingerprints, strict=True):
            relay, found = self._known.get(hop), versions.get(fingerprint, RelayVersion())
            if relay is not None:
                self._known[hop] = attrs.evolve(relay, version=found.version, cgo=found.cgo)


def path_keys(path: Sequence[RouterStatus | None]) -> dict[str, str]:
    """The keys of a record: for each relay of PATH its nickname, weight (kB/s), flags and so on, by commas.

    Empty between the commas for what is not known of a relay; no key if it is known of none.
    """
    if not any(path):
        return {}
    more = {
        "PATHVERSIONS": ",".join("" if relay is None else relay.version or "" for relay in path),
        "PATHCOUNTRIES": ",".join("" if relay is None else relay.country or "" for relay in path),
        "PATHCGO": ",".join("" if relay is None or relay.cgo is None else str(int(relay.cgo)) for relay in path),
    }
    return {
        "PATHNICKNAMES": ",".join("" if relay is None else relay.nickname for relay in path),
        "PATHWEIGHTS": ",".join("" if relay is None else str(relay.bandwidth) for relay in path),
        "PATHFLAGS": ",".join("" if relay is None else "+".join(sorted(relay.flags)) for relay in path),
        **{key: text for key, text in more.items() if text.strip(",")},
    }
