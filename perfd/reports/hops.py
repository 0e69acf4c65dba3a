"""The relays of a measurement's path, as its record and tor's circuit tell of them."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from perfd.record import Circuit, Measurement

_OF_RELAYS = ("NICKNAMES", "WEIGHTS", "FLAGS", "VERSIONS", "COUNTRIES", "CGO")
"""The keys PATH... of a record, each with a word for every relay."""

_CGO = {"1": "yes", "0": "no"}


@attrs.frozen(kw_only=True)
class MeasuredHop:
    """One relay in words; those are empty that are not known."""

    number: int  # from 1 on
    fingerprint: str
    reached: float | None  # seconds from the circuit's launch
    nickname: str
    weight: str  # kB/s
    flags: str
    version: str
    country: str
    cgo: str  # yes or no


def hops_of(m: Measurement, circuit: Circuit | None) -> Iterator[MeasuredHop]:
    """Those of ``m``; ``circuit``, if it is still kept, knows nicknames that older records lack."""
    path, times = m.path or (), m.buildtimes or ()
    known = {key: str(m.extra.get(f"PATH{key}", "")).split(",") for key in _OF_RELAYS}
    for n, fingerprint in enumerate(path):
        words = {key: each[n] if len(each) == len(path) else "" for key, each in known.items()}
        nickname = words["NICKNAMES"]
        if not nickname and circuit is not None and n < len(circuit.path):
            nickname = circuit.path[n].nickname or ""
        yield MeasuredHop(
            number=n + 1,
            fingerprint=fingerprint,
            reached=times[n] if n < len(times) else None,
            nickname=nickname,
            weight=words["WEIGHTS"],
            flags=words["FLAGS"].replace("+", " "),
            version=words["VERSIONS"],
            country=words["COUNTRIES"],
            cgo=_CGO.get(words["CGO"], ""),
        )
