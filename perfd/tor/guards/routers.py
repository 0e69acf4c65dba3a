"""The relays of the consensus, and which of them make the fastest and the slowest guards: pure functions.

The four orders are those of Torperf's ``entrycons.py``: by the bandwidth that the authorities give a relay
(``fast`` and ``slow``), or by that in proportion to the bandwidth that the relay advertises (``fastratio`` and
``slowratio``: those that stand out in the authorities' measurement).
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterable, Mapping

import attrs

GUARD_FLAGS = frozenset(("Guard", "Running", "Valid", "Stable", "Fast", "V2Dir"))
"""What tor itself wants of a guard (guard-spec, section 4.1), and that it is up."""

MAX_ROUTERS = 100_000
"""Relays read from one consensus; the public one has less than a tenth of them."""

_IDENTITY = re.compile(r"[A-Za-z0-9+/]{27}", re.ASCII)
_BANDWIDTH = re.compile(r"bandwidth ([0-9]{1,15}) ([0-9]{1,15}) ([0-9]{1,15})", re.ASCII)
_FINGERPRINT = re.compile(r"(?:opt )?fingerprint ((?:[0-9A-F]{4} ?){10})", re.ASCII)


@attrs.frozen
class Router:
    """A relay that can be a guard: its weight in the consensus (kB/s), and whether authorities measured that."""

    fingerprint: str  # 40 hexadecimal digits
    nickname: str
    bandwidth: int
    measured: bool = True


class RouterStatusReader:
    """Reads ``GETINFO ns/all`` line by line (dir-spec, the r, s and w lines of a consensus), for the guards in it.

    Lines that it does not understand are passed over.
    """

    def __init__(self) -> None:
        self.guards: list[Router] = []
        self._router: tuple[str, str] | None = None  # fingerprint and nickname
        self._is_guard = False

    def line(self, line: str) -> None:
        if line.startswith("r "):
            self._is_guard = False
            self._router = _identity(line)
        elif line.startswith("s "):
            self._is_guard = GUARD_FLAGS.issubset(line.split())
        elif line.startswith("w ") and self._is_guard and self._router is not None:
            words = dict(word.split("=", 1) for word in line.split() if "=" in word)
            bandwidth = words.get("Bandwidth", "")
            if bandwidth.isascii() and bandwidth.isdigit() and len(bandwidth) < 16:
                measured = words.get("Unmeasured") != "1"
                if len(self.guards) < MAX_ROUTERS:
                    self.guards.append(Router(*self._router, int(bandwidth), measured))
            self._router = None


def _identity(line: str) -> tuple[str, str] | None:
    words = line.split(" ", 3)
    if len(words) < 4 or not _IDENTITY.fullmatch(words[2]) or len(words[1]) > 19:
        return None
    try:
        return a2b_base64(words[2] + "=").hex().upper(), words[1]
    except Base64Error:
        return None


class DescriptorReader:
    """Reads ``GETINFO desc/all-recent`` line by line (dir-spec, server descriptors), for advertised bandwidths."""

    def __init__(self) -> None:
        self.advertised: dict[str, int] = {}  # bytes/s by fingerprint
        self._fingerprint: str | None = None
        self._bandwidth: int | None = None

    def line(self, line: str) -> None:
        if line.startswith("router "):
            self._fingerprint = self._bandwidth = None
        elif line.startswith("bandwidth "):
            match = _BANDWIDTH.match(line)
            # Average, burst and observed: a relay advertises the smallest of them.
            self._bandwidth = min(map(int, match.groups())) if match else None
        elif "fingerprint " in line[:16]:
            match = _FINGERPRINT.match(line)
            self._fingerprint = match.group(1).replace(" ", "") if match else None
        else:
            return
        if self._fingerprint is not None and self._bandwidth and len(self.advertised) < MAX_ROUTERS:
            self.advertised[self._fingerprint] = self._bandwidth


def rank(order: str, guards: Iterable[Router], advertised: Mapping[str, int] | None = None) -> list[Router]:
    """The guards in ``order``, the most wanted first.

    Without a weight a relay is never used. Where the authorities have measured any relays, those that they have not
    are left out, since their weight is a default. The two ratios need ``advertised`` (bytes/s by fingerprint), and
    leave out relays that are not in it. Equal ones are in the order of their fingerprints.
    """
    usable = [guard for guard in guards if guard.bandwidth > 0]
    if any(guard.measured for guard in usable):
        usable = [guard for guard in usable if guard.measured]
    if order in ("fast", "slow"):
        values: dict[Router, float] = {guard: guard.bandwidth for guard in usable}
    elif order in ("fastratio", "slowratio"):
        known = advertised or {}
        values = {
            guard: 1000 * guard.bandwidth / known[guard.fingerprint]
            for guard in usable
            if known.get(guard.fingerprint, 0) > 0
        }
    else:
        raise ValueError(f"{order!r} is no order of guards")
    sign = -1 if order.startswith("fast") else 1
    return sorted(values, key=lambda guard: (sign * values[guard], guard.fingerprint))
