"""Builds circuits over given relays, and says when each of them was there."""

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
    """A circuit was not built; ``reason`` is tor's word, ``times`` those of the relays that were there by then."""

    def __init__(self, reason: str, times: Sequence[float] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.times = tuple(times)


class Builder:
    """Builds circuits with one tor, one at a time."""

    def __init__(self, protocol: TorControlProtocol, clock: Clock, reactor: IReactorTime) -> None:
        self._protocol = protocol
        self._clock = clock
        self._reactor = reactor
        self._is_listening = False
        self._building: _Building | None = None

    async def build(self, path: Sequence[str], timeout: float) -> Built:
        """A circuit over the relays with these fingerprints (EXTENDCIRCUIT 0; control-spec, section 3.10).

        Its purpose is ``controller``, so tor puts no streams on it by itself. What was begun is closed when it
        fails, or when this is cancelled. Raises ``BuildError``.
        """
        if not self._is_listening:
            self._is_listening = True
            await self._protocol.add_event_listener("CIRC", self._event)
        self._building = building = _Building(self._clock.monotonic())
        try:
            circ_id = await self._begin(path)
            finished = False
            try:
                await building.end_of(circ_id).addTimeout(timeout, self._reactor)
                finished = True
            except DeferredTimeoutError:
                raise BuildError("TIMEOUT", building.times(circ_id)) from None
            finally:
                if not finished:
                    self.close(circ_id)
            return Built(circ_id, building.times(circ_id))
        finally:
            self._building = None

    def close(self, circ_id: int) -> None:
        """Close a circuit; that it is closed already, or tor gone, is the same to us."""
        self._protocol.queue_command(f"CLOSECIRCUIT {circ_id}").addErrback(
            lambda failure: failure.trap(RuntimeError)
        )

    async def _begin(self, path: Sequence[str]) -> int:
        relays = ",".join(f"${each}" for each in path)
        try:
            answer = await self._protocol.queue_command(f"EXTENDCIRCUIT 0 {relays} purpose=controller")
        except RuntimeError as error:  # txtorcon's own errors are RuntimeErrors
            raise BuildError(" ".join(str(error).split()) or "REFUSED") from None
        match = _EXTENDED.fullmatch(answer)
        if match is None:
            raise BuildError("NOTEXTENDED")
        return int(match[1])

    def _event(self, text: str) -> None:
        # As long as the connection lives: who stops listening during an event takes it from the next listener.
        if self._building is None:
            return
        stamp = self._clock.monotonic()
        with suppress(UnparsedError):
            self._building.told(stamp, CircuitLine.parse(text))


class _Building:
    """What tor says of circuits while one is being built, of which the answer with its id may come later."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._stamps: dict[int, list[float]] = {}  # by tor's id: one for each relay
        self._ends: dict[int, CircuitLine] = {}
        self._waiting: dict[int, Deferred[None]] = {}

    def times(self, circ_id: int) -> tuple[float, ...]:
        """Seconds from the beginning until each relay was there."""
        return tuple(stamp - self._began for stamp in self._stamps.get(circ_id, ()))

    def end_of(self, circ_id: int) -> Deferred[None]:
        """Fires when the circuit is built; fails with ``BuildError``."""
        self._waiting[circ_id] = Deferred()
        self._end(circ_id)
        return self._waiting[circ_id]

    def told(self, stamp: float, line: CircuitLine) -> None:
        """An event of some circuit."""
        stamps = self._stamps.setdefault(line.circ_id, [])
        if line.word == "EXTENDED":
            stamps.extend([stamp] * (len(line.path) - len(stamps)))
        if line.word in _OVER and line.circ_id not in self._ends:
            self._ends[line.circ_id] = line
            self._end(line.circ_id)

    def _end(self, circ_id: int) -> None:
        waiting, line = self._waiting.get(circ_id), self._ends.get(circ_id)
        if waiting is None or line is None or waiting.called:
            return
        if line.word == "BUILT":
            waiting.callback(None)
        else:
            waiting.errback(BuildError(line.remote_reason or line.reason or line.word, self.times(circ_id)))
