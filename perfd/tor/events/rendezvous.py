"""How a client reached an onion service: what HS_DESC and its circuits told, joined to one measurement.

A client asks a directory for the service's descriptor unless it has one, builds a circuit to a rendezvous point
and one to an introduction point of the service, and sends word of the rendezvous over the latter; when the service
has come there, the circuit is joined, and the stream goes over it (rend-spec-v3). The values are the moments when
tor told so, in seconds since the epoch, unless it says something else here:

- ``HSDESCREQUESTED``, ``HSDESCRECEIVED``: the descriptor; missing if tor had it already. Tor does not say for which
  stream it asks: runs that wait for the same descriptor at the same time share these.
- ``HSDESCFAILED``: text, why directories gave none, or none that could be read (REASON of HS_DESC, by commas).
- ``HSINTROBUILT``, ``HSINTROACK``: the circuit to the introduction point was built, and the introduction was
  acknowledged; of the last introduction that was acknowledged before the service came, if any was (an
  acknowledgement takes another way than the service, and may come later).
- ``HSRENDBUILT``, ``HSRENDESTABLISHED``, ``HSRENDJOINED``: the circuit to the rendezvous point was built (or one
  that was there was taken for it), the rendezvous point waits, the service came.
- ``HSINTROS``, ``HSRENDS``: numbers, how many circuits of either kind were tried for this run; 0 if it went over a
  circuit that was joined before.
- ``HSPOWEFFORT``: number, the greatest effort of a proof of work that tor told of their circuits (HS_POW of CIRC);
  missing if it told of none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from perfd.tor.events.circuits import LiveCircuit
from perfd.tor.events.lines import DescriptorLine

MAX_CIRCUITS = 100
"""Circuits of either kind that are kept of one measurement."""

MAX_REASONS = 10
"""Different reasons that are kept of one measurement."""

UPLOAD_REJECTED = "UPLOAD_REJECTED"
"""The reason that a service may meet, and a client not; both may be the same tor."""

INTRO, REND = "HS_CLIENT_INTRO", "HS_CLIENT_REND"

_ONION = re.compile(r"(?:.*\.)?([a-z2-7]{56})\.onion(?::[0-9]+)?", re.IGNORECASE | re.DOTALL)


def onion_address(target: str | None) -> str | None:
    """The address, without ``.onion``, of the service that a stream's target names; None if it is none (v3)."""
    match = _ONION.fullmatch(target or "")
    return match[1].lower() if match else None


class Rendezvous:
    """The way to the onion service ``address`` of the stream that tor told of at the monotonic ``since``.

    ``user`` is the stream's SOCKS user name. Tor builds these circuits for the streams of one user name alone
    (IsolateSOCKSAuth), and names it with them, so the circuits of other runs are not taken for this one's.
    """

    def __init__(self, address: str, since: float, user: str | None) -> None:
        self._address = address
        self._since = since
        self._user = user
        self._circuits: dict[str, dict[LiveCircuit, None]] = {INTRO: {}, REND: {}}
        self._descriptor: dict[str, float] = {}
        self._reasons: dict[str, None] = {}

    def circuit_happened(self, circuit: LiveCircuit) -> None:
        """An event of a circuit that is for introductions or rendezvous, perhaps for others than this one."""
        if circuit.rend_query != self._address or circuit.user != self._user:
            return
        circuits = self._circuits[circuit.purpose or ""]
        if len(circuits) < MAX_CIRCUITS:
            circuits[circuit] = None

    def descriptor_happened(self, stamp: float, line: DescriptorLine) -> None:
        """An HS_DESC event, of any service."""
        if line.address != self._address:
            return
        if line.action in ("REQUESTED", "RECEIVED"):
            self._descriptor.setdefault(f"HSDESC{line.action}", stamp)
        elif line.action == "FAILED" and line.reason != UPLOAD_REJECTED and len(self._reasons) < MAX_REASONS:
            self._reasons[line.reason or "UNEXPECTED"] = None

    def steps(
        self, used: LiveCircuit | None, until: float | None, epoch: Callable[[float], float]
    ) -> Mapping[str, float | int | str]:
        """The keys above, of what was known at the monotonic ``until`` (None: now).

        ``used`` is the circuit that the stream was attached to; None if it was to none. Then the rendezvous is the
        one that got the furthest, of several the last.
        """
        until = float("inf") if until is None else until
        intros, rends = self._circuits[INTRO], self._circuits[REND]
        rend = _furthest([self._rend(circuit, until) for circuit in rends if used in (None, circuit)])
        intro = _furthest([self._intro(circuit, rend.get("HSRENDJOINED", until)) for circuit in intros])
        efforts = [circuit.hs_pow_effort for circuit in (*intros, *rends) if circuit.hs_pow_effort is not None]
        if "HSINTROACK" not in intro:
            # The service comes another way, and may have been quicker than the acknowledgement.
            intro = _furthest([self._intro(circuit, until) for circuit in intros])
        stamps = {**self._descriptor, **intro, **rend}
        steps: dict[str, float | int | str] = {key: epoch(stamp) for key, stamp in stamps.items()}
        if self._reasons:
            steps["HSDESCFAILED"] = ",".join(self._reasons)
        if efforts:
            steps["HSPOWEFFORT"] = max(efforts)
        return steps | {"HSINTROS": len(intros), "HSRENDS": len(rends)}

    def _rend(self, circuit: LiveCircuit, until: float) -> dict[str, float]:
        established = self._stamps(circuit, until, "HSCR_ESTABLISHED")[:1]
        built = self._stamps(circuit, min([until, *established]), f"{REND}:BUILT", f"CANNIBALIZED:{REND}")[-1:]
        joined = self._stamps(circuit, until, "HSCR_JOINED")[:1]
        return _named(HSRENDBUILT=built, HSRENDESTABLISHED=established, HSRENDJOINED=joined)

    def _intro(self, circuit: LiveCircuit, until: float) -> dict[str, float]:
        # Tor extends a circuit to another introduction point when the first refuses: it is built once more then.
        acknowledged = self._stamps(circuit, until, "HSCI_DONE")[-1:]
        built = self._stamps(circuit, min([until, *acknowledged]), f"{INTRO}:BUILT")[-1:]
        return _named(HSINTROBUILT=built, HSINTROACK=acknowledged)

    def _stamps(self, circuit: LiveCircuit, until: float, *names: str) -> list[float]:
        """When the circuit's events whose names begin so came, from the beginning of the run on."""
        return [at for at, name in circuit.events if self._since <= at <= until and name.startswith(names)]


def _furthest(ways: list[dict[str, float]]) -> dict[str, float]:
    """The one with most of its steps done; of several, the one with the last step."""
    return max(ways, key=lambda steps: (len(steps), max(steps.values(), default=0.0)), default={})


def _named(**stamps: list[float]) -> dict[str, float]:
    return {key: found[0] for key, found in stamps.items() if found}
