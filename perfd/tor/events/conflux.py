"""Conflux sets: circuits to the same exit, called legs, over which tor (from 0.4.8 on) sends the same stream.

Tor tells the set of a circuit in the keyword CONFLUX_ID of its events (control-spec, CIRC).
"""

from __future__ import annotations

from collections.abc import Container

from perfd.tor.events.circuits import LiveCircuit


class ConfluxSets:
    """The sets of one tor that have at least one live leg, each with its legs in the order in which they came."""

    def __init__(self) -> None:
        self._sets: dict[str, list[LiveCircuit]] = {}  # by tor's id

    def note(self, circuit: LiveCircuit) -> None:
        """Something was told of ``circuit``, perhaps that it is a leg now."""
        if circuit.conflux_id is not None:
            legs = self._sets.setdefault(circuit.conflux_id, [])
            if circuit not in legs:
                legs.append(circuit)

    def ended(self, circuit: LiveCircuit, live: Container[str]) -> None:
        """``circuit`` has ended; ``live`` are tor's ids of those that have not. Ended sets are forgotten."""
        if circuit.conflux_id is not None:
            legs = self._sets.get(circuit.conflux_id, ())
            if not any(str(leg.circ_id) in live for leg in legs):
                self._sets.pop(circuit.conflux_id, None)

    def legs(self, conflux_id: str | None) -> tuple[LiveCircuit, ...]:
        """The legs of a set, also those that have ended; empty if there is no such set, or none of it lives."""
        return () if conflux_id is None else tuple(self._sets.get(conflux_id, ()))
