"""The relays that a tor knows, read from it when they are needed and there is a new consensus."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import attrs
from twisted.internet.interfaces import IReactorTime
from txtorcon import TorControlProtocol, TorProtocolError

from perfd.tor.circuits.path import UP, Known, NoPathError
from perfd.tor.control import open_beside
from perfd.tor.events.relays import RouterStatus, RouterStatusReader
from perfd.tor.guards.keeper import guard_states

READ_TIMEOUT = 60.0

MOST_RELAYS = 100_000

AT_ONCE = 100
"""Addresses in one question for countries."""

_COUNTRY = re.compile(r"ip-to-country/([0-9.]+)=([a-z]{2}|\?\?)", re.ASCII)
_PORTS = re.compile(r"p (accept|reject) ([0-9,-]+)", re.ASCII)


class ConsensusReader:
    """Reads the relays of one tor. ``apart`` is as in `Known`."""

    def __init__(self, reactor: IReactorTime, *, apart: bool) -> None:
        self._reactor = reactor
        self._apart = apart
        self._relays: Sequence[RouterStatus] = ()
        self._has_countries = False
        self._guards: list[str] = []
        self._all: Known | None = None

    def forget(self) -> None:
        """There is a new consensus, or another tor."""
        self._relays, self._has_countries, self._all = (), False, None

    async def known(self, protocol: TorControlProtocol, *, countries: bool) -> Known:
        """What tor knows now. Raises ``NoPathError``, ``ControlError``, a TimeoutError, and a RuntimeError."""
        if not self._relays:
            self._relays = await self._read(protocol)
            self._has_countries, self._all = False, None
        if countries and not self._has_countries:
            self._relays = await _with_countries(protocol, self._relays)
            self._has_countries, self._all = True, None
        states = guard_states(await protocol.get_info_raw("entry-guards"))
        guards = [fingerprint for fingerprint, state in states.items() if state not in _NOT_UP]
        if guards != self._guards:  # a bridge among them is in no consensus
            self._guards, self._all = guards, None
        if self._all is None:
            listed = {relay.fingerprint for relay in self._relays}
            bridges = [RouterStatus(each, "", UP | {"Guard"}, 0) for each in guards if each not in listed]
            self._all = Known(relays=(*self._relays, *bridges), guards=guards, apart=self._apart)
        return self._all

    async def _read(self, protocol: TorControlProtocol) -> list[RouterStatus]:
        side = await open_beside(self._reactor, protocol)
        found: list[RouterStatus] = []
        reader = RouterStatusReader(lambda relay: found.append(relay) if len(found) < MOST_RELAYS else None)
        try:
            await side.get_info_incremental("ns/all", reader.line).addTimeout(READ_TIMEOUT, self._reactor)
        finally:
            side.transport.abortConnection()
        return [relay for relay in found if relay.flags >= UP]


_NOT_UP = ("down", "unusable", "unlisted")


async def allows(protocol: TorControlProtocol, fingerprint: str, port: int) -> bool:
    """Whether a relay lets streams out to ``port``, as far as its microdescriptor says (dir-spec, 3.3).

    What tor does not know of a relay does not stand against it.
    """
    try:
        text = await protocol.get_info_raw(f"md/id/{fingerprint}")
    except TorProtocolError:
        return True
    # Without such a line it lets nothing out.
    return any(_is_allowed(line, port) for line in text.splitlines() if line.startswith("p ")) or not text.strip()


def _is_allowed(line: str, port: int) -> bool:
    match = _PORTS.fullmatch(line.strip())
    if match is None:
        return True
    is_listed = any(low <= port <= high for low, high in _ranges(match[2]))
    return is_listed == (match[1] == "accept")


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    for word in text.split(","):
        low, _, high = word.partition("-")
        with suppress(ValueError):
            yield int(low), int(high or low)


async def _with_countries(protocol: TorControlProtocol, relays: Sequence[RouterStatus]) -> list[RouterStatus]:
    """The same with their countries, by tor's GeoIP file. Raises ``NoPathError`` if tor has none."""
    addresses = list(dict.fromkeys(relay.address for relay in relays if relay.address is not None))
    found: dict[str, str] = {}
    for first in range(0, len(addresses), AT_ONCE):
        keys = [f"ip-to-country/{address}" for address in _public(addresses[first : first + AT_ONCE])]
        if not keys:
            continue
        try:
            answer = await protocol.get_info_raw(*keys)
        except TorProtocolError as error:
            raise NoPathError(
                f"tor cannot tell countries: {error.text} (Debian's package is tor-geoipdb)"
            ) from None
        found |= {match[1]: match[2] for match in map(_COUNTRY.fullmatch, answer.splitlines()) if match is not None}
    return [attrs.evolve(relay, country=_country(found.get(relay.address or ""))) for relay in relays]


def _country(code: str | None) -> str | None:
    return None if code == "??" else code


def _public(addresses: Iterable[str]) -> Iterator[str]:
    for address in addresses:
        with suppress(ValueError):
            if ipaddress.IPv4Address(address).is_global:
                yield address
