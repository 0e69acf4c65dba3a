"""Builds a circuit over given relays, and says when each of them was there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from txtorcon import TorControlProtocol

from perfd.clock import Clock
from perfd.tor.events.lines import CircuitLine, UnparsedError

_EXTENDED = re.compile(r"EXTENDED ([0-9]{1,10})\s*", re.ASCII)

_OVER = ("BUILT", "FAILED", "CLOSED")


@attrs.frozen
class Built:
    """A circuit that was built: tor's id, and after how many seconds each relay was there."""

    circ_id: int
    times: tuple[float, ...]


class BuildError(Exception):
    """A circuit was not built; ``hop`` is the number of relays that were there by then, ``reason`` tor's word."""

    def __init__(self, reason: str, hop: int) -> None:
        super().__init__(f"{reason} after {hop} relays")
        self.reason = reason
        self.hop = hop


async def build_circuit(
    protocol: TorControlProtocol, path: Sequence[str], clock: Clock, reactor: IReactorTime, timeout: float
) -> Built:
    """Build a circuit over the relays with these fingerprints (EXTENDCIRCUIT 0; control-spec, section 3.10).

    Tor's own timeout for circuits does not count for it. What was begun is closed when it fails, or when this is
    cancelled. Raises ``BuildError``.
    """
    building = _Building(clock)
    await protocol.add_event_listener("CIRC", building.event)
    try:
        began = clock.monotonic()
        try:
            answer = await protocol.queue_command(f"EXTENDCIRCUIT 0 {','.join(f'${each}' for each in path)}")
        except RuntimeError as error:  # txtorcon's own errors are RuntimeErrors
            raise BuildError(" ".join(str(error).split()) or "REFUSED", 0) from None
        match = _EXTENDED.fullmatch(answer)
        if match is None:
            raise BuildError("NOTEXTENDED", 0)
        circ_id = int(match[1])
        finished = False
        try:
            times = await building.of(circ_id).addTimeout(timeout, reactor)
            finished = True
        except DeferredTimeoutError:
            raise BuildError("TIMEOUT", len(building.times(circ_id))) from None
        finally:
            if not finished:
                await close_circuit(protocol, circ_id)
        return Built(circ_id, tuple(stamp - began for stamp in times))
    finally:
        with suppress(RuntimeError):
            await protocol.remove_event_listener("CIRC", building.event)


async def close_circuit(protocol: TorControlProtocol, circ_id: int) -> None:
    """Close a circuit; that it is closed already, or tor gone, is the same to us."""
    with suppress(RuntimeError):
        await protocol.queue_command(f"CLOSECIRCUIT {circ_id}")


class _Building:
    """What tor says of circuits while one is being built, of which the answer with its id may come later."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times: dict[int, list[float]] = {}  # by tor's id: a stamp for each relay
        self._ends: dict[int, CircuitLine] = {}
        self._waiting: dict[int, Deferred[list[float]]] = {}

    def times(self, circ_id: int) -> list[float]:
        return self._times.get(circ_id, [])

    def of(self, circ_id: int) -> Deferred[list[float]]:
        """Fires with the stamps when the circuit is built; fails with ``BuildError``."""
        self._waiting[circ_id] = Deferred()
        if circ_id in self._ends:
            self._end(circ_id)
        return self._waiting[circ_id]

    def event(self, text: str) -> None:
        stamp = self._clock.monotonic()
        try:
            line = CircuitLine.parse(text)
        except UnparsedError:
            return
        times = self._times.setdefault(line.circ_id, [])
        if line.word == "EXTENDED":
            times.extend([stamp] * (len(line.path) - len(times)))
        if line.word in _OVER and line.circ_id not in self._ends:
            self._ends[line.circ_id] = line
            self._end(line.circ_id)

    def _end(self, circ_id: int) -> None:
        waiting, line = self._waiting.get(circ_id), self._ends[circ_id]
        if waiting is None or waiting.called:
            return
        if line.word == "BUILT":
            waiting.callback(self.times(circ_id))
        else:
            waiting.errback(BuildError(line.remote_reason or line.reason or line.word, len(self.times(circ_id))))
