"""The relays of the consensus, and which of them make the fastest and the slowest guards: pure functions.

The four orders are those of Torperf's ``entrycons.py``: by the bandwidth that the authorities give a relay
(``fast`` and ``slow``), or by that in proportion to the bandwidth that the relay advertises (``fastratio`` and
``slowratio``: those that stand out in the authorities' measurement).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from perfd.tor.events.relays import RouterStatus, RouterStatusReader

GUARD_FLAGS = frozenset(("Guard", "Running", "Valid", "Stable", "Fast", "V2Dir"))
"""What tor itself wants of a guard (guard-spec, section 4.1), and that it is up."""

MAX_ROUTERS = 100_000
"""Relays read from one consensus; the public one has less than a tenth of them."""

_BANDWIDTH = re.compile(r"bandwidth ([0-9]{1,15}) ([0-9]{1,15}) ([0-9]{1,15})", re.ASCII)
_FINGERPRINT = re.compile(r"(?:opt )?fingerprint ((?:[0-9A-F]{4} ?){10})", re.ASCII)


class GuardReader:
    """Reads ``GETINFO ns/all`` line by line, for the guards in it."""

    def __init__(self) -> None:
        self.guards: list[RouterStatus] = []
        self.line = RouterStatusReader(self._found).line

    def _found(self, relay: RouterStatus) -> None:
        if relay.flags >= GUARD_FLAGS and len(self.guards) < MAX_ROUTERS:
            self.guards.append(relay)


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


def rank(
    order: str, guards: Iterable[RouterStatus], advertised: Mapping[str, int] | None = None
) -> list[RouterStatus]:
    """The guards in ``order``, the most wanted first.

    Without a weight a relay is never used. Where the authorities have measured any relays, those that they have not
    are left out, since their weight is a default. The two ratios need ``advertised`` (bytes/s by fingerprint), and
    leave out relays that are not in it. Equal ones are in the order of their fingerprints.
    """
    usable = [guard for guard in guards if guard.bandwidth > 0]
    if any(guard.measured for guard in usable):
        usable = [guard for guard in usable if guard.measured]
    if order in ("fast", "slow"):
        values: dict[RouterStatus, float] = {guard: guard.bandwidth for guard in usable}
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
