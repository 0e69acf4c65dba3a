"""What the consensus says of the relays on a path: nickname, flags and weight.

Tor is asked after the measurement, when its path has a relay that is not known yet; a new consensus makes all
unknown.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from txtorcon import TorControlProtocol

ANSWER_WAIT = 2.0
"""Seconds for all answers that one path needs."""

MAX_KNOWN = 20_000
"""Relays that are remembered; the public network has less than half of them."""

NEW_CONSENSUS = "CONSENSUS_ARRIVED"
"""The action of a STATUS_CLIENT event (control-spec, 4.1.10)."""

_IDENTITY = re.compile(r"[A-Za-z0-9+/]{27}", re.ASCII)
_FINGERPRINT = re.compile(r"\$[0-9A-F]{40}", re.ASCII)
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", re.ASCII)
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


class Relays:
    """What one tor knows of relays."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
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

    async def _ask(self, protocol: TorControlProtocol, hops: Iterable[str]) -> None:
        for hop in hops:
            found: list[RouterStatus] = []
            try:
                answer = await protocol.get_info_raw(f"ns/id/{hop.removeprefix('$')}")
            except RuntimeError:  # txtorcon's own errors are RuntimeErrors; tor refuses what no consensus has
                answer = ""
            reader = RouterStatusReader(found.append)
            for line in answer.splitlines():
                reader.line(line)
            self._known[hop] = found[0] if found and f"${found[0].fingerprint}" == hop else None


def path_keys(path: Sequence[RouterStatus | None]) -> dict[str, str]:
    """The keys of a record: for each relay of PATH its nickname, weight (kB/s) and flags, by commas.

    Empty between the commas for a relay that is not known; no keys at all if none is.
    """
    if not any(path):
        return {}
    return {
        "PATHNICKNAMES": ",".join("" if relay is None else relay.nickname for relay in path),
        "PATHWEIGHTS": ",".join("" if relay is None else str(relay.bandwidth) for relay in path),
        "PATHFLAGS": ",".join("" if relay is None else "+".join(sorted(relay.flags)) for relay in path),
    }
